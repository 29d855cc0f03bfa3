//! What the owner of a simulated engine can set, with the defaults and the checks.
//!
//! It holds no state of a running engine. `waypost sim` fills it from the command line, tests by hand.

use serde::Serialize;

use crate::sockets::CONNECT;
use crate::{Error, Fault};

/// Every model name starts with this, so that nobody takes the engine for a real one.
pub(crate) const MODEL_PREFIX: &str = "sim-";
/// Models one engine may serve; each has a set of metrics of its own.
pub(crate) const MAX_MODELS: usize = 64;
/// The longest answer, in tokens, whatever a request asks for.
pub(crate) const MAX_ANSWER_TOKENS: u32 = 32_768;
/// The largest embedding vector, in numbers.
pub(crate) const MAX_DIMENSIONS: usize = 8_192;

const DEFAULT_MODEL: &str = "sim-small";
const DEFAULT_PREFILL_MS_PER_TOKEN: f64 = 0.02;
const DEFAULT_DECODE_MS_PER_TOKEN: f64 = 5.0;
const DEFAULT_MAX_RUNNING: usize = 64;
const DEFAULT_MAX_WAITING: usize = 1_024;
const DEFAULT_BLOCK_SIZE: u32 = 16;
const DEFAULT_CACHE_BLOCKS: usize = 16_384;
const DEFAULT_HOST_MS_PER_TOKEN: f64 = 0.002;
const DEFAULT_TRANSFER_MS_PER_TOKEN: f64 = 0.002;
const DEFAULT_BATCH_FACTOR: f64 = 0.01;
const DEFAULT_KV_HOLD_MS: u64 = 30_000;
const DEFAULT_MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
const DEFAULT_ANSWER_TOKENS: (u32, u32) = (24, 96);
const DEFAULT_DIMENSIONS: usize = 256;
/// A token takes at most this long, so that a slip of the keyboard does not stop the engine for days.
const MAX_MS_PER_TOKEN: f64 = 60_000.0;
/// Bounds of the batch and its queue, in requests, and of the cache, in blocks.
const MAX_REQUESTS: usize = 1 << 20;
const MAX_CACHE_BLOCKS: usize = 1 << 22;
/// The largest block, in tokens.
const MAX_BLOCK_SIZE: u32 = 1_024;
const MAX_RANKS: usize = 64;
const MAX_KV_HOLD_MS: u64 = 600_000;
const MAX_TOPIC_BYTES: usize = 1_024;

/// Where a streamed or whole answer reports its token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageForm {
    /// As OpenAI and vLLM do: a last chunk with empty `choices`, only when `stream_options.include_usage` asks for it.
    #[default]
    OpenAi,
    /// As NVIDIA NIM does: the chunk that carries `finish_reason` carries `usage` as well, asked for or not.
    Nim,
    /// Never, not even in an answer that is not streamed: an engine that does not count.
    Never,
}

/// How KV cache events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventsForm {
    /// Tagged arrays, as vLLM up to 0.23 and older SGLang.
    #[default]
    Array,
    /// Tagged maps, as newer vLLM and SGLang.
    Map,
}

/// Whose metric names `/metrics` uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsForm {
    /// vLLM's, all that the engine counts.
    #[default]
    Vllm,
    /// SGLang's: running, waiting, cache usage and size.
    Sglang,
    /// TensorRT-LLM's: the same.
    Trtllm,
}

/// What an engine does where prefill and decode are separate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Either, as a request asks.
    #[default]
    Both,
    /// Reads prompts; with SGLang's fields it answers with one token.
    Prefill,
    /// Writes answers.
    Decode,
}

