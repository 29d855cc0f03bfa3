//! What the owner of a simulated engine can set, with the defaults and the checks.
//!
//! It holds no state of a running engine. `waypost sim` fills it from the command line, tests by hand.

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
const DEFAULT_CACHE_BLOCKS: usize = 16_384;
const DEFAULT_MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
const DEFAULT_ANSWER_TOKENS: (u32, u32) = (24, 96);
const DEFAULT_DIMENSIONS: usize = 256;
/// A token takes at most this long, so that a slip of the keyboard does not stop the engine for days.
const MAX_MS_PER_TOKEN: f64 = 60_000.0;
/// Bounds of the batch and its queue, in requests, and of the cache, in blocks.
const MAX_REQUESTS: usize = 1 << 20;
const MAX_CACHE_BLOCKS: usize = 1 << 22;

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
    /// Size of the prefix cache, in blocks of 16 tokens.
    pub cache_blocks: usize,
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
            cache_blocks: DEFAULT_CACHE_BLOCKS,
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
        Options { prefill_ms_per_token: 0.0, decode_ms_per_token: 0.0, ..Options::default() }
    }

    /// Says which setting is out of range, if one is.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.models.is_empty() || self.models.len() > MAX_MODELS {
            return Err(Error::ModelCount { got: self.models.len(), max: MAX_MODELS });
        }
        if let Some(name) = self.models.iter().find(|m| !m.starts_with(MODEL_PREFIX)) {
            return Err(Error::ModelName(name.clone()));
        }
        let (shortest, longest) = self.answer_tokens;
        let pace = 0.0..=MAX_MS_PER_TOKEN;
        let checks = [
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
