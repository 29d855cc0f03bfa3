//! How a model is told to think, or not to.
//!
//! Doc comments here are what users read, as in `file`. Nothing is checked beyond shape; `reasoning` does that.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::classifier::Pairs;
use crate::leaf::Leaf;
use crate::raw::Raw;
use crate::snapshot::Effort;

/// Label to effort.
pub(crate) type Efforts = Pairs<Raw<Effort>>;

/// Exactly one of the keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReasoningSpec {
    /// A key of `chat_template_kwargs` that is set to true or false: `enable_thinking` for Qwen3, `thinking` for DeepSeek.
    pub(crate) chat_template: Option<Raw<String>>,
    /// A key of `chat_template_kwargs` that is set to `low`, `medium` or `high`.
    pub(crate) chat_template_effort: Option<Raw<String>>,
    /// A member of the request that is set to `low`, `medium` or `high`: `reasoning_effort` for OpenAI's models.
    pub(crate) effort: Option<Raw<String>>,
}

impl JsonSchema for Efforts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "label: effort".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "format": "map label: effort",
            "additionalProperties": { "type": "string", "enum": Effort::ALL.map(Effort::as_str), "format": Effort::KIND },
        })
    }
}
