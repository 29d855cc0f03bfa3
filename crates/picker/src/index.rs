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

use parking_lot::{Mutex, MutexGuard};

use crate::hash::extend;
use crate::sync;
pub(crate) use coverage::{Coverage, Covered};
use names::{Book, Known};
pub(crate) use room::{Full, Room};
use table::BATCH;

const TIERS: [Tier; 3] = [Tier::Device, Tier::Host, Tier::Disk];
/// A full index gives up this share of the largest worker's blocks in one go.
const TRIM_SHARE: usize = 16;
/// Blocks of a cleared worker after which others may write again; the step ends with the segment, so a worker
/// of a million blocks holds the lock for 16,000 of them.
const SWEEP_BLOCKS: usize = 1024;
/// Times a block asks for room before it is dropped.
const MAX_TRIMS: usize = 8;

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
    coverage: Coverage,
    writer: Mutex<Writer>,
}

/// A worker's books, by tier.
type Books = [Option<Book>; 3];

#[derive(Debug)]
struct Writer {
    secret: u64,
    room: Room,
    covered: Covered,
    workers: Vec<Option<Box<Books>>>,
    /// Workers that were cleared and are hidden from readers; at most one of each.
    sweeps: Vec<Sweep>,
    stats: Stats,
}

/// What a cleared worker held.
#[derive(Debug)]
struct Sweep {
    worker: Worker,
    books: Box<Books>,
}

impl PrefixIndex {
    /// An empty index that will not take more than `max_bytes` bytes.
    pub fn new(max_bytes: usize) -> Self {
        let mut room = Room::new(max_bytes);
        // A cap below the fixed part leaves no room for any block.
        let _ = room.charge(size_of::<Self>() + Coverage::BASE_BYTES);
        let stats = Stats { max_bytes, ..Stats::default() };
        let covered = Covered::new(fastrand::u64(..));
        // A secret of its own: in the order of one table, the other is swept at random.
        let writer = Writer {
            secret: fastrand::u64(..),
            room,
            covered,
            workers: Vec::new(),
            sweeps: Vec::new(),
            stats,
        };
        Self { coverage: Coverage::new(), writer: Mutex::new(writer) }
    }

