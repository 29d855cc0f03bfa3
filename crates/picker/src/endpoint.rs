//! One replica: how busy it is, and whether it is put aside.
//!
//! A failure puts it aside for a time that doubles while failures go on; when the time is over, one
//! request probes it. A `Retry-After` holds it for just that long. All of it is plain atomics, because
//! every request reads it. Owned by a pool; survives a configuration reload.

use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::{KvState, Millis, Observed, Worker};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// First time aside after a failure, in milliseconds.
pub(crate) const ASIDE_FIRST_MS: u64 = 1_000;
/// Longest time aside, in milliseconds.
pub(crate) const ASIDE_MOST_MS: u64 = 60_000;
/// Longest `Retry-After` that is obeyed, in milliseconds; a longer one is cut to this.
pub(crate) const HOLD_MOST_MS: u64 = 120_000;

/// Why an attempt failed, as far as the endpoint's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It could not be reached, broke off, was too slow, or said 502, 503 or 504.
    Broken,
    /// It asked to be left alone for this long (429 or 503 with `Retry-After`).
    Hold {
        /// Milliseconds from now.
        for_ms: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Endpoint {
    spec: waypost_config::Endpoint,
    id: Arc<str>,
    state: Arc<State>,
}

/// What goes on when the rest of its configuration changes.
#[derive(Debug)]
struct State {
    worker: Worker,
    observed: ArcSwap<Observed>,
    kv: AtomicU8,
    in_flight: AtomicU32,
    /// Booked by other Waypost processes.
    others: AtomicU32,
    failures: AtomicU32,
    /// 0: healthy. Otherwise aside until then, and after then waiting for a probe.
    aside_until: AtomicU64,
    probing: AtomicBool,
    hold_until: AtomicU64,
}

impl Endpoint {
    /// A healthy, idle endpoint, which the prefix index knows by the number `worker`.
    #[must_use]
    pub fn new(spec: waypost_config::Endpoint, worker: Worker) -> Self {
        let state = State {
            worker,
            observed: ArcSwap::default(),
            kv: AtomicU8::new(KvState::Off as u8),
            in_flight: AtomicU32::new(0),
            others: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            aside_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            hold_until: AtomicU64::new(0),
        };
        Self { id: spec.id(), spec, state: Arc::new(state) }
    }

    /// The same endpoint, configured anew.
    pub(crate) fn with_spec(&self, spec: waypost_config::Endpoint) -> Self {
        Self { id: spec.id(), spec, state: Arc::clone(&self.state) }
    }

    /// Its base URL.
    #[must_use]
    pub fn base(&self) -> &Arc<str> {
        &self.spec.base
    }

    /// What tells it apart in its pool: its address, with its rank where it has one.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// As the configuration has it.
    #[must_use]
    pub fn spec(&self) -> &waypost_config::Endpoint {
        &self.spec
    }

    /// Its number in the pool's prefix index.
    #[must_use]
    pub fn worker(&self) -> Worker {
        self.state.worker
    }

    /// Takes note of what the engine told of itself.
    pub fn observe(&self, observed: Observed) {
        self.state.observed.store(Arc::new(observed));
    }

    /// What the engine told last; all `None` while it has told nothing.
    #[must_use]
    pub fn observed(&self) -> Arc<Observed> {
        self.state.observed.load_full()
    }

    /// Reads what the engine told last without sharing it.
    pub(crate) fn with_observed<T>(&self, read: impl FnOnce(&Observed) -> T) -> T {
        read(&self.state.observed.load())
    }

    /// Takes note of how its event stream stands.
    pub fn set_kv_state(&self, state: KvState) {
        self.state.kv.store(state as u8, Relaxed);
    }

    /// How far its share of the prefix index can be believed.
    #[must_use]
    pub fn kv_state(&self) -> KvState {
        KvState::from_u8(self.state.kv.load(Relaxed))
    }

    /// Requests booked on it now by this process.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.state.in_flight.load(Relaxed)
    }

    /// Requests booked on it now by all Waypost processes, as far as they told.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.state.in_flight.load(Relaxed).saturating_add(self.state.others.load(Relaxed))
    }

    /// True while failures keep it out of the rotation.
    #[must_use]
    pub fn is_aside(&self) -> bool {
        self.state.aside_until.load(Relaxed) != 0
    }

    /// Milliseconds for which it asked to be left alone; 0 when it did not.
    #[must_use]
    pub fn held_ms(&self, now: Millis) -> u64 {
        self.state.hold_until.load(Relaxed).saturating_sub(now)
    }

    /// It answered: whatever was held against it is forgotten.
    pub fn succeeded(&self) {
        self.state.failures.store(0, Relaxed);
        self.state.aside_until.store(0, Relaxed);
        self.state.probing.store(false, Relaxed);
    }

    /// It failed, whether or not that puts it aside.
    pub(crate) fn note_failure(&self) {
        self.state.failures.fetch_add(1, Relaxed);
    }

    /// It has failed since it last answered.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.state.failures.load(Relaxed) > 0
    }

    pub(crate) fn hold(&self, now: Millis, for_ms: u64) {
        self.state.hold_until.fetch_max(now + for_ms.min(HOLD_MOST_MS), Relaxed);
    }

    /// Puts it aside; `jitter` in 0..1 spreads the probes of many endpoints.
    pub(crate) fn put_aside(&self, now: Millis, jitter: f64) {
        let failures = self.state.failures.load(Relaxed).saturating_sub(1).min(16);
        let base = (ASIDE_FIRST_MS << failures).min(ASIDE_MOST_MS);
        let wait = (base as f64 * (0.8 + 0.4 * jitter)) as u64;
        self.state.aside_until.store((now + wait).max(1), Relaxed);
        self.state.probing.store(false, Relaxed);
    }

    /// Free for a normal request, or due for its probe.
    pub(crate) fn is_free(&self, now: Millis) -> bool {
        let until = self.state.aside_until.load(Relaxed);
        until == 0 || (until <= now && !self.state.probing.load(Relaxed))
    }

    pub(crate) fn book(&self) {
        self.state.in_flight.fetch_add(1, Relaxed);
        if self.is_aside() {
            self.state.probing.store(true, Relaxed);
        }
    }

    pub(crate) fn release(&self) {
        self.state.in_flight.fetch_sub(1, Relaxed);
    }

    pub(crate) fn book_other(&self) {
        self.state.others.fetch_add(1, Relaxed);
    }

    pub(crate) fn release_other(&self) {
        self.state.others.fetch_sub(1, Relaxed);
    }

    /// A probe that ended without a verdict (its client left): the next request may probe.
    pub(crate) fn abandon_probe(&self) {
        self.state.probing.store(false, Relaxed);
    }
}
