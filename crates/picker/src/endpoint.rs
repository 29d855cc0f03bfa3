//! One replica: how busy it is, and whether it is put aside.
//!
//! A failure puts it aside for a time that doubles while failures go on; when the time is over, one
//! request probes it. A `Retry-After` holds it for just that long. All of it is plain atomics, because
//! every request reads it. Owned by a pool; survives a configuration reload.

use crate::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

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
    base: Arc<str>,
    in_flight: AtomicU32,
    failures: AtomicU32,
    /// 0: healthy. Otherwise aside until then, and after then waiting for a probe.
    aside_until: AtomicU64,
    probing: AtomicBool,
    hold_until: AtomicU64,
}

impl Endpoint {
    /// A healthy, idle endpoint.
    #[must_use]
    pub fn new(base: Arc<str>) -> Self {
        Self {
            base,
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            aside_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            hold_until: AtomicU64::new(0),
        }
    }

    /// Its base URL.
    #[must_use]
    pub fn base(&self) -> &Arc<str> {
        &self.base
    }

    /// Requests booked on it now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// True while failures keep it out of the rotation.
    #[must_use]
    pub fn is_aside(&self) -> bool {
        self.aside_until.load(Relaxed) != 0
    }

    /// Milliseconds for which it asked to be left alone; 0 when it did not.
    #[must_use]
    pub fn held_ms(&self, now: Millis) -> u64 {
        self.hold_until.load(Relaxed).saturating_sub(now)
    }

    /// It answered: whatever was held against it is forgotten.
    pub fn succeeded(&self) {
        self.failures.store(0, Relaxed);
        self.aside_until.store(0, Relaxed);
        self.probing.store(false, Relaxed);
    }

    pub(crate) fn hold(&self, now: Millis, for_ms: u64) {
        self.hold_until.fetch_max(now + for_ms.min(HOLD_MOST_MS), Relaxed);
    }

    /// Puts it aside; `jitter` in 0..1 spreads the probes of many endpoints.
    pub(crate) fn put_aside(&self, now: Millis, jitter: f64) {
        let failures = self.failures.fetch_add(1, Relaxed).min(16);
        let base = (ASIDE_FIRST_MS << failures).min(ASIDE_MOST_MS);
        let wait = (base as f64 * (0.8 + 0.4 * jitter)) as u64;
        self.aside_until.store((now + wait).max(1), Relaxed);
        self.probing.store(false, Relaxed);
    }

    /// Free for a normal request, or due for its probe.
    pub(crate) fn is_free(&self, now: Millis) -> bool {
        let until = self.aside_until.load(Relaxed);
        until == 0 || (until <= now && !self.probing.load(Relaxed))
    }

    pub(crate) fn book(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        if self.is_aside() {
            self.probing.store(true, Relaxed);
        }
    }

    pub(crate) fn release(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// A probe that ended without a verdict (its client left): the next request may probe.
    pub(crate) fn abandon_probe(&self) {
        self.probing.store(false, Relaxed);
    }
}
