//! Chain hash to workers, for each tier: what readers walk along a prompt.
//!
//! Workers come in pages of 64, one bit each; a page has a table per tier that holds anything, so pools of
//! up to 64 endpoints need one look-up a block. Used by the index of events and by the approximate one.

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::line::{Blocks, Line};
use super::room::{Full, Room};
use super::table::Table;
use super::view::{View, name};
use super::{Held, Tier, Worker};

const PAGE_WORKERS: usize = 64;
const PAGES: usize = (u16::MAX as usize + 1) / PAGE_WORKERS;
const TIERS: usize = 3;
/// Blocks that memory is asked for together.
const BATCH: usize = 32;
/// Bytes a (worker, block) held under a second name costs in a hash map, its spare room included.
const ALIAS_BYTES: usize = 96;

/// The readers' side.
#[derive(Debug)]
pub(crate) struct Coverage {
    pages: Box<[OnceLock<Page>]>,
}

#[derive(Debug)]
struct Page {
    tiers: [ArcSwapOption<View<Blocks>>; TIERS],
    /// Bits of the workers that are not just being cleared.
    valid: AtomicU64,
}

/// The writer's side; there is one.
#[derive(Debug)]
pub(crate) struct Covered {
    to: Arc<Coverage>,
    secret: u64,
    pages: Vec<[Option<Table<Blocks>>; TIERS]>,
    /// Names beyond the first by which a worker holds a block: two names of an engine may stand for the
    /// same tokens.
    aliases: Aliases,
}

type Aliases = HashMap<(Worker, Tier, u64), u32, RandomState>;

/// One worker's blocks in one tier, to be written.
pub(super) struct Holder<'a> {
    worker: Worker,
    tier: Tier,
    bit: u64,
    table: &'a mut Table<Blocks>,
    page: &'a OnceLock<Page>,
    aliases: &'a mut Aliases,
}

impl Coverage {
    pub(crate) const BASE_BYTES: usize = PAGES * size_of::<OnceLock<Page>>();

    pub(crate) fn new() -> Self {
        Self { pages: std::iter::repeat_with(OnceLock::new).take(PAGES).collect() }
    }

    /// Writes to `out` the workers that hold the prompt's first block, with the lengths of their runs.
    pub(crate) fn matches(&self, chain: &[u64], out: &mut Vec<Held>) {
        out.clear();
        for (number, page) in self.pages.iter().map_while(OnceLock::get).enumerate() {
            page.matches(number * PAGE_WORKERS, chain, out);
        }
    }
}

impl Page {
    fn matches(&self, first: usize, chain: &[u64], out: &mut Vec<Held>) {
        let valid = self.valid.load(Ordering::Acquire);
        let mut ends = [[0u32; PAGE_WORKERS]; TIERS];
        let mut run = [0u32; PAGE_WORKERS];
        let mut some = 0;
        for (tier, ends) in self.tiers.iter().zip(&mut ends) {
            if let Some(view) = &*tier.load() {
                some |= walk(view, chain, valid, &mut run);
            }
            *ends = run;
        }
        for worker in bits(some) {
            let [device, host, disk] = ends.map(|ends| ends[worker]);
            out.push(Held {
                worker: Worker((first + worker) as u16),
                device,
                host: host - device,
                disk: disk - host,
            });
        }
    }
}

/// Extends the runs of `workers`, each from the block where it ends so far; returns those that got longer.
fn walk(view: &View<Blocks>, chain: &[u64], workers: u64, run: &mut [u32; PAGE_WORKERS]) -> u64 {
    let (mut waiting, mut active, mut longer) = (workers, 0u64, 0u64);
    let mut next = first_end(waiting, run);
    let mut at = next;
    while let Some(rest) = chain.get(at..).filter(|rest| !rest.is_empty()) {
        for held in view.read(rest) {
            if at == next {
                let join = bits(waiting).filter(|w| run[*w] as usize == at).fold(0, |all, w| all | 1 << w);
                (active, waiting) = (active | join, waiting & !join);
                next = first_end(waiting, run);
            }
            let ended = active & !held;
            active &= held;
            longer |= active;
            if ended != 0 {
                bits(ended).for_each(|worker| run[worker] = at as u32);
            }
            if active == 0 {
                at = next;
                break;
            }
            at += 1;
        }
    }
    bits(active).for_each(|worker| run[worker] = chain.len() as u32);
    longer
}

fn first_end(waiting: u64, run: &[u32; PAGE_WORKERS]) -> usize {
    bits(waiting).map(|worker| run[worker] as usize).min().unwrap_or(usize::MAX)
}

fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (bit < PAGE_WORKERS).then_some(bit)
    })
}

fn place(worker: Worker) -> (usize, u64) {
    (worker.0 as usize / PAGE_WORKERS, 1 << (worker.0 as usize % PAGE_WORKERS))
}

impl Covered {
    pub(crate) fn new(to: Arc<Coverage>, secret: u64) -> Self {
        Self { to, secret, pages: Vec::new(), aliases: HashMap::default() }
    }

