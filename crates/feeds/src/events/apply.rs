//! Events into the prefix index: one [`Share`] per endpoint.
//!
//! Hashes the tokens our own way, so that no engine's hash has to be understood, and hands salts down from
//! parent to child. It never waits and does no I/O. Called by the sources of events; fuzzed.

use lru::LruCache;
use parking_lot::Mutex;
use std::sync::Arc;
use waypost_picker::hash::{self, Media};
use waypost_picker::{Block, Endpoint, KvState, PrefixIndex, Tier};

use super::decode::{BlockStored, Dropped, Event};
use super::stats::EventStats;

/// Salted blocks of one worker whose salt is remembered for their children. Past it the oldest are
/// forgotten; their children then match nothing, which costs hits and leaks nothing.
const MAX_SALTED_BLOCKS: usize = 1 << 17;

/// An endpoint whose events are followed, and where they go.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its state and its number in the index; its `spec().events` says where it publishes.
    pub endpoint: Arc<Endpoint>,
    /// The pool's index.
    pub index: Arc<PrefixIndex>,
    /// Tokens in a block of the pool's index.
    pub block_size: u32,
}

/// One endpoint's share of the index, and what must be remembered to keep it.
#[derive(Debug)]
pub struct Share {
    pub(crate) target: Target,
    pub(crate) stats: Arc<EventStats>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The endpoint has left: nothing may be written any more, its number may be another's.
    closed: bool,
    /// Connections that bring its events.
    connections: u32,
    replaying: bool,
    heard: bool,
    other_block_size: bool,
    garbled: bool,
    /// Device blocks stored since batches were lost.
    since_loss: Option<u64>,
    /// Number of the last of Dynamo's events.
    last_event: Option<u64>,
    /// Engine's name of a salted block → what its salt adds to the seed.
    salts: LruCache<u64, u64>,
    blocks: Vec<Block>,
}

impl Share {
    /// An empty share.
    #[must_use]
    pub fn new(target: Target) -> Self {
        target.endpoint.set_kv_state(KvState::Waiting);
        let inner = Inner {
            closed: false,
            connections: 0,
            replaying: false,
            heard: false,
            other_block_size: false,
            garbled: false,
            since_loss: None,
            last_event: None,
            salts: LruCache::unbounded(),
            blocks: Vec::new(),
        };
        Self { target, stats: Arc::default(), inner: Mutex::new(inner) }
    }

    /// Takes one event into the index. False if it may have been a removal that could not be read: the
    /// share then holds blocks that are gone, see [`Share::lose`].
    pub fn apply(&self, event: &Event<'_>) -> bool {
        let Target { endpoint, index, .. } = &self.target;
        let stats = &self.stats;
        let inner = &mut *self.inner.lock();
        if inner.closed {
            return true;
        }
        match event {
            Event::Stored(stored) => self.store(inner, stored),
            Event::Removed(tier, hashes) => {
                stats.removed.one();
                index.remove(endpoint.worker(), *tier, hashes);
            }
            Event::Cleared => {
                stats.cleared.one();
                index.clear(endpoint.worker());
                inner.salts.clear();
                inner.since_loss = None;
            }
            Event::Dropped(why) => {
                let counter = match why {
                    Dropped::Malformed { .. } => &stats.malformed,
                    Dropped::Unknown => &stats.unknown,
                    Dropped::OtherGroup => &stats.other_group,
                    Dropped::OtherMedium => &stats.other_medium,
                    Dropped::Ambiguous => &stats.ambiguous,
                };
                counter.one();
            }
        }
        self.settle(inner);
        !matches!(event, Event::Dropped(Dropped::Malformed { removal: true }))
    }

    fn store(&self, inner: &mut Inner, stored: &BlockStored) {
        let Target { endpoint, index, block_size } = &self.target;
        let tier = stored.tier.unwrap_or(Tier::Device);
        let written = if stored.tokens.is_empty() {
            index.store_known(endpoint.worker(), tier, &stored.hashes)
        } else {
            inner.other_block_size = stored.block_size != *block_size;
            if inner.other_block_size {
                self.stats.block_size.one();
                return;
            }
            inner.name(stored, *block_size as usize);
            index.store(endpoint.worker(), tier, stored.parent, &inner.blocks)
        };
        self.stats.stored.one();
        let unnamed = stored.hashes.len() as u64 - u64::from(written.applied);
        self.written(inner, tier, u64::from(written.applied), unnamed);
    }

    /// Blocks that come with hashes of their own, from Dynamo.
    pub(crate) fn store_named(&self, tier: Tier, parent: Option<u64>, blocks: &[Block]) {
        let inner = &mut *self.inner.lock();
        if inner.closed {
            return;
        }
        let written = self.target.index.store(self.target.endpoint.worker(), tier, parent, blocks);
        self.stats.stored.one();
        self.written(inner, tier, u64::from(written.applied), u64::from(written.dropped));
        self.settle(inner);
    }

    fn written(&self, inner: &mut Inner, tier: Tier, blocks: u64, dropped: u64) {
        self.stats.blocks.add(blocks);
        self.stats.blocks_dropped.add(dropped);
        if tier == Tier::Device {
            inner.since_loss = inner.since_loss.map(|since| since + blocks);
        }
    }

