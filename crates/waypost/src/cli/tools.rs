//! Commands that decide without sending, look back at what was decided, and prepare what is learnt from.
//!
//! Part of `cli`.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "With --jsonl every line of standard input is a request: the body of a chat, responses or completions request; an object with \"text\"; or {\"request\": BODY, \"headers\": {\"x-session-id\": ...}}. Every line of the answer is a Decision as POST /v1/decision gives it, in the order of the input; its id is the number of the line. For an auto policy `candidates` tells each model's expected quality, cost and latency. A line that cannot be decided is answered with {\"error\": ..., \"line\": n}; the others are answered all the same and the exit status is 1.\n\nThe encoder is waited for, whatever its deadline; servers that classify are asked.\n\nExamples:\n  waypost decide --config waypost.yaml \"Prove that there are infinitely many primes\"\n  waypost decide --config waypost.yaml < prompt.txt\n  waypost decide --config waypost.yaml --policy smart --jsonl < requests.jsonl"
)]
pub(crate) struct Decide {
    /// One prompt; read from standard input when absent
    #[arg(conflicts_with = "jsonl")]
    pub(crate) text: Option<String>,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "WAYPOST_CONFIG")]
    pub(crate) config: PathBuf,
    /// Decide all by this policy [default: what a request names, else the default policy]
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// Read a request a line from standard input, print a Decision a line
    #[arg(long)]
    pub(crate) jsonl: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Device, host and disk are blocks of the prompt that an endpoint holds, requests and tokens what it had on its hands when the choice was made. A running Waypost keeps the latest few thousand Decisions (limits.decisions_kept).\n\nExamples:\n  waypost explain 1ec3be660000000000000001\n  tail -n 1 decisions.jsonl | jq .decision | waypost explain -"
)]
pub(crate) struct Explain {
    /// The Decision's id, from the header x-waypost-decision-id; `-` reads a Decision from standard input
    pub(crate) id: String,
    /// The Waypost that decided
    #[arg(long, value_name = "URL", default_value = "http://localhost:8084")]
    pub(crate) url: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The log is the file that `log: {file: {path: ..., prompts: true}}` has the gateway write, plain or gzipped. Requests are decided in the order in which they arrived, with the times, latencies and answers of servers that the log has, so that the same configuration decides the same.\n\nWithout --policy every request is decided as it was asked for then: by the configuration as it is now. With --policy every chat goes by that policy, also where the client named a model; what servers answer is asked anew.\n\nCosts: tokens that were used, at the price of the model that would have answered.\n\nExamples:\n  waypost replay decisions.jsonl --config waypost.yaml --verify\n  waypost replay decisions.jsonl.gz --config waypost.yaml --policy smart\n  waypost replay decisions.jsonl --config new.yaml --json --out decided.jsonl"
)]
pub(crate) struct Replay {
    /// The decision file
    pub(crate) log: PathBuf,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "WAYPOST_CONFIG")]
    pub(crate) config: PathBuf,
    /// Decide all chats by this policy
    #[arg(long, value_name = "NAME", conflicts_with = "verify")]
    pub(crate) policy: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Fail unless every decision is the same, and name the first that is not
    #[arg(long)]
    pub(crate) verify: bool,
    /// Write the new Decisions into this file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The log is the file that `log: {file: {path: ...}}` has the gateway write, plain or gzipped; prompts are not needed.\n\nErrors are answers with a status from 500 and answers that broke off. Percentiles are those of up to 100,000 requests a row, drawn at random beyond that. Differences between the arms of a split come with an interval that holds the true one 95 times of 100, taking requests as independent.\n\nExamples:\n  waypost report decisions.jsonl\n  waypost report decisions.jsonl --by split\n  cat old/*.gz | waypost report - --json"
)]
pub(crate) struct Report {
    /// The decision file; - reads standard input
    pub(crate) log: PathBuf,
    /// Only this view [default: all that the log has something for]
    #[arg(long, value_enum)]
    pub(crate) by: Option<ReportBy>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A view of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportBy {
    /// The policy that decided
    Policy,
    /// The arms of each split
    Split,
    /// The model that answered
    Model,
    /// What policies in shadow would have done
    Shadow,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The prompts: JSON Lines or CSV, also gzipped, with a field prompt (or text, or question) and, unless answers are scored by a regular expression, the right answer; a field source is handed on. Answers are scored\n  by the right answer: as a choice where that is a letter, as a number where it is one, else as text without case, blanks and punctuation, the whole answer or what stands last;\n  with --regex: 1 where it is found in the answer; a row's own field regex goes first;\n  with --judge: by a model that is told the right answer and says yes or no, and is no contestant itself. What it says is never guessed at: a verdict that cannot be read leaves the row out.\n\nA model that fails is not wrong: such rows are left out and counted. The file grows by a row an answer; run the command again to go on where it was stopped or where models failed. Each row says how it was scored; scores of different kinds do not mix in one file.\n\nExamples:\n  waypost collect --prompts questions.jsonl --config waypost.yaml --models small,large --out outcomes.jsonl\n  waypost collect --prompts questions.csv --config waypost.yaml --models small,large --judge referee --out outcomes.jsonl\n  waypost train --outcomes outcomes.jsonl --out outcomes"
)]
pub(crate) struct Collect {
    /// Prompts: JSON Lines or CSV, also gzipped
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: PathBuf,
    /// Configuration file, which says where the models run
    #[arg(short, long, value_name = "FILE", env = "WAYPOST_CONFIG")]
    pub(crate) config: PathBuf,
    /// Models to ask, by their names in the configuration
    #[arg(long, value_name = "NAME,NAME", required = true, value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// The file to write or to go on with, one row an answer
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The field that holds the right answer
    #[arg(long, value_name = "FIELD", default_value = "answer")]
    pub(crate) answer_field: String,
    /// The field that holds the prompt [default: prompt, text or question]
    #[arg(long, value_name = "FIELD")]
    pub(crate) prompt_field: Option<String>,
    /// An answer is right where this regular expression is found in it
    #[arg(long, value_name = "REGEX", conflicts_with = "judge")]
    pub(crate) regex: Option<String>,
    /// A model of the configuration that compares each answer with the right one
    #[arg(long, value_name = "NAME")]
    pub(crate) judge: Option<String>,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,
    /// Of the models that are asked; a model that does not take it is asked without
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true, value_parser = temperature)]
    pub(crate) temperature: f64,
}

