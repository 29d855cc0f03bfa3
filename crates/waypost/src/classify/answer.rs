//! A verdict as the JSON object scripts read.
//!
//! Labels keep the classifier's order; the dimensions are those of a Decision. Called by `classify`.

use serde::ser::{Serialize, Serializer};
use waypost_classify::{Builtin, Model, Tier, Verdict};
use waypost_router::Dimensions;

/// See the module.
#[derive(Debug, serde::Serialize)]
pub(super) struct Answer<'a> {
    label: &'a str,
    confidence: f32,
    probabilities: Probabilities<'a>,
    tier: &'static str,
    /// Why the encoder was asked; absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    escalated_because: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difficulty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    few_shots: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    constraints: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<Dimensions>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(model: &'a Model, verdict: &'a Verdict) -> Self {
        Self {
            label: &model.labels()[verdict.label],
            confidence: verdict.confidence,
            probabilities: Probabilities(model, verdict),
            tier: verdict.tier.name(),
            escalated_because: verdict
                .doubt
                .filter(|_| verdict.tier == Tier::Encoder)
                .map(|doubt| doubt.name()),
            difficulty: verdict.difficulty,
            few_shots: verdict.few_shots,
            constraints: verdict.constraints,
            dimensions: Dimensions::of(verdict),
        }
    }
}

#[derive(Debug)]
struct Probabilities<'a>(&'a Model, &'a Verdict);

impl Serialize for Probabilities<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.labels().iter().zip(&self.1.probabilities))
    }
}

/// One answer per built-in classifier, by name.
#[derive(Debug)]
pub(super) struct Answers<'a>(pub(super) Vec<(Builtin, Answer<'a>)>);

impl Serialize for Answers<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(builtin, answer)| (builtin.name(), answer)))
    }
}
