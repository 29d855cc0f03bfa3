//! What the choice of an endpoint was made of, for the Decision.
//!
//! Only made by pools whose choice looks at more than requests in flight. Holds no prompt and no hash.

use crate::ask::WhyNot;
use serde::Serialize;
use smallvec::SmallVec;
use std::sync::Arc;

/// How one endpoint was chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The strategy's name.
    pub strategy: &'static str,
    /// Tokens and blocks come from the model's tokenizer, not from an estimate.
    pub exact: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Blocks of the prompt, the partial last one too.
    pub blocks: u32,
    /// All endpoints of the pool, in its order.
    pub candidates: SmallVec<[Considered; 4]>,
    /// Most blocks that any endpoint able to serve it holds.
    pub best_cached_blocks: u32,
    /// How many of those the chosen one lacks.
    pub regret_blocks: u32,
    /// The affinity filter was passed over, to learn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub explored: bool,
}

/// One endpoint, as it looked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Considered {
    /// Its id.
    pub endpoint: Arc<str>,
    /// It was taken.
    pub chosen: bool,
    /// Why it could not be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<WhyNot>,
    /// Blocks of the prompt in its device memory.
    pub device_blocks: u32,
    /// Behind those, in its host's memory.
    pub host_blocks: u32,
    /// Behind those, on its disk.
    pub disk_blocks: u32,
    /// Tokens in all of these.
    pub matched_tokens: u32,
    /// How far its events can be believed.
    pub kv_state: &'static str,
    /// Requests in flight.
    pub requests: u32,
    /// Prompt tokens it has yet to compute.
    pub prefill_tokens: u64,
    /// Blocks in use by requests in flight.
    pub decode_blocks: u64,
    /// Age of its own figures in milliseconds, where it gave any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures_age_ms: Option<u64>,
    /// They were too old to be used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// What taking it would cost; the unit is the strategy's: blocks, milliseconds, or requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Weighted sum of its scores; the highest is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Each score, before its weight.
    #[serde(skip_serializing_if = "SmallVec::is_empty")]
    pub scores: SmallVec<[Scored; 3]>,
}

/// What one scorer gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scored {
    /// Its name.
    pub scorer: &'static str,
    /// 0 to 1.
    pub score: f64,
}
