//! The command line: what the user can type, and the help that teaches it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Waypost decides which model, and which replica of it, should answer each prompt, and gets the
/// request there. It speaks OpenAI's API, so a client only changes its base URL.
#[derive(Debug, Parser)]
#[command(
    name = "waypost",
    version,
    arg_required_else_help = true,
    after_help = "Start here:\n  waypost serve                       finds local engines, or simulates some\n  waypost classify \"Write a haiku\"    shows what the classifier thinks\n  waypost check waypost.yaml          explains what is wrong with a config"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway
    Serve(Serve),
    /// Check a configuration file and say what it does
    Check {
        /// The YAML file; both Waypost's own form and NVIDIA LLM Router v1's
        file: PathBuf,
    },
    /// Classify a prompt with the embedded classifiers
    Classify(Classify),
    /// Run a simulated engine, to try configurations without a GPU
    Sim(Sim),
    /// Print the JSON schema of the configuration, for editors
    Schema,
    /// Print the version
    Version,
    /// Print a completion script
    #[command(
        after_help = "Example:\n  waypost completions bash > ~/.local/share/bash-completion/completions/waypost"
    )]
    Completions {
        /// The shell it is for
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without --config, Waypost looks for engines on the usual local ports (vLLM 8000, SGLang 30000,\nOllama 11434, llama.cpp 8080) and for OPENAI_API_KEY and NVIDIA_API_KEY; what it finds becomes the\nmodels. With nothing found it starts three simulated engines and says so.\n\nThe configuration is read again when the file changes and on SIGHUP. SIGTERM drains."
)]
pub(crate) struct Serve {
    /// Configuration file; NVIDIA LLM Router v1's files run unchanged
    #[arg(short, long, alias = "config-path", value_name = "FILE", env = "WAYPOST_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Listen here, whatever the configuration says; a port alone means every address
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Print the configuration made from what was found, and stop
    #[arg(long, conflicts_with = "config")]
    pub(crate) print_config: bool,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}

/// `127.0.0.1:8084`, `[::1]:8084` or `8084`.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    text.parse().map_err(|_| "expected ADDR:PORT such as 127.0.0.1:8084, or a port".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for a terminal, JSON otherwise
    Auto,
    /// One line of text per event
    Text,
    /// One JSON object per event
    Json,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  waypost classify \"Help me write a python function\"\n  echo \"Summarize this: ...\" | waypost classify --json"
)]
pub(crate) struct Classify {
    /// The prompt; read from standard input when absent
    pub(crate) text: Option<String>,
    /// Only this classifier
    #[arg(long, value_enum)]
    pub(crate) classifier: Option<HeadName>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeadName {
    /// 12 kinds of task
    Task,
    /// 7 kinds of complexity, and a difficulty from 0 to 1
    Complexity,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example, two terminals:\n  waypost sim --listen 127.0.0.1:9000 --model sim-small\n  curl -s http://127.0.0.1:9000/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{\"model\":\"sim-small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'\n\nFaults, also at run time through POST /sim/faults and the header x-sim-fault:\n  waypost sim --fault 'status=503,n=3'"
)]
pub(crate) struct Sim {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// Model to serve; the name must begin with sim-; may be given several times
    #[arg(long = "model", value_name = "NAME", default_value = "sim-small")]
    pub(crate) models: Vec<String>,
    /// Answer for every model name
    #[arg(long)]
    pub(crate) any_model: bool,
    /// Time to read one uncached prompt token, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0.02)]
    pub(crate) prefill_ms: f64,
    /// Time to write one token, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5.0)]
    pub(crate) decode_ms: f64,
    /// Requests computed at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) max_running: usize,
    /// A fault in force from the start; may be given several times
    #[arg(long = "fault", value_name = "SPEC")]
    pub(crate) faults: Vec<String>,
    /// Keep the latest requests for GET /sim/requests, bodies included
    #[arg(long)]
    pub(crate) record: bool,
}
