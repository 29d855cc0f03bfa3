//! How learned policies, conversations and experiments are written.
//!
//! Doc comments here are what users read, as in `file`. Nothing is checked beyond shape; `auto` and `conversations` do
//! that.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::classifier::{Numbers, Routes};
use super::name_or::{Details, NameOr};
use crate::leaf::{BaseUrl, FullUrl, Objective, Sticky};
use crate::raw::Raw;
use crate::snapshot::Secret;

/// A conversation is forgotten after this long without a request: prompt caches of providers last 5 to 60 minutes.
const KEEP: Duration = Duration::from_secs(15 * 60);
/// Share of a conversation's cost that leaving a warm cache may add.
const SPEND: f64 = 0.2;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AutoSpec {
    /// The models to choose from. Without a rule below, the cheapest within 0.03 of the best expected quality is taken.
    pub(crate) models: Vec<Raw<String>>,
    /// Folder that `waypost train --outcomes` wrote, relative to the folder of this file; read again when it changes.
    pub(crate) outcomes: Option<Raw<String>>,
    /// Instead of `outcomes`: LLM Router v2's trained network, as a safetensors file.
    pub(crate) network: Option<Raw<String>>,
    /// With `network`: the entry of `embeddings` that makes its input.
    pub(crate) embeddings: Option<Raw<String>>,
    /// Names in the outcomes or the network, for the models of this file that go by another one there.
    pub(crate) names: Option<Routes>,
    /// Rule: the cheapest model whose expected quality is at most this far below the best, 0 to 1.
    pub(crate) tolerance: Option<Raw<f64>>,
    /// Rule: the highest `quality - A * cost - B * latency`; cost in US dollars a request, latency in seconds.
    pub(crate) maximize: Option<Raw<Objective>>,
    /// Rule: the best model whose expected cost for the request is at most this, in US dollars.
    pub(crate) budget: Option<Raw<f64>>,
    /// LLM Router v2's rule: models at or above their threshold qualify; the cheapest by `costs` is taken.
    pub(crate) thresholds: Option<Numbers>,
    /// With `thresholds`: relative costs, as v2 has them.
    pub(crate) costs: Option<Numbers>,
}

/// Whether conversations keep their model.
#[derive(Debug)]
pub(crate) enum StickyOption {
    Named(Raw<Sticky>),
    Own(StickySpec),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StickySpec {
    /// Share of the conversation's cost that leaving a warm prompt cache may add; 0 stays always.
    pub(crate) spend: Raw<f64>,
    /// A conversation without a request for this long is forgotten.
    pub(crate) keep: Raw<Duration>,
    /// Whether "try again" and complaints move up one model, to the next dearer one.
    pub(crate) complaints: Raw<bool>,
}

impl Default for StickySpec {
    fn default() -> Self {
        Self { spend: Raw::Default(SPEND), keep: Raw::Default(KEEP), complaints: Raw::Default(true) }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitSpec {
    /// What keeps to one arm: `conversation`, `request`, or a request header by name.
    #[serde(default = "by_conversation")]
    pub(crate) by: Raw<String>,
    /// Policy to weight.
    pub(crate) arms: Numbers,
}

fn by_conversation() -> Raw<String> {
    Raw::Default("conversation".to_owned())
}

/// Where texts and images become vectors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingSpec {
    /// The name policies use.
    pub(crate) name: Raw<String>,
    /// A CLIP model in a local Hugging Face folder, run in this process; relative to the folder of this file.
    pub(crate) folder: Option<Raw<String>>,
    /// Or a server with OpenAI's embeddings API that takes images as data URLs, such as NVCLIP; used as written.
    pub(crate) url: Option<Raw<FullUrl>>,
    /// With `url`: the `model` value sent.
    pub(crate) model: Option<Raw<String>>,
    /// With `url`: sent as bearer token; empty or absent sends none.
    pub(crate) api_key: Option<Raw<Secret>>,
    /// Or a Jina CLIP-as-service with its HTTP protocol.
    pub(crate) jina: Option<Raw<BaseUrl>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogFileSpec {
    /// File to append to, one JSON object a line; relative to the folder of this file.
    pub(crate) path: Raw<String>,
    /// Whether request bodies are written too, which `waypost replay` needs. They are private data.
    #[serde(default = "no_prompts")]
    pub(crate) prompts: Raw<bool>,
}

fn no_prompts() -> Raw<bool> {
    Raw::Default(false)
}

impl<'de> Deserialize<'de> for StickyOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<NameOr<StickySpec>>::deserialize(deserializer)?;
        Ok(match value {
            NameOr::Name(word) => Self::Named(Raw::read(&word, referenced)),
            NameOr::Map(spec) => Self::Own(*spec),
        })
    }
}

impl Details for StickySpec {
    const EXPECTED: &str = "`conversation`, or a map such as `{spend: 0.2}`,";
}

impl JsonSchema for StickyOption {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "sticky".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [Raw::<Sticky>::json_schema(generator), StickySpec::json_schema(generator)] })
    }
}
