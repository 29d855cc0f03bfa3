//! The two kinds of line in a [`super::table::Table`]: blocks with who holds them, names with their blocks.
//!
//! A slot is written value first and emptied key first, so a reader that sees a key before and after the
//! value has read the value of that key.

use super::sync::{AtomicU16, AtomicU64, Ordering};

/// The key of an empty slot.
pub(super) const EMPTY: u64 = 0;
/// The key of a slot whose entry leaves: taken still, and found by nobody.
pub(super) const LEAVING: u64 = u64::MAX;

/// A cache line or two of entries.
pub(super) trait Line: Default {
    /// What a key stands for.
    type Value: Copy;
    /// Entries in a line.
    const SLOTS: usize;
    /// Share of the slots that may be taken, in percent: what a search costs against what memory costs.
    const MAX_PERCENT: usize;
    fn keys(&self) -> &[AtomicU64];
    fn value(&self, slot: usize) -> Self::Value;
    fn set(&self, slot: usize, value: Self::Value);

    /// Reads a word of each of its cache lines.
    #[inline]
    fn touch(&self) -> u64 {
        self.key(0)
    }

    #[inline]
    fn key(&self, slot: usize) -> u64 {
        self.keys()[slot].load(Ordering::Acquire)
    }

    /// The slot of the key, or [`Self::SLOTS`], and whether every slot is taken. Without branches: which
    /// slot it is cannot be foretold.
    #[inline]
    fn search(&self, key: u64) -> (usize, bool) {
        let (mut slot, mut full) = (Self::SLOTS, true);
        for (number, found) in self.keys().iter().enumerate() {
            let found = found.load(Ordering::Acquire);
            slot = if found == key { number } else { slot };
            full &= found != EMPTY;
        }
        (slot, full)
    }

    fn full(&self) -> bool {
        self.search(EMPTY).1
    }

    fn put(&self, slot: usize, key: u64, value: Self::Value) {
        self.set(slot, value);
        self.keys()[slot].store(key, Ordering::Release);
    }

    fn empty(&self, slot: usize) {
        self.keys()[slot].store(EMPTY, Ordering::Release);
    }

    fn mark(&self, slot: usize) {
        self.keys()[slot].store(LEAVING, Ordering::Release);
    }
}

/// Chain hashes, each with the workers of a page as bits.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Blocks {
    chains: [AtomicU64; 4],
    workers: [AtomicU64; 4],
}

impl Line for Blocks {
    type Value = u64;
    const SLOTS: usize = 4;
    // Nine of ten are in their home line: readers have to be fast.
    const MAX_PERCENT: usize = 76;

    #[inline]
    fn keys(&self) -> &[AtomicU64] {
        &self.chains
    }

    fn value(&self, slot: usize) -> u64 {
        self.workers[slot].load(Ordering::Acquire)
    }

    fn set(&self, slot: usize, workers: u64) {
        self.workers[slot].store(workers, Ordering::Release);
    }
}

impl Blocks {
    /// The workers of a key that lies in this line, and whether it does. Without branches.
    #[inline]
    pub(super) fn at_home(&self, key: u64) -> (u64, bool) {
        let (slot, _) = self.search(key);
        let number = slot % Self::SLOTS;
        let workers = self.workers[number].load(Ordering::Acquire);
        (workers, (slot < Self::SLOTS) & (self.chains[number].load(Ordering::Acquire) == key))
    }

    /// The value of a slot, if it still is that key's.
    #[inline]
    pub(super) fn read(&self, slot: usize, key: u64) -> Option<u64> {
        let workers = self.workers[slot].load(Ordering::Acquire);
        (self.chains[slot].load(Ordering::Acquire) == key).then_some(workers)
    }
}

/// What a worker's engine calls its blocks.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Names {
    engines: [AtomicU64; 7],
    chains: [AtomicU64; 7],
    notes: [AtomicU16; 7],
}

/// The block behind a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// Its chain hash.
    pub(super) chain: u64,
    /// Blocks before it in its prompt, up to [`Self::MAX_DEPTH`].
    pub(super) depth: u16,
    /// Stores not yet taken back, up to [`Self::MAX_COUNT`].
    pub(super) count: u8,
}

impl Named {
    const COUNT_BITS: u32 = 6;
    pub(super) const MAX_COUNT: u8 = (1 << Self::COUNT_BITS) - 1;
    /// Deeper blocks count as this deep.
    pub(super) const MAX_DEPTH: u16 = u16::MAX >> Self::COUNT_BITS;
}

impl Names {
    pub(super) fn values(&self) -> impl Iterator<Item = Named> {
        (0..Self::SLOTS).filter(|slot| self.key(*slot) != EMPTY).map(|slot| self.value(slot))
    }
}

impl Line for Names {
    type Value = Named;
    const SLOTS: usize = 7;
    const MAX_PERCENT: usize = 93;

    #[inline]
    fn keys(&self) -> &[AtomicU64] {
        &self.engines
    }

    #[inline]
    fn touch(&self) -> u64 {
        self.key(0) ^ self.chains[6].load(Ordering::Relaxed)
    }

    fn value(&self, slot: usize) -> Named {
        let note = self.notes[slot].load(Ordering::Relaxed);
        Named {
            chain: self.chains[slot].load(Ordering::Relaxed),
            depth: note >> Named::COUNT_BITS,
            count: note as u8 & Named::MAX_COUNT,
        }
    }

    fn set(&self, slot: usize, named: Named) {
        self.chains[slot].store(named.chain, Ordering::Relaxed);
        self.notes[slot].store(named.depth << Named::COUNT_BITS | u16::from(named.count), Ordering::Relaxed);
    }
}
