//! What was heard from one endpoint, counted.
//!
//! Plain atomics that only grow, except where said; written by the feeds, read for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Its value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters of one endpoint's event stream.
#[derive(Debug, Default)]
pub struct EventStats {
    /// Batches applied, live or replayed.
    pub batches: Count,
    /// Bytes of them.
    pub bytes: Count,
    /// Store events applied, wholly or in part.
    pub stored: Count,
    /// Removal events applied.
    pub removed: Count,
    /// Clear events applied.
    pub cleared: Count,
    /// Blocks written into the index.
    pub blocks: Count,
    /// Blocks not written: parent unknown, index full, or not in any tier before.
    pub blocks_dropped: Count,
    /// Events with a field missing or wrong.
    pub malformed: Count,
    /// Events of a kind we do not know.
    pub unknown: Count,
    /// Events of attention groups that are not followed.
    pub other_group: Count,
    /// Events of unknown media, or not of this worker's memory.
    pub other_medium: Count,
    /// Events whose salt, adapter or media cannot be told.
    pub ambiguous: Count,
    /// Store events of another block size than the pool's.
    pub block_size: Count,
    /// Batches and events for a rank or an instance that the pool does not have.
    pub other_worker: Count,
    /// Messages that could not be read as a batch.
    pub garbled: Count,
    /// Messages over the size limits, dropped unread.
    pub oversized: Count,
    /// Batches heard before.
    pub duplicates: Count,
    /// Times that batches were missing.
    pub gaps: Count,
    /// Batches that were missing and did not come back.
    pub lost: Count,
    /// Times that missing batches were asked for.
    pub replays: Count,
    /// Of these, times that no complete answer came.
    pub replays_failed: Count,
    /// Times that the engine began anew.
    pub restarts: Count,
    /// Times that a connection came about.
    pub connections: Count,
    /// When the last batch came, by the clock handed to the feeds; 0 before the first. Not a counter.
    pub last_seen_ms: Count,
}
