//! What workers probably hold, from where prompts were sent: for pools without KV events, and beside them.

use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashMap;

use crate::{Held, Millis, Worker};

/// How long a worker is believed to hold what was sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// This long after the last use.
    Ttl(Millis),
    /// As many blocks as the worker has room for, least recently used ones go first; while its room is
    /// unknown, this long after the last use.
    Lru(Millis),
}

/// What workers probably hold.
#[derive(Debug)]
pub struct Approximate {
    policy: Policy,
    max_entries: usize,
    state: Mutex<HashMap<Worker, Guess>>,
}

#[derive(Debug)]
struct Guess {
    blocks: LruCache<u64, Millis>,
    capacity: Option<usize>,
}

impl Approximate {
    /// An empty index of at most `max_entries` (worker, block) pairs.
    pub fn new(policy: Policy, max_entries: usize) -> Self {
        Self { policy, max_entries, state: Mutex::default() }
    }

    /// The prompt with these blocks went to the worker.
    pub fn note(&self, worker: Worker, chain: &[u64], now: Millis) {
        let mut state = self.state.lock();
        let guess = state.entry(worker).or_insert_with(Guess::new);
        chain.iter().rev().for_each(|hash| drop(guess.blocks.put(*hash, now)));
        let room = guess.capacity.unwrap_or(self.max_entries).min(self.max_entries);
        while guess.blocks.len() > room {
            guess.blocks.pop_lru();
        }
    }

    /// Writes to `out` how much of the prompt each worker probably holds.
    pub fn matches(&self, chain: &[u64], now: Millis, out: &mut Vec<Held>) {
        out.clear();
        let (Policy::Ttl(ttl) | Policy::Lru(ttl)) = self.policy;
        for (worker, guess) in self.state.lock().iter() {
            let forever = matches!(self.policy, Policy::Lru(_)) && guess.capacity.is_some();
            let fresh = |hash: &&u64| {
                guess.blocks.peek(*hash).is_some_and(|used| forever || now < used.saturating_add(ttl))
            };
            let device = chain.iter().take_while(fresh).count() as u32;
            if device > 0 {
                out.push(Held { worker: *worker, device, host: 0, disk: 0 });
            }
        }
    }

    /// Forgets the worker.
    pub fn forget(&self, worker: Worker) {
        self.state.lock().remove(&worker);
    }

    /// The worker says how many blocks it has room for.
    pub fn set_capacity(&self, worker: Worker, blocks: usize) {
        self.state.lock().entry(worker).or_insert_with(Guess::new).capacity = Some(blocks);
    }
}

impl Guess {
    fn new() -> Self {
        Self { blocks: LruCache::unbounded(), capacity: None }
    }
}