    /// Hides a worker from readers, or shows it again: what it held disappears at once.
    pub(crate) fn hide(&self, worker: Worker, hidden: bool) {
        let (page, bit) = place(worker);
        if let Some(page) = self.to.pages.get(page).and_then(OnceLock::get) {
            if hidden {
                page.valid.fetch_and(!bit, Ordering::AcqRel);
            } else {
                page.valid.fetch_or(bit, Ordering::AcqRel);
            }
        }
    }

    /// Blocks, each counted once per tier and page.
    pub(crate) fn blocks(&self) -> usize {
        self.pages.iter().flatten().flatten().map(Table::len).sum()
    }

    /// [`Holder::hold`] of one block.
    pub(crate) fn hold(
        &mut self,
        worker: Worker,
        tier: Tier,
        chain: u64,
        room: &mut Room,
    ) -> Result<(), Full> {
        self.open(worker, tier, room)?.hold(chain, room)
    }

    /// [`Holder::release`] of one block.
    pub(crate) fn release(&mut self, worker: Worker, tier: Tier, chain: u64, room: &mut Room) {
        if let Some(mut holder) = self.opened(worker, tier) {
            holder.release(chain, room);
        }
    }

    /// [`Holder::release`] of many.
    pub(super) fn release_all(&mut self, worker: Worker, tier: Tier, chains: &[u64], room: &mut Room) {
        let Some(mut holder) = self.opened(worker, tier) else { return };
        for chains in chains.chunks(BATCH) {
            chains.iter().for_each(|chain| holder.approach(*chain));
            chains.iter().for_each(|chain| holder.look_on(*chain));
            chains.iter().for_each(|chain| holder.release(*chain, room));
        }
    }

    /// What the worker holds in a tier, to be written.
    pub(super) fn open(&mut self, worker: Worker, tier: Tier, room: &mut Room) -> Result<Holder<'_>, Full> {
        let (page, _) = place(worker);
        // In order, so that readers stop at the first page that is not open.
        while self.pages.len() <= page {
            room.charge(size_of::<[Option<Table<Blocks>>; TIERS]>() * 2)?;
            let new = Page { tiers: Default::default(), valid: AtomicU64::new(u64::MAX) };
            self.to.pages[self.pages.len()].get_or_init(|| new);
            self.pages.push(Default::default());
        }
        let table = &mut self.pages[page][tier as usize];
        if table.is_none() {
            *table = Some(Table::new(self.secret, room)?);
        }
        self.opened(worker, tier).ok_or(Full)
    }

    /// [`Self::open`], if anybody of the worker's page has ever held anything there.
    pub(super) fn opened(&mut self, worker: Worker, tier: Tier) -> Option<Holder<'_>> {
        let (page, bit) = place(worker);
        let table = self.pages.get_mut(page)?[tier as usize].as_mut()?;
        Some(Holder { worker, tier, bit, table, page: &self.to.pages[page], aliases: &mut self.aliases })
    }
}

impl Holder<'_> {
    /// Asks memory for where looking for this block begins.
    #[inline]
    pub(super) fn approach(&self, chain: u64) {
        self.table.approach(chain);
    }

    /// Asks memory for where looking for this block goes on, if it will.
    #[inline]
    pub(super) fn look_on(&self, chain: u64) {
        self.table.look_on(chain);
    }

    /// The worker holds the block, under one more name.
    #[inline]
    pub(super) fn hold(&mut self, chain: u64, room: &mut Room) -> Result<(), Full> {
        let (at, held) = self.table.seek(name(chain));
        if !held {
            let done = self.table.insert(at, name(chain), self.bit, room);
            self.publish(room);
            return done;
        }
        let line = self.table.line(at);
        let workers = line.value(at.slot);
        if workers & self.bit == 0 {
            line.set(at.slot, workers | self.bit);
            return Ok(());
        }
        room.charge(ALIAS_BYTES)?;
        *self.aliases.entry((self.worker, self.tier, chain)).or_default() += 1;
        Ok(())
    }

    /// The worker holds the block under one name less.
    #[inline]
    pub(super) fn release(&mut self, chain: u64, room: &mut Room) {
        if !self.aliases.is_empty() && self.release_alias(chain) {
            room.refund(ALIAS_BYTES);
            return;
        }
        let (at, true) = self.table.seek(name(chain)) else { return };
        let line = self.table.line(at);
        let workers = line.value(at.slot) & !self.bit;
        if workers == 0 {
            self.table.remove(at, room);
            self.publish(room);
        } else {
            line.set(at.slot, workers);
        }
    }

    /// Takes back a name beyond the first; false if there is none.
    fn release_alias(&mut self, chain: u64) -> bool {
        let key = (self.worker, self.tier, chain);
        let Some(more) = self.aliases.get_mut(&key) else { return false };
        *more -= 1;
        if *more == 0 {
            self.aliases.remove(&key);
            if self.aliases.len() * 4 < self.aliases.capacity() {
                self.aliases.shrink_to(self.aliases.len() * 2);
            }
        }
        true
    }

    /// Hands readers the table as it is now, if its segments are others.
    #[inline]
    fn publish(&mut self, room: &mut Room) {
        if let (Some(view), Some(page)) = (self.table.changed(), self.page.get()) {
            page.tiers[self.tier as usize].store(Some(Arc::new(view)));
            self.table.settle(room);
        }
    }
}