    /// Books the blocks of a store event: `blocks` follow `parent`, or start a prompt without one.
    ///
    /// A block the worker already holds there under that name is counted once more, up to 63 times: what
    /// was stored more often goes with the 63rd removal. Nothing is stored behind an unknown parent, and
    /// nothing from a block on whose name stands for another block already.
    pub fn store(&self, worker: Worker, tier: Tier, parent: Option<u64>, blocks: &[Block]) -> Stored {
        let writer = &mut *self.swept(worker);
        let mut stored = Stored::default();
        let (mut last, mut depth) = (None, 0u16);
        if let Some(parent) = parent {
            if let Some(named) = writer.named(worker, parent) {
                (last, depth) = (Some(named.chain), named.depth.saturating_add(1));
            } else {
                writer.stats.unknown_parents += 1;
                stored.dropped = blocks.len() as u32;
                return stored;
            }
        }
        'event: for blocks in blocks.chunks(BATCH) {
            let mut chains = [0; BATCH];
            for (block, chain) in blocks.iter().zip(&mut chains) {
                *chain = extend(last, block.local);
                last = Some(*chain);
            }
            writer.touch(worker, tier, blocks.iter().map(|block| block.engine));
            writer.covered.touch(worker, tier, &chains[..blocks.len()]);
            for (block, chain) in blocks.iter().zip(chains) {
                if !writer.add(&self.coverage, worker, tier, block.engine, chain, depth) {
                    break 'event;
                }
                stored.applied += 1;
                depth = depth.saturating_add(1);
            }
        }
        stored.dropped = blocks.len() as u32 - stored.applied;
        stored
    }

    /// Books blocks that the worker holds in some tier already, for events without tokens.
    pub fn store_known(&self, worker: Worker, tier: Tier, engine: &[u64]) -> Stored {
        let writer = &mut *self.swept(worker);
        let mut stored = Stored::default();
        for engine in engine {
            let known = writer.named(worker, *engine);
            writer.stats.unknown_blocks += u64::from(known.is_none());
            let done =
                known.is_some_and(|n| writer.add(&self.coverage, worker, tier, *engine, n.chain, n.depth));
            stored.applied += u32::from(done);
            stored.dropped += u32::from(!done);
        }
        stored
    }

    /// Takes back one store of each block; what lies behind a removed block counts no longer, whether or
    /// not it is removed too.
    pub fn remove(&self, worker: Worker, tier: Tier, engine: &[u64]) {
        let writer = &mut *self.swept(worker);
        let Writer { workers, covered, room, stats, .. } = writer;
        let book = workers.get_mut(worker.0 as usize).and_then(Option::as_mut);
        let Some(book) = book.and_then(|books| books[tier as usize].as_mut()) else {
            stats.unknown_removes += engine.len() as u64;
            return;
        };
        for names in engine.chunks(BATCH) {
            book.touch(names.iter().copied());
            let mut chains = [0; BATCH];
            let known = names.iter().filter_map(|name| book.get(*name));
            let count = known.zip(&mut chains).map(|(named, chain)| *chain = named.chain).count();
            covered.touch(worker, tier, &chains[..count]);
            for name in names {
                match book.take(*name, room) {
                    Ok(None) => {}
                    Ok(Some(chain)) => covered.release(&self.coverage, worker, tier, chain, room),
                    Err(()) => stats.unknown_removes += 1,
                }
            }
        }
    }

    /// Forgets all that the worker holds: cleared, restarted or gone. Readers see it gone at once; what it
    /// held is swept in steps, between which others may write. Returns when all is swept.
    pub fn clear(&self, worker: Worker) {
        {
            let writer = &mut *self.swept(worker);
            let Some(books) = writer.workers.get_mut(worker.0 as usize).and_then(Option::take) else {
                return;
            };
            self.coverage.hide(worker, true);
            writer.sweeps.push(Sweep { worker, books });
        }
        drop(self.swept(worker));
    }

    /// The writer, once nothing that the worker held before it was cleared is left.
    fn swept(&self, worker: Worker) -> MutexGuard<'_, Writer> {
        loop {
            let mut writer = self.writer.lock();
            let Some(at) = writer.sweeps.iter().position(|sweep| sweep.worker == worker) else {
                return writer;
            };
            writer.sweep(&self.coverage, at);
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
        let writer = self.writer.lock();
        let pairs: usize =
            writer.workers.iter().flatten().flat_map(|books| books.iter().flatten()).map(Book::len).sum();
        Stats {
            blocks: writer.covered.blocks() as u64,
            pairs: pairs as u64,
            bytes: writer.room.used(),
            peak_bytes: writer.room.peak(),
            ..writer.stats
        }
    }
}

impl Writer {
    /// The block behind a name, in whichever tier.
    fn named(&self, worker: Worker, engine: u64) -> Option<line::Named> {
        self.workers.get(worker.0 as usize)?.as_ref()?.iter().flatten().find_map(|book| book.get(engine))
    }

    /// Brings near what [`Self::add`] of these names will look at.
    fn touch(&self, worker: Worker, tier: Tier, engine: impl Iterator<Item = u64> + Clone) {
        let books = self.workers.get(worker.0 as usize).and_then(Option::as_ref);
        if let Some(book) = books.and_then(|books| books[tier as usize].as_ref()) {
            book.touch(engine);
        }
    }

