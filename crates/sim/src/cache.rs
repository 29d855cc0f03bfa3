//! The block cache of one rank: which prefix blocks are on the GPU or in host memory, who holds them, who goes first.
//!
//! Blocks are named by chained hashes, so that a block only matches behind its own prefix. Blocks of running requests
//! are pinned; the others leave least recently used first, to host memory if there is any. Pure bookkeeping: it
//! never waits, sees no text and sends nothing; [`Change`]s tell `rank`, its only caller, what to publish.

use std::collections::HashMap;
use std::ops::Range;

use lru::LruCache;

use crate::text::{TOKEN_BYTES, hash};

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Device memory.
    Gpu,
    /// Host memory.
    Cpu,
}

/// Something an observer of the cache has to know, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These places of the chain at hand are on the GPU now.
    Filled(Range<usize>),
    /// This block was copied from the GPU to host memory.
    Offloaded(u64),
    /// This block left this tier.
    Evicted(u64, Tier),
}

/// What an admitted request found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hits {
    /// Leading blocks of the chain found on the GPU or in host memory.
    pub(crate) blocks: usize,
    /// Of those, the ones that came from host memory.
    pub(crate) from_host: usize,
    /// Blocks kept free for what is not in the chain: the prompt's rest and the answer.
    pub(crate) reserved: usize,
}

/// The blocks of one rank.
pub(crate) struct Cache {
    capacity: usize,
    host_capacity: usize,
    /// Blocks of running requests -> how many of them hold the block.
    pinned: HashMap<u64, u32>,
    /// Blocks on the GPU that nobody holds.
    idle: LruCache<u64, ()>,
    host: LruCache<u64, ()>,
    /// Blocks promised to running requests and not filled yet.
    reserved: usize,
}

/// Names the full blocks of a prompt, at most `most`: each hash covers everything before it, from `root` on.
pub(crate) fn chain(root: u64, prompt: &[u8], block_tokens: u32, most: usize) -> Vec<u64> {
    let mut parent = root;
    let blocks = prompt.chunks_exact(block_tokens as usize * TOKEN_BYTES).take(most);
    blocks
        .map(|block| {
            parent = hash(parent, block);
            parent
        })
        .collect()
}

impl Cache {
    /// Sizes in blocks; a `host_capacity` of 0 means that evicted blocks are lost.
    pub(crate) fn new(capacity: usize, host_capacity: usize) -> Self {
        Cache {
            capacity,
            host_capacity,
            pinned: HashMap::new(),
            idle: LruCache::unbounded(),
            host: LruCache::unbounded(),
            reserved: 0,
        }
    }

    /// How many blocks fit on the GPU.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Blocks held by or promised to running requests.
    pub(crate) fn in_use(&self) -> usize {
        self.pinned.len() + self.reserved
    }

