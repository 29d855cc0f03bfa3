//! What readers of a [`super::table::Table`] see, and how a key is found in it.
//!
//! An entry lies in its home line or, where that was full, in a later line that was not. Readers never wait:
//! one that found its key reads the key again after the value, one that found nothing while the writer moved
//! entries looks again. Used by the table and by the walk along a prompt.

use std::sync::Arc;
use waypost_prefetch::prefetch;

use super::line::{Blocks, EMPTY, LEAVING, Line};
use crate::sync::{AtomicU64, Ordering, fence};

const SEGMENT_BITS: u32 = 6;
pub(super) const SEGMENTS: usize = 1 << SEGMENT_BITS;
/// Lines a search looks at before it gives up; a segment grows before an entry gets that far from home.
pub(super) const MAX_PROBE_LINES: usize = 32;
/// Reads of one key that a writer may spoil before a reader takes the block for absent.
const MAX_READS: usize = 16;
/// Blocks of a prompt or of an event that memory was asked for and that are not done yet: what a core keeps in
/// flight.
pub(super) const ASK_AHEAD: usize = 24;
/// Blocks whose home line was looked at and that are not done yet.
pub(super) const LOOK_AHEAD: usize = 8;
/// A power of two above [`ASK_AHEAD`].
pub(super) const RING: usize = 32;

/// Where a key of a table lies or may be put, until the table changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) segment: usize,
    pub(super) home: usize,
    pub(super) line: usize,
    /// The number of slots if there is no hole near.
    pub(super) slot: usize,
}

/// What readers see: the segments of one moment, whose lines the writer goes on changing.
#[derive(Debug)]
pub(super) struct View<L> {
    pub(super) secret: u64,
    pub(super) segments: Box<[Arc<[L]>]>,
    /// How often an entry was moved.
    pub(super) moves: Arc<AtomicU64>,
}

impl<L> Clone for View<L> {
    fn clone(&self) -> Self {
        Self { secret: self.secret, segments: self.segments.clone(), moves: Arc::clone(&self.moves) }
    }
}

/// The key of a hash: two keys mark slots, and the hashes equal to them borrow other names.
#[inline]
pub(super) fn name(hash: u64) -> u64 {
    match hash {
        EMPTY => 0x9e37_79b9_7f4a_7c15,
        LEAVING => 0xc2b2_ae3d_27d4_eb4f,
        key => key,
    }
}

impl<L: Line> View<L> {
    /// The place of a key: random to whoever does not know the secret, and in the same order whatever the
    /// number of lines, so that growth runs through memory once.
    #[inline]
    pub(super) fn place(&self, key: u64) -> u64 {
        let wide = u128::from(key ^ self.secret) * 0x9fb2_1c65_1e98_df25;
        (wide >> 64) as u64 ^ wide as u64
    }

    #[inline]
    pub(super) fn segment_of(place: u64) -> usize {
        (place >> (64 - SEGMENT_BITS)) as usize
    }

    #[inline]
    pub(super) fn home(place: u64, lines: usize) -> usize {
        ((u128::from(place << SEGMENT_BITS) * lines as u128) >> 64) as usize
    }

    /// The segment of a key and the number of its home line there.
    #[inline]
    fn home_of(&self, key: u64) -> (&[L], usize) {
        let place = self.place(key);
        let lines: &[L] = self.segments.get(Self::segment_of(place)).map_or(&[], |lines| lines);
        (lines, Self::home(place, lines.len()))
    }

    /// Asks memory for the line where looking for a key, or a hash, begins.
    #[inline]
    pub(super) fn approach(&self, key: u64) {
        let (lines, at) = self.home_of(name(key));
        if let Some(line) = lines.get(at) {
            line.approach();
        }
    }

    /// Asks memory for the rest of that line, or for where looking for the key, putting it in or taking it out
    /// goes on.
    #[inline]
    pub(super) fn look_on(&self, key: u64) {
        let (lines, at) = self.home_of(name(key));
        if let (Some(line), Some(next)) = (lines.get(at), lines.get(at + 1)) {
            let (slot, on) = line.search(name(key));
            let found = slot < L::SLOTS;
            let full = line.full();
            if on || (full && !found) {
                prefetch(next);
            }
            if found || !full {
                prefetch(line);
            }
        }
    }

