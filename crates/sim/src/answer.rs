//! What the engine answers, apart from how an endpoint words it: the tokens, why they ended, the counts.
//!
//! Decides length and end from the request's limits and the seed alone. `generate` calls it; endpoints word it.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::Value;

use crate::metrics::Finish;
use crate::options::MAX_ANSWER_TOKENS;
use crate::text::{Dice, Pieces};

/// What an answer consists of.
pub(crate) enum Kind {
    /// Text that says it is simulated; `subject` is what was read, such as "2 messages".
    Prose { subject: String },
    /// A JSON text, as it stands.
    Json(String),
}

/// How long an answer may be, as the request has it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) max_tokens: Option<u32>,
    pub(crate) min_tokens: Option<u32>,
    /// vLLM's extension: go on until `max_tokens`.
    pub(crate) ignore_eos: bool,
}

/// Token counts of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: u32,
    pub(crate) cached: u32,
    pub(crate) completion: u32,
}

/// A complete answer.
pub(crate) struct Answer {
    pub(crate) pieces: Pieces,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    /// `kv_transfer_params` for a decode engine.
    pub(crate) handed: Option<Value>,
}

/// How one endpoint words an answer, whole or as a stream of events.
pub(crate) trait Form: Send {
    /// The body of an answer that is not streamed.
    fn whole(&self, answer: &Answer) -> Vec<u8>;
    /// The events before the first token.
    fn open(&mut self, out: &mut VecDeque<Bytes>);
    /// The event of one token.
    fn piece(&mut self, text: &str) -> Bytes;
    /// The events after the last token.
    fn close(&mut self, answer: &Answer, out: &mut VecDeque<Bytes>);
}

/// Makes the tokens: `range` is the usual length, `prompt` a count of tokens.
pub(crate) fn write(
    kind: &Kind,
    model: &str,
    limits: Limits,
    range: (u32, u32),
    prompt: u32,
    dice: &mut Dice,
) -> Answer {
    let limit = limits.max_tokens.unwrap_or(MAX_ANSWER_TOKENS);
    let limit = limit.min(MAX_ANSWER_TOKENS);
    let (pieces, finish) = match kind {
        Kind::Prose { subject } => {
            let usual = dice.between(range.0.into(), range.1.into()) as u32;
            let wanted = if limits.ignore_eos { u32::MAX } else { usual.max(limits.min_tokens.unwrap_or(0)) };
            let introduction = format!("[simulated] {model} read {subject}, about {prompt} tokens. ");
            let count = wanted.min(limit);
            let pieces = Pieces::prose(&introduction, dice, count as usize);
            (pieces, if wanted > limit { Finish::Length } else { Finish::Stop })
        }
        Kind::Json(text) => {
            let pieces = Pieces::literal(text, limit as usize);
            let cut = pieces.text().len() < text.len();
            (pieces, if cut { Finish::Length } else { Finish::Stop })
        }
    };
    let usage = Usage { prompt, cached: 0, completion: u32::try_from(pieces.len()).unwrap_or(u32::MAX) };
    Answer { pieces, finish, usage, handed: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: Limits) -> Answer {
        let kind = Kind::Prose { subject: "1 message".into() };
        write(&kind, "sim-a", limits, (20, 30), 9, &mut Dice::new(3))
    }

    #[test]
    fn length_and_reason_follow_the_limits() {
        let free = written(Limits::default());
        assert!((20..=30).contains(&free.usage.completion));
        assert_eq!(free.finish, Finish::Stop);
        let short = written(Limits { max_tokens: Some(5), ..Limits::default() });
        assert_eq!((short.usage.completion, short.finish), (5, Finish::Length));
        let exact = written(Limits { max_tokens: Some(500), ignore_eos: true, ..Limits::default() });
        assert_eq!((exact.usage.completion, exact.finish), (500, Finish::Length));
        let long = written(Limits { min_tokens: Some(77), ..Limits::default() });
        assert_eq!((long.usage.completion, long.finish), (77, Finish::Stop));
    }
}
