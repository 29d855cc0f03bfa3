//! One configuration made ready to decide: names resolved, pools filled, classifiers at hand.
//!
//! A brain never changes; a reload builds a new one that takes over the endpoints' state and the
//! budget of the old. Called by both doors for every request.

use crate::ask::{AUTO, Ask, Via};
use crate::classifying::Classifiers;
use crate::client::{self, Client};
use crate::decision::{Considered, Decision, Tier, millis};
use crate::prompt::PromptText;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use waypost_config::{Model, ModelIndex, Policy, PolicyIndex, Snapshot};
use waypost_picker::{Endpoint, Pool, RetryBudget};
use waypost_policy::{Choice, Demand, Error as PlanError, Plan, Reason};
use waypost_wire::{ApiError, Code, RequestView};

/// What a name in a request stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Model(ModelIndex),
    Policy(PolicyIndex),
}

/// See the module.
#[derive(Debug)]
pub struct Brain {
    snapshot: Arc<Snapshot>,
    names: HashMap<Arc<str>, Name>,
    pools: Vec<Pool>,
    classifiers: Classifiers,
    budget: Arc<RetryBudget>,
    started: Instant,
}

impl Brain {
    /// Makes `snapshot` ready, for which `classifiers` were loaded. `previous` lends its endpoints' state and its retry
    /// budget.
    #[must_use]
    pub fn new(snapshot: Snapshot, classifiers: Classifiers, previous: Option<&Self>) -> Self {
        // So that the first request does not wait for either.
        drop(client::tls_config());
        classifiers.warm_up();
        let started = previous.map_or_else(Instant::now, |p| p.started);
        let same_budget = |p: &&Self| {
            let (a, b) = (&p.snapshot.retry, &snapshot.retry);
            a.budget_ratio == b.budget_ratio && a.budget_min_per_second == b.budget_min_per_second
        };
        let budget = match previous.filter(same_budget) {
            Some(previous) => Arc::clone(&previous.budget),
            None => {
                let retry = &snapshot.retry;
                let now = started.elapsed().as_millis() as u64;
                Arc::new(RetryBudget::new(retry.budget_ratio, retry.budget_min_per_second, now))
            }
        };
        Self {
            names: names(&snapshot),
            pools: pools(&snapshot, previous),
            classifiers,
            budget,
            started,
            snapshot: Arc::new(snapshot),
        }
    }

    /// The configuration it runs on.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The replicas of a model.
    #[must_use]
    pub fn pool(&self, model: ModelIndex) -> &Pool {
        &self.pools[model]
    }

    /// The calling thread's client that reaches a model.
    #[must_use]
    pub fn client(&self, model: ModelIndex) -> Client {
        client::local(self.snapshot.models[model].timeouts.connect)
    }

    /// Everything that can label a prompt.
    #[must_use]
    pub fn classifiers(&self) -> &Classifiers {
        &self.classifiers
    }