/// Settings of a simulated engine; see the field docs for units.
#[derive(Clone, Debug)]
pub struct Options {
    /// Models served, each name beginning with `sim-`.
    pub models: Vec<String>,
    /// Serve every model name; a name without the prefix is answered as `sim-NAME`.
    pub any_model: bool,
    /// Time to read one prompt token that is not in the prefix cache, in milliseconds.
    pub prefill_ms_per_token: f64,
    /// Time to write one token, in milliseconds.
    pub decode_ms_per_token: f64,
    /// Requests computed at once; the rest waits.
    pub max_running: usize,
    /// Requests that may wait; beyond that the answer is 503.
    pub max_waiting: usize,
    /// Time to bring one prompt token back from host memory, in milliseconds.
    pub host_ms_per_token: f64,
    /// Time to fetch one prompt token from a prefill engine, in milliseconds.
    pub transfer_ms_per_token: f64,
    /// By which part of `decode_ms_per_token` each further running request slows down the writing of a token.
    pub batch_factor: f64,
    /// Tokens in one block of the cache.
    pub block_size: u32,
    /// Blocks on the GPU of one rank, for running requests and for what may come again.
    pub cache_blocks: usize,
    /// Blocks of host memory of one rank, which take what the GPU evicts; 0 for none.
    pub host_blocks: usize,
    /// Data-parallel ranks, each with a batch and a cache of its own.
    pub data_parallel: usize,
    /// Adapters served as models, each name beginning with `sim-`.
    pub lora: Vec<String>,
    /// What this engine does where prefill and decode are separate.
    pub role: Role,
    /// How long blocks are kept for a decode engine, in milliseconds.
    pub kv_hold_ms: u64,
    /// Where KV events are published: `tcp://HOST:PORT` to listen, `connect:tcp://HOST:PORT` to connect; rank r has
    /// the port plus r.
    pub kv_events: Option<String>,
    /// Where past KV events can be asked for again: `tcp://HOST:PORT`; rank r has the port plus r.
    pub kv_replay: Option<String>,
    /// How KV events are written.
    pub kv_events_form: EventsForm,
    /// First frame of every published message.
    pub kv_topic: String,
    /// Whether replayed messages carry the topic too, as newer vLLM's do.
    pub kv_replay_topic: bool,
    /// Whose metric names are used.
    pub metrics: MetricsForm,
    /// Largest request body, in bytes; beyond that the answer is 413.
    pub max_body_bytes: usize,
    /// Shortest and longest answer when the request does not limit it, in tokens.
    pub answer_tokens: (u32, u32),
    /// Where token counts are reported.
    pub usage: UsageForm,
    /// Length of an embedding vector when the request does not say.
    pub dimensions: usize,
    /// Keep the latest requests, headers and bodies included, for `GET /sim/requests`.
    pub record: bool,
    /// Faults in force from the start.
    pub faults: Vec<Fault>,
    /// Changes the text of every answer and the dice of faults with a probability.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            models: vec![DEFAULT_MODEL.to_owned()],
            any_model: false,
            prefill_ms_per_token: DEFAULT_PREFILL_MS_PER_TOKEN,
            decode_ms_per_token: DEFAULT_DECODE_MS_PER_TOKEN,
            max_running: DEFAULT_MAX_RUNNING,
            max_waiting: DEFAULT_MAX_WAITING,
            host_ms_per_token: DEFAULT_HOST_MS_PER_TOKEN,
            transfer_ms_per_token: DEFAULT_TRANSFER_MS_PER_TOKEN,
            batch_factor: DEFAULT_BATCH_FACTOR,
            block_size: DEFAULT_BLOCK_SIZE,
            cache_blocks: DEFAULT_CACHE_BLOCKS,
            host_blocks: 0,
            data_parallel: 1,
            lora: Vec::new(),
            role: Role::default(),
            kv_hold_ms: DEFAULT_KV_HOLD_MS,
            kv_events: None,
            kv_replay: None,
            kv_events_form: EventsForm::default(),
            kv_topic: String::new(),
            kv_replay_topic: false,
            metrics: MetricsForm::default(),
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            answer_tokens: DEFAULT_ANSWER_TOKENS,
            usage: UsageForm::default(),
            dimensions: DEFAULT_DIMENSIONS,
            record: false,
            faults: Vec::new(),
            seed: 0,
        }
    }
}