    /// Blocks on the GPU and in host memory.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.pinned.len() + self.idle.len(), self.host.len())
    }

    fn on_gpu(&self, block: u64) -> bool {
        self.pinned.contains_key(&block) || self.idle.contains(&block)
    }

    /// Takes a request in: its chain is pinned and `reserve` further blocks are promised. `None` if running requests
    /// hold too much. A request larger than the cache is taken as one that fills it. `matchable` is how many blocks
    /// may count as found.
    pub(crate) fn admit(
        &mut self,
        chain: &[u64],
        matchable: usize,
        reserve: usize,
        changes: &mut Vec<Change>,
    ) -> Option<Hits> {
        let chain = &chain[..chain.len().min(self.capacity)];
        let reserve = reserve.min(self.capacity - chain.len());
        let unpinned = chain.iter().filter(|block| !self.pinned.contains_key(block)).count();
        if self.in_use() + unpinned + reserve > self.capacity {
            return None;
        }
        let known = |block: &&u64| self.on_gpu(**block) || self.host.contains(*block);
        let blocks = chain.iter().take(matchable).take_while(known).count();
        let from_host = chain[..blocks].iter().filter(|block| !self.on_gpu(**block)).count();
        self.reserved += reserve;
        self.pin(chain, 0, changes);
        Some(Hits { blocks, from_host, reserved: reserve })
    }

    /// The chain of a running request grew from `start` on, within the blocks `reserved` for it if they suffice.
    /// Returns how long the chain is now; what does not fit is not cached.
    pub(crate) fn extend(
        &mut self,
        chain: &[u64],
        start: usize,
        reserved: usize,
        changes: &mut Vec<Change>,
    ) -> usize {
        self.reserved = self.reserved.saturating_sub(reserved);
        let mut room = self.capacity.saturating_sub(self.in_use());
        let fits = chain[start..].iter().take_while(|block| {
            let free = self.pinned.contains_key(block) || room > 0;
            room = room.saturating_sub(usize::from(!self.pinned.contains_key(block)));
            free
        });
        let end = start + fits.count();
        self.pin(&chain[..end], start, changes);
        end
    }

    /// Pins the chain from `start` on, filling what is missing. There must be room.
    fn pin(&mut self, chain: &[u64], start: usize, changes: &mut Vec<Change>) {
        let mut missing = Vec::new();
        // What is there is pinned first, so that it cannot be pushed out by what is not.
        for (place, block) in chain.iter().enumerate().skip(start) {
            if let Some(holders) = self.pinned.get_mut(block) {
                *holders += 1;
            } else if self.idle.pop(block).is_some() {
                self.pinned.insert(*block, 1);
            } else {
                missing.push(place);
            }
        }
        self.make_room(missing.len(), changes);
        let mut filled: Vec<Range<usize>> = Vec::new();
        for place in missing {
            *self.pinned.entry(chain[place]).or_insert(0) += 1;
            self.host.promote(&chain[place]);
            match filled.last_mut() {
                Some(run) if run.end == place => run.end += 1,
                _ => filled.push(place..place + 1),
            }
        }
        changes.extend(filled.into_iter().map(Change::Filled));
    }

    /// Evicts until this many more blocks fit besides what is promised.
    fn make_room(&mut self, wanted: usize, changes: &mut Vec<Change>) {
        while self.in_use() + self.idle.len() + wanted > self.capacity {
            let Some((block, ())) = self.idle.pop_lru() else { return };
            if self.host_capacity > 0 {
                self.offload(block, changes);
            }
            changes.push(Change::Evicted(block, Tier::Gpu));
        }
    }

    fn offload(&mut self, block: u64, changes: &mut Vec<Change>) {
        if self.host.put(block, ()).is_some() {
            return;
        }
        if self.host.len() > self.host_capacity
            && let Some((oldest, ())) = self.host.pop_lru()
        {
            changes.push(Change::Evicted(oldest, Tier::Cpu));
        }
        changes.push(Change::Offloaded(block));
    }

    /// A request is over: its chain stays until the room is needed.
    pub(crate) fn release(&mut self, chain: &[u64], reserved: usize) {
        self.reserved = self.reserved.saturating_sub(reserved);
        // From the end, so that the start of a prompt stays longest: a tail without its head is of no use.
        for block in chain.iter().rev() {
            let Some(holders) = self.pinned.get_mut(block) else { continue };
            *holders -= 1;
            if *holders == 0 {
                self.pinned.remove(block);
                self.idle.put(*block, ());
            }
        }
    }

    /// Forgets everything, unless a running request holds blocks.
    pub(crate) fn clear(&mut self) -> bool {
        let free = self.in_use() == 0;
        if free {
            self.idle.clear();
            self.host.clear();
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const BLOCK: u32 = 16;

    fn prompt(blocks: usize, fill: u8) -> Vec<u8> {
        vec![fill; blocks * BLOCK as usize * TOKEN_BYTES]
    }

    /// Admits and lets go at once; the blocks found.
    fn used(cache: &mut Cache, chain: &[u64]) -> usize {
        let hits = cache.admit(chain, usize::MAX, 0, &mut Vec::new()).unwrap();
        cache.release(&chain[..chain.len().min(cache.capacity())], hits.reserved);
        hits.blocks
    }

    fn of(bytes: &[u8]) -> Vec<u64> {
        chain(1, bytes, BLOCK, usize::MAX)
    }

    #[test]
    fn a_block_matches_only_behind_its_own_prefix_and_root() {
        let mut cache = Cache::new(100, 0);
        let shared = prompt(2, b'a');
        let longer = [shared.clone(), prompt(2, b'b'), b"rest".to_vec()].concat();
        assert_eq!(used(&mut cache, &of(&longer)), 0);
        assert_eq!(used(&mut cache, &of(&longer)), 4);
        assert_eq!(used(&mut cache, &of(&shared)), 2);
        assert_eq!(used(&mut cache, &of(&[prompt(1, b'c'), prompt(2, b'b')].concat())), 0);
        assert_eq!(used(&mut cache, &chain(2, &longer, BLOCK, 9)), 0, "another root shares nothing");
    }

    #[test]
    fn the_tail_of_the_longest_unused_goes_first() {
        let mut cache = Cache::new(4, 0);
        used(&mut cache, &of(&prompt(4, b'a')));
        used(&mut cache, &of(&prompt(2, b'b')));
        assert_eq!(cache.held(), (4, 0));
        assert_eq!(used(&mut cache, &of(&prompt(4, b'a'))), 2);
    }

    #[test]
    fn pinned_blocks_stay_and_who_does_not_fit_waits() {
        let mut cache = Cache::new(4, 0);
        let (a, b) = (of(&prompt(2, b'a')), of(&prompt(2, b'b')));
        let hits = cache.admit(&a, usize::MAX, 1, &mut Vec::new()).unwrap();
        assert_eq!((cache.in_use(), hits.reserved), (3, 1));
        assert_eq!(cache.admit(&b, usize::MAX, 0, &mut Vec::new()), None);
        assert!(!cache.clear());
        // The same prompt again needs only its reserve.
        assert!(cache.admit(&a, usize::MAX, 1, &mut Vec::new()).is_some());
        cache.release(&a, 1);
        cache.release(&a, 1);
        let mut changes = Vec::new();
        assert!(cache.admit(&b, usize::MAX, 1, &mut changes).is_some());
        assert_eq!(changes, [Change::Evicted(a[1], Tier::Gpu), Change::Filled(0..2)]);
    }

    #[test]
    fn what_the_gpu_lets_go_is_found_in_host_memory() {
        let mut cache = Cache::new(2, 2);
        let (a, b) = (of(&prompt(2, b'a')), of(&prompt(2, b'b')));
        used(&mut cache, &a);
        let mut changes = Vec::new();
        let hits = cache.admit(&b, usize::MAX, 0, &mut changes).unwrap();
        cache.release(&b, hits.reserved);
        let gone = |block| [Change::Offloaded(block), Change::Evicted(block, Tier::Gpu)];
        assert_eq!(changes, [&gone(a[1])[..], &gone(a[0]), &[Change::Filled(0..2)]].concat());
        let hits = cache.admit(&a, usize::MAX, 0, &mut Vec::new()).unwrap();
        assert_eq!((hits.blocks, hits.from_host), (2, 2));
    }

    #[test]
    fn a_request_larger_than_the_cache_fills_it() {
        let mut cache = Cache::new(3, 0);
        let large = of(&prompt(5, b'a'));
        let hits = cache.admit(&large, usize::MAX, 9, &mut Vec::new()).unwrap();
        assert_eq!((cache.in_use(), hits.reserved), (3, 0));
    }

    /// Requests over few distinct blocks, so that they share and displace one another.
    fn requests() -> impl Strategy<Value = Vec<(Vec<u8>, usize, usize, bool)>> {
        let one = (proptest::collection::vec(0..3_u8, 0..7), 0..3_usize, 0..3_usize, any::<bool>());
        proptest::collection::vec(one, 1..60)
    }

    proptest! {
        /// Whoever applies every change knows exactly what lies where, and nothing ever exceeds its bounds.
        #[test]
        fn the_changes_tell_all(requests in requests(), host in 0..5_usize) {
            let mut cache = Cache::new(8, host);
            let (mut gpu, mut cpu) = (HashSet::new(), HashSet::new());
            let mut running: Vec<(Vec<u64>, usize)> = Vec::new();
            for (content, reserve, grow, leave) in requests {
                if leave && !running.is_empty() {
                    let (chain, reserved) = running.remove(0);
                    cache.release(&chain, reserved);
                }
                let bytes: Vec<u8> = content.iter().flat_map(|fill| prompt(1, *fill)).collect();
                let mut blocks = of(&bytes);
                let mut changes = Vec::new();
                let Some(hits) = cache.admit(&blocks, usize::MAX, reserve, &mut changes) else { continue };
                let start = blocks.len();
                let mut reserved = hits.reserved;
                if grow > 0 {
                    let grown = [bytes, prompt(grow, 9)].concat();
                    blocks = of(&grown);
                    let end = cache.extend(&blocks, start, reserved, &mut changes);
                    reserved = 0;
                    blocks.truncate(end);
                }
                for change in changes {
                    match change {
                        Change::Filled(places) => for place in places {
                            prop_assert!(gpu.insert(blocks[place]), "stored twice");
                        },
                        Change::Offloaded(block) => prop_assert!(cpu.insert(block)),
                        Change::Evicted(block, Tier::Gpu) => prop_assert!(gpu.remove(&block)),
                        Change::Evicted(block, Tier::Cpu) => prop_assert!(cpu.remove(&block)),
                    }
                }
                running.push((blocks, reserved));
                let there: HashSet<u64> =
                    cache.pinned.keys().copied().chain(cache.idle.iter().map(|(b, ())| *b)).collect();
                prop_assert_eq!(&there, &gpu);
                prop_assert_eq!(&cache.host.iter().map(|(b, ())| *b).collect::<HashSet<_>>(), &cpu);
                prop_assert!(gpu.len() + cache.reserved <= 8 && cpu.len() <= host);
                let pinned: HashSet<u64> = running.iter().flat_map(|(chain, _)| chain.clone()).collect();
                prop_assert_eq!(cache.pinned.len(), pinned.len());
                prop_assert_eq!(cache.reserved, running.iter().map(|(_, r)| r).sum::<usize>());
            }
        }
    }
}
