//! What the policy would do with a text, in the words of vLLM Semantic Router: signals, decision, model.
//!
//! A decision is a label for which the policy has a model. The guard is asked as for a request. Nothing is sent, and no
//! conversation takes note of it. Called for `intent` and `eval`.

use crate::desk::{Desk, share};
use crate::input::Question;
use crate::refusal::Refusal;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use waypost_policy::Plan;
use waypost_router::{Ask, Brain, Context, Decision};
use waypost_wire::{ApiError, RequestView};

/// See the module.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) decision: Decision,
    plan: Result<Plan, ApiError>,
}

impl Routed {
    /// `None` where the configuration has no policy.
    pub(crate) async fn of(desk: &Desk, brain: &Brain, question: &Question) -> Result<Option<Self>, Refusal> {
        let Some(policy) = question.policy else { return Ok(None) };
        let view = RequestView::parse(&question.body)?;
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let headers = HeaderMap::new();
        let context = Context::new(&headers, at_ms);
        // A split draws by it.
        let id = format!("eval-{:016x}", fastrand::u64(..));
        let mut decision = Decision { id, at_unix_ms: at_ms, ..Decision::default() };
        let plan = match brain.guard(&Ask::Classify(policy), &view, &context, &mut decision).await {
            Ok(()) => brain.consider(policy, &view, &context, &mut decision).await,
            Err(refusal) => Err(refusal),
        };
        let read = decision.guard.as_ref().and_then(|guard| guard.read.as_ref());
        desk.note("safety", read.and_then(|read| read.escalation.as_ref()));
        desk.note(decision.classifier.as_deref().unwrap_or_default(), decision.escalation.as_ref());
        Ok(Some(Self { decision, plan }))
    }

    /// The label whose model would be taken, if one would.
    pub(crate) fn matched(&self) -> Option<&str> {
        let label = self.decision.label.as_deref()?;
        (self.plan.is_ok() && Brain::fallback_at(&self.decision, 0).is_none()).then_some(label)
    }

    /// The model to which the request would go first.
    pub(crate) fn model(&self) -> Option<&str> {
        Some(&*self.decision.plan.first()?.model)
    }

    /// Why that one, in a word.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        Some(self.decision.plan.first()?.reason.as_str())
    }

    /// All models that would be tried, in order.
    pub(crate) fn models(&self) -> Vec<&str> {
        self.decision.plan.iter().map(|considered| &*considered.model).collect()
    }

    /// The code of what went wrong: the classifier, or there is no model.
    pub(crate) fn error(&self) -> Option<&'static str> {
        let refused = self.plan.as_ref().err().map(|error| error.code.as_str());
        self.decision.classifier_error.or(refused)
    }

    /// Why there is no model, for a person.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.plan.as_ref().err().map(|error| error.message.as_str())
    }

    /// What the policy went by, each with its family: the signals that apply under a policy of decisions, and otherwise the
    /// label, where a model would be taken for it.
    pub(crate) fn signals(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let decided = !self.decision.signals.is_empty() || self.matched().is_some();
        waypost_door::signals(&self.decision).filter(move |_| decided)
    }

    /// `{"decision_name", "confidence", "matched_rules"}`, where a decision was made.
    pub(crate) fn decision_result(&self) -> Option<Value> {
        let label = self.matched()?;
        let rules: Vec<String> = self.signals().map(|(family, name)| format!("{family}:{name}")).collect();
        let confidence = share(f64::from(self.decision.confidence.unwrap_or(1.0)));
        Some(json!({"decision_name": label, "confidence": confidence, "matched_rules": rules}))
    }
}

/// Names of signals by their family.
#[derive(Debug, Default)]
pub(crate) struct Signals(Map<String, Value>);

impl Signals {
    pub(crate) fn add(&mut self, family: &str, name: impl Into<String>) {
        let name = Value::from(name.into());
        if let Value::Array(names) = self.0.entry(family).or_insert_with(|| json!([]))
            && !names.contains(&name)
        {
            names.push(name);
        }
    }

    pub(crate) fn into_json(self) -> Value {
        Value::Object(self.0)
    }
}
