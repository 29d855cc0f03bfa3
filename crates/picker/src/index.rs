//! The KV prefix index: which worker holds which block of a prompt, in which tier of its memory.
//!
//! Events of engines write it, one at a time; prompts read it without ever waiting for a writer. It never
//! takes more bytes than it was given. It never sees a token or a text; called by the feeds and the choice.

mod coverage;
mod line;
#[cfg(loom)]
#[cfg(test)]
mod loom;
mod names;
mod room;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;
mod view;
mod writer;

use parking_lot::{Mutex, MutexGuard};

pub(crate) use coverage::{Coverage, Covered};
pub(crate) use room::Room;
use std::sync::Arc;
use writer::Writer;

const TIERS: [Tier; 3] = [Tier::Device, Tier::Host, Tier::Disk];

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
    /// Blocks of events without tokens that were not known in any tier.
    pub unknown_blocks: u64,
    /// Blocks whose name already stands for another block of the worker: an event that names itself.
    pub contradictions: u64,
    /// Blocks not stored because giving up others made no room.
    pub no_room: u64,
    /// Most bytes the index has ever taken.
    pub peak_bytes: usize,
}

/// Which worker holds which block in which tier.
#[derive(Debug)]
pub struct PrefixIndex {
    coverage: Arc<Coverage>,
    writer: Mutex<Writer>,
}

impl PrefixIndex {
    /// An empty index that will not take more than `max_bytes` bytes.
    pub fn new(max_bytes: usize) -> Self {
        let coverage = Arc::new(Coverage::new());
        let writer = Writer::new(Arc::clone(&coverage), Room::new(max_bytes), max_bytes);
        Self { coverage, writer: Mutex::new(writer) }
    }

    /// Books the blocks of a store event: `blocks` follow `parent`, or start a prompt without one.
    ///
    /// A block the worker already holds there under that name is counted once more, up to 63 times: what
    /// was stored more often goes with the 63rd removal. Nothing is stored behind an unknown parent, and
    /// nothing from a block on whose name stands for another block already.
    pub fn store(&self, worker: Worker, tier: Tier, parent: Option<u64>, blocks: &[Block]) -> Stored {
        self.swept(worker).store(worker, tier, parent, blocks)
    }

    /// Books blocks that the worker holds in some tier already, for events without tokens.
    pub fn store_known(&self, worker: Worker, tier: Tier, engine: &[u64]) -> Stored {
        self.swept(worker).store_known(worker, tier, engine)
    }

    /// Takes back one store of each block; what lies behind a removed block counts no longer, whether or
    /// not it is removed too.
    pub fn remove(&self, worker: Worker, tier: Tier, engine: &[u64]) {
        self.swept(worker).remove(worker, tier, engine);
    }

    /// Forgets all that the worker holds: cleared, restarted or gone. Readers see it gone at once; what it
    /// held is swept in steps, between which others may write. Returns when all is swept.
    pub fn clear(&self, worker: Worker) {
        let cleared = self.swept(worker).clear(worker);
        if cleared {
            drop(self.swept(worker));
        }
    }

    /// The writer, once nothing that the worker held before it was cleared is left.
    fn swept(&self, worker: Worker) -> MutexGuard<'_, Writer> {
        loop {
            let mut writer = self.writer.lock();
            if !writer.sweep_of(worker) {
                return writer;
            }
            MutexGuard::unlock_fair(writer);
        }
    }

    /// Writes to `out` how much of the prompt each worker holds, by worker; those that hold nothing of its
    /// start are left out. `chain` as from [`crate::hash::chain`].
    pub fn matches(&self, chain: &[u64], out: &mut Vec<Held>) {
        self.coverage.matches(chain, out);
    }

    /// The figures of now; waits for the writer.
    pub fn stats(&self) -> Stats {
        self.writer.lock().stats()
    }
}
