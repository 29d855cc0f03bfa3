//! The fixed words of a Decision: what answered, what the encoder said, how a request ended.
//!
//! Part of `decision`.

use serde::{Deserialize, Serialize, Serializer};
use waypost_classify::{Doubt, Tier as Answered};

/// What answered when a label was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Nothing was classified.
    None,
    /// A keyword or regular expression of the policy.
    Rule,
    /// Tier 0: n-grams and static embeddings, in process.
    Ngram,
    /// Tier 1: averaged with the encoder, in process.
    Encoder,
    /// The detector of personal data, in process.
    Detector,
    /// A KServe server.
    Kserve,
    /// A model that was asked for the intent.
    Intent,
    /// LLM Router v2's network over embeddings.
    Network,
}

impl From<Answered> for Tier {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Ngram => Self::Ngram,
            Answered::Encoder => Self::Encoder,
        }
    }
}

impl Tier {
    /// The word used in headers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Rule => "rule",
            Self::Ngram => "ngram",
            Self::Encoder => "encoder",
            Self::Detector => "detector",
            Self::Kserve => "kserve",
            Self::Intent => "intent",
            Self::Network => "network",
        }
    }
}

/// What came of asking the encoder. Unless it answered, tier 0's answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// It took part.
    Answered,
    /// Not within its deadline.
    Late,
    /// Too many were waiting.
    Busy,
    /// It is switched off, or its threads could not be started.
    Off,
    /// It broke, which is a defect.
    Failed,
}

impl Asked {
    /// The word used in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Late => "late",
            Self::Busy => "busy",
            Self::Off => "off",
            Self::Failed => "failed",
        }
    }
}

/// Tier 0 was in doubt: why, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Escalation {
    /// Why the encoder was wanted.
    #[serde(rename = "escalated_because", serialize_with = "word")]
    pub because: Doubt,
    /// What it said.
    #[serde(rename = "encoder")]
    pub asked: Asked,
    /// From the question to the answer, or to giving up.
    #[serde(rename = "encoder_ms")]
    pub ms: f64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole answer was handed on; the upstream said 2xx.
    Completed,
    /// A model was recommended; nothing was to be sent.
    Recommended,
    /// The upstream's own error was handed on.
    UpstreamError,
    /// Waypost refused or failed it.
    Refused,
    /// It broke after the first byte.
    Broken,
    /// The client left first.
    ClientGone,
}

impl Outcome {
    /// The word used in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Recommended => "recommended",
            Self::UpstreamError => "upstream_error",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::ClientGone => "client_gone",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn word<S: Serializer>(doubt: &Doubt, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(doubt.name())
}
