//! `POST /v1/completions`: one prompt, as text or token numbers, whole or streamed.
//!
//! Several prompts in one request are refused rather than answered in part.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Form, Kind, Limits};
use crate::chat::{one_choice, some_tokens};
use crate::chunks::{Chunks, StreamOptions, quoted};
use crate::core::Core;
use crate::generate::{Call, Tail, generate, token_number};
use crate::handoff::Transfer;
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
    cache_salt: Option<String>,
    kv_transfer_params: Option<Value>,
    bootstrap_host: Option<String>,
    bootstrap_room: Option<u64>,
    n: Option<u32>,
    return_token_ids: Option<bool>,
}

/// Answers one request.
pub(crate) async fn answer(core: &Core, ticket: &Ticket, body: &[u8]) -> Result<Reply, ApiError> {
    let request: Request = parse(body)?;
    let model = core.model(&request.model, ticket.rank).ok_or_else(|| ApiError::no_model(&request.model))?;
    one_choice(request.n)?;
    let transfer =
        Transfer::read(request.kv_transfer_params, request.bootstrap_host, request.bootstrap_room)?;
    let numbers = matches!(request.prompt, Input::Tokens(_) | Input::TokenLists(_));
    let shown = numbers && request.return_token_ids.unwrap_or(false);
    let Ok([prompt]) = <[Vec<u8>; 1]>::try_from(request.prompt.prompts()) else {
        let why = "This simulated engine takes exactly one prompt.";
        return Err(ApiError::bad(Some("prompt"), why));
    };
    let max_tokens = some_tokens(request.max_tokens)?;
    let chunks = Chunks::new(
        format!("cmpl-sim-{}", ticket.id),
        "text_completion",
        &model.name,
        core.options.usage,
        request.stream_options,
    );
    let form = Completion { chunks, shown };
    let call = Call {
        prompt,
        salt: request.cache_salt,
        tail: if numbers { Tail::Numbers } else { Tail::Text("") },
        transfer,
        kind: Kind::Prose { subject: "1 prompt".to_owned() },
        limits: Limits {
            max_tokens: max_tokens.or(Some(DEFAULT_MAX_TOKENS)),
            min_tokens: request.min_tokens,
            ignore_eos: request.ignore_eos.unwrap_or(false),
        },
        stream: request.stream.unwrap_or(false),
        form: Box::new(form),
        arrived: ticket.arrived,
        id: ticket.id,
        model,
    };
    generate(core, call).await
}

/// The wording of text completions.
struct Completion {
    chunks: Chunks,
    /// Whether the numbers of the tokens are shown, vLLM's `return_token_ids`.
    shown: bool,
}

fn choice(text: &str, finish: &str) -> Vec<u8> {
    let text = quoted(text);
    format!("{{\"index\":0,\"text\":{text},\"logprobs\":null,\"finish_reason\":{finish}}}").into_bytes()
}

impl Form for Completion {
    fn whole(&self, answer: &Answer) -> Vec<u8> {
        let mut choice = json!({
            "index": 0,
            "text": answer.pieces.text(),
            "logprobs": null,
            "finish_reason": answer.finish.name(),
        });
        if self.shown {
            let numbers = (0..answer.pieces.len()).map(|at| token_number(answer.pieces.get(at)));
            choice["token_ids"] = numbers.collect();
        }
        self.chunks.whole("text_completion", choice, answer)
    }

    fn open(&mut self, _: &mut VecDeque<Bytes>) {}

    fn piece(&mut self, text: &str) -> Bytes {
        self.chunks.event(&choice(text, "null"))
    }

    fn close(&mut self, answer: &Answer, out: &mut VecDeque<Bytes>) {
        let finish = quoted(answer.finish.name());
        self.chunks.end(&choice("", &finish), answer.usage, out);
    }
}
