//! The events that chat and text completions stream, which differ only in what a choice looks like.
//!
//! The parts that stay the same are written once per answer, so that an event costs a few copies. Also the token
//! counts as JSON, and where they go in each form.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Usage};
use crate::options::UsageForm;
use crate::stats::unix_us;

/// Says in every answer what made it.
pub(crate) const FINGERPRINT: &str = "waypost-sim";

/// `stream_options` of a request.
#[derive(Default, Deserialize)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

/// The frame around the choices of one answer.
pub(crate) struct Chunks {
    id: String,
    model: String,
    created: u64,
    usage: UsageForm,
    /// Up to the choices.
    head: Vec<u8>,
    asked_for_usage: bool,
}

impl Chunks {
    pub(crate) fn new(
        id: String,
        object: &str,
        model: &str,
        usage: UsageForm,
        options: Option<StreamOptions>,
    ) -> Self {
        let created = unix_us() / 1_000_000;
        let fields = format!(
            "data: {{\"id\":{},\"object\":{},\"created\":{created},\"model\":{},\"system_fingerprint\":\"{FINGERPRINT}\",\"choices\":[",
            Value::from(id.as_str()),
            Value::from(object),
            Value::from(model),
        );
        Chunks {
            id,
            model: model.to_owned(),
            created,
            usage,
            head: fields.into_bytes(),
            asked_for_usage: options.and_then(|o| o.include_usage).unwrap_or(false),
        }
    }

    /// An event with one choice.
    pub(crate) fn event(&self, choice: &[u8]) -> Bytes {
        let null = self.usage == UsageForm::OpenAi && self.asked_for_usage;
        self.raw(choice, if null { b",\"usage\":null" } else { b"" })
    }

    /// The events that end a stream, of which the first carries this choice.
    pub(crate) fn end(&self, choice: &[u8], usage: Usage, out: &mut VecDeque<Bytes>) {
        let counts = format!(",\"usage\":{}", counts(usage));
        if self.usage == UsageForm::Nim {
            out.push_back(self.raw(choice, counts.as_bytes()));
        } else {
            out.push_back(self.event(choice));
        }
        if self.usage == UsageForm::OpenAi && self.asked_for_usage {
            out.push_back(self.raw(b"", counts.as_bytes()));
        }
        out.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
    }

    /// The body of an answer that is not streamed.
    pub(crate) fn whole(&self, object: &str, choice: Value, answer: &Answer) -> Vec<u8> {
        let mut body = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": [choice],
        });
        if self.usage != UsageForm::Never {
            body["usage"] = counts(answer.usage);
        }
        if let Some(handed) = &answer.handed {
            body["kv_transfer_params"] = handed.clone();
        }
        body.to_string().into_bytes()
    }

    fn raw(&self, choice: &[u8], tail: &[u8]) -> Bytes {
        let parts = [&self.head, choice, b"]", tail, b"}\n\n"];
        parts.concat().into()
    }
}

/// A string as JSON, for the hand-written parts.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// OpenAI's `usage` object of the completions endpoints.
pub(crate) fn counts(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt.saturating_add(usage.completion),
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    })
}
