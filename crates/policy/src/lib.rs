//! From a label (or a name) to an ordered list of models, each with its reason.
//!
//! Pure: no network, no clock, no file. The gateway, the Envoy door and the tests run this same code.
//! Called by the router once per request.

mod auto;
mod conversation;
mod decisions;
mod split;

pub use auto::{Expected, rank};
pub use conversation::{Memory, Turn, keep, ladder};
pub use decisions::{Holds, holds, taken};
pub use split::arm;

use serde::Serialize;
use smallvec::SmallVec;
use waypost_config::{Model, ModelIndex, Policy, Snapshot};

/// Bytes of text that are counted as one token when no tokenizer is at hand. English prose has 4.2 to
/// 4.7, so this errs towards "too long", which costs a larger model rather than an answer.
pub const BYTES_PER_TOKEN: u64 = 4;

/// What a request needs of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Image parts.
    pub images: bool,
    /// Audio parts.
    pub audio: bool,
    /// Tools or functions.
    pub tools: bool,
    /// An answer that follows a JSON schema.
    pub json_schema: bool,
    /// Bytes of prompt text.
    pub text_bytes: u64,
    /// Completion tokens asked for.
    pub max_tokens: u64,
}

impl Demand {
    /// Prompt (estimated) and completion together, in tokens.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        (self.text_bytes / BYTES_PER_TOKEN).saturating_add(self.max_tokens)
    }
}

/// Models in the order in which they are tried, each with its reason.
pub type Ordered = SmallVec<[(ModelIndex, Reason); 4]>;

/// What decides about the first model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice<'a> {
    /// The client named this model.
    Named(ModelIndex),
    /// The policy's classifier chose this label with this confidence; `None` when it gave no
    /// usable confidence (a one-hot answer).
    Label(&'a str, Option<f32>),
    /// An auto policy put its contestants in this order.
    Ranked(&'a [(ModelIndex, Reason)]),
    /// None of the policy's decisions applies.
    NoDecision,
    /// The classifier could not answer.
    NoLabel,
}

/// Why a model stands in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The client named it.
    Named,
    /// The policy maps the label to it.
    Label,
    /// The policy's default: the confidence was below the floor.
    LowConfidence,
    /// The policy's default: the label has no model.
    UnmappedLabel,
    /// The policy's default: none of its decisions applies.
    NoDecision,
    /// The policy's default: the classifier was late or down.
    ClassifierFailed,
    /// The first choice cannot take this request; this model of the policy can.
    Capable,
    /// Tried when those before it fail.
    Fallback,
    /// Expected to answer best.
    BestQuality,
    /// The cheapest of those expected to be hardly worse than the best.
    CheapestGoodEnough,
    /// The highest quality less weighted cost and latency.
    Objective,
    /// The best that the request's budget pays for.
    WithinBudget,
    /// The cheapest: the budget pays for none.
    OverBudget,
    /// v2: the cheapest of those that meet their threshold.
    CostOptimized,
    /// v2: the likeliest of those that meet their threshold.
    HighestProbability,
    /// v2: the likeliest, because none meets its threshold.
    ThresholdFallback,
    /// It has the conversation.
    Conversation,
    /// The next dearer one: the user was not content.
    MovedUp,
}

impl Reason {
    /// The word used in headers, metrics and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Label => "label",
            Self::LowConfidence => "low_confidence",
            Self::UnmappedLabel => "unmapped_label",
            Self::NoDecision => "no_decision",
            Self::ClassifierFailed => "classifier_failed",
            Self::Capable => "capable",
            Self::Fallback => "fallback",
            Self::BestQuality => "best_quality",
            Self::CheapestGoodEnough => "cheapest_good_enough",
            Self::Objective => "objective",
            Self::WithinBudget => "within_budget",
            Self::OverBudget => "over_budget",
            Self::CostOptimized => "cost_optimized",
            Self::HighestProbability => "highest_probability",
            Self::ThresholdFallback => "threshold_fallback",
            Self::Conversation => "conversation",
            Self::MovedUp => "moved_up",
        }
    }
}

/// Why a model cannot take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// It takes no images.
    NoImages,
    /// It takes no audio.
    NoAudio,
    /// It takes no tools.
    NoTools,
    /// It cannot follow a JSON schema.
    NoJsonSchema,
    /// Its context is too short.
    ContextTooShort,
}

impl Unfit {
    /// For an error message: what the model cannot do.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::NoImages => "takes no images",
            Self::NoAudio => "takes no audio",
            Self::NoTools => "takes no tools",
            Self::NoJsonSchema => "cannot follow a JSON schema",
            Self::ContextTooShort => "has too short a context",
        }
    }
}

