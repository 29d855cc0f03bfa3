//! What workers probably hold, from where prompts were sent: for pools without KV events.
//!
//! As many blocks as a worker has room for, the least recently used ones go first; while its room is unknown, those
//! used within a time to live. Readers wait for nobody. Pure: the time comes in; called by the choice.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::index::{Coverage, Covered, Room};
use crate::recency::Recency;
use crate::{Held, Millis, Tier, Worker};

/// Expiry is looked for this many times per time to live, so a block may outlive it by this share.
const SWEEPS_PER_TTL: Millis = 16;

/// A full index gives up this share of the largest worker's blocks at a time.
const EVICT_SHARE: usize = 256;

/// What workers probably hold.
#[derive(Debug)]
pub(crate) struct Approximate {
    ttl: Millis,
    max_entries: usize,
    coverage: Arc<Coverage>,
    next_sweep: AtomicU64,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    covered: Covered,
    room: Room,
    guesses: BTreeMap<Worker, Guess>,
    /// (worker, block) pairs believed.
    entries: usize,
}

/// Chain hashes by last use; the order of use is the order of expiry.
#[derive(Debug)]
struct Guess {
    blocks: Recency,
    capacity: Option<usize>,
}

impl Approximate {
    /// An empty index of at most `max_entries` (worker, block) pairs. A pair takes about 64 bytes in the list of
    /// last uses, and up to 28 for its block if no other worker has that.
    pub(crate) fn new(ttl: Millis, max_entries: usize) -> Self {
        let coverage = Arc::new(Coverage::new());
        let covered = Covered::new(Arc::clone(&coverage), fastrand::u64(..));
        // Bounded by entries, so not by bytes.
        let room = Room::new(usize::MAX);
        let writer = Writer { covered, room, guesses: BTreeMap::new(), entries: 0 };
        Self { ttl, max_entries, coverage, next_sweep: AtomicU64::new(0), writer: Mutex::new(writer) }
    }

    /// The prompt with these blocks went to the worker: it holds them from now on, or again. Of a prompt
    /// longer than the index only the beginning is kept.
    pub(crate) fn note(&self, worker: Worker, chain: &[u64], now: Millis) {
        let writer = &mut *self.writer.lock();
        self.sweep(writer, now);
        let capacity = writer.guesses.entry(worker).or_insert_with(Guess::new).capacity;
        let room = self.room(capacity);
        let chain = &chain[..chain.len().min(room)];
        // From the end, so that the head is the last to go.
        for hash in chain.iter().rev() {
            let Some(guess) = writer.guesses.get_mut(&worker) else { return };
            if guess.blocks.touch(*hash, now) {
                continue;
            }
            if writer.covered.hold(worker, Tier::Device, *hash, &mut writer.room).is_err() {
                guess.blocks.remove(*hash);
                return;
            }
            writer.entries += 1;
            if guess.blocks.len() > room {
                writer.evict(worker);
            }
            if writer.entries > self.max_entries {
                writer.evict_from_largest();
            }
        }
    }

    /// Writes to `out` how much of the prompt each worker probably holds, all of it as device blocks.
    pub(crate) fn matches(&self, chain: &[u64], now: Millis, out: &mut Vec<Held>) {
        if now >= self.next_sweep.load(Ordering::Relaxed)
            && let Some(mut writer) = self.writer.try_lock()
        {
            self.sweep(&mut writer, now);
        }
        self.coverage.matches(chain, out);
    }

    /// Forgets the worker.
    pub(crate) fn forget(&self, worker: Worker) {
        let writer = &mut *self.writer.lock();
        let Some(guess) = writer.guesses.remove(&worker) else { return };
        writer.covered.hide(worker, true);
        for hash in guess.blocks.keys() {
            writer.covered.release(worker, Tier::Device, hash, &mut writer.room);
        }
        writer.entries -= guess.blocks.len();
        writer.covered.hide(worker, false);
    }

    /// The worker says how many blocks it has room for.
    pub(crate) fn set_capacity(&self, worker: Worker, blocks: usize) {
        let writer = &mut *self.writer.lock();
        let guess = writer.guesses.entry(worker).or_insert_with(Guess::new);
        guess.capacity = Some(blocks);
        let over = guess.blocks.len().saturating_sub(self.room(guess.capacity));
        (0..over).for_each(|_| writer.evict(worker));
    }

