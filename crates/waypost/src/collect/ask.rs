//! One question to one model of the configuration: at its endpoints, with its key, within its time.
//!
//! Failures that may pass are tried again after a while. Errors name the status and the code, never what was said:
//! upstreams like to repeat prompts. Called by `collect`.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use waypost_config::Model;
use waypost_router::client;
use waypost_wire::Usage;

/// Tries of one question.
const MAX_TRIES: u32 = 6;
/// Wait before the second try; doubled before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait, also where the server asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Largest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Longest error code told.
const MAX_CODE_CHARS: usize = 64;

/// A model, and what was learnt of how it wants to be asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: Model,
    next_endpoint: AtomicUsize,
    /// OpenAI's newer models know `max_tokens` by another name, and some take no temperature.
    new_limit: AtomicBool,
    no_temperature: AtomicBool,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
    pub(super) latency_ms: f64,
    /// The limit of tokens ended it.
    pub(super) cut: bool,
}

/// How long an answer may be, and how it is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) max_tokens: u32,
    pub(super) temperature: f64,
}

/// Why a try failed.
enum Failed {
    /// It may pass, perhaps after that long.
    Passing(String, Option<Duration>),
    /// It is to be asked in another way.
    Otherwise,
    Lasting(String),
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Value>,
}

impl Asked {
    pub(super) fn new(model: Model) -> Self {
        Self {
            model,
            next_endpoint: AtomicUsize::new(0),
            new_limit: AtomicBool::new(false),
            no_temperature: AtomicBool::new(false),
        }
    }

    /// The model's answer to `prompt`.
    ///
    /// # Errors
    /// Why there is none, after all tries.
    pub(super) async fn ask(&self, prompt: &str, terms: Terms) -> Result<Answer, String> {
        let mut tries = 0;
        loop {
            tries += 1;
            let begun = Instant::now();
            let total = self.model.timeouts.total;
            let tried = tokio::time::timeout(total, self.once(prompt, terms)).await;
            let late = |_| Err(Failed::Passing(format!("no answer within {} s", total.as_secs_f64()), None));
            let (reason, wanted) = match tried.unwrap_or_else(late) {
                Ok(answer) => {
                    return Ok(Answer { latency_ms: begun.elapsed().as_secs_f64() * 1e3, ..answer });
                }
                Err(Failed::Lasting(reason)) => return Err(reason),
                Err(Failed::Otherwise) => continue,
                Err(Failed::Passing(reason, wanted)) => (reason, wanted),
            };
            if tries >= MAX_TRIES {
                return Err(format!("{reason}, {tries} times"));
            }
            let backoff = FIRST_WAIT * 2_u32.pow(tries - 1);
            let wait = wanted.unwrap_or(backoff).min(LONGEST_WAIT);
            // Those that failed together are not to come back together.
            tokio::time::sleep(wait.mul_f64(1.0 + 0.25 * fastrand::f64())).await;
        }
    }

    async fn once(&self, prompt: &str, terms: Terms) -> Result<Answer, Failed> {
        let endpoints = &self.model.endpoints;
        let endpoint = &endpoints[self.next_endpoint.fetch_add(1, Relaxed) % endpoints.len()];
        let url = format!("{}/v1/chat/completions", endpoint.base);
        let mut request = http::Request::post(&url).header(CONTENT_TYPE, "application/json");
        if !self.model.api_key.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.model.api_key.expose()));
        }
        let body = Bytes::from(self.body(prompt, terms).to_string());
        let unusable = |error| Failed::Lasting(format!("its endpoint cannot be asked: {error}"));
        let request = request.body(body.into()).map_err(unusable)?;
        let client = client::local(self.model.timeouts.connect);
        let answer = client.request(request).await;
        let answer = answer.map_err(|_| Failed::Passing("unreachable".to_owned(), None))?;
        let status = answer.status().as_u16();
        let after = waypost_router::pause(answer.headers());
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body
            .map_err(|_| Failed::Passing("the answer broke off or is too large".to_owned(), None))?
            .to_bytes();
        match status {
            200..300 => read(&body).map_err(|reason| Failed::Passing(reason, None)),
            429 | 500.. => Err(Failed::Passing(told(status, &body), after)),
            400 if self.learns(&body) => Err(Failed::Otherwise),
            _ => Err(Failed::Lasting(told(status, &body))),
        }
    }

    fn body(&self, prompt: &str, terms: Terms) -> Value {
        let mut body =
            json!({"model": self.model.upstream_id, "messages": [{"role": "user", "content": prompt}]});
        let limit = if self.new_limit.load(Relaxed) { "max_completion_tokens" } else { "max_tokens" };
        body[limit] = json!(terms.max_tokens);
        if !self.no_temperature.load(Relaxed) {
            body["temperature"] = json!(terms.temperature);
        }
        body
    }

    /// Whether a refusal tells of another way to ask, which is not yet known.
    fn learns(&self, body: &[u8]) -> bool {
        let refusal: Value = serde_json::from_slice(body).unwrap_or_default();
        match refusal["error"]["param"].as_str() {
            Some("max_tokens") => !self.new_limit.swap(true, Relaxed),
            Some("temperature") => !self.no_temperature.swap(true, Relaxed),
            _ => false,
        }
    }
}

/// Status and code of an error.
fn told(status: u16, body: &[u8]) -> String {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = ["code", "type"].iter().find_map(|field| error["error"][*field].as_str());
    // A code is a word; what is more may be somebody's words.
    match code.filter(|code| {
        code.len() <= MAX_CODE_CHARS && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    }) {
        Some(code) => format!("status {status}, {code}"),
        None => format!("status {status}"),
    }
}

fn read(body: &[u8]) -> Result<Answer, String> {
    let completion: Completion =
        serde_json::from_slice(body).map_err(|_| "the answer is no chat completion".to_owned())?;
    let choice =
        completion.choices.into_iter().next().ok_or_else(|| "the answer has no choice".to_owned())?;
    let text = match choice.message.content {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    let usage = Usage::find(body);
    Ok(Answer {
        text,
        prompt_tokens: usage.map(|usage| usage.prompt_tokens),
        completion_tokens: usage.map(|usage| usage.completion_tokens),
        latency_ms: 0.0,
        cut: choice.finish_reason.as_deref() == Some("length"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_errors_are_read() {
        let body = br#"{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            "finish_reason": "length"}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}"#;
        let answer = read(body).unwrap();
        assert_eq!(
            (&*answer.text, answer.prompt_tokens, answer.completion_tokens, answer.cut),
            ("ab", Some(7), Some(3), true)
        );
        assert_eq!(read(br#"{"choices": [{"message": {"content": null}}]}"#).unwrap().text, "");
        assert!(read(b"{}").is_err() && read(br#"{"choices": []}"#).is_err());
        assert_eq!(
            told(401, br#"{"error": {"code": "invalid_api_key", "message": "secret"}}"#),
            "status 401, invalid_api_key"
        );
        assert_eq!(told(500, br#"{"error": {"code": "you said: my secret"}}"#), "status 500");
        assert_eq!(told(502, b"<html>"), "status 502");
    }
}
