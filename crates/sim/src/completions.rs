//! `POST /v1/completions`: one prompt, as text or token numbers, whole or streamed.
//!
//! Several prompts in one request are refused rather than answered in part.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::answer::{Answer, Form, Kind, Limits};
use crate::chat::{one_choice, some_tokens};
use crate::chunks::{Chunks, StreamOptions, quoted};
use crate::core::Core;
use crate::generate::{Call, generate};
use crate::prompt::Input;
use crate::reply::{ApiError, Reply, parse};
use crate::stats::Ticket;

/// OpenAI's default for this endpoint.
const DEFAULT_MAX_TOKENS: u32 = 16;

#[derive(Deserialize)]
struct Request {
    model: String,
    prompt: Input,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u32>,
    min_tokens: Option<u32>,
    ignore_eos: Option<bool>,
    n: Option<u32>,
}

/// Answers one request.
pub(crate) async fn answer(core: &Core, ticket: &Ticket, body: &[u8]) -> Result<Reply, ApiError> {
    let request: Request = parse(body)?;
    let model = core.model(&request.model).ok_or_else(|| ApiError::no_model(&request.model))?;
    one_choice(request.n)?;
    let Ok([prompt]) = <[Vec<u8>; 1]>::try_from(request.prompt.prompts()) else {
        let why = "This simulated engine takes exactly one prompt.";
        return Err(ApiError::bad(Some("prompt"), why));
    };
    let max_tokens = some_tokens(request.max_tokens)?;
    let form = Completion(Chunks::new(
        format!("cmpl-sim-{}", ticket.id),
        "text_completion",
        &model.name,
        core.options.usage,
        request.stream_options,
    ));
    let call = Call {
        prompt,
        kind: Kind::Prose { subject: "1 prompt".to_owned() },
        limits: Limits {
            max_tokens: max_tokens.or(Some(DEFAULT_MAX_TOKENS)),
            min_tokens: request.min_tokens,
            ignore_eos: request.ignore_eos.unwrap_or(false),
        },
        stream: request.stream.unwrap_or(false),
        form: Box::new(form),
        arrived: ticket.arrived,
        model,
    };
    generate(core, call).await
}

/// The wording of text completions.
struct Completion(Chunks);

fn choice(text: &str, finish: &str) -> Vec<u8> {
    let text = quoted(text);
    format!("{{\"index\":0,\"text\":{text},\"logprobs\":null,\"finish_reason\":{finish}}}").into_bytes()
}

impl Form for Completion {
    fn whole(&self, answer: &Answer) -> Vec<u8> {
        let choice = json!({
            "index": 0,
            "text": answer.pieces.text(),
            "logprobs": null,
            "finish_reason": answer.finish.name(),
        });
        self.0.whole("text_completion", choice, answer.usage)
    }

    fn open(&mut self, _: &mut VecDeque<Bytes>) {}

    fn piece(&mut self, text: &str) -> Bytes {
        self.0.event(&choice(text, "null"))
    }

    fn close(&mut self, answer: &Answer, out: &mut VecDeque<Bytes>) {
        let finish = quoted(answer.finish.name());
        self.0.end(&choice("", &finish), answer.usage, out);
    }
}
