//! Prints how long tier 0 takes for all built-in classifiers, by prompt length, on one core.
//!
//! Run with `cargo run --release -p waypost-classify --example latency`. Distinct texts are rotated, so that neither the
//! branch predictor nor the cache knows the next one.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

use std::time::Instant;

use waypost_classify::{Builtin, Engine, Prompt};

const TOKENS: [usize; 5] = [16, 64, 256, 2048, 8192];
/// Distinct texts per length.
const TEXTS: usize = 64;
/// Work per length, in tokens, so that every line takes about as long.
const TOKENS_PER_LENGTH: usize = 4_000_000;
/// A word costs about this many tokens; good enough to name a length.
const WORDS_PER_TOKEN: f64 = 0.8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let engine = Engine::embedded()?;
    println!("load {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let corpus = include_str!("../tests/prompts.tsv");
    let words: Vec<&str> = corpus.split_whitespace().collect();
    println!("{:>8} {:>12} {:>12}   microseconds, all four classifiers", "tokens", "p50", "p99");
    for tokens in TOKENS {
        let length = (tokens as f64 * WORDS_PER_TOKEN) as usize;
        let texts: Vec<String> = (0..TEXTS)
            .map(|text| {
                (0..length).map(|i| words[(text * 37 + i) % words.len()]).collect::<Vec<_>>().join(" ")
            })
            .collect();
        let runs = (TOKENS_PER_LENGTH / tokens).clamp(200, 20_000);
        let mut times = Vec::with_capacity(runs);
        for run in 0..runs + runs / 10 {
            let prompt = Prompt { focus: &texts[run % TEXTS], context: "" };
            let started = Instant::now();
            let verdicts =
                engine.read(&prompt, |reading| Builtin::ALL.map(|head| engine.builtin(head).judge(&reading)));
            let taken = started.elapsed();
            std::hint::black_box(verdicts);
            if run >= runs / 10 {
                times.push(taken);
            }
        }
        times.sort_unstable();
        let micros = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
        println!("{tokens:>8} {:>12.1} {:>12.1}", micros(0.50), micros(0.99));
    }
    Ok(())
}
