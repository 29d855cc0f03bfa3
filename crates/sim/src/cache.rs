//! The prefix cache: which blocks of a prompt were computed before, so that prefill can skip them.
//!
//! Blocks hold 16 estimated tokens and their hashes are chained, so a block only matches behind the same prefix.
//! Least recently used blocks go first. It stores hashes only, never text. `generate` calls it once per request.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use crate::text::{TOKEN_BYTES, hash};

/// Tokens in one block, vLLM's default.
pub(crate) const BLOCK_TOKENS: u32 = 16;
const BLOCK_BYTES: usize = BLOCK_TOKENS as usize * TOKEN_BYTES;

/// A bounded set of block hashes in order of use.
pub(crate) struct PrefixCache {
    capacity: usize,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    /// Hash of a block -> when it was last used.
    used: HashMap<u64, u64>,
    /// The same the other way round, oldest first.
    order: BTreeMap<u64, u64>,
    clock: u64,
}

impl Blocks {
    fn touch(&mut self, block: u64, capacity: usize) {
        self.clock += 1;
        if let Some(before) = self.used.insert(block, self.clock) {
            self.order.remove(&before);
        }
        self.order.insert(self.clock, block);
        if self.used.len() > capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
    }
}

impl PrefixCache {
    pub(crate) fn new(capacity: usize) -> Self {
        PrefixCache { capacity, blocks: Mutex::default() }
    }

    /// How many blocks fit.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many leading tokens of the prompt are cached; from now on all its full blocks are.
    /// Models do not share blocks: `model` is the root of the chain.
    pub(crate) fn lookup_and_fill(&self, model: u64, prompt: &[u8]) -> u32 {
        let mut parent = model;
        let chain: Vec<u64> = prompt
            .chunks_exact(BLOCK_BYTES)
            .take(self.capacity)
            .map(|block| {
                parent = hash(parent, block);
                parent
            })
            .collect();
        if chain.is_empty() {
            return 0;
        }
        let mut blocks = self.blocks.lock();
        let hits = chain.iter().take_while(|block| blocks.used.contains_key(block)).count();
        // From the end, so that the start of a prompt stays longest: a tail without its head is of no use.
        for block in chain.iter().rev() {
            blocks.touch(*block, self.capacity);
        }
        u32::try_from(hits).unwrap_or(u32::MAX).saturating_mul(BLOCK_TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(blocks: usize, fill: u8) -> Vec<u8> {
        vec![fill; blocks * BLOCK_BYTES]
    }

    #[test]
    fn the_second_time_every_full_block_hits() {
        let cache = PrefixCache::new(100);
        let mut text = prompt(3, b'a');
        text.push(b'x');
        assert_eq!(cache.lookup_and_fill(1, &text), 0);
        assert_eq!(cache.lookup_and_fill(1, &text), 3 * BLOCK_TOKENS);
        assert_eq!(cache.lookup_and_fill(2, &text), 0, "another model shares nothing");
    }

    #[test]
    fn a_block_matches_only_behind_its_own_prefix() {
        let cache = PrefixCache::new(100);
        let shared = prompt(2, b'a');
        let mut longer = shared.clone();
        longer.extend(prompt(2, b'b'));
        cache.lookup_and_fill(1, &longer);
        let mut other = prompt(1, b'c');
        other.extend(prompt(2, b'b'));
        assert_eq!(cache.lookup_and_fill(1, &other), 0);
        assert_eq!(cache.lookup_and_fill(1, &shared), 2 * BLOCK_TOKENS);
    }

    #[test]
    fn it_never_holds_more_than_its_capacity_and_forgets_the_tail_first() {
        let cache = PrefixCache::new(4);
        cache.lookup_and_fill(1, &prompt(4, b'a'));
        cache.lookup_and_fill(1, &prompt(2, b'b'));
        assert_eq!(cache.blocks.lock().used.len(), 4);
        assert_eq!(cache.blocks.lock().order.len(), 4);
        assert_eq!(cache.lookup_and_fill(1, &prompt(4, b'a')), 2 * BLOCK_TOKENS);
    }
}
