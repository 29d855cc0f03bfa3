//! `waypost sim`: what can be set on a simulated engine.
//!
//! Part of `cli`. Ranges are checked by the engine, which names the option that is wrong.

use clap::{Args, ValueEnum};
use std::net::SocketAddr;

/// How KV events are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EventsForm {
    Array,
    Map,
}

/// Whose metric names are used.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MetricsForm {
    Vllm,
    Sglang,
    Trtllm,
}

/// What an engine does where prefill and decode are separate.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SimRole {
    Both,
    Prefill,
    Decode,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example, two terminals:\n  waypost sim --listen 127.0.0.1:9000 --model sim-small\n  curl -s http://127.0.0.1:9000/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{\"model\":\"sim-small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'\n\nTwo engines that publish their KV cache, as vLLM does:\n  waypost sim --listen 127.0.0.1:9000 --kv-events 'tcp://*:5557' --kv-replay 'tcp://*:5657'\n  waypost sim --listen 127.0.0.1:9001 --kv-events 'tcp://*:5558' --kv-replay 'tcp://*:5658'\n\nFaults, also at run time through POST /sim/faults and the header x-sim-fault:\n  waypost sim --fault 'status=503,n=3'"
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
    /// Time to bring one prompt token back from host memory, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0.002)]
    pub(crate) host_ms: f64,
    /// Time to fetch one prompt token from a prefill engine, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0.002)]
    pub(crate) transfer_ms: f64,
    /// By which part each further running request slows down the writing of a token
    #[arg(long, value_name = "PART", default_value_t = 0.01)]
    pub(crate) batch_factor: f64,
    /// Requests computed at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) max_running: usize,
    /// Tokens in one block of the cache
    #[arg(long, value_name = "TOKENS", default_value_t = 16)]
    pub(crate) block_size: u32,
    /// Blocks on the GPU, per rank
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub(crate) cache_blocks: usize,
    /// Blocks of host memory that take what the GPU evicts, per rank
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) host_blocks: usize,
    /// Data-parallel ranks, each with a batch and a cache of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) data_parallel: usize,
    /// Adapter to serve as a model; the name must begin with sim-; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) lora: Vec<String>,
    /// What it does where prefill and decode are separate
    #[arg(long, value_name = "ROLE", value_enum, default_value = "both")]
    pub(crate) role: SimRole,
    /// How long blocks are kept for a decode engine, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    pub(crate) kv_hold_ms: u64,
    /// Publish KV events here: tcp://*:5557 listens, connect:tcp://HOST:5557 connects; rank r has the port plus r
    #[arg(long, value_name = "URL")]
    pub(crate) kv_events: Option<String>,
    /// Send past KV events again to who asks here; rank r has the port plus r
    #[arg(long, value_name = "URL", requires = "kv_events")]
    pub(crate) kv_replay: Option<String>,
    /// How KV events are written: tagged arrays, or tagged maps as newer engines do
    #[arg(long, value_name = "FORM", value_enum, default_value = "array")]
    pub(crate) kv_events_form: EventsForm,
    /// First frame of every KV message
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) kv_topic: String,
    /// Put the topic into replayed messages too, as newer vLLM does
    #[arg(long)]
    pub(crate) kv_replay_topic: bool,
    /// Whose metric names /metrics uses
    #[arg(long, value_name = "FORM", value_enum, default_value = "vllm")]
    pub(crate) metrics_form: MetricsForm,
    /// A fault in force from the start; may be given several times
    #[arg(long = "fault", value_name = "SPEC")]
    pub(crate) faults: Vec<String>,
    /// Keep the latest requests for GET /sim/requests, bodies included
    #[arg(long)]
    pub(crate) record: bool,
}
