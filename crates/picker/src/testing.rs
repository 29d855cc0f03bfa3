//! Pools for tests.

use crate::{Ask, Pool, hash};
use std::sync::Arc;
use waypost_config::{Endpoint, Picking, Prefixes, Strategy};

pub(crate) fn specs(n: usize) -> Vec<Endpoint> {
    (0..n).map(|i| Endpoint::at(format!("http://e{i}"))).collect()
}

/// A pool of `n` endpoints; events fill its index and nothing is guessed.
pub(crate) fn pool(n: usize, strategy: Strategy, change: impl FnOnce(&mut Picking)) -> Pool {
    let mut picking = Picking {
        strategy,
        prefixes: Prefixes::Events,
        predicted: std::time::Duration::ZERO,
        ..Picking::default()
    };
    change(&mut picking);
    Pool::new(Arc::new(picking), &specs(n), None)
}

/// Chain hashes of a prompt of `blocks` blocks; prompts with the same `seed` share their start.
pub(crate) fn chain(seed: u64, blocks: u64) -> Vec<u64> {
    let local: Vec<u64> = (0..blocks).map(|n| seed * 1_000_003 + n).collect();
    hash::chain(&local)
}

/// Asks with `chain` for a prompt that fills its blocks of 16 tokens.
pub(crate) fn ask(chain: &[u64]) -> Ask<'_> {
    Ask { chain, prompt_tokens: chain.len() as u32 * 16, exact: true, ..Ask::default() }
}

/// Tells the pool's index that endpoint `index` holds the first `blocks` blocks of the prompt `chain(seed, …)`.
pub(crate) fn store(pool: &Pool, index: usize, tier: crate::Tier, seed: u64, blocks: u64) {
    let block = |n| crate::Block { engine: seed * 1_000_003 + n, local: seed * 1_000_003 + n };
    let blocks: Vec<_> = (0..blocks).map(block).collect();
    let worker = pool.endpoints()[index].worker();
    let stored = pool.index().unwrap().store(worker, tier, None, &blocks);
    assert_eq!(stored.dropped, 0);
}
