//! One configuration made ready to decide: names resolved, pools filled, classifiers at hand.
//!
//! A brain never changes; a reload builds a new one that takes over the endpoints' state and the
//! budget of the old. Called by both doors for every request.

use crate::classifying::Classifiers;
use crate::client::{self, Client};
use crate::conversations::Conversations;
use crate::latency::Latency;
use crate::loaded::Loaded;
use crate::reading::Tokenizers;
use crate::waiting::WaitingRoom;
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
    /// In step with the snapshot's models; adapters share that of their model.
    pools: Vec<Arc<Pool>>,
    /// In step with the pools: absent where nothing waits.
    rooms: Vec<Option<Arc<WaitingRoom>>>,
    classifiers: Classifiers,
    tokenizers: Tokenizers,
    budget: Arc<RetryBudget>,
    /// In step with the snapshot's models.
    latencies: Vec<Arc<Latency>>,
    conversations: Arc<Conversations>,
    started: Instant,
}

impl Brain {
    /// Makes `snapshot` ready, for which `loaded` was loaded. `previous` lends its endpoints' state and its retry budget.
    #[must_use]
    pub fn new(snapshot: Snapshot, loaded: Loaded, previous: Option<&Self>) -> Self {
        let Loaded { classifiers, tokenizers } = loaded;
        // So that the first request does not wait for either.
        drop(client::tls_config());
        classifiers.warm_up(snapshot.guard.is_some());
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
        let pools = pools(&snapshot, previous);
        Self {
            names: names(&snapshot),
            rooms: rooms(&snapshot, &pools, previous),
            pools,
            tokenizers,
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
    pub fn pool(&self, model: ModelIndex) -> &Arc<Pool> {
        &self.pools[model]
    }

    /// Requests that wait for an endpoint of this model.
    #[must_use]
    pub fn waiting(&self, model: ModelIndex) -> usize {
        self.rooms[model].as_ref().map_or(0, |room| room.len())
    }

    /// Requests that queued in vain: those that found the queue full, and those whose time was over. `None` without a queue.
    #[must_use]
    pub fn queue_refused(&self, model: ModelIndex) -> Option<[u64; 2]> {
        let room = self.rooms[model].as_ref()?;
        Some(room.refused.each_ref().map(|count| count.load(std::sync::atomic::Ordering::Relaxed)))
    }

    pub(crate) fn waiting_room(&self, model: ModelIndex) -> Option<&Arc<WaitingRoom>> {
        self.rooms[model].as_ref()
    }

    /// The tokenizers of pools whose choice looks at prompts.
    #[must_use]
    pub fn tokenizers(&self) -> &Tokenizers {
        &self.tokenizers
    }

    /// Zero of the picker's clock.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
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
        for name in &snapshot.auto_names {
            names.entry(Arc::clone(name)).or_insert(Name::Policy(default));
        }
    }
    names
}

/// One pool per model. What is known about an endpoint is known per model: behind a shared front one model may be out of
/// quota or out of order while the next one is fine. Adapters are served by the very endpoints of their model.
fn pools(snapshot: &Snapshot, previous: Option<&Brain>) -> Vec<Arc<Pool>> {
    let mut pools: Vec<Arc<Pool>> = Vec::with_capacity(snapshot.models.len());
    for model in &snapshot.models {
        let pool = match model.adapter_of {
            Some(base) => Arc::clone(&pools[base]),
            None => {
                let before = previous.and_then(|p| Some(&*p.pools[p.snapshot.model(&model.name)?]));
                Arc::new(Pool::new(Arc::clone(&model.picking), &model.endpoints, before))
            }
        };
        pools.push(pool);
    }
    pools
}

/// Queues go on where their length has not changed, with those who wait in them.
fn rooms(
    snapshot: &Snapshot,
    pools: &[Arc<Pool>],
    previous: Option<&Brain>,
) -> Vec<Option<Arc<WaitingRoom>>> {
    let mut rooms: Vec<Option<Arc<WaitingRoom>>> = Vec::with_capacity(pools.len());
    for (model, pool) in snapshot.models.iter().zip(pools) {
        let most = pool.picking().queue.as_ref().map(|queue| queue.requests);
        let before = previous.and_then(|p| p.rooms[p.snapshot.model(&model.name)?].clone());
        rooms.push(match (model.adapter_of, most) {
            (Some(base), _) => rooms[base].clone(),
            (None, None) => None,
            (None, Some(most)) => {
                let kept = before.filter(|room| room.most() == most);
                Some(kept.unwrap_or_else(|| Arc::new(WaitingRoom::new(most))))
            }
        });
    }
    rooms
}

/// Those of models that keep their name go on.
fn latencies(snapshot: &Snapshot, previous: Option<&Brain>) -> Vec<Arc<Latency>> {
    let known = |model: &Model| {
        let previous = previous?;
        previous.snapshot.model(&model.name).map(|index| Arc::clone(&previous.latencies[index]))
    };
    snapshot.models.iter().map(|model| known(model).unwrap_or_default()).collect()
}
