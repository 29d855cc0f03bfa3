//! The prefix index: a million blocks, 64 workers, prompts of 209 blocks, with and without a writer.

use serde_json::json;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use waypost_picker::{Block, PrefixIndex, Tier, Worker, hash};

use crate::peers::{Dash, Index, Locked};

const WORKERS: u16 = 64;
const PROMPT_BLOCKS: usize = 209;
/// Prompts that share the first [`SHARED_BLOCKS`] and their workers in groups of [`GROUP`], a million distinct blocks in all.
const PROMPTS: usize = 6_400;
const GROUP: usize = 16;
const SHARED_BLOCKS: usize = 56;
pub(crate) const MAX_BYTES: usize = 1 << 30;
pub(crate) const ROUNDS: usize = 3;
const READS: usize = 10_000;
const EVENTS_PER_S: u64 = 100_000;

struct Prompt {
    blocks: Vec<Block>,
    names: Vec<u64>,
    chain: Vec<u64>,
    workers: Vec<Worker>,
}

/// Prompts of random blocks, each on so many workers.
fn prompts(copies: usize, seed: u64) -> Vec<Prompt> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut shared = Vec::new();
    let one = |number: usize| {
        if number.is_multiple_of(GROUP) {
            shared = std::iter::repeat_with(|| random.u64(..)).take(SHARED_BLOCKS).collect();
        }
        let own = std::iter::repeat_with(|| random.u64(..)).take(PROMPT_BLOCKS - SHARED_BLOCKS);
        let local: Vec<u64> = shared.iter().copied().chain(own).collect();
        let chain = hash::chain(&local);
        let blocks = local.iter().zip(&chain);
        let blocks: Vec<Block> = blocks.map(|(l, chain)| Block { engine: !chain, local: *l }).collect();
        let names = blocks.iter().map(|block| block.engine).collect();
        let first = (number / GROUP) as u16;
        let workers = (0..copies as u16).map(|n| Worker((first + n * 7) % WORKERS)).collect();
        Prompt { blocks, names, chain, workers }
    };
    (0..PROMPTS).map(one).collect()
}

fn fill(index: &dyn Index, prompts: &[Prompt]) {
    for prompt in prompts {
        prompt.workers.iter().for_each(|worker| index.store(*worker, None, &prompt.blocks));
    }
}

pub(crate) fn microseconds(times: &mut [u64], share: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() - 1) as f64 * share) as usize;
    times.get(at).map_or(0.0, |nanoseconds| *nanoseconds as f64 / 1000.0)
}

/// Reads random prompts while, if asked, a writer stores and removes other prompts, `EVENTS_PER_S` blocks
/// a second in events of ten.
fn reads(name: &str, index: &dyn Index, prompts: &[Prompt], churn: &[Prompt], writing: bool) {
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        if writing {
            scope.spawn(|| write(index, churn, &done, &written));
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut random = fastrand::Rng::with_seed(5);
        let (mut times, mut out, mut wrong) = (Vec::with_capacity(READS), Vec::new(), 0);
        let (begin, cpu) = (Instant::now(), cpu_ns());
        let before = written.load(Ordering::Relaxed);
        for _ in 0..READS {
            let prompt = &prompts[random.usize(0..prompts.len())];
            let start = Instant::now();
            index.depths(black_box(&prompt.chain), &mut out);
            times.push(start.elapsed().as_nanos() as u64);
            let full = out.iter().filter(|(_, depth)| *depth as usize == PROMPT_BLOCKS).count();
            wrong += usize::from(full != prompt.workers.len());
        }
        let events = (written.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
        let cpu = (cpu_ns() - cpu) as f64 / READS as f64 / 1e3;
        done.store(true, Ordering::Relaxed);
        let case = if writing { "match beside a writer" } else { "match" };
        row(json!({"case": case, "index": name, "blocks": PROMPT_BLOCKS, "wrong": wrong, "reads": READS,
                "cpu_us_per_match": cpu, "p50_us": microseconds(&mut times, 0.5), "p99_us": microseconds(&mut times, 0.99),
                "p999_us": microseconds(&mut times, 0.999), "block_events_per_s": events.round()}));
    });
}

