//! How an intent policy is written: the model that is asked, and the routes it may name.
//!
//! Doc comments here are what users read, as in `file`. Nothing is checked beyond shape; `intent` does that.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::intent::Guided;
use crate::leaf::{KIB, Size, Text};
use crate::raw::Raw;

/// Some two thousand tokens: a dozen turns, and little for a model of a few billion parameters to read.
const CONTEXT: Size = Size(8 * KIB);
/// What a small model on one accelerator answers side by side without getting slow.
const CONCURRENCY: u64 = 16;
/// A few hundred bytes each.
const CACHE: u64 = 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntentSpec {
    /// The model of this file that reads the conversation and names a route.
    pub(crate) model: Raw<String>,
    /// What a conversation may want, 1 to 64. `other` is always a label too; list it to describe it.
    pub(crate) routes: Vec<IntentRouteSpec>,
    /// How the answer is held to the names: by `response_format`, by vLLM's `guided_json`, or not; `auto` tries in this order.
    #[serde(default = "guided")]
    pub(crate) guided: Raw<Guided>,
    /// Most of the conversation that is shown; what was said last goes first.
    #[serde(default = "context")]
    pub(crate) context: Raw<Size>,
    /// Questions under way at once; with more, `default` is taken.
    #[serde(default = "concurrency")]
    pub(crate) concurrency: Raw<u64>,
    /// Answers kept, by conversation; 0 keeps none.
    #[serde(default = "cache")]
    pub(crate) cache: Raw<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntentRouteSpec {
    /// The label, as `routes` of the policy has it.
    pub(crate) name: Raw<String>,
    /// When it is right, in a sentence or two; all that the model knows of it.
    pub(crate) description: Raw<Text>,
}

fn guided() -> Raw<Guided> {
    Raw::Default(Guided::Auto)
}

fn context() -> Raw<Size> {
    Raw::Default(CONTEXT)
}

fn concurrency() -> Raw<u64> {
    Raw::Default(CONCURRENCY)
}

fn cache() -> Raw<u64> {
    Raw::Default(CACHE)
}
