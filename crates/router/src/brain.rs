//! One configuration made ready to decide: names resolved, pools filled, classifiers at hand.
//!
//! A brain never changes; a reload builds a new one that takes over the endpoints' state and the
//! budget of the old. Called by both doors for every request.

use crate::ask::AUTO;
use crate::classifying::Classifiers;
use crate::client::{self, Client};
use crate::conversations::Conversations;
use crate::latency::Latency;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use waypost_config::{Model, ModelIndex, PolicyIndex, Snapshot};
use waypost_picker::{Pool, RetryBudget};

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
    /// In step with the snapshot's models.
    latencies: Vec<Arc<Latency>>,
    conversations: Arc<Conversations>,
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
            latencies: latencies(&snapshot, previous),
            conversations: previous
                .map_or_else(|| Arc::new(Conversations::new()), |p| Arc::clone(&p.conversations)),
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

    /// How long a model has lately taken; told by the door at the end of each request.
    #[must_use]
    pub fn latency(&self, model: ModelIndex) -> &Arc<Latency> {
        &self.latencies[model]
    }

    pub(crate) fn latencies(&self) -> &[Arc<Latency>] {
        &self.latencies
    }

    /// Conversations that are remembered now.
    #[must_use]
    pub fn conversations_kept(&self) -> usize {
        self.conversations.len()
    }

    pub(crate) fn conversations(&self) -> &Conversations {
        &self.conversations
    }

    pub(crate) fn name(&self, name: &str) -> Option<Name> {
        self.names.get(name).copied()
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
    let known = |model: &Model| {
        let previous = previous?;
        previous.snapshot.models.iter().position(|m| m.name == model.name).map(|index| &previous.pools[index])
    };
    let pool = |m: &Model| Pool::new(Arc::clone(&m.picking), &m.endpoints, known(m));
    snapshot.models.iter().map(pool).collect()
}

/// Those of models that keep their name go on.
fn latencies(snapshot: &Snapshot, previous: Option<&Brain>) -> Vec<Arc<Latency>> {
    let known = |model: &Model| {
        let previous = previous?;
        previous.snapshot.model(&model.name).map(|index| Arc::clone(&previous.latencies[index]))
    };
    snapshot.models.iter().map(|model| known(model).unwrap_or_default()).collect()
}
