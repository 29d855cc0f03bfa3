//! Fifty equal requests at the same moment, and how long a choice takes.
//!
//! Nothing is served: the requests stay booked until all have been. Threads start together at a barrier.

use serde_json::json;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use waypost_config::{Endpoint, Picking, Strategy};
use waypost_picker::{Ask, Block, Pool, Tier, hash};

use crate::strategies;

const AT_ONCE: usize = 50;
const POOLS: [usize; 4] = [2, 5, 8, 16];
/// Times each herd is let loose; the worst counts.
const HERDS: usize = 20;
const BLOCK_TOKENS: usize = 16;
/// 209 blocks and 6 tokens.
const PROMPT_TOKENS: u32 = 3_350;
const ENDPOINTS: usize = 64;
/// A million blocks in all, each on two endpoints.
const PROMPTS: u64 = 4_800;
const PICKS: usize = 20_000;
/// Requests in flight while picks are timed.
const IN_FLIGHT: usize = 256;

fn pool(endpoints: usize, picking: Picking) -> Pool {
    let specs: Vec<_> = (0..endpoints).map(|n| Endpoint::at(format!("http://engine{n}"))).collect();
    Pool::new(Arc::new(picking), &specs, None)
}

fn tokens(prompt: u64) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(prompt);
    (0..PROMPT_TOKENS).map(|_| random.u32(..128_000)).collect()
}

/// The names of a prompt's blocks.
fn local(tokens: &[u32]) -> Vec<u64> {
    hash::local_hashes(tokens, BLOCK_TOKENS, hash::seed("", ""), &[])
}

/// Tells the index, or else the guesses, that `endpoint` holds the prompt.
fn hold(pool: &Pool, endpoint: usize, prompt: u64) {
    let local = local(&tokens(prompt));
    let chain = hash::chain(&local);
    match pool.index() {
        Some(index) => {
            let named = local.iter().zip(&chain);
            let blocks: Vec<_> = named.map(|(l, c)| Block { engine: *c, local: *l }).collect();
            index.store(pool.endpoints()[endpoint].worker(), Tier::Device, None, &blocks);
        }
        None => drop(pool.pick(&Ask { only: Some(&[endpoint]), ..ask(&chain) }, 0)),
    }
}

fn ask(chain: &[u64]) -> Ask<'_> {
    Ask { chain, prompt_tokens: PROMPT_TOKENS, exact: true, ..Ask::default() }
}

/// Requests on each endpoint after one herd.
fn herd(pool: &Pool, chain: &[u64]) -> Vec<usize> {
    let start = Barrier::new(AT_ONCE);
    let picks: Vec<_> = std::thread::scope(|scope| {
        let one = || {
            start.wait();
            pool.pick(&ask(chain), 0)
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.ok()).collect()
    });
    let mut spread = vec![0; pool.endpoints().len()];
    picks.iter().for_each(|pick| spread[pick.index] += 1);
    spread
}

fn herds(name: &str, endpoints: usize, picking: &Picking, held: bool) {
    let chain = hash::chain(&local(&tokens(0)));
    let (mut worst, mut spreads, mut refused) = (0.0_f64, Vec::new(), 0);
    for _ in 0..HERDS {
        let pool = pool(endpoints, picking.clone());
        if held {
            hold(&pool, 0, 0);
        }
        let spread = herd(&pool, &chain);
        let ideal = AT_ONCE as f64 / endpoints as f64;
        refused += AT_ONCE - spread.iter().sum::<usize>();
        worst = spread.iter().fold(worst, |worst, n| worst.max((*n as f64 - ideal).abs()));
        spreads.push(spread);
    }
    let holder: f64 = spreads.iter().map(|spread| spread[0] as f64).sum::<f64>() / HERDS as f64;
    let what = if held { "one endpoint holds the prompt" } else { "nothing cached" };
    println!(
        "{}",
        json!({"case": format!("{AT_ONCE} at once, {endpoints} endpoints, {what}"), "peer": name, "herds": HERDS,
            "off_ideal": worst, "on_holder": holder, "refused": refused, "example": spreads.pop()})
    );
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// What a choice takes from the prompt's tokens on (names of its blocks, what endpoints hold, cost, booking), over
/// many endpoints that all hold something, with many requests in flight.
fn latency(name: &str, picking: Picking) {
    let reads = picking.reads_prompts();
    let pool = pool(ENDPOINTS, picking);
    let prompts: Vec<_> = (0..PROMPTS).map(tokens).collect();
    for prompt in 0..PROMPTS {
        hold(&pool, prompt as usize % ENDPOINTS, prompt);
        hold(&pool, (prompt as usize + 7) % ENDPOINTS, prompt);
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut in_flight = std::collections::VecDeque::new();
    let mut times = Vec::with_capacity(PICKS);
    let begin = cpu();
    for number in 0..PICKS {
        let tokens = &prompts[random.usize(0..prompts.len())];
        let now = number as u64;
        let start = Instant::now();
        let chain = if reads { hash::chain(&local(black_box(tokens))) } else { Vec::new() };
        let pick = pool.pick(black_box(&ask(&chain)), now);
        times.push(start.elapsed().as_nanos() as f64 / 1e3);
        let Ok(pick) = pick else { return };
        pick.booking.prefill_done(now);
        in_flight.push_back(pick);
        if in_flight.len() > IN_FLIGHT {
            in_flight.pop_front();
        }
    }
    let cpu = (cpu() - begin).as_nanos() as f64 / 1e3 / PICKS as f64;
    times.sort_by(f64::total_cmp);
    let case = format!("pick from {PROMPT_TOKENS} tokens, {ENDPOINTS} endpoints");
    println!(
        "{}",
        json!({"case": case, "peer": name, "picks": PICKS, "p50_us": times[PICKS / 2],
            "p99_us": times[PICKS * 99 / 100], "cpu_us": cpu})
    );
}

pub(crate) fn run() {
    for (name, picking) in strategies::all() {
        for held in [false, true] {
            // What is held tells strategies apart only where they look at it.
            if held && !picking.reads_prompts() {
                continue;
            }
            POOLS.iter().for_each(|endpoints| herds(name, *endpoints, &picking, held));
        }
    }
    for (name, picking) in strategies::all() {
        if matches!(picking.strategy, Strategy::Kv | Strategy::Ttft | Strategy::LeastLoad) {
            latency(name, picking);
        }
    }
}
