//! The command line: what the user can type, and the help that teaches it.

mod body_transformer;
mod sim;
mod tools;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::outcomes::{Price, parse_price};
pub(crate) use body_transformer::{BodyTransformer, Unpinned};
pub(crate) use sim::{EventsForm, MetricsForm, Sim, SimRole};
pub(crate) use tools::{Collect, Decide, Explain, ImportFrom, Imported, Replay, Report, ReportBy};

/// Waypost decides which model, and which replica of it, should answer each prompt, and gets the
/// request there. It speaks OpenAI's API, so a client only changes its base URL.
#[derive(Debug, Parser)]
#[command(
    name = "waypost",
    version,
    arg_required_else_help = true,
    after_help = "Start here:\n  waypost serve                       finds local engines, or simulates some\n  waypost classify \"Write a haiku\"    shows what the classifier thinks\n  waypost check waypost.yaml          explains what is wrong with a config\n  waypost train --data FILE --out DIR trains a classifier on your own labels"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway
    Serve(Serve),
    /// Put the workers that another picker named in headers into Dynamo's request bodies, behind Envoy
    BodyTransformer(BodyTransformer),
    /// Check a configuration file and say what it does
    Check {
        /// The YAML file; both Waypost's own form and NVIDIA LLM Router v1's
        file: PathBuf,
    },
    /// Classify a prompt, or one a line, with a built-in or a trained classifier
    Classify(Classify),
    /// Train a classifier of your own from labelled rows
    Train(Train),
    /// Measure a classifier on labelled rows, or compare two
    Eval(Eval),
    /// Say which model would be taken, for a prompt or for one request a line, and send nothing
    Decide(Decide),
    /// Decide logged requests again, and say what would change
    Replay(Replay),
    /// Compare the policies, experiments and shadows of a decision file
    Report(Report),
    /// Say why a request went where it went: its Decision as tables
    Explain(Explain),
    /// Ask several models the same prompts and score their answers, for `train --outcomes`
    Collect(Collect),
    /// Write a Waypost configuration from another router's
    Import {
        /// Whose configuration it is
        #[command(subcommand)]
        from: ImportFrom,
    },
    /// Pick endpoints for Envoy in the place of llm-d's, Dynamo's or the Gateway API's picker, with its flags
    #[command(disable_help_flag = true)]
    Epp {
        /// Flags of an endpoint picker; `waypost epp --help` lists them
        #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
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
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
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
    after_help = "The built-in classifiers:\n  task        what kind of work is wanted, 12 labels\n  complexity  what makes it hard, 7 labels, and how hard, 0 to 1\n  domain      what it is about, 14 labels\n  safety      benign, jailbreak or injection\n  pii         personal data: none or pii, and the spans\nA trained folder of one of these names is given as ./NAME.\n\nWith --jsonl every line of standard input is an object with \"text\", or the body of a chat request with \"messages\"; every line of the answer has label, confidence, probabilities and tier (ngram, encoder, or detector for pii), and escalated_because where the encoder was asked; pii adds spans, each with kind, start and end in bytes of the UTF-8 text, and confidence. A line that cannot be read is answered with {\"error\": ..., \"line\": n}; the others are answered all the same and the exit status is 1.\n\nExamples:\n  waypost classify \"Help me write a python function\"\n  echo \"Summarize this: ...\" | waypost classify --json\n  waypost classify --classifier domain --jsonl < prompts.jsonl\n  waypost classify --classifier ./my-intents \"where is my card\""
)]
pub(crate) struct Classify {
    /// The prompt; read from standard input when absent
    #[arg(conflicts_with = "jsonl")]
    pub(crate) text: Option<String>,
    /// Only this classifier: task, complexity, domain, safety, pii, or a folder written by `waypost train`
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) classifier: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Read an object a line from standard input, print an object a line
    #[arg(long, conflicts_with = "json")]
    pub(crate) jsonl: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The data: JSON Lines, or CSV with a header line; either may be gzipped. From 20 rows to a million, any set of 2 to 2,000 labels.\n\nA part of the rows is held out to measure and to calibrate: whole sources where the rows have a source field with three values or more, because random splits flatter; at random otherwise. The folder is trained on all rows. The same data and seed give the same bytes.\n\nThe folder: model.safetensors (what Waypost loads), labels.json (thresholds), metrics.json, README.md (the model card), reliability.svg, confusion.svg. It replaces an earlier trained folder of the name, and nothing else.\n\nWith --outcomes: rows of prompt, model and correct (or score, 0 to 1), and where known prompt_tokens, completion_tokens, latency_ms, source; from 20 prompts that two models or more have answered. Learns which model does well on what, for policies with `classifier: {auto: …}`, and says what that gains over always taking one model. The folder: outcomes.safetensors, metrics.json, README.md, curve.svg, curve.json.\n\nExamples:\n  waypost train --data tickets.csv --text-field message --label-field queue --out tickets\n  waypost train --data intents.jsonl.gz --out intents --no-encoder\n  waypost train --outcomes outcomes.jsonl --price small=0.1/0.4 --price large=2/8 --out outcomes\n  waypost classify --classifier ./intents \"where is my card\""
