//! Limits and counters that all streams share: memory for held bodies, and what happened how often. Never
//! waits: what does not fit is refused by the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What the door counts; read it for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Streams open now.
    pub streams_open: AtomicUsize,
    /// Streams opened so far.
    pub streams: AtomicU64,
    /// Streams turned away: too many, or the door closes.
    pub streams_refused: AtomicU64,
    /// Connections turned away: too many, or no TLS handshake in time.
    pub connections_refused: AtomicU64,
    /// Bytes of bodies held now.
    pub held_bytes: AtomicUsize,
    /// Requests refused by the door itself: body too long, missing, or no memory for it.
    pub faults: AtomicU64,
    /// Streams ended because their messages made no sense.
    pub protocol_errors: AtomicU64,
    /// Messages after the end of their direction (Envoy's duplicates among them).
    pub ignored: AtomicU64,
    /// Requests that Envoy answered by itself before the verdict.
    pub overtaken: AtomicU64,
    /// Streams ended by a panic of the judge.
    pub panics: AtomicU64,
    /// Times that another certificate was taken over; counted by whoever has it read.
    pub certificates: AtomicU64,
    /// Times that another one could not be used.
    pub certificates_refused: AtomicU64,
}

/// A stream's part of the memory for held bodies; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    counts: Arc<Counts>,
    limit: usize,
    bytes: usize,
}

impl Share {
    pub(crate) fn new(counts: Arc<Counts>, limit: usize) -> Self {
        Self { counts, limit, bytes: 0 }
    }

    /// Takes `more` bytes; false, and nothing taken, when all streams together would hold too much.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let held = self.counts.held_bytes.fetch_add(more, Relaxed);
        if held.saturating_add(more) > self.limit {
            self.counts.held_bytes.fetch_sub(more, Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }

    /// Gives all back.
    pub(crate) fn clear(&mut self) {
        self.counts.held_bytes.fetch_sub(std::mem::take(&mut self.bytes), Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_limit_and_are_given_back() {
        let counts = Arc::new(Counts::default());
        let mut one = Share::new(Arc::clone(&counts), 10);
        let mut two = Share::new(Arc::clone(&counts), 10);
        assert!(one.grow(6) && two.grow(4) && !two.grow(1));
        one.clear();
        assert!(two.grow(6));
        drop((one, two));
        assert_eq!(counts.held_bytes.load(Relaxed), 0);
    }
}
