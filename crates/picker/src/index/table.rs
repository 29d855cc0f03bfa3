//! A flat hash table with one writer and readers that never wait: open addressing in cache lines.
//!
//! 64 segments, each a ring of lines that grows by about a quarter on its own, so the load changes
//! little and no step copies more than a segment. An entry lies in its home line or, where that was full,
//! in the next line that was not: a search ends at a line with a hole. Taking an entry out of a full line
//! pulls a later one back, so there are no tombstones; each such move is counted, and a reader that found
//! nothing while the count changed looks again. A reader that found its key reads the key again after the
//! value. Growth builds a new segment; readers keep the [`View`] they have. Used by the index.

use std::sync::Arc;

use super::line::{Blocks, EMPTY, LEAVING, Line};
use super::room::{Full, Room};
use super::sync::{AtomicU64, Ordering, fence};

const SEGMENT_BITS: u32 = 6;
const SEGMENTS: usize = 1 << SEGMENT_BITS;
/// Lines a search looks at before it gives up; a segment grows before an entry gets that far from home.
const MAX_PROBE_LINES: usize = 32;
/// Reads of one key that a writer may spoil before a reader takes the block for absent.
const MAX_READS: usize = 16;
/// Most blocks that are looked up together.
pub(super) const BATCH: usize = 128;
/// Bytes in front of the lines of a segment: two reference counts, padded.
const HEADER_BYTES: usize = 64;

/// What readers see: the segments of one moment, whose lines the writer goes on changing.
#[derive(Debug)]
pub(super) struct View<L> {
    secret: u64,
    segments: Box<[Arc<[L]>]>,
    moves: Arc<AtomicU64>,
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
    fn place(&self, key: u64) -> u64 {
        let wide = u128::from(key ^ self.secret) * 0x9fb2_1c65_1e98_df25;
        (wide >> 64) as u64 ^ wide as u64
    }

    #[inline]
    fn segment_of(place: u64) -> usize {
        (place >> (64 - SEGMENT_BITS)) as usize
    }

    #[inline]
    fn home(place: u64, lines: usize) -> usize {
        ((u128::from(place << SEGMENT_BITS) * lines as u128) >> 64) as usize
    }

    /// The segment of a key and the number of its home line there.
    #[inline]
    fn home_of(&self, key: u64) -> (&[L], usize) {
        let place = self.place(key);
        let lines: &[L] = self.segments.get(Self::segment_of(place)).map_or(&[], |lines| lines);
        (lines, Self::home(place, lines.len()))
    }

    /// Brings near the lines where the search for each key begins, and those where it goes on, without
    /// waiting for one before asking for the next, as searching would.
    #[inline]
    pub(super) fn touch(&self, keys: impl Iterator<Item = u64> + Clone) {
        let mut seen = 0;
        for key in keys.clone() {
            let (lines, at) = self.home_of(name(key));
            seen ^= lines.get(at).map_or(0, L::touch);
        }
        std::hint::black_box(seen);
        for key in keys {
            let (lines, at) = self.home_of(name(key));
            let (slot, full) = lines.get(at).map_or((0, false), |line| line.search(name(key)));
            seen ^= lines.get(at + usize::from(full & (slot == L::SLOTS))).map_or(0, L::touch);
        }
        std::hint::black_box(seen);
    }

