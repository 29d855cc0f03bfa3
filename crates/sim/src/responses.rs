//! `POST /v1/responses` in simple form: text only, whole or as OpenAI's named events with sequence numbers.
//!
//! No tools, no stored conversations; `previous_response_id` is refused, since nothing is kept.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Form, Kind, Limits};
use crate::chat::some_tokens;
use crate::core::Core;
use crate::generate::{Call, Tail, generate};
use crate::handoff::Transfer;
use crate::metrics::Finish;
use crate::options::UsageForm;
use crate::reply::{ApiError, Reply, parse};
use crate::stats::{Ticket, unix_us};

#[derive(Deserialize)]
struct Request {
    model: String,
    input: Value,
    instructions: Option<String>,
    stream: Option<bool>,
    max_output_tokens: Option<u32>,
    previous_response_id: Option<String>,
}

/// Answers one request.
pub(crate) async fn answer(core: &Core, ticket: &Ticket, body: &[u8]) -> Result<Reply, ApiError> {
    let request: Request = parse(body)?;
    let model = core.model(&request.model, ticket.rank).ok_or_else(|| ApiError::no_model(&request.model))?;
    if request.previous_response_id.is_some() {
        let why = "This simulated engine stores no responses.";
        return Err(ApiError::bad(Some("previous_response_id"), why));
    }
    let items = match &request.input {
        Value::String(_) => 1,
        Value::Array(items) => items.len(),
        _ => {
            let why = "input must be a string or an array.";
            return Err(ApiError::bad(Some("input"), why));
        }
    };
    let prompt = [request.instructions.unwrap_or_default(), request.input.to_string()];
    let form = Response {
        id: ticket.id,
        created: unix_us() / 1_000_000,
        model: model.name.clone(),
        counted: core.options.usage != UsageForm::Never,
        sequence: 0,
    };
    let plural = if items == 1 { "" } else { "s" };
    let call = Call {
        prompt: prompt.join("\n").into_bytes(),
        salt: None,
        tail: Tail::Text(""),
        transfer: Transfer::Alone,
        kind: Kind::Prose { subject: format!("{items} item{plural}") },
        limits: Limits { max_tokens: some_tokens(request.max_output_tokens)?, ..Limits::default() },
        stream: request.stream.unwrap_or(false),
        form: Box::new(form),
        arrived: ticket.arrived,
        id: ticket.id,
        model,
    };
    generate(core, call).await
}

/// The wording of the Responses API.
struct Response {
    id: u64,
    created: u64,
    model: String,
    counted: bool,
    sequence: u64,
}

impl Response {
    fn item_id(&self) -> String {
        format!("msg_sim_{}", self.id)
    }

    fn item(&self, status: &str, content: Value) -> Value {
        json!({
            "type": "message",
            "id": self.item_id(),
            "status": status,
            "role": "assistant",
            "content": content,
        })
    }

    /// The response object; without an answer, while it is being written.
    fn object(&self, answer: Option<&Answer>) -> Value {
        let status = answer.map_or("in_progress", status);
        let mut object = json!({
            "id": format!("resp_sim_{}", self.id),
            "object": "response",
            "created_at": self.created,
            "model": self.model,
            "status": status,
            "error": null,
            "incomplete_details": null,
            "output": [],
            "usage": null,
        });
        let Some(answer) = answer else {
            return object;
        };
        object["output"] = json!([self.item(status, json!([part(answer.pieces.text())]))]);
        if answer.finish == Finish::Length {
            object["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        if self.counted {
            let usage = answer.usage;
            object["usage"] = json!({
                "input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt.saturating_add(usage.completion),
            });
        }
        object
    }

    fn event(&mut self, name: &str, mut fields: Value) -> Bytes {
        fields["type"] = Value::from(name);
        fields["sequence_number"] = Value::from(self.sequence);
        self.sequence += 1;
        format!("event: {name}\ndata: {fields}\n\n").into()
    }

    /// An event about the one part of the one item.
    fn part_event(&mut self, name: &str, key: &str, value: Value) -> Bytes {
        let mut fields = json!({
            "item_id": self.item_id(),
            "output_index": 0,
            "content_index": 0,
        });
        fields[key] = value;
        self.event(name, fields)
    }
}

fn status(answer: &Answer) -> &'static str {
    if answer.finish == Finish::Length { "incomplete" } else { "completed" }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}

impl Form for Response {
    fn whole(&self, answer: &Answer) -> Vec<u8> {
        self.object(Some(answer)).to_string().into_bytes()
    }

    fn open(&mut self, out: &mut VecDeque<Bytes>) {
        let object = self.object(None);
        out.push_back(self.event("response.created", json!({"response": object})));
        out.push_back(self.event("response.in_progress", json!({"response": object})));
        let item = json!({"output_index": 0, "item": self.item("in_progress", json!([]))});
        out.push_back(self.event("response.output_item.added", item));
        out.push_back(self.part_event("response.content_part.added", "part", part("")));
    }

    fn piece(&mut self, text: &str) -> Bytes {
        self.part_event("response.output_text.delta", "delta", text.into())
    }

    fn close(&mut self, answer: &Answer, out: &mut VecDeque<Bytes>) {
        let text = answer.pieces.text();
        out.push_back(self.part_event("response.output_text.done", "text", text.into()));
        out.push_back(self.part_event("response.content_part.done", "part", part(text)));
        let item = self.item(status(answer), json!([part(text)]));
        let item = json!({"output_index": 0, "item": item});
        out.push_back(self.event("response.output_item.done", item));
        let object = json!({"response": self.object(Some(answer))});
        let name = format!("response.{}", status(answer));
        out.push_back(self.event(&name, object));
    }
}
