//! A request trace on simulated engines, at several rates: what each strategy makes of it.
//!
//! The arrival rate is told as a share of the one at which least-load keeps engines 90 % busy with prompts. Requests of
//! one timestamp are spread evenly at random until the next; the seeds differ in that and in ties.

use crate::engine::Job;
use crate::replay::{Seen, Setup, replay};
use crate::strategies;
use serde::Deserialize;
use serde_json::json;
use std::io::{BufRead, BufReader};
use waypost_config::{Picking, Strategy};
use waypost_picker::hash;

/// Tokens in a block of the trace, and so of the simulated engines.
pub(crate) const BLOCK_TOKENS: u32 = 512;
const ENGINES: usize = 8;
/// Blocks in each engine's cache: 375,000 tokens, 3 million in all.
const CAPACITY: usize = 732;
/// Share of the time that least-load has engines read prompts at rate 1.
const BUSY: f64 = 0.9;
const RATES: [f64; 3] = [0.7, 0.9, 1.0];
const SEEDS: [u64; 3] = [1, 2, 3];

#[derive(Deserialize)]
struct Line {
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

/// A part of a trace: requests, and the milliseconds at which they came.
pub(crate) struct Trace {
    pub(crate) jobs: Vec<Job>,
    times: Vec<u64>,
}

/// Reads `path`; `part` is `all`, `first` or `second` (half).
pub(crate) fn read(path: &str, part: &str) -> Result<Trace, Box<dyn std::error::Error>> {
    let file = BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(path)?));
    let lines: Result<Vec<Line>, _> =
        file.lines().map(|line| line.map(|l| serde_json::from_str(&l))).collect::<Result<_, _>>()?;
    let lines = lines?;
    let half = lines.len() / 2;
    let lines = match part {
        "first" => &lines[..half],
        "second" => &lines[half..],
        "all" => &lines[..],
        other => return Err(format!("unknown part {other}").into()),
    };
    let begin = lines.first().map_or(0, |line| line.timestamp);
    let times = lines.iter().map(|line| line.timestamp - begin).collect();
    Ok(Trace { jobs: lines.iter().map(job).collect(), times })
}

fn job(line: &Line) -> Job {
    let full = (line.input_length / BLOCK_TOKENS) as usize;
    let local: Vec<u64> = line.hash_ids.iter().take(full).copied().collect();
    let blocks = (line.input_length + line.output_length).div_ceil(BLOCK_TOKENS) as usize;
    Job {
        chain: hash::chain(&local),
        own_blocks: blocks - local.len(),
        local,
        prompt_tokens: line.input_length.max(1),
        output_tokens: line.output_length,
    }
}

impl Trace {
    /// Arrival times in seconds, `speed` times faster than recorded.
    fn arrivals(&self, speed: f64, seed: u64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut arrivals = Vec::with_capacity(self.times.len());
        let mut gap = 0;
        for same in self.times.chunk_by(|a, b| a == b) {
            let begin = arrivals.len();
            let time = same.first().copied().unwrap_or(0);
            gap = self.times.get(begin + same.len()).map_or(gap, |next| next - time);
            let mut at: Vec<f64> = same.iter().map(|_| time as f64 + gap as f64 * random.f64()).collect();
            at.sort_by(f64::total_cmp);
            arrivals.extend(at.iter().map(|ms| ms / 1000.0 / speed));
        }
        arrivals
    }

    /// Seconds that prompts are read under least-load, to the seconds there are.
    fn busy(&self, speed: f64, setup: Setup) -> f64 {
        let arrivals = self.arrivals(speed, 0);
        fastrand::seed(0);
        let least_load = Picking { strategy: Strategy::LeastLoad, ..Picking::default() };
        let seen = replay(&self.jobs, &arrivals, setup, least_load);
        seen.read_s.iter().sum::<f64>() / setup.engines as f64 / arrivals.last().copied().unwrap_or(1.0)
    }

    /// The speed at which that share is [`BUSY`].
    fn speed(&self, setup: Setup) -> f64 {
        let (mut low, mut high) = (0.01, 100.0);
        for _ in 0..16 {
            let middle = f64::sqrt(low * high);
            if self.busy(middle, setup) < BUSY { low = middle } else { high = middle }
        }
        f64::sqrt(low * high)
    }
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or(0.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn row(case: &str, peer: &str, seed: u64, mut seen: Seen, span: f64) -> serde_json::Value {
    seen.ttft.sort_by(f64::total_cmp);
    let served = seen.ttft.len();
    let busiest = seen.read_s.iter().copied().fold(0.0, f64::max);
    json!({
        "peer": peer, "case": case, "rep": seed,
        "ttft_mean_ms": mean(&seen.ttft) * 1e3, "ttft_p50_ms": quantile(&seen.ttft, 0.5) * 1e3,
        "ttft_p99_ms": quantile(&seen.ttft, 0.99) * 1e3, "e2e_mean_ms": mean(&seen.e2e) * 1e3,
        "cached_percent": 100.0 * seen.cached_tokens as f64 / seen.prompt_tokens as f64,
        "refused_percent": 100.0 * seen.refused as f64 / (served + seen.refused) as f64,
        "busy_percent": 100.0 * mean(&seen.read_s) / span,
        "imbalance": busiest / mean(&seen.read_s),
        "regret_percent": 100.0 * seen.regret_blocks as f64 / seen.blocks as f64,
        "pick_us": seen.pick_ns as f64 / 1e3 / (served + seen.refused) as f64,
    })
}

/// `trace PATH [PART [CAPACITY]]`: the capacity is a factor on [`CAPACITY`].
pub(crate) fn run(args: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let path = args.first().ok_or("which trace?")?;
    let part = args.get(1).map_or("all", String::as_str);
    let factor: f64 = args.get(2).map_or(Ok(1.0), |f| f.parse())?;
    let capacity = (CAPACITY as f64 * factor) as usize;
    let setup = Setup { engines: ENGINES, capacity, block_tokens: BLOCK_TOKENS };
    let trace = read(path, part)?;
    if trace.jobs.iter().any(|job| job.chain.len() + job.own_blocks > capacity) {
        return Err("a request has more blocks than an engine".into());
    }
    let speed = trace.speed(setup);
    let name = path.rsplit('/').next().and_then(|name| name.split("_trace").next()).unwrap_or(path);
    println!(
        "{}",
        json!({"trace": name, "part": part, "requests": trace.jobs.len(), "speed": speed, "blocks": capacity})
    );
    for rate in RATES {
        let case = format!("{name}, {part}, cache {factor}, rate {rate}");
        for seed in SEEDS {
            let arrivals = trace.arrivals(speed * rate, seed);
            let span = arrivals.last().copied().unwrap_or(1.0);
            for (peer, picking) in strategies::all() {
                fastrand::seed(seed);
                let seen = replay(&trace.jobs, &arrivals, setup, picking);
                println!("{}", row(&case, peer, seed, seen, span));
            }
        }
    }
    Ok(())
}
