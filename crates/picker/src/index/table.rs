//! A flat hash table with one writer and readers that never wait: open addressing in cache lines.
//!
//! 64 segments, each a ring of lines that grows by about a quarter on its own, so the load changes
//! little and no step copies more than a segment. There are no tombstones: taking an entry out of a line that
//! others have passed pulls one of them back, and each such move is counted for the readers. Growth builds a
//! new segment; readers keep the [`View`] they have. Used by the index.

use std::sync::Arc;

use super::line::{EMPTY, Line};
use super::room::{Full, Room};
use super::view::{At, MAX_PROBE_LINES, SEGMENTS, View, after};
use crate::sync::{AtomicU64, Ordering};

/// Bytes in front of the lines of a segment: two reference counts, padded.
const HEADER_BYTES: usize = 64;

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

    /// Where a key lies, and that it does; or where it may be put.
    #[inline]
    pub(super) fn seek(&self, key: u64) -> (At, bool) {
        self.view.seek(key)
    }

    /// The line of a place that was just sought.
    #[inline]
    pub(super) fn line(&self, at: At) -> &L {
        &self.view.segments[at.segment][at.line]
    }

    /// See [`View::approach`].
    #[inline]
    pub(super) fn approach(&self, key: u64) {
        self.view.approach(key);
    }

    /// See [`View::look_on`].
    #[inline]
    pub(super) fn look_on(&self, key: u64) {
        self.view.look_on(key);
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

    /// Puts in a key that is not there, at the place just sought for it.
    #[inline]
    pub(super) fn insert(
        &mut self,
        mut at: At,
        key: u64,
        value: L::Value,
        room: &mut Room,
    ) -> Result<(), Full> {
        loop {
            let lines: &[L] = &self.view.segments[at.segment];
            let count = &mut self.counts[at.segment];
            let fits = (*count as usize + 1) * 100 <= lines.len() * L::SLOTS * L::MAX_PERCENT;
            if (fits || lines.len() == 1) && at.slot < L::SLOTS {
                passed(lines, at.home, at.line).for_each(L::pass);
                lines[at.line].put(at.slot, key, value);
                *count += 1;
                self.live += 1;
                return Ok(());
            }
            self.grow(at.segment, room)?;
            at = self.seek(key).0;
        }
    }

    #[cold]
    fn grow(&mut self, number: usize, room: &mut Room) -> Result<(), Full> {
        let lines = self.view.segments[number].len();
        // By different shares, so that the segments do not all grow at the same time.
        self.resize(number, lines + (lines / (3 + number % 3)).max(1), room, Room::charge)
    }

    /// Takes out the key at the place just sought for it; a segment left half empty gets smaller.
    #[inline]
    pub(super) fn remove(&mut self, at: At, room: &mut Room) {
        let lines: &[L] = &self.view.segments[at.segment];
        passed(lines, at.home, at.line).for_each(L::unpass);
        if lines[at.line].more() {
            lines[at.line].mark(at.slot);
            self.pull_back(lines, at.line, at.slot);
        } else {
            lines[at.line].empty(at.slot);
        }
        let (lines, count) = (lines.len(), &mut self.counts[at.segment]);
        *count -= 1;
        self.live -= 1;
        // Now and then only: keys left at one end of the ring may not fit into fewer lines yet.
        let count = *count as usize;
        if count * 2 < lines * L::SLOTS && count.is_multiple_of(lines) {
            self.tighten(at.segment, room);
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
            for key in gone.drain(..) {
                if let (at, true) = self.seek(key) {
                    self.remove(at, room);
                }
            }
            self.tighten(number, room);
        }
    }

    /// Closes a marked slot of a line that others have passed: a later entry whose home is not behind the line moves
    /// up, and so on; the last slot is emptied. The slot counts as taken meanwhile, so no search ends there too early.
    fn pull_back(&self, lines: &[L], mut line: usize, mut slot: usize) {
        while let Some((at, other)) = self.successor(lines, line) {
            let more = lines[at].more();
            lines[line].put(slot, lines[at].key(other), lines[at].value(other));
            // Counted when the entry lies in both places: a reader that passed the first too early and the
            // second too late sees the count change.
            self.view.moves.fetch_add(1, Ordering::Release);
            passed(lines, line, at).for_each(L::unpass);
            (line, slot) = (at, other);
            if !more {
                break;
            }
            lines[line].mark(slot);
        }
        lines[line].empty(slot);
    }

    /// The next entry that may lie in `line`; none behind a line that nobody has passed.
    fn successor(&self, lines: &[L], line: usize) -> Option<(usize, usize)> {
        // Without a division: this runs for each entry that is looked at.
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + lines.len() - from };
        let mut at = line;
        for step in 1..lines.len().min(MAX_PROBE_LINES) {
            at = after(at, lines);
            let movable = |slot: &usize| {
                let key = lines[at].key(*slot);
                key != EMPTY && distance(View::<L>::home(self.view.place(key), lines.len()), at) >= step
            };
            if let Some(slot) = (0..L::SLOTS).find(movable) {
                return Some((at, slot));
            }
            if !lines[at].more() {
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
            if self.copy(old, &new) {
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

    /// Puts the entries of a segment where they belong in an empty one; false if one would get too far from
    /// home.
    fn copy(&self, from: &[L], to: &[L]) -> bool {
        // Lines without removals are filled in order, so nothing has to be searched.
        let mut filled = vec![0u8; to.len()];
        let mut put = |key, value| {
            let mut at = View::<L>::home(self.view.place(key), to.len());
            for _ in 0..to.len().min(MAX_PROBE_LINES) {
                let slot = usize::from(filled[at]);
                if slot < L::SLOTS {
                    to[at].put(slot, key, value);
                    filled[at] += 1;
                    return true;
                }
                to[at].pass();
                at = after(at, to);
            }
            false
        };
        let slots = from.iter().flat_map(|line| (0..L::SLOTS).map(move |slot| (line, slot)));
        slots.filter(|(line, slot)| line.key(*slot) != EMPTY).all(|(l, slot)| put(l.key(slot), l.value(slot)))
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

/// The lines that an entry passed on its way from its home.
fn passed<L>(lines: &[L], home: usize, line: usize) -> impl Iterator<Item = &L> {
    let mut at = home;
    std::iter::from_fn(move || {
        (at != line).then(|| {
            let passed = &lines[at];
            at = after(at, lines);
            passed
        })
    })
}
