//! Measures the endpoint picker; prints one JSON object per row.
//!
//! `cargo run --profile dist -p waypost-bench-picker -- index [hashing|memory|clear|match|operations]`, `churn FILE.jsonl.gz`, `herd`,
//! `tokens TEXT.jsonl[.gz]...`, or `trace FILE.jsonl.gz [all|first|second [CACHE]]`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod churn;
mod engine;
mod herd;
mod index;
mod peers;
mod replay;
mod strategies;
mod tokens;
mod trace;

/// That of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("index") => {
            index::run(args.get(1).map_or("", String::as_str));
            Ok(())
        }
        Some("herd") => {
            herd::run();
            Ok(())
        }
        Some("churn") if args.len() == 2 => churn::run(&args[1]),
        Some("tokens") if args.len() > 1 => tokens::run(&args[1..]).map_err(|error| error as _),
        Some("trace") => trace::run(&args[1..]),
        _ => {
            Err("usage: waypost-bench-picker index [CASE] | churn FILE | herd | tokens TEXT... | trace FILE [all|first|second [CACHE]]"
                .into())
        }
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return std::process::ExitCode::FAILURE;
    }
    std::process::ExitCode::SUCCESS
}
