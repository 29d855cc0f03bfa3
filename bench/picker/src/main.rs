//! Measures the endpoint picker; prints one JSON object per row.
//!
//! `cargo run --profile dist -p waypost-bench-picker -- index`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod index;
mod peers;

/// That of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("index") => index::run(),
        _ => {
            eprintln!("usage: waypost-bench-picker index");
            return std::process::ExitCode::FAILURE;
        }
    }
    std::process::ExitCode::SUCCESS
}
