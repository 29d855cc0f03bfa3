//! Steps 4 and 5 of a request's way: which label or expectation, and from it which models in which order.
//!
//! Everything learnt is written into the Decision, also when the answer is no. Both doors, `waypost decide` and
//! `waypost replay` come through here; time and what stands around the request are arguments.

use crate::ask::{Ask, Via};
use crate::brain::Brain;
use crate::classifying::{Answer, Classified, Question, Unanswered};
use crate::context::Context;
use crate::conversations;
use crate::decision::{Considered, Decision, Shadowed, Tier, millis};
use crate::outlook::{self, Candidate, Outlook};
use std::sync::Arc;
use std::time::Instant;
use waypost_config::{Auto, Classifier, Effort, ModelIndex, Policy, PolicyIndex, SplitBy};
use waypost_policy::{Choice, Demand, Error as PlanError, Ordered, Plan, Reason, Unfit, fit};
use waypost_wire::{ApiError, Code, RequestView};

/// Why nothing was classified: the door had no time left, or saw no body.
const UNDECIDED: &str = "undecided";

/// A request, and whether it is decided in earnest.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) view: &'a RequestView<'a>,
    pub(crate) context: &'a Context<'a>,
    pub(crate) in_shadow: bool,
}

impl Brain {
    /// Which models to try, in which order, and why.
    ///
    /// # Errors
    /// The error to send to the client.
    pub async fn route(
        &self,
        ask: Ask,
        via: Via,
        view: &RequestView<'_>,
        context: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<Plan, ApiError> {
        decision.via = via;
        decision.tier = Some(Tier::None);
        match ask {
            Ask::Named(model) => self.plan(None, Choice::Named(model), None, view, decision),
            Ask::Manual(policy, model, label) => {
                decision.label = label;
                self.plan(Some(policy), Choice::Named(model), None, view, decision)
            }
            Ask::Classify(policy) => {
                self.decide(policy, Asking { view, context, in_shadow: false }, decision).await
            }
        }
    }

    /// [`Self::route`] when there is no time to classify, or nothing to see: as when no label wins.
    ///
    /// # Errors
    /// The error to send to the client.
    pub fn route_late(
        &self,
        ask: Ask,
        via: Via,
        view: &RequestView<'_>,
        context: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<Plan, ApiError> {
        decision.via = via;
        decision.tier.get_or_insert(Tier::None);
        let policy = match ask {
            Ask::Named(model) => return self.plan(None, Choice::Named(model), None, view, decision),
            Ask::Manual(policy, model, label) => {
                decision.label = label;
                return self.plan(Some(policy), Choice::Named(model), None, view, decision);
            }
            Ask::Classify(policy) => self.arm(policy, view, context, decision),
        };
        decision.classifier_error = Some(UNDECIDED);
        let message = "The policy has no default model, and there was no time to classify.";
        let error = ApiError::new(Code::ClassifierUnavailable, message);
        self.plan(Some(policy), Choice::NoLabel, Some(error), view, decision)
    }

    /// [`Self::route`] for whoever only asks what would be done: no conversation takes note of it.
    ///
    /// # Errors
    /// The error that a client would be sent.
    pub async fn consider(
        &self,
        policy: PolicyIndex,
        view: &RequestView<'_>,
        context: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<Plan, ApiError> {
        decision.via = Via::VirtualModel;
        decision.tier = Some(Tier::None);
        self.decide(policy, Asking { view, context, in_shadow: true }, decision).await
    }

    /// A policy's way to a plan.
    async fn decide(
        &self,
        policy: PolicyIndex,
        asking: Asking<'_>,
        decision: &mut Decision,
    ) -> Result<Plan, ApiError> {
        let Asking { view, context, .. } = asking;
        let policy = self.arm(policy, view, context, decision);
        let question = Question { brain: self, policy, view, context };
        let start = Instant::now();
        let answer = self.classifiers().answer(question).await;
        decision.classify_ms = millis(start.elapsed());
        let mut plan = match answer {
            Ok(Answer::Label(classified)) => {
                self.note(policy, *classified, decision);
                let label = decision.label.clone();
                let choice =
                    label.as_deref().map_or(Choice::NoDecision, |l| Choice::Label(l, decision.confidence));
                let plan = self.plan(Some(policy), choice, None, view, decision);
                decision.reasoning = self.effort(policy, view, decision);
                plan
            }
            Ok(Answer::Outlook(outlook)) => {
                let order = self.rank(policy, &outlook, view, context, decision);
                self.plan(Some(policy), Choice::Ranked(&order), None, view, decision)
            }
            Err(Unanswered { error, why, intent }) => {
                // Nothing in this process can fail.
                decision.tier = Some(remote_tier(&self.snapshot().policies[policy]));
                decision.classifier_error = Some(why);
                decision.intent = intent;
                self.plan(Some(policy), Choice::NoLabel, Some(error), view, decision)
            }
        }?;
        if let Some(sticky) = &self.snapshot().policies[policy].sticky {
            self.keep_together(policy, sticky, &asking, decision, &mut plan);
        }
        Ok(plan)
    }

    /// The policy that decides: the one asked for, or the arm of it that the request belongs to.
    fn arm(
        &self,
        asked: PolicyIndex,
        view: &RequestView<'_>,
        context: &Context<'_>,
        decision: &mut Decision,
    ) -> PolicyIndex {
        let policy = &self.snapshot().policies[asked];
        let Classifier::Split(split) = &policy.classifier else { return asked };
        decision.split = Some(Arc::clone(&policy.name));
        let given = context.given.and_then(|given| self.snapshot().policy(given.arm.as_ref()?));
        if let Some(arm) = given.filter(|given| split.arms.iter().any(|(arm, _)| arm == given)) {
            return arm;
        }
        let header = match &split.by {
            SplitBy::Header(name) => {
                let value = context.headers.get(&**name).map(|value| value.as_bytes().to_vec());
                value.filter(|value| !value.is_empty())
            }
            SplitBy::Conversation | SplitBy::Request => None,
        };
        let by_request = split.by == SplitBy::Request;
        let conversation = || {
            conversations::key(view, context).filter(|_| !by_request).map(|key| key.to_le_bytes().to_vec())
        };
        // A decision's id is as good as a draw, and the same when it is decided again.
        let key = header.or_else(conversation).unwrap_or_else(|| decision.id.as_bytes().to_vec());
        waypost_policy::arm(split, &policy.name, &key)
    }

    /// How much the label's model is to think. A label that was not trusted has no say, and only chats have a template.
    fn effort(&self, policy: PolicyIndex, view: &RequestView<'_>, decision: &Decision) -> Option<Effort> {
        let trusted = decision.plan.first().is_none_or(|first| first.reason != Reason::LowConfidence);
        let label = decision.label.as_deref().filter(|_| trusted && view.is_chat())?;
        self.snapshot().policies[policy].effort(label)
    }

    /// What the classifier said.
    fn note(&self, policy: PolicyIndex, classified: Classified, decision: &mut Decision) {
        decision.tier = Some(classified.tier);
        decision.classifier = classified.rule.is_none().then(|| Arc::clone(self.classifiers().name(policy)));
        decision.rule = classified.rule;
        decision.escalation = classified.escalation;
        decision.label = classified.label;
        decision.signals = classified.signals;
        decision.confidence = classified.confidence;
        decision.difficulty = classified.difficulty;
        decision.dimensions = classified.dimensions;
        decision.personal = classified.personal;
        decision.intent = classified.intent;
        decision.probabilities = classified.probabilities;
    }

    /// The contestants in the order of the policy's rule; those that cannot take the request come last, for the plan to
    /// rule out by name.
    fn rank(
        &self,
        policy: PolicyIndex,
        outlook: &Outlook,
        view: &RequestView<'_>,
        context: &Context<'_>,
        decision: &mut Decision,
    ) -> Ordered {
        let snapshot = self.snapshot();
        let Classifier::Auto(auto) = &snapshot.policies[policy].classifier else { return Ordered::new() };
        let auto: &Auto = auto;
        decision.tier = Some(outlook.tier);
        decision.escalation = outlook.escalation;
        decision.classifier = Some(Arc::clone(self.classifiers().name(policy)));
        let observed = outlook::observed(snapshot, auto, self.latencies(), context);
        let demand = demand(view);
        let expected = outlook::expected(snapshot, auto, outlook, &demand, &observed);
        let (fit, unfit): (Vec<_>, Vec<_>) =
            expected.into_iter().partition(|e| fit(&snapshot.models[e.model], &demand).is_ok());
        decision.candidates = fit
            .iter()
            .map(|e| Candidate {
                model: Arc::clone(&snapshot.models[e.model].name),
                quality: e.quality,
                cost_usd: e.cost_usd,
                latency_ms: e.latency_ms,
                observed: observed[e.contestant],
            })
            .collect();
        let mut order = waypost_policy::rank(&auto.rule, &fit);
        order.extend(unfit.iter().map(|e| (e.model, Reason::Fallback)));
        order
    }

    /// What `policy` would do with a request that goes to `taken` first.
    pub async fn shadow(
        &self,
        policy: PolicyIndex,
        view: &RequestView<'_>,
        context: &Context<'_>,
        id: &str,
        taken: Option<&Arc<str>>,
    ) -> Shadowed {
        let mut decision = Decision { id: id.to_owned(), at_unix_ms: context.at_ms, ..Decision::default() };
        let start = Instant::now();
        let routed = self.consider(policy, view, context, &mut decision).await;
        let first = decision.plan.first();
        let model = first.map(|first| Arc::clone(&first.model));
        let candidate = decision.candidates.iter().find(|candidate| Some(&candidate.model) == model.as_ref());
        Shadowed {
            policy: Arc::clone(&self.snapshot().policies[policy].name),
            label: decision.label,
            agrees: model.is_some() && model.as_ref() == taken,
            reason: first.map(|first| first.reason),
            quality: candidate.map(|candidate| candidate.quality),
            cost_usd: candidate.and_then(|candidate| candidate.cost_usd),
            model,
            intent: decision.intent,
            ms: millis(start.elapsed()),
            error: routed.err().map(|error| error.code.as_str()).or(decision.classifier_error),
        }
    }

    fn plan(
        &self,
        policy: Option<PolicyIndex>,
        choice: Choice<'_>,
        classifier_failure: Option<ApiError>,
        view: &RequestView<'_>,
        decision: &mut Decision,
    ) -> Result<Plan, ApiError> {
        let owner = policy.map(|p| &self.snapshot().policies[p]);
        decision.policy = owner.map(|p| Arc::clone(&p.name));
        let planned = waypost_policy::plan(self.snapshot(), owner, choice, &demand(view));
        if let Ok(plan) = &planned {
            decision.plan = self.considered(plan);
        }
        if let Ok(Plan { unfit, .. }) | Err(PlanError::NoCapableModel(unfit)) = &planned {
            let name = |m: ModelIndex| Arc::clone(&self.snapshot().models[m].name);
            decision.unfit =
                unfit.iter().map(|(m, why)| Considered { model: name(*m), reason: *why }).collect();
        }
        planned.map_err(|error| self.refusal(error, owner, classifier_failure))
    }

    pub(crate) fn considered(&self, plan: &Plan) -> smallvec::SmallVec<[Considered<Reason>; 2]> {
        let name = |m: ModelIndex| Arc::clone(&self.snapshot().models[m].name);
        plan.models.iter().map(|(m, reason)| Considered { model: name(*m), reason: *reason }).collect()
    }

    /// The client's answer when there is no plan.
    fn refusal(&self, error: PlanError, policy: Option<&Policy>, failure: Option<ApiError>) -> ApiError {
        let policy = policy.map_or("", |p| &p.name);
        match error {
            PlanError::NoCapableModel(unfit) => {
                let told = |(m, why): &(ModelIndex, Unfit)| {
                    format!("'{}' {}", self.snapshot().models[*m].name, why.phrase())
                };
                let reasons: Vec<_> = unfit.iter().map(told).collect();
                let mut message = format!("No model can take this request: {}.", reasons.join(", "));
                if let Some(failure) = failure {
                    message.push_str(&format!(" The classifier failed, too: {}", failure.message));
                }
                ApiError::new(Code::NoCapableModel, message).param("model")
            }
            PlanError::LabelWithoutModel(label) => ApiError::new(
                Code::LabelWithoutModel,
                format!(
                    "The classifier chose '{label}', for which the policy '{policy}' has no model and no default."
                ),
            ),
            PlanError::NoDecision => ApiError::new(
                Code::LabelWithoutModel,
                format!("No decision of the policy '{policy}' applies, and it has no default."),
            ),
            PlanError::NoDefault => failure.unwrap_or_else(|| {
                ApiError::new(
                    Code::ClassifierUnavailable,
                    "The classifier failed and the policy has no default.",
                )
            }),
        }
    }

    /// Why the model at this position of the plan is not the one that was to answer, if it is not.
    #[must_use]
    pub fn fallback_at(decision: &Decision, position: usize) -> Option<&'static str> {
        let reason = decision.plan.get(position)?.reason;
        // Nothing failed: those before it had no room.
        let busy = decision.no_place.is_some_and(|why| why.is_busy());
        if reason == Reason::Fallback && busy && decision.attempts.len() <= 1 {
            return Some("saturated");
        }
        match decision.classifier_error {
            // Whoever stands in: the default, a model that can take the request, or the one the conversation has.
            Some(_) if reason != Reason::Fallback => Some(Reason::ClassifierFailed.as_str()),
            _ => Self::fallback_reason(reason),
        }
    }

    fn fallback_reason(reason: Reason) -> Option<&'static str> {
        match reason {
            Reason::Fallback => Some("upstream_failed"),
            Reason::LowConfidence
            | Reason::UnmappedLabel
            | Reason::NoDecision
            | Reason::ClassifierFailed
            | Reason::Capable
            | Reason::OverBudget
            | Reason::ThresholdFallback => Some(reason.as_str()),
            Reason::Named
            | Reason::Label
            | Reason::BestQuality
            | Reason::CheapestGoodEnough
            | Reason::Objective
            | Reason::WithinBudget
            | Reason::CostOptimized
            | Reason::HighestProbability
            | Reason::Conversation
            | Reason::MovedUp => None,
        }
    }
}

/// What failed, when a policy's classifier did.
fn remote_tier(policy: &Policy) -> Tier {
    match policy.classifier {
        Classifier::Auto(_) => Tier::Network,
        Classifier::Intent(_) => Tier::Intent,
        _ => Tier::Kserve,
    }
}

pub(crate) fn demand(view: &RequestView<'_>) -> Demand {
    Demand {
        images: view.needs.images,
        audio: view.needs.audio,
        tools: view.needs.tools,
        json_schema: view.needs.json_schema,
        text_bytes: view.text_bytes as u64,
        max_tokens: view.max_tokens.unwrap_or(0),
    }
}