    #[inline]
    pub(super) fn find(&self, key: u64) -> Option<(&L, usize)> {
        let (lines, mut at) = self.home_of(key);
        for _ in 0..lines.len().min(MAX_PROBE_LINES) {
            let line = lines.get(at)?;
            let (slot, full) = line.search(key);
            if slot < L::SLOTS {
                return Some((line, slot));
            }
            if !full {
                return None;
            }
            at = if at + 1 == lines.len() { 0 } else { at + 1 };
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

    /// [`Self::workers`] of up to [`BATCH`] blocks, in a few passes of loads that do not wait for each other:
    /// nearly all the time goes into cache misses.
    #[inline]
    pub(super) fn workers_of(&self, chain: &[u64], held: &mut [u64; BATCH]) {
        let (mut homes, mut away, mut seen) = ([None; BATCH], [0u8; BATCH], 0);
        for (hash, home) in chain.iter().zip(&mut homes) {
            // One of the two hashes that borrow names goes astray here and is found below.
            let (lines, at) = self.home_of(*hash);
            *home = lines.get(at);
            seen ^= home.map_or(0, |line| line.key(0));
        }
        std::hint::black_box(seen);
        let mut count = 0;
        for (number, ((hash, home), held)) in chain.iter().zip(&homes).zip(held.iter_mut()).enumerate() {
            let (workers, found) = home.map_or((0, false), |line| line.at_home(name(*hash)));
            *held = workers;
            away[count % BATCH] = number as u8; // BATCH is below 256
            count += usize::from(!found);
        }
        let away = &away[..count];
        for hash in away.iter().filter_map(|number| chain.get(usize::from(*number))) {
            let (lines, at) = self.home_of(*hash);
            seen ^= lines.get(at + 1).map_or(0, |line| line.key(0));
        }
        std::hint::black_box(seen);
        for number in away {
            let number = *number as usize % BATCH;
            held[number] = chain.get(number).map_or(0, |hash| self.workers(*hash));
        }
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

/// The writer's side.
#[derive(Debug)]
pub(super) struct Table<L> {
    view: View<L>,
    counts: Box<[u32]>,
    live: usize,
    /// Segments that were replaced and may still be read; their bytes count until they are not.
    retired: Vec<Arc<[L]>>,
    /// Whether the view has changed since it was last handed to the readers.
    changed: bool,
}

impl<L: Line> Table<L> {
    /// Bytes of an empty table, the copy of the view for readers included.
    pub(super) const BASE_BYTES: usize =
        size_of::<Self>() + SEGMENTS * (2 * size_of::<Arc<[L]>>() + 4) + 2 * HEADER_BYTES;

    pub(super) fn new(secret: u64, room: &mut Room) -> Result<Self, Full> {
        room.charge(Self::BASE_BYTES)?;
        let empty: Arc<[L]> = Arc::from(Vec::new());
        let view = View {
            secret,
            segments: vec![empty; SEGMENTS].into_boxed_slice(),
            moves: Arc::new(AtomicU64::new(0)),
        };
        let counts = vec![0; SEGMENTS].into_boxed_slice();
        Ok(Self { view, counts, live: 0, retired: Vec::new(), changed: true })
    }

    /// Gives all bytes back; the readers may not be able to reach it any more.
    pub(super) fn free(mut self, room: &mut Room) {
        self.settle(room);
        let lines: usize = self.view.segments.iter().map(|s| bytes_of::<L>(s.len())).sum();
        let retired: usize = self.retired.iter().map(|s| bytes_of::<L>(s.len())).sum();
        room.refund(Self::BASE_BYTES + lines + retired);
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// The view for readers, if it is another than the last one asked for.
    pub(super) fn changed(&mut self) -> Option<View<L>> {
        std::mem::take(&mut self.changed).then(|| self.view.clone())
    }

    #[inline]
    pub(super) fn find(&self, key: u64) -> Option<(&L, usize)> {
        self.view.find(key)
    }

    /// Brings near what looking for these keys, or hashes, will look at.
    pub(super) fn touch(&self, keys: impl Iterator<Item = u64> + Clone) {
        self.view.touch(keys);
    }

    /// Takes out a whole segment with what is in it; `None` when nothing is left. For tables without readers.
    pub(super) fn take_segment(&mut self, room: &mut Room) -> Option<Arc<[L]>> {
        let number = self.counts.iter().position(|count| *count > 0)?;
        self.live -= std::mem::take(&mut self.counts[number]) as usize;
        let lines = std::mem::replace(&mut self.view.segments[number], Arc::from(Vec::new()));
        room.refund(bytes_of::<L>(lines.len()));
        Some(lines)
    }

    /// Keys that have one home in a segment of two lines.
    #[cfg(all(test, loom))]
    pub(super) fn neighbours(&self, keys: usize) -> Vec<u64> {
        let home = |key: &u64| {
            let place = self.view.place(*key);
            (View::<L>::segment_of(place), View::<L>::home(place, 2)) == (0, 0)
        };
        (1..).filter(home).take(keys).collect()
    }

    /// Every entry, in the order of memory.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&L, usize)> {
        let lines = self.view.segments.iter().flat_map(|segment| segment.iter());
        lines.flat_map(|line| (0..L::SLOTS).map(move |slot| (line, slot))).filter(|(l, s)| l.key(*s) != EMPTY)
    }

    /// Puts in a key that is not there.
    pub(super) fn insert(&mut self, key: u64, value: L::Value, room: &mut Room) -> Result<(), Full> {
        let place = self.view.place(key);
        let number = View::<L>::segment_of(place);
        loop {
            let lines: &[L] = &self.view.segments[number];
            let fits = (self.counts[number] as usize + 1) * 100 <= lines.len() * L::SLOTS * L::MAX_PERCENT;
            if (fits || lines.len() == 1) && put(lines, place, key, value) {
                self.counts[number] += 1;
                self.live += 1;
                return Ok(());
            }
            // By different shares, so that the segments do not all grow at the same time.
            let more = lines.len() + (lines.len() / (3 + number % 3)).max(1);
            self.resize(number, more, room, Room::charge)?;
        }
    }

    /// Takes out a key; a segment left half empty gets smaller.
    pub(super) fn remove(&mut self, key: u64, room: &mut Room) {
        let place = self.view.place(key);
        let number = View::<L>::segment_of(place);
        let lines = &self.view.segments[number];
        let mut at = View::<L>::home(place, lines.len());
        for _ in 0..lines.len().min(MAX_PROBE_LINES) {
            let (slot, full) = lines[at].search(key);
            if slot < L::SLOTS {
                if full {
                    lines[at].mark(slot);
                    self.pull_back(lines, at, slot);
                } else {
                    lines[at].empty(slot);
                }
                self.counts[number] -= 1;
                self.live -= 1;
                // Now and then only: keys left at one end of the ring may not fit into fewer lines yet.
                let count = self.counts[number] as usize;
                if count * 2 < lines.len() * L::SLOTS && count.is_multiple_of(lines.len()) {
                    self.tighten(number, room);
                }
                return;
            }
            if !full {
                return;
            }
            at = (at + 1) % lines.len();
        }
    }

    /// Keeps the entries that `keep` wants and gives back the lines they do not need.
    pub(super) fn retain(&mut self, room: &mut Room, mut keep: impl FnMut(&L, usize) -> bool) {
        let mut gone = Vec::new();
        for number in 0..SEGMENTS {
            let lines = Arc::clone(&self.view.segments[number]);
            let slots = lines.iter().flat_map(|line| (0..L::SLOTS).map(move |slot| (line, slot)));
            let taken = slots.filter(|(line, slot)| line.key(*slot) != EMPTY);
            gone.extend(taken.filter(|(line, slot)| !keep(line, *slot)).map(|(l, slot)| l.key(slot)));
            drop(lines);
            gone.drain(..).for_each(|key| self.remove(key, room));
            self.tighten(number, room);
        }
    }

    /// Closes a marked slot of a full line: a later entry whose home is not behind the line moves up, and so
    /// on; the last slot is emptied. The line stays full meanwhile, so no search ends there too early.
    fn pull_back(&self, lines: &[L], mut line: usize, mut slot: usize) {
        while let Some((at, other)) = self.successor(lines, line) {
            let full = lines[at].full();
            lines[line].put(slot, lines[at].key(other), lines[at].value(other));
            // Counted when the entry lies in both places: a reader that passed the first too early and the
            // second too late sees the count change.
            self.view.moves.fetch_add(1, Ordering::Release);
            (line, slot) = (at, other);
            if !full {
                break;
            }
            lines[line].mark(slot);
        }
        lines[line].empty(slot);
    }

    /// The next entry that may lie in `line`; none behind a line with a hole.
    fn successor(&self, lines: &[L], line: usize) -> Option<(usize, usize)> {
        let distance = |from: usize, to: usize| (to + lines.len() - from) % lines.len();
        for step in 1..lines.len().min(MAX_PROBE_LINES) {
            let at = (line + step) % lines.len();
            let movable = |slot: &usize| {
                let key = lines[at].key(*slot);
                key != EMPTY && distance(View::<L>::home(self.view.place(key), lines.len()), at) >= step
            };
            if let Some(slot) = (0..L::SLOTS).find(movable) {
                return Some((at, slot));
            }
            if !lines[at].full() {
                return None;
            }
        }
        None
    }

    /// Makes a segment as small as its entries allow, if that gives back anything and there is room to copy.
    fn tighten(&mut self, number: usize, room: &mut Room) {
        // A tenth more than it needs to be full.
        let lines = (self.counts[number] as usize * 110).div_ceil(L::MAX_PERCENT * L::SLOTS).max(1);
        if lines < self.view.segments[number].len() {
            // Without room to copy, the segment just stays as large as it is.
            let _ = self.resize(number, lines, room, Room::charge_reserve);
        }
    }

    /// Copies a segment into one of so many lines, or of more if the entries would get too far from home.
    fn resize(
        &mut self,
        number: usize,
        mut lines: usize,
        room: &mut Room,
        charge: fn(&mut Room, usize) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let old = &self.view.segments[number];
        let (first, before) = (lines, old.len());
        let new = loop {
            charge(room, bytes_of::<L>(lines))?;
            let new: Arc<[L]> = (0..lines).map(|_| L::default()).collect();
            if old.iter().all(|line| self.copy(line, &new)) {
                break new;
            }
            room.refund(bytes_of::<L>(lines));
            lines += (lines / 8).max(1);
            if before > first && lines >= before {
                return Err(Full);
            }
        };
        self.retired.push(std::mem::replace(&mut self.view.segments[number], new));
        self.changed = true;
        self.settle(room);
        Ok(())
    }

    /// Puts the entries of a line where they belong; false if one would get too far from home.
    fn copy(&self, line: &L, to: &[L]) -> bool {
        (0..L::SLOTS).all(|slot| {
            let key = line.key(slot);
            key == EMPTY || put(to, self.view.place(key), key, line.value(slot))
        })
    }

    /// Counts the bytes of replaced segments no longer when nobody reads them.
    pub(super) fn settle(&mut self, room: &mut Room) {
        self.retired.retain(|segment| {
            let read = Arc::strong_count(segment) > 1;
            if !read {
                room.refund(bytes_of::<L>(segment.len()));
            }
            read
        });
    }
}

fn bytes_of<L>(lines: usize) -> usize {
    if lines == 0 { 0 } else { HEADER_BYTES + lines * size_of::<L>() }
}

/// Puts an entry into the first line with a hole from its home on; false if that is too far.
fn put<L: Line>(lines: &[L], place: u64, key: u64, value: L::Value) -> bool {
    let mut at = View::<L>::home(place, lines.len());
    for _ in 0..lines.len().min(MAX_PROBE_LINES) {
        let (hole, _) = lines[at].search(EMPTY);
        if hole < L::SLOTS {
            lines[at].put(hole, key, value);
            return true;
        }
        at = if at + 1 == lines.len() { 0 } else { at + 1 };
    }
    false
}
