//! `POST /v1/chat/completions`: text, forced tool calls and JSON output, whole or streamed.
//!
//! Reads the fields that change the answer and ignores the rest, as an engine does. The wording is OpenAI's, the
//! order of streamed chunks vLLM's: the role comes with the first token.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Form, Kind, Limits};
use crate::chunks::{Chunks, StreamOptions, quoted};
use crate::core::{Core, Served};
use crate::generate::{Call, Tail, generate};
use crate::handoff::Transfer;
use crate::intent;
use crate::metrics::Finish;
use crate::plausible;
use crate::prompt::{Message, layout};
use crate::reply::{ApiError, Reply, parse};
use crate::stats::Ticket;
use crate::text::{Dice, hash};

/// What `layout` writes before the text of an answer when the next turn brings it back.
const REPLY_ROLE: &str = "assistant\n";

#[derive(Deserialize)]
struct Request {
    model: String,
    messages: Vec<Message>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    min_tokens: Option<u32>,
    ignore_eos: Option<bool>,
    cache_salt: Option<String>,
    kv_transfer_params: Option<Value>,
    bootstrap_host: Option<String>,
    bootstrap_room: Option<u64>,
    n: Option<u32>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
}

/// Answers one request; with `say`, with this text.
pub(crate) async fn answer(
    core: &Core,
    ticket: &Ticket,
    body: &[u8],
    say: Option<&str>,
) -> Result<Reply, ApiError> {
    let request: Request = parse(body)?;
    let model = core.model(&request.model, ticket.rank).ok_or_else(|| ApiError::no_model(&request.model))?;
    if request.messages.is_empty() {
        return Err(ApiError::bad(Some("messages"), "There are no messages."));
    }
    one_choice(request.n)?;
    let transfer =
        Transfer::read(request.kv_transfer_params, request.bootstrap_host, request.bootstrap_room)?;
    let max_tokens = request.max_completion_tokens.or(request.max_tokens);
    let limits = Limits {
        max_tokens: some_tokens(max_tokens)?,
        min_tokens: request.min_tokens,
        ignore_eos: request.ignore_eos.unwrap_or(false),
    };
    let tools = request.tools.as_deref().unwrap_or_default();
    let prompt = layout(&request.messages, tools);
    let mut dice = Dice::new(hash(!model.seed, &prompt));
    let tool = forced_tool(request.tool_choice.as_ref(), tools, &mut dice)?;
    let asked = match &request.messages[..] {
        [only] => only.said().and_then(intent::answer),
        _ => None,
    };
    let literal = say.map(str::to_owned).or(asked);
    let kind = match (tool, literal) {
        (None, Some(text)) => Kind::Json(text),
        (Some(tool), _) => {
            let schema = tool.get("parameters").unwrap_or(&Value::Null);
            let empty = schema.get("properties").is_none();
            let arguments = if empty { json!({}) } else { plausible::value(schema, &mut dice) };
            Kind::Json(arguments.to_string())
        }
        (None, None) => {
            structured(request.response_format.as_ref(), &model, &mut dice).unwrap_or_else(|| {
                let count = request.messages.len();
                let plural = if count == 1 { "" } else { "s" };
                Kind::Prose { subject: format!("{count} message{plural}") }
            })
        }
    };
    let name = tool.and_then(|t| t.get("name")).and_then(Value::as_str);
    let form = Chat {
        chunks: Chunks::new(
            format!("chatcmpl-sim-{}", ticket.id),
            "chat.completion.chunk",
            &model.name,
            core.options.usage,
            request.stream_options,
        ),
        tool: name.map(|name| (format!("call_sim_{}", ticket.id), name.to_owned())),
    };
    let call = Call {
        prompt,
        salt: request.cache_salt,
        tail: Tail::Text(REPLY_ROLE),
        transfer,
        kind,
        limits,
        stream: request.stream.unwrap_or(false),
        form: Box::new(form),
        arrived: ticket.arrived,
        id: ticket.id,
        model,
    };
    generate(core, call).await
}

/// This engine answers with one choice.
pub(crate) fn one_choice(n: Option<u32>) -> Result<(), ApiError> {
    match n {
        None | Some(1) => Ok(()),
        Some(_) => Err(ApiError::bad(Some("n"), "This simulated engine answers with one choice only.")),
    }
}

