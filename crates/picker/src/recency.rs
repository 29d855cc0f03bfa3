//! Keys in the order of their last use, with the time of it.
//!
//! A table leads to the places of one list that lies in one piece of memory: what is used together, such as the blocks of a
//! prompt, lies together, so that most places are found beside the one before. Never looks at a clock. Called by
//! `approximate`.

use crate::Millis;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::collections::hash_map;

/// No place.
const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Recency {
    places: HashMap<u64, u32, RandomState>,
    list: Vec<Entry>,
    oldest: u32,
    newest: u32,
    /// Places that are free, one leading to the next by `newer`; each is its own `older`.
    free: u32,
    /// The place of the key that was used last.
    latest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    used: Millis,
    older: u32,
    newer: u32,
}

impl Recency {
    pub(crate) fn new() -> Self {
        Self {
            places: HashMap::default(),
            list: Vec::new(),
            oldest: NONE,
            newest: NONE,
            free: NONE,
            latest: NONE,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        self.places.keys().copied()
    }

    /// The key is used now; whether it was there before.
    pub(crate) fn touch(&mut self, key: u64, now: Millis) -> bool {
        let (at, known) = self.place(key);
        if at != self.newest {
            if known {
                self.unlink(at);
            }
            self.link(at);
        }
        self.list[at as usize].used = now;
        self.latest = at;
        known
    }

    /// The key's place, and whether it had one before: a new one is in no order yet.
    fn place(&mut self, key: u64) -> (u32, bool) {
        // Asking the table would mean to wait for memory, for each block of a prompt.
        for beside in [self.latest.wrapping_add(1), self.latest.wrapping_sub(1)] {
            if self.list.get(beside as usize).is_some_and(|entry| entry.key == key && entry.older != beside) {
                return (beside, true);
            }
        }
        let vacant = match self.places.entry(key) {
            hash_map::Entry::Occupied(place) => return (*place.get(), true),
            hash_map::Entry::Vacant(vacant) => vacant,
        };
        let entry = Entry { key, used: 0, older: NONE, newer: NONE };
        let at = match self.list.get_mut(self.free as usize) {
            Some(place) => {
                let at = self.free;
                self.free = place.newer;
                *place = entry;
                at
            }
            None => {
                self.list.push(entry);
                (self.list.len() - 1) as u32
            }
        };
        vacant.insert(at);
        (at, false)
    }

    /// The key that was not used for longest, and when it was.
    pub(crate) fn oldest(&self) -> Option<(u64, Millis)> {
        self.list.get(self.oldest as usize).map(|entry| (entry.key, entry.used))
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<u64> {
        let (key, _) = self.oldest()?;
        self.remove(key);
        Some(key)
    }

    pub(crate) fn remove(&mut self, key: u64) {
        let Some(at) = self.places.remove(&key) else { return };
        self.unlink(at);
        let place = &mut self.list[at as usize];
        (place.older, place.newer) = (at, self.free);
        self.free = at;
        if self.places.is_empty() {
            // A worker that has forgotten everything keeps no memory.
            *self = Self::new();
        }
    }

    fn unlink(&mut self, at: u32) {
        let Entry { older, newer, .. } = self.list[at as usize];
        match self.list.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.list.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Puts a place behind all others.
    fn link(&mut self, at: u32) {
        let older = self.newest;
        let entry = &mut self.list[at as usize];
        (entry.older, entry.newer) = (older, NONE);
        match self.list.get_mut(older as usize) {
            Some(entry) => entry.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use lru::LruCache;

    fn order(recency: &mut Recency) -> Vec<u64> {
        std::iter::from_fn(|| recency.pop_oldest()).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut recency = Recency::new();
        assert_eq!(recency.oldest(), None);
        for (now, key) in [5, 6, 7, 5, 5].into_iter().enumerate() {
            assert_eq!(recency.touch(key, now as Millis), now > 2);
        }
        assert_eq!((recency.len(), recency.oldest()), (3, Some((6, 1))));
        recency.remove(7);
        recency.remove(99);
        assert_eq!(order(&mut recency), [6, 5]);
        assert_eq!((recency.len(), recency.list.capacity()), (0, 0));
    }

    #[test]
    fn it_does_what_a_list_of_boxes_does() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..50 {
            let (mut ours, mut theirs) = (Recency::new(), LruCache::unbounded());
            for now in 0..2_000 {
                let key = random.u64(0..60);
                match random.u8(0..10) {
                    0 => assert_eq!(ours.pop_oldest(), theirs.pop_lru().map(|(key, _): (u64, Millis)| key)),
                    1 => {
                        ours.remove(key);
                        theirs.pop(&key);
                    }
                    _ => assert_eq!(ours.touch(key, now), theirs.put(key, now).is_some()),
                }
                assert_eq!(ours.oldest(), theirs.peek_lru().map(|(key, used)| (*key, *used)));
                assert_eq!(ours.len(), theirs.len());
                // Places are used again.
                assert!(ours.list.len() <= 60);
            }
            let rest: Vec<u64> = std::iter::from_fn(|| theirs.pop_lru().map(|(key, _)| key)).collect();
            assert_eq!(order(&mut ours), rest);
        }
    }
}
