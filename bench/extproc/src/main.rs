//! The programs around Envoy in `make bench-extproc`, each in a process of its own: a processor that decides nothing
//! (the floor), an engine that answers at once, and a load.
//!
//! `floor LISTEN [DESTINATION]`, `engine PORT`, `load PORT BODIES CONNECTIONS SECONDS`, or `hold PORT BODIES REQUESTS MILLISECONDS`.
//! They measure nothing of themselves; bench/extproc.py starts them and reads what they print.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod engine;
mod floor;
mod load;

/// That of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: waypost-bench-extproc floor LISTEN [DESTINATION] | engine PORT | load PORT BODIES CONNECTIONS SECONDS \
                     | hold PORT BODIES REQUESTS MILLISECONDS";

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(&words)));
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Done {
    match *words {
        ["floor", listen] => floor::run(listen, None).await,
        ["floor", listen, destination] => floor::run(listen, Some(destination)).await,
        ["engine", port] => engine::run(port.parse()?).await,
        ["load", port, bodies, connections, seconds] => {
            let row = load::load(port.parse()?, bodies, connections.parse()?, seconds.parse()?).await?;
            println!("{row}");
            Ok(())
        }
        ["hold", port, bodies, requests, milliseconds] => {
            let row = load::hold(port.parse()?, bodies, requests.parse()?, milliseconds.parse()?).await?;
            println!("{row}");
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}
