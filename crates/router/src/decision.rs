//! The Decision: one record per request that says what was decided, why, and how it went.
//!
//! It holds names, numbers and reasons, never prompt or completion text and never a key. Filled in
//! along the way of a request; written to the decision log when it settles.

use serde::{Serialize, Serializer};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use waypost_classify::Verdict;
use waypost_config::Effort;
use waypost_policy::{Reason, Unfit};

use crate::ask::Via;
use crate::conversations::Conversation;
use crate::guard::Guarded;
use crate::intent::IntentRecord;
use crate::outlook::Candidate;
use crate::personal::Personal;
use crate::placing::NoPlace;
use crate::signals::SignalSeen;

mod placement;
mod words;

pub use placement::{Placement, PrefillRecord};
pub use words::{Asked, Escalation, Outcome, Tier};

/// What makes a prompt hard, each for itself: what `complexity` sees beside its label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Dimensions {
    /// Probability that invention is asked for, 0 to 1.
    #[serde(serialize_with = "share")]
    pub creativity: f32,
    /// Probability that steps of thought are needed, 0 to 1.
    #[serde(serialize_with = "share")]
    pub reasoning: f32,
    /// Probability that the answer depends on text in the prompt, 0 to 1.
    #[serde(serialize_with = "share")]
    pub contextual_knowledge: f32,
    /// Probability that knowledge of a field is needed, 0 to 1.
    #[serde(serialize_with = "share")]
    pub domain_knowledge: f32,
    /// Worked examples in the prompt.
    pub few_shots: u32,
    /// Explicit constraints on the answer.
    pub constraints: u32,
}

/// Where the dimensions stand among the complexity classifier's labels.
const CREATIVITY: usize = 0;
const REASONING: usize = 1;
const CONTEXTUAL_KNOWLEDGE: usize = 2;
const DOMAIN_KNOWLEDGE: usize = 4;

impl Dimensions {
    /// What a verdict of `complexity` tells of them; `None` for any other classifier's.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Option<Self> {
        let (few_shots, constraints) = verdict.few_shots.zip(verdict.constraints)?;
        Some(Self {
            creativity: verdict.probabilities[CREATIVITY],
            reasoning: verdict.probabilities[REASONING],
            contextual_knowledge: verdict.probabilities[CONTEXTUAL_KNOWLEDGE],
            domain_knowledge: verdict.probabilities[DOMAIN_KNOWLEDGE],
            few_shots,
            constraints,
        })
    }
}

/// A model, and why it is tried or ruled out.
#[derive(Debug, Clone, Serialize)]
pub struct Considered<R> {
    /// Its name.
    pub model: Arc<str>,
    /// Why.
    pub reason: R,
}

/// What a policy in shadow would have done.
#[derive(Debug, Clone, Serialize)]
pub struct Shadowed {
    /// The policy.
    pub policy: Arc<str>,
    /// The label it chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// The model it would have sent the request to.
    pub model: Option<Arc<str>>,
    /// Why that one.
    pub reason: Option<Reason>,
    /// Whether it is the model the request was sent to first.
    pub agrees: bool,
    /// Expected quality of its model, for an auto policy.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rounded")]
    pub quality: Option<f32>,
    /// Expected cost of its model in US dollars, for an auto policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Time it took to decide.
    pub ms: f64,
    /// What asking a model for an intent took.
    #[serde(skip)]
    pub intent: Option<Box<IntentRecord>>,
    /// Why it has no model: an error's code, or `late` when the request ended first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

impl Shadowed {
    /// A policy that has not decided, for that reason.
    #[must_use]
    pub fn absent(policy: Arc<str>, why: &'static str) -> Self {
        Self {
            policy,
            label: None,
            model: None,
            reason: None,
            agrees: false,
            quality: None,
            cost_usd: None,
            intent: None,
            ms: 0.0,
            error: Some(why),
        }
    }
}

/// One try at one endpoint.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// The model tried.
    pub model: Arc<str>,
    /// Base URL of the endpoint tried.
    pub endpoint: Arc<str>,
    /// HTTP status, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `ok`, or the word for what went wrong.
    pub result: &'static str,
    /// Milliseconds until the outcome was known.
    pub ms: f64,
}

/// Every label's probability, written as an object in label order.
#[derive(Debug, Clone, Default)]
pub struct Probabilities {
    /// Label names.
    pub labels: Arc<[Arc<str>]>,
    /// As many numbers, summing to 1.
    pub values: Vec<f32>,
}

impl Serialize for Probabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        shares(self.labels.iter().zip(self.values.iter().copied()), serializer)
    }
}