    /// Where a key lies, or else the first hole for it.
    #[inline]
    pub(super) fn seek(&self, key: u64) -> (At, bool) {
        let place = self.place(key);
        let segment = Self::segment_of(place);
        let lines: &[L] = &self.segments[segment];
        let home = Self::home(place, lines.len());
        let mut at = At { segment, home, line: home, slot: L::SLOTS };
        let (mut line, mut absent) = (home, false);
        for _ in 0..lines.len().min(MAX_PROBE_LINES) {
            if !absent {
                let (slot, on) = lines[line].search(key);
                if slot < L::SLOTS {
                    return (At { line, slot, ..at }, true);
                }
                absent = !on;
            }
            if at.slot == L::SLOTS {
                (at.line, at.slot) = (line, lines[line].hole());
            }
            if absent && at.slot < L::SLOTS {
                break;
            }
            line = after(line, lines);
        }
        (at, false)
    }

    #[inline]
    pub(super) fn find(&self, key: u64) -> Option<(&L, usize)> {
        let (lines, mut at) = self.home_of(key);
        for _ in 0..lines.len().min(MAX_PROBE_LINES) {
            let line = lines.get(at)?;
            let (slot, on) = line.search(key);
            if slot < L::SLOTS {
                return Some((line, slot));
            }
            if !on {
                return None;
            }
            at = after(at, lines);
        }
        None
    }
}

impl View<Blocks> {
    /// The workers that hold a block, as bits; none for a block that is not there. For readers beside the
    /// writer.
    #[inline]
    pub(super) fn workers(&self, chain: u64) -> u64 {
        let key = name(chain);
        if let Some((line, slot)) = self.find(key)
            && let Some(workers) = line.read(slot, key)
        {
            return workers;
        }
        self.absent(key)
    }

    /// [`Self::workers`] of one block after another.
    pub(super) fn read<'a>(&'a self, chain: &'a [u64]) -> Reading<'a> {
        let mut reading = Reading {
            view: self,
            chain,
            asked: 0,
            looked: 0,
            at: 0,
            homes: [None; RING],
            held: [(0, false); RING],
        };
        (0..ASK_AHEAD).for_each(|_| reading.ask());
        (0..LOOK_AHEAD).for_each(|_| reading.look());
        reading
    }

    /// Looks until no entry moved meanwhile. A miss ends a walk, so this runs about once a prompt.
    #[cold]
    fn absent(&self, key: u64) -> u64 {
        for _ in 0..MAX_READS {
            let before = self.moves.load(Ordering::Acquire);
            match self.find(key) {
                Some((line, slot)) => {
                    if let Some(workers) = line.read(slot, key) {
                        return workers;
                    }
                }
                None => {
                    fence(Ordering::Acquire);
                    if before == self.moves.load(Ordering::Relaxed) {
                        return 0;
                    }
                }
            }
        }
        0
    }
}

/// Blocks of a prompt as they are looked up: each is asked for long before it is looked at, and looked at
/// before it is needed, since one in ten is not in its home line and has to be asked for again. Nearly all
/// the time would go into waiting for memory otherwise.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    view: &'a View<Blocks>,
    chain: &'a [u64],
    asked: usize,
    looked: usize,
    at: usize,
    homes: [Option<&'a Blocks>; RING],
    held: [(u64, bool); RING],
}

impl Reading<'_> {
    #[inline]
    fn ask(&mut self) {
        let Some(hash) = self.chain.get(self.asked) else { return };
        let (lines, at) = self.view.home_of(name(*hash));
        let home = lines.get(at);
        if let Some(line) = home {
            prefetch(line);
        }
        self.homes[self.asked % RING] = home;
        self.asked += 1;
    }

    #[inline]
    fn look(&mut self) {
        let Some(hash) = self.chain.get(self.looked) else { return };
        let home = self.homes[self.looked % RING];
        let (workers, found) = home.map_or((0, false), |line| line.at_home(name(*hash)));
        self.held[self.looked % RING] = (workers, found);
        if !found {
            self.view.look_on(*hash);
        }
        self.looked += 1;
    }
}

impl Iterator for Reading<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let hash = self.chain.get(self.at)?;
        self.ask();
        self.look();
        let (workers, found) = self.held[self.at % RING];
        self.at += 1;
        Some(if found { workers } else { self.view.workers(*hash) })
    }
}

/// The line behind this one in the ring.
#[inline]
pub(super) fn after<L>(line: usize, lines: &[L]) -> usize {
    if line + 1 == lines.len() { 0 } else { line + 1 }
}