    /// Batches are missing and will not come back. Everything the share holds goes: a block whose removal
    /// was missed would draw requests for ever, one that is missing costs a hit and comes back.
    pub fn lose(&self) {
        self.forget(|inner| inner.since_loss = Some(0));
    }

    /// The engine began anew, so its cache is empty.
    pub fn restart(&self) {
        self.forget(|inner| inner.since_loss = None);
    }

    fn forget(&self, then: impl FnOnce(&mut Inner)) {
        let inner = &mut *self.inner.lock();
        if !inner.closed {
            self.target.index.clear(self.target.endpoint.worker());
            inner.salts.clear();
            then(inner);
            self.settle(inner);
        }
    }

    /// The endpoint leaves: forgets what it holds and takes nothing more.
    pub fn close(&self) {
        self.forget(|inner| inner.closed = true);
        self.target.endpoint.set_kv_state(KvState::Off);
    }

    /// A connection that brings its events stands until what is returned is dropped.
    pub(crate) fn connected(&self) -> Connected<'_> {
        self.stats.connections.one();
        self.set(|inner| {
            inner.replaying &= inner.connections > 0;
            inner.connections += 1;
            inner.heard = false;
        });
        Connected(self)
    }

    /// Books the number of one of Dynamo's events; false if it was heard before.
    pub(crate) fn number(&self, id: u64) -> bool {
        let last = self.inner.lock().last_event;
        match last {
            // Numbers begin at 0 or 1; what was said before a later one is unknown.
            None if id > 1 => self.miss(0),
            Some(last) if id <= 1 && last > 1 => {
                self.stats.restarts.one();
                self.restart();
            }
            Some(last) if id <= last => return false,
            Some(last) if id - last > 1 => self.miss(id - last - 1),
            _ => {}
        }
        self.set(|inner| {
            inner.last_event = Some(id);
            inner.heard = true;
        });
        true
    }

    fn miss(&self, events: u64) {
        self.stats.gaps.one();
        self.stats.lost.add(events);
        self.lose();
    }

    /// It is known what the engine has said until now.
    pub(crate) fn set_heard(&self) {
        self.set(|inner| inner.heard = true);
    }

    pub(crate) fn set_replaying(&self, replaying: bool) {
        self.set(|inner| inner.replaying = replaying);
    }

    pub(crate) fn set_garbled(&self, garbled: bool) {
        self.set(|inner| inner.garbled = garbled);
    }

    fn set(&self, change: impl FnOnce(&mut Inner)) {
        let inner = &mut *self.inner.lock();
        change(inner);
        self.settle(inner);
    }

    /// Tells the endpoint how far its share can be believed.
    fn settle(&self, inner: &mut Inner) {
        let endpoint = &self.target.endpoint;
        if inner.closed {
            return;
        }
        if let Some(since) = inner.since_loss.filter(|since| *since > 0) {
            // As many blocks have come in as the cache holds: what we never heard of has gone since.
            let turned_over = |total| since >= total;
            if endpoint.observed().total_blocks.is_some_and(turned_over) {
                inner.since_loss = None;
            }
        }
        endpoint.set_kv_state(match inner {
            Inner { other_block_size: true, .. } | Inner { garbled: true, .. } => KvState::Blind,
            Inner { replaying: true, .. } => KvState::Replaying,
            Inner { connections: 0, .. } | Inner { heard: false, .. } => KvState::Waiting,
            Inner { since_loss: Some(_), .. } => KvState::Gaps,
            _ => KvState::Live,
        });
    }
}

/// A connection that brings a share's events.
#[derive(Debug)]
pub(crate) struct Connected<'a>(&'a Share);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.set(|inner| inner.connections = inner.connections.saturating_sub(1));
    }
}

impl Inner {
    /// Writes the blocks of the event to `self.blocks`, under our names.
    fn name(&mut self, stored: &BlockStored, block_size: usize) {
        let own = hash::seed("", &stored.salt).wrapping_sub(hash::seed("", ""));
        let inherited = stored.parent.and_then(|parent| self.salts.get(&parent).copied());
        let salt = if stored.salt.is_empty() { inherited.unwrap_or(0) } else { own };
        let seed = hash::seed(&stored.lora, "").wrapping_add(salt);
        let locals = local_hashes(stored, block_size, seed);
        self.blocks.clear();
        self.blocks.shrink_to(MAX_KEPT_BLOCKS);
        let named = stored.hashes.iter().zip(locals).take(stored.certain);
        self.blocks.extend(named.map(|(engine, local)| Block { engine: *engine, local }));
        if salt != 0 {
            for block in &self.blocks {
                self.salts.put(block.engine, salt);
            }
            while self.salts.len() > MAX_SALTED_BLOCKS {
                self.salts.pop_lru();
            }
        } else if !self.salts.is_empty() {
            for block in &self.blocks {
                self.salts.pop(&block.engine);
            }
        }
    }
}

/// Blocks of room that a share keeps from one event to the next.
const MAX_KEPT_BLOCKS: usize = 1 << 12;