impl Options {
    /// The defaults with no latency at all: for tests and for load tests of what stands in front of the engine.
    #[must_use]
    pub fn instant() -> Self {
        Options {
            prefill_ms_per_token: 0.0,
            host_ms_per_token: 0.0,
            transfer_ms_per_token: 0.0,
            decode_ms_per_token: 0.0,
            ..Options::default()
        }
    }

    /// Says which setting is out of range, if one is.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let served = self.models.len() + self.lora.len();
        if self.models.is_empty() || served > MAX_MODELS {
            return Err(Error::ModelCount { got: served, max: MAX_MODELS });
        }
        let mut names = self.models.iter().chain(&self.lora);
        if let Some(name) = names.find(|name| !name.starts_with(MODEL_PREFIX)) {
            return Err(Error::ModelName(name.clone()));
        }
        let (shortest, longest) = self.answer_tokens;
        let pace = 0.0..=MAX_MS_PER_TOKEN;
        let adapters_apart = self.lora.iter().all(|name| !self.models.contains(name) && !name.contains(','));
        let checks = [
            (adapters_apart, "lora", "other names than those of models, without commas"),
            (pace.contains(&self.host_ms_per_token), "host_ms_per_token", "between 0 and 60000"),
            (pace.contains(&self.transfer_ms_per_token), "transfer_ms_per_token", "between 0 and 60000"),
            ((0.0..=10.0).contains(&self.batch_factor), "batch_factor", "between 0 and 10"),
            ((1..=MAX_BLOCK_SIZE).contains(&self.block_size), "block_size", "between 1 and 1024"),
            (self.host_blocks <= MAX_CACHE_BLOCKS, "host_blocks", "at most 4194304"),
            ((1..=MAX_RANKS).contains(&self.data_parallel), "data_parallel", "between 1 and 64"),
            (self.kv_hold_ms <= MAX_KV_HOLD_MS, "kv_hold_ms", "at most 600000"),
            (self.kv_topic.len() <= MAX_TOPIC_BYTES, "kv_topic", "at most 1024 bytes"),
            (self.kv_replay.is_none() || self.kv_events.is_some(), "kv_replay", "used with kv_events"),
            (
                self.kv_replay.as_ref().is_none_or(|url| !url.starts_with(CONNECT)),
                "kv_replay",
                "an address to listen on",
            ),
            (pace.contains(&self.prefill_ms_per_token), "prefill_ms_per_token", "between 0 and 60000"),
            (pace.contains(&self.decode_ms_per_token), "decode_ms_per_token", "between 0 and 60000"),
            ((1..=MAX_REQUESTS).contains(&self.max_running), "max_running", "between 1 and 1048576"),
            (self.max_waiting <= MAX_REQUESTS, "max_waiting", "at most 1048576"),
            ((1..=MAX_CACHE_BLOCKS).contains(&self.cache_blocks), "cache_blocks", "between 1 and 4194304"),
            (self.max_body_bytes > 0, "max_body_bytes", "above 0"),
            (
                1 <= shortest && shortest <= longest && longest <= MAX_ANSWER_TOKENS,
                "answer_tokens",
                "a range within 1 and 32768",
            ),
            ((1..=MAX_DIMENSIONS).contains(&self.dimensions), "dimensions", "between 1 and 8192"),
        ];
        match checks.into_iter().find(|(good, ..)| !good) {
            Some((_, name, wanted)) => Err(Error::Option { name, wanted }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_a_real_looking_name_does_not() {
        assert!(Options::default().check().is_ok());
        let named = Options { models: vec!["gpt-4".into()], ..Options::default() };
        assert!(matches!(named.check(), Err(Error::ModelName(_))));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let slow = Options { decode_ms_per_token: f64::NAN, ..Options::default() };
        assert!(matches!(slow.check(), Err(Error::Option { name: "decode_ms_per_token", .. })));
        let none = Options { max_running: 0, ..Options::default() };
        assert!(matches!(none.check(), Err(Error::Option { name: "max_running", .. })));
    }
}