    /// Sweeps about [`SWEEP_BLOCKS`] blocks of a cleared worker; after the last ones it is shown again.
    fn sweep(&mut self, to: &Coverage, at: usize) {
        let Self { sweeps, covered, room, .. } = self;
        let Sweep { worker, books } = &mut sweeps[at];
        let mut swept = 0;
        for (tier, place) in TIERS.into_iter().zip(books.iter_mut()) {
            while let Some(book) = place {
                if swept >= SWEEP_BLOCKS {
                    return;
                }
                match book.take_some(room) {
                    Some(chains) => {
                        swept += chains.len();
                        covered.release_all(to, *worker, tier, &chains, room);
                    }
                    None => {
                        if let Some(book) = place.take() {
                            book.free(room);
                        }
                    }
                }
            }
        }
        to.hide(*worker, false);
        room.refund(size_of::<Books>());
        sweeps.swap_remove(at);
    }

    fn add(
        &mut self,
        to: &Coverage,
        worker: Worker,
        tier: Tier,
        engine: u64,
        chain: u64,
        depth: u16,
    ) -> bool {
        let book = self.workers.get(worker.0 as usize).and_then(Option::as_ref);
        let book = book.and_then(|books| books[tier as usize].as_ref());
        match book.map_or(Known::No, |book| book.again(engine, chain)) {
            Known::Again => return true,
            Known::Other => {
                self.stats.contradictions += 1;
                return false;
            }
            Known::No => {}
        }
        // The block first: while room is made for its name, other blocks may go, but not this one.
        let held = self.with_room(to, |w| w.covered.hold(to, worker, tier, chain, &mut w.room));
        if !held {
            self.stats.no_room += 1;
            return false;
        }
        let named =
            self.with_room(to, |w| w.book(worker, tier, |book, room| book.add(engine, chain, depth, room)));
        if !named {
            self.covered.release(to, worker, tier, chain, &mut self.room);
            self.stats.no_room += 1;
        }
        named
    }

    /// Tries again after others were given up.
    fn with_room(&mut self, to: &Coverage, mut act: impl FnMut(&mut Self) -> Result<(), Full>) -> bool {
        for _ in 0..MAX_TRIMS {
            if act(self).is_ok() {
                return true;
            }
            if !self.trim(to) {
                return false;
            }
        }
        act(self).is_ok()
    }

    fn book(
        &mut self,
        worker: Worker,
        tier: Tier,
        act: impl FnOnce(&mut Book, &mut Room) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let number = worker.0 as usize;
        if self.workers.len() <= number {
            let more = number + 1 - self.workers.len();
            self.room.charge(more * size_of::<Option<Box<Books>>>())?;
            self.workers.reserve_exact(more);
            self.workers.resize_with(number + 1, Default::default);
        }
        let books = match &mut self.workers[number] {
            Some(books) => books,
            none => {
                self.room.charge(size_of::<Books>())?;
                none.insert(Box::default())
            }
        };
        let book = match &mut books[tier as usize] {
            Some(book) => book,
            none => none.insert(Book::new(self.secret, &mut self.room)?),
        };
        act(book, &mut self.room)
    }

    /// Gives up a share of the largest book; false if there is nothing to give up.
    fn trim(&mut self, to: &Coverage) -> bool {
        if !self.sweeps.is_empty() {
            self.sweep(to, 0);
            return true;
        }
        let books = self.workers.iter_mut().enumerate().flat_map(|(worker, books)| {
            TIERS
                .into_iter()
                .zip(books.iter_mut().flat_map(|books| books.iter_mut()))
                .map(move |(tier, book)| (Worker(worker as u16), tier, book))
        });
        let filled = books.filter_map(|(worker, tier, book)| book.as_mut().map(|b| (worker, tier, b)));
        let largest = filled.max_by_key(|(.., book)| book.len()).filter(|(.., book)| book.len() > 0);
        let Some((worker, tier, book)) = largest else { return false };
        let chains = book.trim(TRIM_SHARE, &mut self.room);
        self.stats.evicted += chains.len() as u64;
        self.covered.release_all(to, worker, tier, &chains, &mut self.room);
        true
    }
}
