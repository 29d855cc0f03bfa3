//! How full a pool is, after llm-d's utilisation detector: 1 and above means there is no room.
//!
//! Read by the proxy when it admits a request.

use crate::survey::Figures;
use crate::{Millis, Pool};

/// Requests waiting in an engine at which it is full (llm-d's).
const WAITING_FULL: f64 = 5.0;
/// Share of KV cache in use at which it is full (llm-d's).
const USAGE_FULL: f64 = 0.8;

impl Pool {
    /// Whether a request of this priority gives way at once: it is below zero, and the pool is full.
    #[must_use]
    pub fn sheds(&self, priority: i32, now: Millis) -> bool {
        priority < 0 && self.saturation(now) >= 1.0
    }

    /// The mean over the endpoints in rotation of max(waiting / 5, KV usage / 0.8).
    ///
    /// Where figures are missing or old, our own bookings stand in: requests before their first token for waiting ones,
    /// booked blocks for used ones. A pool without an endpoint in rotation is full.
    #[must_use]
    pub fn saturation(&self, now: Millis) -> f64 {
        let (mut sum, mut endpoints) = (0.0, 0.0);
        let mut book = self.inner.shared.book.lock();
        book.expire(now);
        for endpoint in self.inner.endpoints.iter().filter(|e| !e.is_aside()) {
            let load = book.load(endpoint.worker());
            let figures = endpoint.with_observed(|o| Figures::new(&self.inner, o, load, None, now));
            let waiting = f64::from(figures.waiting.unwrap_or(load.prefilling)) / WAITING_FULL;
            let usage = figures.usage.or(figures.booked_usage).unwrap_or(0.0) / USAGE_FULL;
            sum += waiting.max(usage);
            endpoints += 1.0;
        }
        if endpoints > 0.0 { sum / endpoints } else { 1.0 }
    }
}