/// Models to try, in order, and those ruled out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Never empty.
    pub models: Ordered,
    /// Ruled out by what the request needs.
    pub unfit: SmallVec<[(ModelIndex, Unfit); 4]>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No model of the policy, or not the one named, can take the request.
    #[error("no model can take this request")]
    NoCapableModel(SmallVec<[(ModelIndex, Unfit); 4]>),
    /// The label has no model and the policy no default.
    #[error("the policy has no model for the label '{0}' and no default")]
    LabelWithoutModel(String),
    /// None of the policy's decisions applies, and it has no default.
    #[error("none of the policy's decisions applies and it has no default")]
    NoDecision,
    /// The classifier failed and the policy has no default.
    #[error("the classifier failed and the policy has no default")]
    NoDefault,
}

/// Whether `model` can take a request with this demand.
///
/// # Errors
/// The first thing it cannot do.
pub fn fit(model: &Model, demand: &Demand) -> Result<(), Unfit> {
    let accepts = model.accepts;
    if demand.images && !accepts.images {
        return Err(Unfit::NoImages);
    }
    if demand.audio && !accepts.audio {
        return Err(Unfit::NoAudio);
    }
    if demand.tools && !accepts.tools {
        return Err(Unfit::NoTools);
    }
    if demand.json_schema && !accepts.json_schema {
        return Err(Unfit::NoJsonSchema);
    }
    match model.context_length {
        Some(length) if demand.tokens() > u64::from(length) => Err(Unfit::ContextTooShort),
        _ => Ok(()),
    }
}

/// The models to try for a request under `policy`; `None` for a model the client named outright.
///
/// # Errors
/// When no model is left; the error says why each was ruled out.
pub fn plan(
    snapshot: &Snapshot,
    policy: Option<&Policy>,
    choice: Choice<'_>,
    demand: &Demand,
) -> Result<Plan, Error> {
    let mut wanted = Wanted { snapshot, demand, plan: Plan::default() };
    match (choice, policy) {
        // What a client names is never replaced by something else.
        (Choice::Named(model), _) => wanted.add(model, Reason::Named),
        (_, None) => return Err(Error::NoDefault),
        (choice, Some(policy)) => {
            if let Choice::Ranked(order) = choice {
                order.iter().for_each(|(model, reason)| wanted.add(*model, *reason));
            } else {
                let (first, reason) = first_model(policy, choice)?;
                wanted.add(first, reason);
            }
            policy.fallbacks.iter().chain(&policy.default).for_each(|model| wanted.stand_by(*model));
            // Without expectations, each contestant is as good as another; without a label, a route's model is not.
            policy.contestants().for_each(|model| wanted.stand_by(model));
            policy.routes.iter().for_each(|route| wanted.add_first(route.model));
        }
    }
    if wanted.plan.models.is_empty() {
        return Err(Error::NoCapableModel(wanted.plan.unfit));
    }
    Ok(wanted.plan)
}

/// The model the policy wants first, and why.
fn first_model(policy: &Policy, choice: Choice<'_>) -> Result<(ModelIndex, Reason), Error> {
    let default = |reason, error| policy.default.map(|model| (model, reason)).ok_or(error);
    let (label, confidence) = match choice {
        Choice::Label(label, confidence) => (label, confidence),
        Choice::NoDecision => return default(Reason::NoDecision, Error::NoDecision),
        _ => return default(Reason::ClassifierFailed, Error::NoDefault),
    };
    let route = policy.routes.iter().find(|route| *route.label == *label);
    let unsure = confidence.is_some_and(|c| c < policy.confidence_floor);
    match (route, policy.default) {
        (_, Some(default)) if unsure => Ok((default, Reason::LowConfidence)),
        (Some(route), _) => Ok((route.model, Reason::Label)),
        (None, Some(default)) => Ok((default, Reason::UnmappedLabel)),
        (None, None) => Err(Error::LabelWithoutModel(label.to_owned())),
    }
}

/// A plan in the making: each model once, each checked.
struct Wanted<'a> {
    snapshot: &'a Snapshot,
    demand: &'a Demand,
    plan: Plan,
}

impl Wanted<'_> {
    fn add(&mut self, model: ModelIndex, reason: Reason) {
        let known = self.plan.models.iter().any(|(m, _)| *m == model)
            || self.plan.unfit.iter().any(|(m, _)| *m == model);
        if known {
            return;
        }
        match fit(&self.snapshot.models[model], self.demand) {
            Ok(()) => self.plan.models.push((model, reason)),
            Err(unfit) => self.plan.unfit.push((model, unfit)),
        }
    }

    /// Adds `model` behind those that are there.
    fn stand_by(&mut self, model: ModelIndex) {
        let reason = if self.plan.models.is_empty() { Reason::Capable } else { Reason::Fallback };
        self.add(model, reason);
    }

    /// Adds `model` only if nothing capable has been found yet.
    fn add_first(&mut self, model: ModelIndex) {
        if self.plan.models.is_empty() {
            self.add(model, Reason::Capable);
        }
    }
}

#[cfg(test)]
mod tests;
