//! What asking a model for the intent took, for the Decision. Names and numbers; never the question or the answer.

use crate::decision::Attempt;
use serde::Serialize;
use smallvec::SmallVec;
use std::sync::Arc;
use waypost_wire::{ApiError, Code};

/// See the module.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IntentRecord {
    /// The model that is asked.
    pub model: Arc<str>,
    /// Every request sent, in order; none when the answer was known or somebody else asked.
    pub tries: SmallVec<[Attempt; 2]>,
    /// The answer was known from an earlier question.
    pub cached: bool,
    /// The same question was under way; this is its answer.
    pub shared: bool,
    /// How the last request held the answer to the names: `json_schema`, `guided_json` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guided: Option<&'static str>,
    /// What the server refused this time, and was then not asked for: `json_schema`, `guided_json`, `logprobs`, `template`.
    #[serde(skip_serializing_if = "SmallVec::is_empty")]
    pub refused: SmallVec<[&'static str; 4]>,
    /// Tokens of all questions together, as the model reported them.
    pub prompt_tokens: u64,
    /// Tokens of all answers together.
    pub completion_tokens: u64,
    /// What they cost in US dollars, where the model has a price; apart from the answer's own cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Milliseconds until the outcome was known.
    pub ms: f64,
}

/// Why a model named no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its answer names no route, or several.
    Unreadable,
    /// Its answer names a route that does not exist.
    UnknownRoute,
    /// It refused the question: a status of 4xx.
    Refused,
    /// It could not be reached, broke off, or said that it cannot.
    Unavailable,
    /// The time was up.
    Timeout,
    /// Enough questions were under way.
    Busy,
}

impl Failure {
    /// The word used in Decisions and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "intent_unreadable",
            Self::UnknownRoute => "intent_unknown_route",
            Self::Refused => "intent_refused",
            Self::Unavailable => "intent_unavailable",
            Self::Timeout => "intent_timeout",
            Self::Busy => "intent_busy",
        }
    }

    /// For the client, where the policy has no default.
    pub(crate) fn error(self) -> ApiError {
        let (code, message) = match self {
            Self::Unreadable => (Code::ClassifierInvalid, "The intent model's answer names no route."),
            Self::UnknownRoute => {
                (Code::ClassifierInvalid, "The intent model named a route that does not exist.")
            }
            Self::Refused => (Code::ClassifierUnavailable, "The intent model refused the question."),
            Self::Unavailable => (Code::ClassifierUnavailable, "The intent model is unavailable."),
            Self::Timeout => (Code::ClassifierUnavailable, "The intent model did not answer in time."),
            Self::Busy => (
                Code::ClassifierUnavailable,
                "As many questions to the intent model as may be are under way.",
            ),
        };
        ApiError::new(code, message)
    }
}