fn shares<'a, S: Serializer>(
    shares: impl Iterator<Item = (&'a Arc<str>, f32)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(shares.map(|(name, share)| (name, round(f64::from(share)))))
}

fn by_name<S: Serializer>(signals: &[SignalSeen], serializer: S) -> Result<S::Ok, S::Error> {
    shares(signals.iter().map(|signal| (&signal.name, signal.confidence)), serializer)
}

/// See the module. Durations are milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Decision {
    /// Also in the header `x-waypost-decision-id`.
    pub id: String,
    /// Unix time of arrival, in milliseconds.
    pub at_unix_ms: u64,
    /// Request path, without its query.
    pub path: &'static str,
    /// How the model was asked for.
    pub via: Via,
    /// What the guard found, where there is one for the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guarded>,
    /// Policy that decided.
    pub policy: Option<Arc<str>>,
    /// The split that chose the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Arc<str>>,
    /// Label the classifier chose, or the client named.
    pub label: Option<Arc<str>>,
    /// Probability of that label, 0 to 1; absent for one-hot answers.
    #[serde(serialize_with = "rounded")]
    pub confidence: Option<f32>,
    /// All labels with their probabilities.
    #[serde(skip_serializing_if = "no_labels")]
    pub probabilities: Probabilities,
    /// Scalar difficulty, 0 to 1, where the classifier gives one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rounded")]
    pub difficulty: Option<f32>,
    /// What difficulty is made of, where the classifier tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<Dimensions>,
    /// Spans of personal data by kind, where the classifier looks for them; never a value.
    #[serde(rename = "pii", skip_serializing_if = "Option::is_none")]
    pub personal: Option<Personal>,
    /// Signals that apply, each with its confidence, where a decision is taken by them. Which apply was found out as far as
    /// the decision depends on it.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "by_name")]
    pub signals: Vec<SignalSeen>,
    /// How much the label's model is to think, where the policy says so. Models without `reasoning` are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Effort>,
    /// What classified.
    pub tier: Option<Tier>,
    /// The classifier asked: a built-in one's name, a trained folder's, `examples` or `kserve`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier: Option<Arc<str>>,
    /// The rule that applied, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// Whether the encoder was wanted, and what came of it.
    #[serde(flatten)]
    pub escalation: Option<Escalation>,
    /// What it took to ask a model for the intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<Box<IntentRecord>>,
    /// Why the classifier gave no label: the error's code. Its message may repeat the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier_error: Option<&'static str>,
    /// The contestants of an auto policy that can take the request, with what is expected of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// The conversation it belongs to, where the policy keeps conversations together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Conversation>,
    /// What policies in shadow would have done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<Shadowed>,
    /// Models to try in order, each with its reason.
    pub plan: SmallVec<[Considered<Reason>; 2]>,
    /// Models ruled out by what the request needs.
    pub unfit: SmallVec<[Considered<Unfit>; 1]>,
    /// How the endpoints of the attempts were chosen, where more than requests in flight counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placements: Vec<Box<Placement>>,
    /// Why no endpoint would take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_place: Option<NoPlace>,
    /// Model that answered.
    pub model: Option<Arc<str>>,
    /// Endpoint that answered.
    pub endpoint: Option<Arc<str>>,
    /// Why something other than the label's model answered.
    pub fallback: Option<&'static str>,
    /// Every try, in order.
    pub attempts: SmallVec<[Attempt; 1]>,
    /// Time spent classifying.
    pub classify_ms: f64,
    /// From arrival to the upstream's response headers.
    pub upstream_headers_ms: Option<f64>,
    /// From arrival to the first byte of the answer's body.
    pub ttft_ms: Option<f64>,
    /// From arrival to the end.
    pub total_ms: f64,
    /// Status sent to the client.
    pub status: u16,
    /// The request asked for a stream.
    pub stream: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// OpenAI `code` of an error Waypost made itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// Prompt tokens, as reported by the model.
    pub prompt_tokens: Option<u64>,
    /// Completion tokens, as reported by the model.
    pub completion_tokens: Option<u64>,
    /// Prompt tokens read from the engine's cache, as reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Cost in US dollars, where tokens and price are known.
    pub cost_usd: Option<f64>,
}

fn no_labels(probabilities: &Probabilities) -> bool {
    probabilities.labels.is_empty()
}

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn rounded<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|v| round(f64::from(v))).serialize(serializer)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn share<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    round(f64::from(*value)).serialize(serializer)
}

/// A share to four decimals: plenty for a person.
#[must_use]
pub fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
