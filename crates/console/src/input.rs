//! What clients of the management API send, checked.
//!
//! An option that is not known is refused by name: to pass over it in silence would answer another question. Called by
//! `desk` and by every task.

use crate::refusal::Refusal;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use waypost_config::PolicyIndex;
use waypost_router::{Ask, Brain, PromptText};
use waypost_wire::RequestView;

/// Reads a body.
pub(crate) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::input(format!("failed to parse JSON: {error}")))
}

/// A probability from 0 to 1.
pub(crate) fn threshold(name: &str, value: Option<f64>) -> Result<Option<f64>, Refusal> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            Err(Refusal::input(format!("{name} must be between 0 and 1")))
        }
        // As in vLLM Semantic Router, 0 is the same as nothing.
        value => Ok(value.filter(|value| *value > 0.0)),
    }
}

/// A text, read as a request's last user turn is.
#[derive(Debug)]
pub(crate) struct Text(PromptText);

impl Text {
    /// Of a text that stands alone.
    pub(crate) fn of(text: &str) -> Result<Self, Refusal> {
        if text.trim().is_empty() {
            return Err(empty());
        }
        let body = Chat::default().saying(text).to_json()?;
        Self::of_chat(&RequestView::parse(&body)?)
    }

    fn of_chat(view: &RequestView<'_>) -> Result<Self, Refusal> {
        let text = PromptText::of(view, false);
        if text.focus.trim().is_empty() { Err(empty()) } else { Ok(Self(text)) }
    }

    pub(crate) fn prompt(&self) -> &PromptText {
        &self.0
    }
}

fn empty() -> Refusal {
    Refusal::input("text cannot be empty")
}

/// Of `intent` and `eval`: a text or a conversation, and what else counts when models are chosen.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntentRequest {
    text: Option<String>,
    messages: Option<Box<RawValue>>,
    tools: Option<Box<RawValue>>,
    functions: Option<Box<RawValue>>,
    // Taken, and nothing goes by them.
    #[serde(rename = "tool_choice")]
    _tool_choice: Option<Box<RawValue>>,
    #[serde(rename = "function_call")]
    _function_call: Option<Box<RawValue>>,
    response_format: Option<Box<RawValue>>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    model: Option<String>,
    #[serde(rename = "metadata")]
    _metadata: Option<HashMap<String, String>>,
    pub(crate) options: Option<IntentOptions>,
}

impl IntentRequest {
    /// A text that stands alone.
    pub(crate) fn of(text: String, options: Option<IntentOptions>) -> Self {
        Self { text: Some(text), options, ..Self::default() }
    }

    fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// The name of a policy, or nothing.
    pub(crate) fn model(&self) -> &str {
        self.model.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IntentOptions {
    pub(crate) return_probabilities: bool,
    confidence_threshold: Option<f64>,
    pub(crate) include_explanation: bool,
    /// `eval` always does.
    pub(crate) evaluate_all_signals: bool,
    pub(crate) trace: bool,
}

impl IntentOptions {
    /// From here on a category counts as sure.
    pub(crate) fn threshold(&self) -> Result<Option<f64>, Refusal> {
        threshold("confidence_threshold", self.confidence_threshold)
    }
}

/// A request as a chat completion.
#[derive(Debug, Default, Serialize)]
struct Chat<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Messages<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Messages<'a> {
    Given(&'a RawValue),
    One([Turn<'a>; 1]),
}

#[derive(Debug, Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> Chat<'a> {
    /// With one user turn.
    fn saying(self, content: &'a str) -> Self {
        Self { messages: Some(Messages::One([Turn { role: "user", content }])), ..self }
    }

    fn to_json(&self) -> Result<Bytes, Refusal> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|_| Refusal::broken())
    }
}

/// What is asked: a chat completion, its text, and the policy that would decide.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) body: Bytes,
    pub(crate) text: Text,
    /// `None` where the configuration has no policy.
    pub(crate) policy: Option<PolicyIndex>,
}

impl Question {
    /// `messages` go before `text`, which stands in where they hold no text.
    pub(crate) fn new(brain: &Brain, request: &IntentRequest) -> Result<Self, Refusal> {
        let chat = Chat {
            messages: request.messages.as_deref().map(Messages::Given),
            tools: request.tools.as_deref(),
            functions: request.functions.as_deref(),
            response_format: request.response_format.as_deref(),
            max_tokens: request.max_tokens,
            max_completion_tokens: request.max_completion_tokens,
        };
        let policy = policy(brain, request.model())?;
        let body = chat.to_json()?;
        let text = Text::of_chat(&RequestView::parse(&body)?);
        if text.is_ok() || request.text().trim().is_empty() {
            return Ok(Self { text: text?, body, policy });
        }
        let body = chat.saying(request.text()).to_json()?;
        let text = Text::of_chat(&RequestView::parse(&body)?)?;
        Ok(Self { body, text, policy })
    }
}

/// The policy that `model` names; the default one where it names none.
fn policy(brain: &Brain, model: &str) -> Result<Option<PolicyIndex>, Refusal> {
    if model.is_empty() {
        return Ok(brain.snapshot().default_policy);
    }
    let named = serde_json::json!({ "model": model }).to_string();
    match brain.ask(&RequestView::parse(named.as_bytes())?, None) {
        Ok((Ask::Classify(policy), _)) => Ok(Some(policy)),
        Ok(_) => Err(Refusal::routing_model("model names a model, not a policy: nothing is decided for it")),
        Err(error) => Err(Refusal::routing_model(error.message)),
    }
}
