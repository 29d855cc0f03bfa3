//! Prints what the encoder makes of each line of standard input, as JSON arrays, and how long it took.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool's report")]

use std::io::BufRead as _;
use std::time::Instant;

use waypost_classify::Base;
use waypost_classify::encoder::{Branch, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = Base::embedded()?;
    let mut session = Session::new(base.encoder().clone())?;
    let branch = if std::env::args().any(|a| a == "--prompt") { Branch::Prompt } else { Branch::Sentence };
    let (mut times, mut tokens) = (Vec::new(), 0);
    for line in std::io::stdin().lock().lines() {
        let text = line?.replace("\\n", "\n");
        let started = Instant::now();
        let encoding = session.encode(&text, branch)?;
        times.push(started.elapsed());
        tokens += session.tokens();
        println!("{:?}", encoding.embedding());
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    eprintln!("{} texts, {} tokens: p50 {:.2} ms, p99 {:.2} ms", times.len(), tokens, at(0.5), at(0.99));
    Ok(())
}