    fn room(&self, capacity: Option<usize>) -> usize {
        capacity.unwrap_or(usize::MAX).min(self.max_entries)
    }

    /// Takes out what expired, if it is time to look.
    fn sweep(&self, writer: &mut Writer, now: Millis) {
        if now < self.next_sweep.load(Ordering::Relaxed) {
            return;
        }
        self.next_sweep.store(now.saturating_add((self.ttl / SWEEPS_PER_TTL).max(1)), Ordering::Relaxed);
        for (worker, guess) in writer.guesses.iter_mut().filter(|(_, guess)| guess.capacity.is_none()) {
            let old = |used: Millis| now >= used.saturating_add(self.ttl);
            while let Some((hash, _)) = guess.blocks.oldest().filter(|(_, used)| old(*used)) {
                guess.blocks.remove(hash);
                writer.covered.release(*worker, Tier::Device, hash, &mut writer.room);
                writer.entries -= 1;
            }
        }
    }
}

impl Writer {
    /// A share in one go, since finding the largest looks at every worker.
    fn evict_from_largest(&mut self) {
        let sizes = self.guesses.iter().map(|(worker, guess)| (guess.blocks.len(), *worker));
        let Some((blocks, worker)) = sizes.max() else { return };
        (0..(blocks / EVICT_SHARE).max(1)).for_each(|_| self.evict(worker));
    }

    fn evict(&mut self, worker: Worker) {
        let Some(hash) = self.guesses.get_mut(&worker).and_then(|guess| guess.blocks.pop_oldest()) else {
            return;
        };
        self.covered.release(worker, Tier::Device, hash, &mut self.room);
        self.entries -= 1;
    }
}

impl Guess {
    fn new() -> Self {
        Self { blocks: Recency::new(), capacity: None }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn held(index: &Approximate, chain: &[u64], now: Millis) -> Vec<(u16, u32)> {
        let mut out = Vec::new();
        index.matches(chain, now, &mut out);
        out.iter().map(|held| (held.worker.0, held.device)).collect()
    }

    fn entries(index: &Approximate) -> usize {
        index.writer.lock().entries
    }

    #[test]
    fn a_prompt_is_believed_until_its_time_is_up_and_use_renews_it() {
        let index = Approximate::new(1600, 1000);
        index.note(Worker(1), &[1, 2, 3], 0);
        index.note(Worker(2), &[1, 2], 1000);
        assert_eq!(held(&index, &[1, 2, 3, 4], 1500), [(1, 3), (2, 2)]);
        assert_eq!(held(&index, &[1, 2, 3, 4], 1700), [(2, 2)]);
        index.note(Worker(2), &[1], 2000);
        assert_eq!(held(&index, &[1, 2], 2800), [(2, 1)]);
        assert_eq!(held(&index, &[1, 2], 3700), []);
        assert_eq!(entries(&index), 0);
    }

    #[test]
    fn room_of_the_worker_replaces_time() {
        let index = Approximate::new(100, 1000);
        index.set_capacity(Worker(0), 4);
        index.note(Worker(0), &[1, 2, 3], 0);
        index.note(Worker(0), &[7, 8], 1);
        // The tail went, not the head.
        assert_eq!(held(&index, &[1, 2, 3], 10_000), [(0, 2)]);
        assert_eq!(held(&index, &[7, 8], 10_000), [(0, 2)]);
        index.note(Worker(1), &[1], 10_000);
        assert_eq!(held(&index, &[1], 20_000), [(0, 1)]);
        index.set_capacity(Worker(0), 1);
        assert_eq!(entries(&index), 1);
    }

    #[test]
    fn entries_are_bounded_and_the_largest_worker_pays() {
        let index = Approximate::new(120_000, 100);
        index.note(Worker(0), &(0..500).collect::<Vec<_>>(), 0);
        assert_eq!(entries(&index), 100);
        index.note(Worker(1), &(1000..1040).collect::<Vec<_>>(), 1);
        assert_eq!(entries(&index), 100);
        assert_eq!(held(&index, &(0..500).collect::<Vec<_>>(), 2), [(0, 60)]);
    }

    #[test]
    fn forgotten_is_forgotten() {
        let index = Approximate::new(2_000, 100);
        index.note(Worker(0), &[1, 2], 0);
        index.note(Worker(1), &[1], 0);
        index.forget(Worker(0));
        assert_eq!(held(&index, &[1, 2], 1), [(1, 1)]);
        assert_eq!(entries(&index), 1);
    }
}