    /// The process-wide retry budget.
    #[must_use]
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Milliseconds on the picker's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(crate) fn name(&self, name: &str) -> Option<Name> {
        self.names.get(name).copied()
    }

    /// Steps 4 and 5 of a request's way: which label, which models in which order.
    /// Everything learnt is written into `decision`, also when the answer is no.
    ///
    /// # Errors
    /// The error to send to the client.
    pub async fn route(
        &self,
        ask: Ask,
        via: Via,
        view: &RequestView<'_>,
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
                let failure = self.classify(policy, view, decision).await.err();
                let label = decision.label.clone();
                let choice =
                    label.as_deref().map_or(Choice::NoLabel, |l| Choice::Label(l, decision.confidence));
                self.plan(Some(policy), choice, failure, view, decision)
            }
        }
    }

    /// Asks the policy's classifier and writes what it said into the decision.
    async fn classify(
        &self,
        policy: PolicyIndex,
        view: &RequestView<'_>,
        decision: &mut Decision,
    ) -> Result<(), ApiError> {
        let text = PromptText::of(view, self.snapshot.policies[policy].compat_v1);
        let start = Instant::now();
        let classified = self.classifiers.classify(self, policy, view, text).await;
        decision.classify_ms = millis(start.elapsed());
        let classified = match classified {
            Ok(classified) => classified,
            Err(none) => {
                decision.tier = Some(none.tier);
                decision.classifier_error = Some(none.why);
                decision.intent = none.intent;
                return Err(none.error);
            }
        };
        decision.tier = Some(classified.tier);
        decision.classifier = classified.rule.is_none().then(|| Arc::clone(self.classifiers.name(policy)));
        decision.rule = classified.rule;
        decision.escalation = classified.escalation;
        decision.label = Some(classified.label);
        decision.confidence = classified.confidence;
        decision.difficulty = classified.difficulty;
        decision.dimensions = classified.dimensions;
        decision.personal = classified.personal;
        decision.intent = classified.intent;
        decision.probabilities = classified.probabilities;
        Ok(())
    }

    fn plan(
        &self,
        policy: Option<PolicyIndex>,
        choice: Choice<'_>,
        classifier_failure: Option<ApiError>,
        view: &RequestView<'_>,
        decision: &mut Decision,
    ) -> Result<Plan, ApiError> {
        let owner = policy.map(|p| &self.snapshot.policies[p]);
        decision.policy = owner.map(|p| Arc::clone(&p.name));
        let name = |m: ModelIndex| Arc::clone(&self.snapshot.models[m].name);
        let planned = waypost_policy::plan(&self.snapshot, owner, choice, &demand(view));
        if let Ok(plan) = &planned {
            decision.plan = plan
                .models
                .iter()
                .map(|(m, reason)| Considered { model: name(*m), reason: *reason })
                .collect();
        }
        if let Ok(Plan { unfit, .. }) | Err(PlanError::NoCapableModel(unfit)) = &planned {
            decision.unfit =
                unfit.iter().map(|(m, why)| Considered { model: name(*m), reason: *why }).collect();
        }
        planned.map_err(|error| self.refusal(error, owner, classifier_failure))
    }

    /// The client's answer when there is no plan.
    fn refusal(&self, error: PlanError, policy: Option<&Policy>, failure: Option<ApiError>) -> ApiError {
        let policy = policy.map_or("", |p| &p.name);
        match error {
            PlanError::NoCapableModel(unfit) => {
                let reasons: Vec<_> = unfit
                    .iter()
                    .map(|(m, why)| format!("'{}' {}", self.snapshot.models[*m].name, why.phrase()))
                    .collect();
                let message = format!("No model can take this request: {}.", reasons.join(", "));
                ApiError::new(Code::NoCapableModel, message).param("model")
            }
            PlanError::LabelWithoutModel(label) => ApiError::new(
                Code::LabelWithoutModel,
                format!(
                    "The classifier chose '{label}', for which the policy '{policy}' has no model and no default."
                ),
            ),
            PlanError::NoDefault => failure.unwrap_or_else(|| {
                ApiError::new(
                    Code::ClassifierUnavailable,
                    "The classifier failed and the policy has no default.",
                )
            }),
        }
    }

    /// Why the model that answered is not the one that was asked for, if it is not.
    #[must_use]
    pub fn fallback_reason(reason: Reason) -> Option<&'static str> {
        match reason {
            Reason::Named | Reason::Label => None,
            Reason::Fallback => Some("upstream_failed"),
            other => Some(other.as_str()),
        }
    }
}

fn demand(view: &RequestView<'_>) -> Demand {
    Demand {
        images: view.needs.images,
        audio: view.needs.audio,
        tools: view.needs.tools,
        json_schema: view.needs.json_schema,
        text_bytes: view.text_bytes as u64,
        max_tokens: view.max_tokens.unwrap_or(0),
    }
}

/// Everything a client may write as `model`. Names win over upstream ids; models and policies cannot
/// clash, the configuration has seen to that.
fn names(snapshot: &Snapshot) -> HashMap<Arc<str>, Name> {
    let mut names = HashMap::new();
    for (i, model) in snapshot.models.iter().enumerate().filter(|(_, m)| m.listed) {
        names.insert(Arc::clone(&model.name), Name::Model(i));
    }
    for (i, policy) in snapshot.policies.iter().enumerate() {
        names.insert(Arc::clone(&policy.name), Name::Policy(i));
    }
    for (i, model) in snapshot.models.iter().enumerate().filter(|(_, m)| m.listed) {
        names.entry(Arc::clone(&model.upstream_id)).or_insert(Name::Model(i));
    }
    if let Some(default) = snapshot.default_policy {
        names.entry(AUTO.into()).or_insert(Name::Policy(default));
    }
    names
}

/// One pool per model. What is known about an endpoint is known per model: behind a shared front one
/// model may be out of quota or out of order while the next one is fine.
fn pools(snapshot: &Snapshot, previous: Option<&Brain>) -> Vec<Pool> {
    let known = |model: &str, base: &str| {
        let previous = previous?;
        let index = previous.snapshot.models.iter().position(|m| *m.name == *model)?;
        previous.pools[index].endpoints().iter().find(|e| **e.base() == *base).cloned()
    };
    let endpoint = |model: &Model, base: &Arc<str>| {
        known(&model.name, base).unwrap_or_else(|| Arc::new(Endpoint::new(Arc::clone(base))))
    };
    let pool = |m: &Model| Pool::new(m.endpoints.iter().map(|e| endpoint(m, &e.base)).collect());
    snapshot.models.iter().map(pool).collect()
}
