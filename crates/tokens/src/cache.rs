//! The ids of pieces of text seen before, within a bound in bytes.
//!
//! A piece encodes to the same ids wherever it stands (see `cuts`), so its text alone is the key. Texts
//! are not kept, only their keyed 128-bit hash. Least recently used pieces go first. Called by the
//! tokenizer.

use lru::LruCache;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Bytes of a cache unless said otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 64 << 20;
const SHARDS: usize = 16;
/// What an entry costs besides its ids: its key, its links, its place in the table, two counters.
const ENTRY_OVERHEAD_BYTES: usize = 120;

/// How the cache did since the load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Pieces found.
    pub hits: u64,
    /// Pieces encoded anew.
    pub misses: u64,
    /// Pieces dropped to stay within the bound.
    pub evictions: u64,
    /// Bytes held now.
    pub bytes: usize,
}

/// Pieces to ids; all methods may be called from any thread.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
    max_shard_bytes: usize,
    /// Drawn at start, so that nobody outside can prepare two texts of one hash.
    seed: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

struct Shard {
    pieces: LruCache<u128, Arc<[u32]>>,
    bytes: usize,
}

impl Cache {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let shard = || Mutex::new(Shard { pieces: LruCache::unbounded(), bytes: 0 });
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            max_shard_bytes: max_bytes / SHARDS,
            seed: fastrand::u64(..),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// The ids of `piece`: those kept, or those that `encode` finds. True if they were kept.
    pub(crate) fn get<E>(
        &self,
        piece: &str,
        after_cut: bool,
        encode: impl FnOnce() -> Result<Vec<u32>, E>,
    ) -> Result<(Arc<[u32]>, bool), E> {
        let key = xxh3_128_with_seed(piece.as_bytes(), self.seed ^ u64::from(after_cut));
        let shard = &self.shards[(key >> 64) as usize % SHARDS];
        if let Some(ids) = shard.lock().pieces.get(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok((ids.clone(), true));
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let ids: Arc<[u32]> = encode()?.into();
        self.keep(&mut shard.lock(), key, &ids);
        Ok((ids, false))
    }

    fn keep(&self, shard: &mut Shard, key: u128, ids: &Arc<[u32]>) {
        let cost = |ids: &Arc<[u32]>| size_of_val::<[u32]>(ids) + ENTRY_OVERHEAD_BYTES;
        if cost(ids) > self.max_shard_bytes {
            self.evictions.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shard.bytes += cost(ids);
        if let Some(old) = shard.pieces.put(key, ids.clone()) {
            shard.bytes -= cost(&old);
        }
        while shard.bytes > self.max_shard_bytes {
            let Some((_, old)) = shard.pieces.pop_lru() else { break };
            shard.bytes -= cost(&old);
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            bytes: self.shards.iter().map(|shard| shard.lock().bytes).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_within_its_bytes_and_counts_what_it_dropped() {
        let cache = Cache::new(64 << 10);
        for n in 0..2_000 {
            let text = format!("piece {n}");
            let (ids, kept) = cache.get::<()>(&text, false, || Ok(vec![n; 50])).unwrap();
            assert!(!kept && ids.len() == 50);
        }
        let stats = cache.stats();
        assert!(stats.bytes <= 64 << 10 && stats.evictions > 1_500, "{stats:?}");
        let (ids, kept) = cache.get::<()>("piece 1999", false, || unreachable!()).unwrap();
        assert!(kept && ids[0] == 1999);
        assert!(!cache.get::<()>("piece 1999", true, || Ok(vec![])).unwrap().1, "other place, other ids");
        cache.get::<()>("huge", false, || Ok(vec![0; 5_000])).unwrap();
        assert!(cache.stats().bytes <= 64 << 10);
    }
}
