//! One data-parallel rank: its batch, its blocks, its turn to read prompts, and the events of its cache.
//!
//! It admits a request when the blocks for it are free, first come, first served, and publishes what that changed as
//! one batch. It does not know what is generated. `generate` calls it; `core` makes one per rank.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::cache::{Cache, Change, Tier, chain};
use crate::events::KvEvent;
use crate::feed::Feed;
use crate::metrics::{Gauge, Held};
use crate::options::Options;
use crate::text::{TOKEN_BYTES, hash};

/// A timer may ring so late; the next prompt does not pay for it.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// What sets blocks apart that hold the same tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naming {
    /// Beginning of the chain of hashes: the model.
    pub(crate) root: u64,
    /// Number and name of the adapter.
    pub(crate) lora: Option<(u32, String)>,
    /// `cache_salt` of the request.
    pub(crate) salt: Option<String>,
}

/// What a rank holds, for `/sim/stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RankStats {
    /// Blocks on the GPU, cached ones included.
    pub gpu_blocks: usize,
    /// Blocks in host memory.
    pub host_blocks: usize,
    /// Blocks that running requests hold or were promised.
    pub blocks_in_use: usize,
    /// Event batches numbered since the start or the last restart.
    pub event_batches: u64,
    /// Messages of the event stream dropped because the queue to the socket was full.
    pub event_batches_dropped: u64,
}

/// The rank.
pub(crate) struct Rank {
    pub(crate) index: usize,
    pub(crate) batch: Batch,
    /// Requests in the batch, of all models.
    pub(crate) running: Gauge,
    block_tokens: u32,
    host_blocks: usize,
    slot: Mutex<Slot>,
    /// A request let go of blocks.
    freed: Notify,
    /// Held by whoever is next to get blocks.
    next: tokio::sync::Mutex<()>,
    /// Held while a prompt is read; when the one before was done.
    reading: tokio::sync::Mutex<Instant>,
    feed: Option<Arc<Feed>>,
}

/// The cache and how often it was replaced by an empty one.
struct Slot {
    cache: Cache,
    epoch: u64,
}

/// The blocks of one request, let go when dropped.
pub(crate) struct Lease {
    rank: Arc<Rank>,
    naming: Naming,
    /// Pinned blocks.
    chain: Vec<u64>,
    /// What follows the full blocks; `None` if the cache was too small for them.
    rest: Option<Vec<u8>>,
    reserved: usize,
    epoch: u64,
    /// Prompt tokens found in the cache, and those of them that host memory had.
    pub(crate) cached_tokens: u32,
    pub(crate) host_tokens: u32,
}

impl Rank {
    pub(crate) fn new(index: usize, options: &Options, feed: Option<Arc<Feed>>) -> Self {
        Rank {
            index,
            batch: Batch::new(options.max_running, options.max_waiting),
            running: Gauge::default(),
            block_tokens: options.block_size,
            host_blocks: options.host_blocks,
            slot: Mutex::new(Slot { cache: Cache::new(options.cache_blocks, options.host_blocks), epoch: 0 }),
            freed: Notify::new(),
            next: tokio::sync::Mutex::new(()),
            reading: tokio::sync::Mutex::new(Instant::now()),
            feed,
        }
    }

