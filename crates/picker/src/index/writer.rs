//! The one who writes the index: what engines call their blocks and who holds which block, kept in step and
//! under the cap.
//!
//! Nearly every step of it reads a random place of memory. The loops over the blocks of an event therefore
//! ask for each place some blocks before they look at it. Called under the lock of the index.

use super::coverage::{Coverage, Covered, Holder};
use super::line::Named;
use super::names::{Book, Known};
use super::room::{Full, Room};
use super::view::{ASK_AHEAD, LOOK_AHEAD, RING};
use super::{Block, Stats, Stored, TIERS, Tier, Worker};
use crate::hash::extend;
use std::sync::Arc;

/// A full index gives up this share of the largest worker's blocks in one go.
const TRIM_SHARE: usize = 16;
/// Times a block asks for room before it is dropped.
const MAX_TRIMS: usize = 8;
/// Blocks of a cleared worker after which others may write again; the step ends with the segment, so a worker
/// of a million blocks holds the lock for 16,000 of them.
pub(super) const SWEEP_BLOCKS: usize = 1024;

/// A worker's books, by tier.
type Books = [Option<Book>; 3];

#[derive(Debug)]
pub(super) struct Writer {
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

/// A store event, and how far it is booked.
struct Event<'a> {
    worker: Worker,
    tier: Tier,
    blocks: &'a [Block],
    done: usize,
    /// Chain hash of the block before the next one.
    last: Option<u64>,
    /// Blocks before the next one in its prompt.
    depth: u16,
}