/// As [`hash::local_hashes`], with media by block.
fn local_hashes(stored: &BlockStored, block_size: usize, seed: u64) -> Vec<u64> {
    if stored.media.is_empty() {
        return hash::local_hashes(&stored.tokens, block_size, seed, &[]);
    }
    let mut media = stored.media.clone();
    media.sort_unstable();
    let mut media = media.as_slice();
    let mut within = Vec::new();
    let mut locals = Vec::with_capacity(stored.hashes.len());
    for (number, block) in stored.tokens.chunks_exact(block_size.max(1)).enumerate() {
        let here = media.partition_point(|(of, _)| *of as usize <= number);
        let (own, rest) = media.split_at(here);
        media = rest;
        within.clear();
        within.extend(own.iter().map(|(_, hash)| Media { tokens: 0..block_size, hash: *hash }));
        locals.extend(hash::local_hashes(block, block_size, seed, &within));
    }
    locals
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_picker::{Held, Worker};

    fn share() -> Share {
        let endpoint = Arc::new(Endpoint::new(waypost_config::Endpoint::at("http://e"), Worker(5)));
        Share::new(Target { endpoint, index: Arc::new(PrefixIndex::new(1 << 20)), block_size: 2 })
    }

    fn stored(engine: u64, parent: Option<u64>, tokens: [u32; 2]) -> BlockStored {
        BlockStored {
            hashes: vec![engine],
            parent,
            tokens: tokens.to_vec(),
            block_size: 2,
            certain: 1,
            ..Default::default()
        }
    }

    fn held(share: &Share, tokens: &[u32], seed: u64, media: &[Media]) -> Option<Held> {
        let mut found = Vec::new();
        let chain = hash::chain(&hash::local_hashes(tokens, 2, seed, media));
        share.target.index.matches(&chain, &mut found);
        found.first().copied()
    }

    #[test]
    fn blocks_without_tokens_move_between_tiers() {
        let share = share();
        share.apply(&Event::Stored(&stored(1, None, [1, 2])));
        let tier = Some(Tier::Host);
        let offloaded = BlockStored { hashes: vec![1, 99], tier, certain: 2, ..Default::default() };
        share.apply(&Event::Stored(&offloaded));
        share.apply(&Event::Removed(Tier::Device, &[1]));
        let found = held(&share, &[1, 2], hash::seed("", ""), &[]).unwrap();
        assert_eq!((found.device, found.host, found.worker), (0, 1, Worker(5)));
        assert_eq!(share.stats.blocks_dropped.get(), 1, "a block that is in no tier cannot be named");
    }

    #[test]
    fn adapters_salts_and_media_name_other_blocks() {
        let share = share();
        let lora = BlockStored { lora: "l".into(), ..stored(1, None, [1, 2]) };
        let salted = BlockStored { salt: "s".into(), ..stored(2, None, [1, 2]) };
        let child = stored(3, Some(2), [3, 4]);
        let media = BlockStored { media: vec![(0, 8), (0, 7)], ..stored(4, None, [1, 2]) };
        for event in [lora, salted, child, media] {
            assert!(share.apply(&Event::Stored(&event)));
        }
        let device =
            |tokens: &[u32], seed, media: &[Media]| held(&share, tokens, seed, media).map(|h| h.device);
        assert_eq!(device(&[1, 2], hash::seed("", ""), &[]), None);
        assert_eq!(device(&[1, 2], hash::seed("l", ""), &[]), Some(1));
        assert_eq!(device(&[1, 2, 3, 4], hash::seed("", "s"), &[]), Some(2));
        let seen = [7, 8].map(|hash| Media { tokens: 0..2, hash });
        assert_eq!(device(&[1, 2], hash::seed("", ""), &seen), Some(1));
    }

    #[test]
    fn uncertain_blocks_are_not_named() {
        let share = share();
        let tokens = vec![1, 2, 3, 4];
        let event = BlockStored { hashes: vec![1, 2], tokens, certain: 1, ..stored(1, None, [0, 0]) };
        share.apply(&Event::Stored(&event));
        assert_eq!(held(&share, &[1, 2, 3, 4], hash::seed("", ""), &[]).unwrap().device, 1);
        assert_eq!((share.stats.blocks.get(), share.stats.blocks_dropped.get()), (1, 1));
    }

    #[test]
    fn what_is_remembered_of_salts_is_bounded() {
        let share = share();
        for engine in 0..MAX_SALTED_BLOCKS as u64 + 10 {
            let event = BlockStored { salt: "s".into(), ..stored(engine, None, [1, engine as u32]) };
            share.apply(&Event::Stored(&event));
        }
        assert_eq!(share.inner.lock().salts.len(), MAX_SALTED_BLOCKS);
    }

    #[test]
    fn who_has_left_takes_nothing() {
        let share = share();
        share.close();
        share.apply(&Event::Stored(&stored(1, None, [1, 2])));
        share.set_heard();
        assert_eq!(held(&share, &[1, 2], hash::seed("", ""), &[]), None);
        assert_eq!(share.target.endpoint.kv_state(), KvState::Off);
    }
}
