//! A request trace as the index sees it: a prompt is looked up, what its engine lacked is stored, what had to go
//! for that is removed. As in Dynamo's bench of its own indexes, a block operation is a block asked for, stored
//! or removed.
//!
//! Each request goes to an engine at random; the trace is played several times over, with other contents.

use crate::index::{MAX_BYTES, ROUNDS, cpu_ns, row};
use crate::peers::{Dash, Index, Locked};
use crate::trace::{self, BLOCK_TOKENS};
use lru::LruCache;
use serde_json::json;
use waypost_picker::{Block, PrefixIndex, Worker, hash};

/// Tokens in a block of the engines; those of the trace are several of these.
const ENGINE_BLOCK_TOKENS: u32 = 64;
const PARTS: u64 = (BLOCK_TOKENS / ENGINE_BLOCK_TOKENS) as u64;
const ENGINES: u16 = 64;
/// Blocks in each engine's cache: a million in all.
const CAPACITY: usize = 16_384;
const TIMES: u64 = 2;

/// What happens because of one request.
struct Step {
    worker: Worker,
    chain: Vec<u64>,
    /// Blocks of it that the engine has.
    hits: usize,
    removed: Vec<u64>,
    /// Blocks it gets, behind those it has.
    stored: Vec<Block>,
}

impl Step {
    fn operations(&self) -> usize {
        self.chain.len() + self.removed.len() + self.stored.len()
    }
}

/// What the engine calls a block.
fn name(chain: u64) -> u64 {
    !chain
}

fn steps(jobs: &[crate::engine::Job]) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut caches: Vec<LruCache<u64, ()>> = (0..ENGINES).map(|_| LruCache::unbounded()).collect();
    let jobs = (0..TIMES).flat_map(|time| jobs.iter().map(move |job| (time, job)));
    let step = |(time, job): (u64, &crate::engine::Job)| {
        let parts = |block: &u64| {
            let block = *block;
            (0..PARTS).map(move |part| hash::extend(Some(block), time * PARTS + part))
        };
        let local: Vec<u64> = job.local.iter().flat_map(parts).take(CAPACITY).collect();
        let chain = hash::chain(&local);
        let worker = random.u16(0..ENGINES);
        let cache = &mut caches[usize::from(worker)];
        let hits = chain.iter().take_while(|hash| cache.contains(hash)).count();
        // From the end, so that the head is the last to go.
        chain[..hits].iter().rev().for_each(|hash| _ = cache.promote(hash));
        let spare = CAPACITY - (chain.len() - hits);
        let removed = std::iter::from_fn(|| (cache.len() > spare).then(|| cache.pop_lru()).flatten());
        let removed = removed.map(|(hash, ())| name(hash)).collect();
        chain[hits..].iter().rev().for_each(|hash| _ = cache.put(*hash, ()));
        let stored = local[hits..].iter().zip(&chain[hits..]);
        let stored = stored.map(|(local, chain)| Block { engine: name(*chain), local: *local }).collect();
        Step { worker: Worker(worker), chain, hits, removed, stored }
    };
    jobs.map(step).collect()
}

fn play(label: &str, index: &dyn Index, steps: &[Step]) {
    let (mut out, mut wrong, mut looked) = (Vec::new(), 0, 0);
    let begin = cpu_ns();
    for step in steps {
        index.depths(&step.chain, &mut out);
        let held = out.iter().find(|(worker, _)| *worker == step.worker.0);
        wrong += usize::from(held.map_or(0, |(_, depth)| *depth as usize) != step.hits);
        looked += step.chain.len();
        index.remove(step.worker, &step.removed);
        let parent = step.hits.checked_sub(1).map(|last| name(step.chain[last]));
        index.store(step.worker, parent, &step.stored);
    }
    let ns = cpu_ns() - begin;
    let operations: usize = steps.iter().map(Step::operations).sum();
    row(json!({"case": "operations of a trace", "index": label, "requests": steps.len(), "wrong": wrong,
        "complete": wrong == 0, "operations": operations, "looked_up_share": looked as f64 / operations as f64,
        "m_per_cpu_s": operations as f64 / ns as f64 * 1e3}));
}

/// Plays the trace in the file to our index and to the others.
pub(crate) fn run(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let steps = steps(&trace::read(path, "all")?.jobs);
    for _ in 0..ROUNDS {
        play("waypost", &PrefixIndex::new(MAX_BYTES), &steps);
        play("RwLock<HashMap>", &Locked::default(), &steps);
        play("DashMap", &Dash::default(), &steps);
    }
    Ok(())
}