/// A limit of no tokens makes no sense.
pub(crate) fn some_tokens(max_tokens: Option<u32>) -> Result<Option<u32>, ApiError> {
    match max_tokens {
        Some(0) => Err(ApiError::bad(Some("max_tokens"), "max_tokens must be at least 1.")),
        other => Ok(other),
    }
}

/// The function that `tool_choice` forces, if it forces one.
fn forced_tool<'a>(
    choice: Option<&Value>,
    tools: &'a [Value],
    dice: &mut Dice,
) -> Result<Option<&'a Value>, ApiError> {
    let functions: Vec<&Value> = tools.iter().filter_map(|t| t.get("function")).collect();
    let wrong = |why: String| ApiError::bad(Some("tool_choice"), why);
    let named = |choice: &Value| {
        let name = choice.pointer("/function/name")?.as_str()?.to_owned();
        Some(name)
    };
    match choice {
        Some(Value::String(word)) if word == "required" => {
            if functions.is_empty() {
                return Err(wrong("A tool is required, but there are no tools.".into()));
            }
            Ok(Some(functions[(dice.roll() % functions.len() as u64) as usize]))
        }
        Some(choice @ Value::Object(_)) => {
            let name = named(choice).ok_or_else(|| wrong("tool_choice names no function.".into()))?;
            let found = functions.into_iter().find(|f| f.get("name").and_then(Value::as_str) == Some(&name));
            match found {
                Some(function) => Ok(Some(function)),
                None => Err(wrong(format!("There is no tool named `{name}`."))),
            }
        }
        _ => Ok(None),
    }
}

/// JSON output, if the request asks for it.
fn structured(format: Option<&Value>, model: &Served, dice: &mut Dice) -> Option<Kind> {
    let format = format?;
    let made = match format.get("type")?.as_str()? {
        "json_object" => json!({"simulated": true, "model": model.name, "answer": dice.word()}),
        "json_schema" => plausible::value(format.pointer("/json_schema/schema")?, dice),
        _ => return None,
    };
    Some(Kind::Json(made.to_string()))
}

/// The wording of chat completions.
struct Chat {
    chunks: Chunks,
    /// Id and function name of a tool call.
    tool: Option<(String, String)>,
}

impl Chat {
    fn finish(&self, finish: Finish) -> &'static str {
        match (finish, &self.tool) {
            (Finish::Stop, Some(_)) => "tool_calls",
            _ => finish.name(),
        }
    }

    fn delta(&self, delta: &str) -> Bytes {
        let choice = format!("{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":null}}");
        self.chunks.event(choice.as_bytes())
    }
}

impl Form for Chat {
    fn whole(&self, answer: &Answer) -> Vec<u8> {
        let text = answer.pieces.text();
        let message = match &self.tool {
            None => json!({"role": "assistant", "content": text}),
            Some((id, name)) => json!({
                "role": "assistant",
                "content": null,
                "tool_calls": [{
                    "id": id,
                    "type": "function",
                    "function": {"name": name, "arguments": text},
                }],
            }),
        };
        let choice = json!({
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": self.finish(answer.finish),
        });
        self.chunks.whole("chat.completion", choice, answer)
    }

    fn open(&mut self, out: &mut VecDeque<Bytes>) {
        out.push_back(self.delta("{\"role\":\"assistant\",\"content\":\"\"}"));
        if let Some((id, name)) = &self.tool {
            let delta = json!({"tool_calls": [{
                "index": 0,
                "id": id,
                "type": "function",
                "function": {"name": name, "arguments": ""},
            }]});
            out.push_back(self.delta(&delta.to_string()));
        }
    }

    fn piece(&mut self, text: &str) -> Bytes {
        let text = quoted(text);
        self.delta(&if self.tool.is_some() {
            format!("{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{text}}}}}]}}")
        } else {
            format!("{{\"content\":{text}}}")
        })
    }

    fn close(&mut self, answer: &Answer, out: &mut VecDeque<Bytes>) {
        let finish = self.finish(answer.finish);
        let choice =
            format!("{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"{finish}\"}}");
        self.chunks.end(choice.as_bytes(), answer.usage, out);
    }
}