impl Writer {
    pub(super) fn new(to: Arc<Coverage>, mut room: Room, max_bytes: usize) -> Self {
        // A cap below the fixed part leaves no room for any block.
        let _ = room.charge(size_of::<Self>() + Coverage::BASE_BYTES);
        // A secret of its own: in the order of one table, the other is swept at random.
        Self {
            secret: fastrand::u64(..),
            room,
            covered: Covered::new(to, fastrand::u64(..)),
            workers: Vec::new(),
            sweeps: Vec::new(),
            stats: Stats { max_bytes, ..Stats::default() },
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let books = self.workers.iter().flatten().flat_map(|books| books.iter().flatten());
        Stats {
            blocks: self.covered.blocks() as u64,
            pairs: books.map(Book::len).sum::<usize>() as u64,
            bytes: self.room.used(),
            peak_bytes: self.room.peak(),
            ..self.stats
        }
    }

    pub(super) fn store(
        &mut self,
        worker: Worker,
        tier: Tier,
        parent: Option<u64>,
        blocks: &[Block],
    ) -> Stored {
        let mut event = Event { worker, tier, blocks, done: 0, last: None, depth: 0 };
        if let Some(parent) = parent {
            let Some(named) = self.named(worker, parent) else {
                self.stats.unknown_parents += 1;
                return Stored { applied: 0, dropped: blocks.len() as u32 };
            };
            (event.last, event.depth) = (Some(named.chain), named.depth.saturating_add(1));
        }
        while event.done < blocks.len() && self.with_room(|writer| writer.write(&mut event)) {}
        Stored { applied: event.done as u32, dropped: (blocks.len() - event.done) as u32 }
    }

    pub(super) fn store_known(&mut self, worker: Worker, tier: Tier, engine: &[u64]) -> Stored {
        let mut stored = Stored::default();
        for engine in engine {
            let known = self.named(worker, *engine);
            self.stats.unknown_blocks += u64::from(known.is_none());
            let done = known.is_some_and(|named| {
                self.with_room(|writer| {
                    let (book, mut holder, room) = writer.open(worker, tier)?;
                    put(book, &mut holder, room, *engine, named.chain, named.depth)
                })
            });
            stored.applied += u32::from(done);
            stored.dropped += u32::from(!done);
        }
        stored
    }

    pub(super) fn remove(&mut self, worker: Worker, tier: Tier, engine: &[u64]) {
        let Self { workers, covered, room, stats, .. } = self;
        let book = workers.get_mut(worker.0 as usize).and_then(Option::as_mut);
        let book = book.and_then(|books| books[tier as usize].as_mut());
        let (Some(book), Some(mut holder)) = (book, covered.opened(worker, tier)) else {
            stats.unknown_removes += engine.len() as u64;
            return;
        };
        let mut chains = [None; RING];
        for at in 0..engine.len() + ASK_AHEAD {
            if let Some(name) = engine.get(at) {
                book.approach(*name);
            }
            let due = |behind: usize| at.checked_sub(behind).filter(|at| *at < engine.len());
            if let Some(at) = due(ASK_AHEAD - 2 * LOOK_AHEAD) {
                book.look_on(engine[at]);
            }
            if let Some(at) = due(ASK_AHEAD - LOOK_AHEAD) {
                let chain = book.take(engine[at], room);
                stats.unknown_removes += u64::from(chain.is_err());
                chains[at % RING] = chain.ok().flatten();
                if let Some(chain) = chains[at % RING] {
                    holder.approach(chain);
                }
            }
            if let Some(chain) = due(ASK_AHEAD - LOOK_AHEAD / 2).and_then(|at| chains[at % RING]) {
                holder.look_on(chain);
            }
            if let Some(chain) = due(ASK_AHEAD).and_then(|at| chains[at % RING]) {
                holder.release(chain, room);
            }
        }
    }

    /// Hides what the worker holds from readers, to be swept; false if it holds nothing.
    pub(super) fn clear(&mut self, worker: Worker) -> bool {
        let books = self.workers.get_mut(worker.0 as usize).and_then(Option::take);
        let Some(books) = books else { return false };
        self.covered.hide(worker, true);
        self.sweeps.push(Sweep { worker, books });
        true
    }

    /// Sweeps a part of what the worker held before it was cleared; false if nothing is left.
    pub(super) fn sweep_of(&mut self, worker: Worker) -> bool {
        let at = self.sweeps.iter().position(|sweep| sweep.worker == worker);
        at.inspect(|at| self.sweep(*at)).is_some()
    }

    /// Sweeps about [`SWEEP_BLOCKS`] blocks of a cleared worker; after the last ones it is shown again.
    fn sweep(&mut self, at: usize) {
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
                        covered.release_all(*worker, tier, &chains, room);
                    }
                    None => {
                        if let Some(book) = place.take() {
                            book.free(room);
                        }
                    }
                }
            }
        }
        covered.hide(*worker, false);
        room.refund(size_of::<Books>());
        sweeps.swap_remove(at);
    }

    /// The block behind a name, in whichever tier.
    fn named(&self, worker: Worker, engine: u64) -> Option<Named> {
        self.workers.get(worker.0 as usize)?.as_ref()?.iter().flatten().find_map(|book| book.get(engine))
    }

    /// Books an event's blocks from the next one on, as far as there is room; false if the name of one stands
    /// for another block already.
    fn write(&mut self, event: &mut Event<'_>) -> Result<bool, Full> {
        let (book, mut holder, room) = self.open(event.worker, event.tier)?;
        let (begin, blocks) = (event.done, &event.blocks[event.done..]);
        let (mut chains, mut last) = ([0; RING], event.last);
        for at in 0..blocks.len() + ASK_AHEAD {
            if let Some(block) = blocks.get(at) {
                let chain = extend(last, block.local);
                (chains[at % RING], last) = (chain, Some(chain));
                book.approach(block.engine);
                holder.approach(chain);
            }
            let due = |behind: usize| {
                let at = at.checked_sub(behind)?;
                Some((blocks.get(at)?.engine, at))
            };
            if let Some((engine, at)) = due(ASK_AHEAD - LOOK_AHEAD) {
                book.look_on(engine);
                holder.look_on(chains[at % RING]);
            }
            if let Some((engine, at)) = due(ASK_AHEAD) {
                let chain = chains[at % RING];
                match put(book, &mut holder, room, engine, chain, event.depth) {
                    Ok(true) => {}
                    // What was booked is; the next call begins with this block.
                    Err(Full) if event.done > begin => return Ok(true),
                    other => return other,
                }
                event.done += 1;
                (event.last, event.depth) = (Some(chain), event.depth.saturating_add(1));
            }
        }
        Ok(true)
    }

    /// Tries again after others were given up; true if that, or the first try, was done.
    fn with_room(&mut self, mut act: impl FnMut(&mut Self) -> Result<bool, Full>) -> bool {
        for trims in 0..=MAX_TRIMS {
            match act(self) {
                Ok(done) => {
                    self.stats.contradictions += u64::from(!done);
                    return done;
                }
                Err(Full) if trims < MAX_TRIMS && self.trim() => {}
                Err(Full) => break,
            }
        }
        self.stats.no_room += 1;
        false
    }

    /// The worker's book of a tier, and what else is needed to write in it.
    fn open(&mut self, worker: Worker, tier: Tier) -> Result<(&mut Book, Holder<'_>, &mut Room), Full> {
        let Self { secret, room, covered, workers, .. } = self;
        let number = worker.0 as usize;
        if workers.len() <= number {
            let more = number + 1 - workers.len();
            room.charge(more * size_of::<Option<Box<Books>>>())?;
            workers.reserve_exact(more);
            workers.resize_with(number + 1, Default::default);
        }
        let books = match &mut workers[number] {
            Some(books) => books,
            none => {
                room.charge(size_of::<Books>())?;
                none.insert(Box::default())
            }
        };
        let book = match &mut books[tier as usize] {
            Some(book) => book,
            none => none.insert(Book::new(*secret, room)?),
        };
        Ok((book, covered.open(worker, tier, room)?, room))
    }

    /// Gives up a share of the largest book; false if there is nothing to give up.
    fn trim(&mut self) -> bool {
        if !self.sweeps.is_empty() {
            self.sweep(0);
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
        self.covered.release_all(worker, tier, &chains, &mut self.room);
        true
    }
}

/// Books one block under a name; false if the name stands for another block already.
#[inline]
fn put(
    book: &mut Book,
    holder: &mut Holder<'_>,
    room: &mut Room,
    engine: u64,
    chain: u64,
    depth: u16,
) -> Result<bool, Full> {
    match book.again(engine, chain) {
        Known::Again => Ok(true),
        Known::Other => Ok(false),
        Known::No(at) => {
            holder.hold(chain, room)?;
            let named = book.add(at, engine, chain, depth, room);
            named.inspect_err(|Full| holder.release(chain, room))?;
            Ok(true)
        }
    }
}
