//! The two kinds of line in a [`super::table::Table`]: blocks with who holds them, names with their blocks.
//!
//! A slot is written value first and emptied key first, so a reader that sees a key before and after the
//! value has read the value of that key.

use waypost_prefetch::prefetch;

use crate::sync::{AtomicU8, AtomicU16, AtomicU64, Ordering};

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
    /// Asks memory for what a search looks at.
    fn approach(&self);
    /// Whether entries may lie behind this line that found no hole in it.
    fn more(&self) -> bool;
    /// An entry that found no hole here went on.
    fn pass(&self);
    /// An entry behind this line that had passed it is gone, or lies here now.
    fn unpass(&self);

    #[inline]
    fn key(&self, slot: usize) -> u64 {
        self.keys()[slot].load(Ordering::Acquire)
    }

    /// The slot of the key, or [`Self::SLOTS`], and whether entries may lie behind this line that belong
    /// here. Without branches: which slot it is cannot be foretold.
    fn search(&self, key: u64) -> (usize, bool);

    /// An empty slot, or [`Self::SLOTS`].
    #[inline]
    fn hole(&self) -> usize {
        self.search(EMPTY).0
    }

    fn full(&self) -> bool {
        self.hole() == Self::SLOTS
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

/// The slot of a key among these, or their number; without branches.
#[inline]
fn slot_of<const N: usize>(keys: &[AtomicU64; N], key: u64) -> usize {
    let number = |slot, (number, found): (usize, &AtomicU64)| {
        if found.load(Ordering::Acquire) == key { number } else { slot }
    };
    keys.iter().enumerate().fold(N, number)
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
    const MAX_PERCENT: usize = 75;

    #[inline]
    fn keys(&self) -> &[AtomicU64] {
        &self.chains
    }

    #[inline]
    fn search(&self, key: u64) -> (usize, bool) {
        let full = self.chains.iter().fold(true, |full, key| full & (key.load(Ordering::Acquire) != EMPTY));
        (slot_of(&self.chains, key), full)
    }

    #[inline]
    fn approach(&self) {
        prefetch(self);
    }

    // Readers look on behind a full line: what lies there and a count of it cannot change as one.
    fn more(&self) -> bool {
        self.full()
    }

    fn pass(&self) {}

    fn unpass(&self) {}

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
        let slot = slot_of(&self.chains, key);
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
///
/// Two cache lines: where a search for a name that is not there needs the first one only.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Names {
    engines: [AtomicU64; 7],
    low_notes: [AtomicU16; LOW_NOTES],
    /// Entries behind this line that found no hole in it.
    passed: AtomicU8,
    chains: [AtomicU64; 7],
    high_notes: [AtomicU16; 7 - LOW_NOTES],
}

/// Notes that have room in the first cache line.
const LOW_NOTES: usize = 3;

#[cfg(not(loom))]
const _: () = assert!(std::mem::offset_of!(Names, chains) == 64 && size_of::<Names>() == 128);

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

    #[inline]
    fn note(&self, slot: usize) -> &AtomicU16 {
        if slot < LOW_NOTES { &self.low_notes[slot] } else { &self.high_notes[slot - LOW_NOTES] }
    }

    fn set_passed(&self, change: impl Fn(u8) -> u8) {
        let passed = self.passed.load(Ordering::Relaxed);
        // A count at its end is not known any more and stays.
        if passed < u8::MAX {
            self.passed.store(change(passed), Ordering::Relaxed);
        }
    }
}

impl Line for Names {
    type Value = Named;
    const SLOTS: usize = 7;
    const MAX_PERCENT: usize = 89;

    #[inline]
    fn keys(&self) -> &[AtomicU64] {
        &self.engines
    }

    #[inline]
    fn search(&self, key: u64) -> (usize, bool) {
        (slot_of(&self.engines, key), self.more())
    }

    #[inline]
    fn approach(&self) {
        prefetch(&self.engines);
    }

    fn more(&self) -> bool {
        self.passed.load(Ordering::Relaxed) > 0
    }

    fn pass(&self) {
        self.set_passed(|passed| passed + 1);
    }

    fn unpass(&self) {
        self.set_passed(|passed| passed.saturating_sub(1));
    }

    fn value(&self, slot: usize) -> Named {
        let note = self.note(slot).load(Ordering::Relaxed);
        Named {
            chain: self.chains[slot].load(Ordering::Relaxed),
            depth: note >> Named::COUNT_BITS,
            count: note as u8 & Named::MAX_COUNT,
        }
    }

    fn set(&self, slot: usize, named: Named) {
        self.chains[slot].store(named.chain, Ordering::Relaxed);
        self.note(slot).store(named.depth << Named::COUNT_BITS | u16::from(named.count), Ordering::Relaxed);
    }
}