fn temperature(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=2.0).contains(number));
    number.ok_or_else(|| "not a number from 0 to 2".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportFrom {
    /// LLM Router v2's config.yml
    NvidiaV2(NvidiaV2),
    /// vLLM Semantic Router's configuration: v0.1, v0.2 and v0.3
    #[command(
        after_help = "The configuration has vSR's models, with their endpoints, prices and reasoning, and a policy for its routing and for each of its recipes. What has no counterpart is told on standard error, one note a reason. Keys in clear are not copied.\n\nExamples:\n  waypost import vsr config.yaml > waypost.yaml\n  waypost import vsr config.yaml --out waypost.yaml"
    )]
    Vsr(Imported),
}

/// What is imported, and where to.
#[derive(Debug, Args)]
pub(crate) struct Imported {
    /// The other router's file
    pub(crate) file: PathBuf,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The configuration has v2's models, its intent policy with its five routes, and its thresholds and costs. What needs a hand stands in its comments; what has no counterpart is told on standard error. The policy over v2's network is written out where the file chose it or --network is given, and commented out otherwise.\n\nExamples:\n  waypost import nvidia-v2 src/nat_sfc_router/configs/config.yml > waypost.yaml\n  waypost import nvidia-v2 config.yml --network nn_router.safetensors --out waypost.yaml"
)]
pub(crate) struct NvidiaV2 {
    #[command(flatten)]
    pub(crate) imported: Imported,
    /// v2's network as a safetensors file, relative to the folder of the configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) network: Option<PathBuf>,
}
