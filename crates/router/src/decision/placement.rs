//! How the endpoint of an attempt was chosen, and what the choice went by.
//!
//! Part of the Decision; holds no prompt and no hash. Filled in by `placing` and the door.

use crate::reading::Reading;
use serde::Serialize;
use std::sync::Arc;
use waypost_picker::Choice;

/// See the module. Durations are milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Placement {
    /// The model whose pool it is.
    pub model: Arc<str>,
    /// Id of the endpoint chosen.
    pub endpoint: Arc<str>,
    /// How the prompt's tokens were told, where the choice looks at prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
    /// Time that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ms: Option<f64>,
    /// Tokens in a block.
    pub block_size: u32,
    /// Prompt tokens expected in that endpoint's cache, slower tiers weighed.
    pub cached_tokens: u32,
    /// Time in the queue, where it had to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<f64>,
    /// Whether the request was split between two endpoints, or why not: `split`, `short`, `cached`, `no_prefill_endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair: Option<&'static str>,
    /// The endpoint that read the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill: Option<PrefillRecord>,
    /// The endpoints compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<Box<Choice>>,
}

/// A prefill on an endpoint of its own.
#[derive(Debug, Clone, Serialize)]
pub struct PrefillRecord {
    /// Id of the endpoint.
    pub endpoint: Arc<str>,
    /// `ok`, or why the decode endpoint had to read the prompt after all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<&'static str>,
    /// Time until that was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// The endpoints compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<Box<Choice>>,
}

impl PrefillRecord {
    /// Chosen, but not yet asked.
    pub(crate) fn at(endpoint: Arc<str>, choice: Option<Box<Choice>>) -> Self {
        Self { endpoint, result: None, ms: None, choice }
    }
}