    /// Waits for the blocks of a prompt and of an answer of so many tokens, counted in `waiting` meanwhile.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        naming: Naming,
        prompt: &[u8],
        answer_tokens: u32,
        waiting: &Gauge,
    ) -> Lease {
        let mut counted: Option<Held> = None;
        let _turn = match self.next.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                counted = Some(waiting.hold());
                self.next.lock().await
            }
        };
        loop {
            if let Some(lease) = self.try_admit(&naming, prompt, answer_tokens) {
                return lease;
            }
            counted.get_or_insert_with(|| waiting.hold());
            self.freed.notified().await;
        }
    }

    fn try_admit(self: &Arc<Self>, naming: &Naming, prompt: &[u8], answer_tokens: u32) -> Option<Lease> {
        let root = naming.salt.as_ref().map_or(naming.root, |salt| hash(naming.root, salt.as_bytes()));
        let prompt_tokens = prompt.len().div_ceil(TOKEN_BYTES).max(1);
        let size = self.block_tokens as usize;
        let mut slot = self.slot.lock();
        let mut chain = chain(root, prompt, self.block_tokens, slot.cache.capacity());
        // The last token is always computed: its output is what the answer begins with.
        let matchable = (prompt_tokens - 1) / size;
        let reserve = (prompt_tokens + answer_tokens as usize).div_ceil(size).saturating_sub(chain.len());
        let mut changes = Vec::new();
        let hits = slot.cache.admit(&chain, matchable, reserve, &mut changes)?;
        self.publish(naming, &chain, 0, prompt, &changes);
        chain.shrink_to_fit();
        let full = prompt.len() / (size * TOKEN_BYTES);
        let tokens = |blocks: usize| u32::try_from(blocks * size).unwrap_or(u32::MAX);
        Some(Lease {
            rank: Arc::clone(self),
            naming: Naming { root, ..naming.clone() },
            rest: (full == chain.len()).then(|| prompt[full * size * TOKEN_BYTES..].to_vec()),
            chain,
            reserved: hits.reserved,
            epoch: slot.epoch,
            cached_tokens: tokens(hits.blocks),
            host_tokens: tokens(hits.from_host),
        })
    }

    /// Publishes one step's changes; `bytes` are those of the chain from place `start` on.
    fn publish(&self, naming: &Naming, chain: &[u64], start: usize, bytes: &[u8], changes: &[Change]) {
        let Some(feed) = self.feed.as_ref().filter(|_| !changes.is_empty()) else { return };
        let events = changes.iter().map(|change| match change {
            Change::Filled(places) => self.stored(naming, chain, start, bytes, places),
            Change::Offloaded(block) => self.offloaded(*block),
            Change::Evicted(block, tier) => {
                KvEvent::BlockRemoved { block_hashes: vec![*block], medium: medium(*tier), group_idx: 0 }
            }
        });
        feed.publish(events.collect());
    }

    fn stored(
        &self,
        naming: &Naming,
        chain: &[u64],
        start: usize,
        bytes: &[u8],
        places: &Range<usize>,
    ) -> KvEvent {
        let size = self.block_tokens as usize * TOKEN_BYTES;
        let bytes = &bytes[(places.start - start) * size..(places.end - start) * size];
        let (tokens, _) = bytes.as_chunks::<TOKEN_BYTES>();
        let lora_name = naming.lora.as_ref().map(|(_, name)| name.clone());
        let keys = |place: usize| {
            let salt = naming.salt.clone().filter(|_| place == 0);
            let keys: Vec<String> = lora_name.iter().cloned().chain(salt).collect();
            (!keys.is_empty()).then_some(keys)
        };
        KvEvent::BlockStored {
            block_hashes: chain[places.clone()].to_vec(),
            parent_block_hash: places.start.checked_sub(1).map(|parent| chain[parent]),
            token_ids: tokens.iter().copied().map(u32::from_le_bytes).collect(),
            block_size: self.block_tokens,
            lora_id: naming.lora.as_ref().map(|(id, _)| *id),
            medium: medium(Tier::Gpu),
            extra_keys: Some(places.clone().map(keys).collect()),
            lora_name,
            group_idx: 0,
            kv_cache_spec_kind: "full_attention",
        }
    }

    fn offloaded(&self, block: u64) -> KvEvent {
        KvEvent::BlockStored {
            block_hashes: vec![block],
            parent_block_hash: None,
            token_ids: Vec::new(),
            block_size: self.block_tokens,
            lora_id: None,
            medium: medium(Tier::Cpu),
            lora_name: None,
            extra_keys: None,
            group_idx: 0,
            kv_cache_spec_kind: "full_attention",
        }
    }

    /// Reads a prompt for so long, after those that came before; returns when it was due.
    pub(crate) async fn read(self: Arc<Self>, cost: Duration) -> Instant {
        let entered = Instant::now();
        let mut before = self.reading.lock().await;
        let now = Instant::now();
        // Exact from one prompt to the next, unless the one before was given up.
        let begin = entered.max(*before).max(now.checked_sub(TIMER_SLACK).unwrap_or(now));
        let due = begin + cost;
        tokio::time::sleep_until(due).await;
        *before = due;
        due
    }

    /// Share of the GPU's blocks in use, 0 to 1.
    pub(crate) fn usage(&self) -> f64 {
        let slot = self.slot.lock();
        slot.cache.in_use() as f64 / slot.cache.capacity() as f64
    }

    /// Forgets all blocks, unless some are in use, and says so.
    pub(crate) fn reset(&self) -> bool {
        let mut slot = self.slot.lock();
        let done = slot.cache.clear();
        if let Some(feed) = self.feed.as_ref().filter(|_| done) {
            feed.publish(vec![KvEvent::AllBlocksCleared {}]);
        }
        done
    }

    /// As if the process had been replaced: an empty cache, a stream that begins anew, and no word about it.
    pub(crate) fn restart(&self) {
        let mut slot = self.slot.lock();
        slot.cache = Cache::new(slot.cache.capacity(), self.host_blocks);
        slot.epoch += 1;
        if let Some(feed) = &self.feed {
            feed.restart();
        }
        self.freed.notify_one();
    }

    pub(crate) fn feed(&self) -> Option<&Feed> {
        self.feed.as_deref()
    }

    pub(crate) fn stats(&self) -> RankStats {
        let slot = self.slot.lock();
        let (gpu_blocks, host_blocks) = slot.cache.held();
        let (event_batches, event_batches_dropped) = self.feed().map_or((0, 0), Feed::counts);
        let blocks_in_use = slot.cache.in_use();
        RankStats { gpu_blocks, host_blocks, blocks_in_use, event_batches, event_batches_dropped }
    }
}

impl Lease {
    /// How many full blocks it holds.
    pub(crate) fn blocks(&self) -> usize {
        self.chain.len()
    }

    /// The request's text went on like this: its full blocks are cached too.
    pub(crate) fn grow(&mut self, more: &[u8]) {
        let Some(mut bytes) = self.rest.take() else { return };
        let mut slot = self.rank.slot.lock();
        if slot.epoch != self.epoch {
            return;
        }
        bytes.extend_from_slice(more);
        let start = self.chain.len();
        let parent = self.chain.last().copied().unwrap_or(self.naming.root);
        let room = slot.cache.capacity() - start;
        self.chain.extend(chain(parent, &bytes, self.rank.block_tokens, room));
        let mut changes = Vec::new();
        let reserved = std::mem::take(&mut self.reserved);
        let end = slot.cache.extend(&self.chain, start, reserved, &mut changes);
        self.rank.publish(&self.naming, &self.chain, start, &bytes, &changes);
        self.chain.truncate(end);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut slot = self.rank.slot.lock();
        if slot.epoch == self.epoch {
            slot.cache.release(&self.chain, self.reserved);
        }
        drop(slot);
        self.rank.freed.notify_one();
    }
}

fn medium(tier: Tier) -> &'static str {
    match tier {
        Tier::Gpu => "GPU",
        Tier::Cpu => "CPU",
    }
}