fn write(index: &dyn Index, churn: &[Prompt], done: &AtomicBool, written: &AtomicU64) {
    let begin = Instant::now();
    for (number, prompt) in churn.iter().cycle().enumerate() {
        // Every second time round takes back what the last one stored.
        let store = (number / churn.len()).is_multiple_of(2);
        let mut parent = None;
        for (blocks, names) in prompt.blocks.chunks(10).zip(prompt.names.chunks(10)) {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let worker = prompt.workers[0];
            if store {
                index.store(worker, parent, blocks);
                parent = names.last().copied();
            } else {
                index.remove(worker, names);
            }
            let count = written.fetch_add(blocks.len() as u64, Ordering::Relaxed);
            let due = begin + Duration::from_nanos(count * (1_000_000_000 / EVENTS_PER_S));
            // Due in the past: behind, so no pause.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

/// Stores everything, looks everything up, removes everything, in time of this thread's processor; every step
/// is checked for its effect.
fn operations(name: &str, index: &dyn Index, prompts: &[Prompt]) {
    let blocks = prompts.len() * PROMPT_BLOCKS;
    let mut out = Vec::new();
    let begin = cpu_ns();
    prompts.iter().for_each(|p| index.store(p.workers[0], None, &p.blocks));
    let stored = cpu_ns();
    let mut found = 0;
    for prompt in prompts {
        index.depths(&prompt.chain, &mut out);
        let depth = out.iter().find(|(worker, _)| *worker == prompt.workers[0].0);
        found += depth.map_or(0, |(_, depth)| *depth as usize);
    }
    let looked = cpu_ns();
    prompts.iter().for_each(|p| index.remove(p.workers[0], &p.names));
    let end = cpu_ns();
    let left: usize = prompts
        .iter()
        .map(|p| {
            index.depths(&p.chain, &mut out);
            out.len()
        })
        .sum();
    let million = |count: usize, ns: u64| count as f64 / ns as f64 * 1e3;
    row(json!({"case": "operations", "index": name, "complete": found == blocks && left == 0,
        "m_per_cpu_s": million(3 * blocks, end - begin), "store_m_per_cpu_s": million(blocks, stored - begin),
        "look_up_m_per_cpu_s": million(blocks, looked - stored),
        "remove_m_per_cpu_s": million(blocks, end - looked)}));
}

fn memory(copies: usize) {
    let index = PrefixIndex::new(MAX_BYTES);
    fill(&index, &prompts(copies, 1));
    let stats = index.stats();
    row(json!({"case": "memory", "workers_per_block": stats.pairs as f64 / stats.blocks as f64,
            "blocks": stats.blocks, "pairs": stats.pairs, "resident_bytes": resident(),
            "bytes_per_pair": stats.bytes as f64 / stats.pairs as f64, "peak_bytes": stats.peak_bytes}));
}

/// Prints a row, with the load of the machine: with other work on it, only processor time compares.
pub(crate) fn row(mut row: serde_json::Value) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    row["load"] = load.split(' ').next().unwrap_or_default().into();
    println!("{row}");
}

/// Nanoseconds this thread has run.
pub(crate) fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).map_or(0, |pages: usize| pages * 4096)
}

fn clear() {
    let index = PrefixIndex::new(MAX_BYTES);
    let prompts = prompts(1, 1);
    for prompt in &prompts {
        index.store(Worker(0), Tier::Device, None, &prompt.blocks);
    }
    let pairs = index.stats().pairs;
    let begin = Instant::now();
    let mut waits: Vec<u64> = Vec::new();
    std::thread::scope(|scope| {
        let sweep = scope.spawn(|| {
            let cpu = cpu_ns();
            index.clear(Worker(0));
            cpu_ns() - cpu
        });
        // What another worker's events wait meanwhile.
        for block in prompts.iter().flat_map(|prompt| &prompt.blocks) {
            if sweep.is_finished() {
                break;
            }
            let start = Instant::now();
            index.store(Worker(1), Tier::Device, None, std::slice::from_ref(block));
            waits.push(start.elapsed().as_nanos() as u64);
        }
        let ns = sweep.join().unwrap_or_default();
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        index.clear(Worker(1));
        let left = index.stats().pairs;
        row(json!({"case": "clear one worker of all", "pairs": pairs, "stored_beside": waits.len(),
            "left": left, "ms": ms,
            "cpu_ns_per_pair": ns as f64 / pairs as f64, "others_wait_p50_us": microseconds(&mut waits, 0.5),
            "others_wait_p99_us": microseconds(&mut waits, 0.99), "others_wait_max_us": microseconds(&mut waits, 1.0)}));
    });
}

fn hashing() {
    let tokens: Vec<u32> = (0..8192).collect();
    for size in [16, 64] {
        let mut times: Vec<u64> = Vec::new();
        for _ in 0..20_000 {
            let start = Instant::now();
            black_box(hash::chain(&hash::local_hashes(black_box(&tokens), size, 1337, &[])));
            times.push(start.elapsed().as_nanos() as u64);
        }
        row(json!({"case": "hash 8192 tokens", "block_size": size,
                "p50_us": microseconds(&mut times, 0.5), "p99_us": microseconds(&mut times, 0.99)}));
    }
}

/// All cases, or those whose name begins with `only`.
pub(crate) fn run(only: &str) {
    let asked = |case: &str| case.starts_with(only);
    if asked("hashing") {
        hashing();
    }
    if asked("memory") {
        memory(1);
        memory(4);
    }
    if asked("clear") {
        clear();
    }
    if asked("match") {
        matches();
    }
    if asked("operations") {
        for _ in 0..ROUNDS {
            // Prompts that share nothing, so that every block is stored once and removed once.
            let alone: Vec<Prompt> = prompts(1, 3).into_iter().step_by(GROUP).chain(own()).collect();
            operations("waypost", &PrefixIndex::new(MAX_BYTES), &alone);
            operations("RwLock<HashMap>", &Locked::default(), &alone);
            operations("DashMap", &Dash::default(), &alone);
        }
    }
}

fn matches() {
    let (held, churn) = (prompts(2, 1), prompts(1, 2));
    let churn = &churn[..PROMPTS / 10];
    let ours = PrefixIndex::new(MAX_BYTES);
    let (locked, dash) = (Locked::default(), Dash::default());
    let all: [(&str, &dyn Index); 3] = [("waypost", &ours), ("RwLock<HashMap>", &locked), ("DashMap", &dash)];
    all.iter().for_each(|(_, index)| fill(*index, &held));
    for _ in 0..ROUNDS {
        for writing in [false, true] {
            all.iter().for_each(|(name, index)| reads(name, *index, &held, churn, writing));
        }
    }
}

/// Prompts with a first block of their own.
fn own() -> impl Iterator<Item = Prompt> {
    (0..10).flat_map(|seed| prompts(1, 100 + seed).into_iter().step_by(GROUP))
}
