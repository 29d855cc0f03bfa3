//! The `waypost` binary: the command line and the wiring, nothing else.

mod body_transformer;
mod certificate;
mod check;
mod classify;
mod cli;
mod collect;
mod counter;
mod data;
mod decide;
mod discover;
mod envoy;
mod epp;
mod error;
mod eval;
mod explain;
mod feeding;
mod import;
mod lines;
mod listen;
mod logged;
mod offline;
mod opened;
mod outcomes;
mod reload;
mod replay;
mod report;
mod roles;
mod serve;
mod sim;
mod source;
mod table;
mod train;
mod watched;
mod yaml;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use error::Error;
use std::io::Write;
use std::process::ExitCode;

// Many small allocations per request on many threads: measured faster and leaner than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has gone away (`waypost schema | head`): nothing is wrong.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Serve(options) => serve::run(options),
        Command::BodyTransformer(options) => body_transformer::run(options),
        Command::Check { file } => check::run(&file),
        Command::Classify(options) => classify::run(&options),
        Command::Train(options) => train::run(&options),
        Command::Eval(options) => eval::run(&options),
        Command::Decide(options) => decide::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Collect(options) => collect::run(&options),
        Command::Import { from } => import::run(&from),
        Command::Epp { flags } => epp::run(&flags),
        Command::Sim(options) => sim::run(options),
        Command::Schema => print(&format!("{:#}\n", waypost_config::json_schema())),
        Command::Version => print(&format!("waypost {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "waypost", &mut script);
            Ok(std::io::stdout().write_all(&script)?)
        }
    }
}

/// What a command has to say, on standard output.
fn print(text: &str) -> Result<(), Error> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
