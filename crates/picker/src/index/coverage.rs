//! Chain hash to workers, for each tier: what readers walk along a prompt.
//!
//! Workers come in pages of 64, one bit each; a page has a table per tier that holds anything, so pools of
//! up to 64 endpoints need one look-up a block. Used by the index of events and by the approximate one.

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::BATCH;
use super::line::{Blocks, Line};
use super::room::{Full, Room};
use super::table::{Table, View, name};
use super::{Held, Tier, Worker};

const PAGE_WORKERS: usize = 64;
const PAGES: usize = (u16::MAX as usize + 1) / PAGE_WORKERS;
const TIERS: usize = 3;
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
    secret: u64,
    pages: Vec<[Option<Table<Blocks>>; TIERS]>,
    /// Names beyond the first by which a worker holds a block: two names of an engine may stand for the
    /// same tokens.
    aliases: HashMap<(Worker, Tier, u64), u32, RandomState>,
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

    /// Hides a worker from readers, or shows it again: what it held disappears at once.
    pub(crate) fn hide(&self, worker: Worker, hidden: bool) {
        let (page, bit) = place(worker);
        if let Some(page) = self.pages.get(page).and_then(OnceLock::get) {
            if hidden {
                page.valid.fetch_and(!bit, Ordering::AcqRel);
            } else {
                page.valid.fetch_or(bit, Ordering::AcqRel);
            }
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
    pub(crate) fn new(secret: u64) -> Self {
        Self { secret, pages: Vec::new(), aliases: HashMap::default() }
    }

    /// Blocks, each counted once per tier and page.
    pub(crate) fn blocks(&self) -> usize {
        self.pages.iter().flatten().flatten().map(Table::len).sum()
    }

    /// The worker holds the block, under one more name.
    pub(crate) fn hold(
        &mut self,
        to: &Coverage,
        worker: Worker,
        tier: Tier,
        chain: u64,
        room: &mut Room,
    ) -> Result<(), Full> {
        let (page, bit) = place(worker);
        self.open(to, page, room)?;
        let table = match &mut self.pages[page][tier as usize] {
            Some(table) => table,
            none => none.insert(Table::new(self.secret, room)?),
        };
        let key = name(chain);
        let (at, held) = table.seek(key);
        if held {
            let line = table.line(at);
            let workers = line.value(at.slot);
            if workers & bit == 0 {
                line.set(at.slot, workers | bit);
            } else {
                room.charge(ALIAS_BYTES)?;
                *self.aliases.entry((worker, tier, chain)).or_default() += 1;
            }
            return Ok(());
        }
        let done = table.insert(at, key, bit, room);
        publish(table, &to.pages[page], tier, room);
        done
    }

    /// The worker holds the block under one name less.
    pub(crate) fn release(&mut self, to: &Coverage, worker: Worker, tier: Tier, chain: u64, room: &mut Room) {
        if !self.aliases.is_empty()
            && let Some(more) = self.aliases.get_mut(&(worker, tier, chain))
        {
            *more -= 1;
            if *more == 0 {
                self.aliases.remove(&(worker, tier, chain));
                if self.aliases.len() * 4 < self.aliases.capacity() {
                    self.aliases.shrink_to(self.aliases.len() * 2);
                }
            }
            room.refund(ALIAS_BYTES);
            return;
        }
        let (page, bit) = place(worker);
        let table = self.pages.get_mut(page).and_then(|tiers| tiers[tier as usize].as_mut());
        let Some(table) = table else { return };
        let (at, true) = table.seek(name(chain)) else { return };
        let line = table.line(at);
        let workers = line.value(at.slot) & !bit;
        if workers == 0 {
            table.remove(at, room);
            publish(table, &to.pages[page], tier, room);
        } else {
            line.set(at.slot, workers);
        }
    }

    /// [`Self::release`] of many.
    pub(crate) fn release_all(
        &mut self,
        to: &Coverage,
        worker: Worker,
        tier: Tier,
        chains: &[u64],
        room: &mut Room,
    ) {
        for chains in chains.chunks(BATCH) {
            self.approach(worker, tier, chains);
            self.look_on(worker, tier, chains);
            chains.iter().for_each(|chain| self.release(to, worker, tier, *chain, room));
        }
    }

    /// Asks memory for where looking for these blocks begins.
    pub(super) fn approach(&self, worker: Worker, tier: Tier, chains: &[u64]) {
        if let Some(table) = self.table(worker, tier) {
            chains.iter().for_each(|chain| table.approach(*chain));
        }
    }

    /// Asks memory for where looking for these blocks goes on, if it will.
    pub(super) fn look_on(&self, worker: Worker, tier: Tier, chains: &[u64]) {
        if let Some(table) = self.table(worker, tier) {
            chains.iter().for_each(|chain| table.look_on(*chain));
        }
    }

    fn table(&self, worker: Worker, tier: Tier) -> Option<&Table<Blocks>> {
        self.pages.get(place(worker).0)?[tier as usize].as_ref()
    }

    /// Pages are opened in order, so that readers stop at the first one that is not.
    fn open(&mut self, to: &Coverage, page: usize, room: &mut Room) -> Result<(), Full> {
        while self.pages.len() <= page {
            room.charge(size_of::<[Option<Table<Blocks>>; TIERS]>() * 2)?;
            let new = Page { tiers: Default::default(), valid: AtomicU64::new(u64::MAX) };
            to.pages[self.pages.len()].get_or_init(|| new);
            self.pages.push(Default::default());
        }
        Ok(())
    }
}

/// Hands readers the table as it is now, if its segments are others.
fn publish(table: &mut Table<Blocks>, page: &OnceLock<Page>, tier: Tier, room: &mut Room) {
    if let (Some(view), Some(page)) = (table.changed(), page.get()) {
        page.tiers[tier as usize].store(Some(Arc::new(view)));
        table.settle(room);
    }
}
