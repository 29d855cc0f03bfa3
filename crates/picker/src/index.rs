//! The KV prefix index: which worker holds which block of a prompt, in which tier of its memory.

use parking_lot::Mutex;
use std::collections::HashMap;

use crate::hash::extend;

/// Dense number of an (endpoint, data-parallel rank) within its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker(pub u16);

/// Where in a worker's memory a block lies; shared and external stores count as disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// GPU memory: ready for use.
    Device,
    /// Main memory of the host.
    Host,
    /// Disk, or a store outside the host.
    Disk,
}

/// A block of an engine's store event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// What the engine calls it; a number valid with that worker only.
    pub engine: u64,
    /// Our hash of its tokens, see [`crate::hash::local_hashes`].
    pub local: u64,
}

/// How much of a prompt a worker holds, in blocks from the start of the prompt without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub worker: Worker,
    /// Blocks in device memory, from the first one on.
    pub device: u32,
    /// Blocks in host memory, from where the device ends.
    pub host: u32,
    /// Blocks on disk, from where the host ends.
    pub disk: u32,
}

/// What became of a store event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Blocks that were written, repeated ones among them.
    pub applied: u32,
    /// Blocks dropped: unknown parent, self-reference, or no room.
    pub dropped: u32,
}

/// Figures of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Blocks, each counted once per tier (and per 64 workers).
    pub blocks: u64,
    /// (block, worker, tier) triples held.
    pub pairs: u64,
    /// Bytes the index takes.
    pub bytes: usize,
    /// Bytes it may take.
    pub max_bytes: usize,
    /// Pairs given up because the index was full.
    pub evicted: u64,
    /// Store events dropped because their parent was unknown.
    pub unknown_parents: u64,
    /// Removals of blocks that were not there.
    pub unknown_removes: u64,
}

/// Which worker holds which block in which tier.
#[derive(Debug)]
pub struct PrefixIndex {
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<(Worker, Tier, u64), (u64, u8)>,
    chains: HashMap<(Worker, Tier, u64), u32>,
    stats: Stats,
}

impl PrefixIndex {
    /// An empty index that will not take more than `max_bytes` bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, state: Mutex::default() }
    }

    /// Books the blocks of a store event: `blocks` follow `parent`, or start a prompt without one.
    pub fn store(&self, worker: Worker, tier: Tier, parent: Option<u64>, blocks: &[Block]) -> Stored {
        let state = &mut *self.state.lock();
        let mut last = match parent {
            None => None,
            Some(engine) => {
                let tiers = [Tier::Device, Tier::Host, Tier::Disk];
                let found = tiers.iter().find_map(|tier| state.held.get(&(worker, *tier, engine)));
                let Some((chain, _)) = found else {
                    state.stats.unknown_parents += 1;
                    return Stored { applied: 0, dropped: blocks.len() as u32 };
                };
                Some(*chain)
            }
        };
        let mut stored = Stored::default();
        for block in blocks {
            let chain = extend(last, block.local);
            if !state.add(worker, tier, block.engine, chain) {
                break;
            }
            stored.applied += 1;
            last = Some(chain);
        }
        stored.dropped = blocks.len() as u32 - stored.applied;
        stored
    }

    /// Books blocks the worker already holds in another tier, for events without tokens.
    pub fn store_known(&self, worker: Worker, tier: Tier, engine: &[u64]) -> Stored {
        let state = &mut *self.state.lock();
        let mut stored = Stored::default();
        for &engine in engine {
            let tiers = [Tier::Device, Tier::Host, Tier::Disk];
            let found = tiers.iter().find_map(|tier| state.held.get(&(worker, *tier, engine)).copied());
            match found {
                Some((chain, _)) if state.add(worker, tier, engine, chain) => stored.applied += 1,
                _ => stored.dropped += 1,
            }
        }
        stored
    }

    /// Takes back one store of each block.
    pub fn remove(&self, worker: Worker, tier: Tier, engine: &[u64]) {
        let state = &mut *self.state.lock();
        for &engine in engine {
            let key = (worker, tier, engine);
            match state.held.get_mut(&key) {
                Some((_, count)) if *count > 1 => *count -= 1,
                Some(&mut (chain, _)) => {
                    state.held.remove(&key);
                    state.release(worker, tier, chain);
                }
                None => state.stats.unknown_removes += 1,
            }
        }
    }

    /// Forgets all that the worker holds: cleared, restarted or gone.
    pub fn clear(&self, worker: Worker) {
        let state = &mut *self.state.lock();
        state.held.retain(|(of, ..), _| *of != worker);
        state.chains.retain(|(of, ..), _| *of != worker);
    }

    /// Writes to `out` how much of the prompt each worker holds; those that hold nothing are left out.
    pub fn matches(&self, chain: &[u64], out: &mut Vec<Held>) {
        out.clear();
        let state = self.state.lock();
        let mut workers: Vec<_> = state.chains.keys().map(|(worker, ..)| *worker).collect();
        workers.sort_unstable();
        workers.dedup();
        for worker in workers {
            let run = |tier, from: u32| {
                let rest = chain.iter().skip(from as usize);
                rest.take_while(|hash| state.chains.contains_key(&(worker, tier, **hash))).count() as u32
            };
            let device = run(Tier::Device, 0);
            let host = run(Tier::Host, device);
            let disk = run(Tier::Disk, device + host);
            if device + host + disk > 0 {
                out.push(Held { worker, device, host, disk });
            }
        }
    }

    /// The figures of now.
    pub fn stats(&self) -> Stats {
        let state = self.state.lock();
        Stats { pairs: state.held.len() as u64, max_bytes: self.max_bytes, ..state.stats }
    }
}

impl State {
    fn add(&mut self, worker: Worker, tier: Tier, engine: u64, chain: u64) -> bool {
        let key = (worker, tier, engine);
        if let Some((known, count)) = self.held.get_mut(&key) {
            *count = count.saturating_add(1);
            return *known == chain;
        }
        self.held.insert(key, (chain, 1));
        *self.chains.entry((worker, tier, chain)).or_default() += 1;
        true
    }

    fn release(&mut self, worker: Worker, tier: Tier, chain: u64) {
        if let Some(count) = self.chains.get_mut(&(worker, tier, chain)) {
            *count -= 1;
            if *count == 0 {
                self.chains.remove(&(worker, tier, chain));
            }
        }
    }
}