,
    group = clap::ArgGroup::new("rows").required(true)
)]
pub(crate) struct Train {
    /// Labelled rows, for a classifier: JSON Lines or CSV, also gzipped
    #[arg(long, value_name = "FILE", group = "rows")]
    pub(crate) data: Option<PathBuf>,
    /// Outcomes, to learn which model does well on what: a row a prompt and model, in the same forms
    #[arg(long, value_name = "FILE", group = "rows")]
    pub(crate) outcomes: Option<PathBuf>,
    /// The field that holds the label
    #[arg(long, value_name = "FIELD", default_value = "label", conflicts_with = "outcomes")]
    pub(crate) label_field: String,
    /// The field that holds the text
    #[arg(long, value_name = "FIELD", default_value = "text", conflicts_with = "outcomes")]
    pub(crate) text_field: String,
    #[command(flatten)]
    pub(crate) outcome: OutcomeFields,
    /// The field that says where a row comes from [default: source, or group for outcomes, where rows have it]
    #[arg(long, value_name = "FIELD")]
    pub(crate) source_field: Option<String>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The classifier's name [default: that of the folder]
    #[arg(long, value_name = "NAME", conflicts_with = "outcomes")]
    pub(crate) name: Option<String>,
    /// Only these models of the outcomes, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// Of splits and of training
    #[arg(long, value_name = "N", default_value_t = 2026)]
    pub(crate) seed: u64,
    /// N-grams only: trains in seconds, answers in microseconds, and is wrong more often
    #[arg(long)]
    pub(crate) no_encoder: bool,
}

/// Which fields of outcomes hold what, and what requests cost.
#[derive(Debug, Args)]
#[command(next_help_heading = "Outcomes")]
pub(crate) struct OutcomeFields {
    /// The field that holds the prompt [default: prompt, or text]
    #[arg(long, value_name = "FIELD")]
    pub(crate) prompt_field: Option<String>,
    /// The field that names the model [default: model]
    #[arg(long, value_name = "FIELD")]
    pub(crate) model_field: Option<String>,
    /// The field that says how good the answer was, true or false or 0 to 1 [default: correct, or score]
    #[arg(long, value_name = "FIELD")]
    pub(crate) score_field: Option<String>,
    /// What a model costs, in USD a million tokens of prompt and of completion; once a model
    #[arg(long = "price", value_name = "NAME=IN/OUT", value_parser = parse_price)]
    pub(crate) prices: Vec<(String, Price)>,
    /// Take prices from the models of this configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl OutcomeFields {
    /// The first of these options that was given: without `--outcomes` they mean nothing.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let fields = [
            (self.prompt_field.is_some(), "--prompt-field"),
            (self.model_field.is_some(), "--model-field"),
            (self.score_field.is_some(), "--score-field"),
            (!self.prices.is_empty(), "--price"),
            (self.config.is_some(), "--config"),
        ];
        fields.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Every row is classified on its own and timed, warm, on one core; a server is asked by eight connections at once and timed from request to answer. A label in the data that the classifier does not know is counted as wrong and named.\n\nWith --json one object: n, accuracy, macro_f1, ece, p50_us, p99_us, escalated, and labels, confusions, skipped.\nWith --compare: {\"a\": ..., \"b\": ..., \"only_a_right\": n, \"only_b_right\": n}.\nWith --outcomes: quality and cost of each rule beside always one model, random and oracle, with 95 % intervals.\n\nExamples:\n  waypost eval --classifier task --data prompts.jsonl\n  waypost eval --classifier ./intents --data test.csv --out report\n  waypost eval --classifier http://127.0.0.1:8000/v2/models/task_router_ensemble/infer --labels task --data prompts.jsonl\n  waypost eval --compare task ./my-task --data prompts.jsonl --json\n  waypost eval --outcomes ./outcomes --data later.jsonl"
)]
pub(crate) struct Eval {
    /// task, complexity, domain, safety, a trained folder, or the infer URL of a KServe v2 server
    #[arg(
        long,
        value_name = "NAME|DIR|URL",
        required_unless_present_any = ["compare", "outcomes"],
        conflicts_with = "compare"
    )]
    pub(crate) classifier: Option<String>,
    /// A folder written by `waypost train --outcomes`, judged on rows of outcomes
    #[arg(long, value_name = "DIR", conflicts_with_all = ["classifier", "compare", "labels"])]
    pub(crate) outcomes: Option<PathBuf>,
    /// Two classifiers on the same rows, side by side
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub(crate) compare: Vec<String>,
    /// Labelled rows: JSON Lines or CSV, also gzipped; several files are read as one
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) data: Vec<PathBuf>,
    /// The field that holds the right label
    #[arg(long, value_name = "FIELD", default_value = "label", conflicts_with = "outcomes")]
    pub(crate) label_field: String,
    /// The field that holds the text
    #[arg(long, value_name = "FIELD", default_value = "text", conflicts_with = "outcomes")]
    pub(crate) text_field: String,
    #[command(flatten)]
    pub(crate) outcome: OutcomeFields,
    /// Labels of a server's outputs, in order: a built-in classifier's name, or a file with one a line
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) labels: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Write reliability.svg and confusion.svg, or curve.svg, into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
