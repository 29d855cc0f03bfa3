//! How a policy by decisions is written: signals seen in a prompt, and the decisions that follow from them.
//!
//! Doc comments here are what users read, as in `file`. Nothing is checked beyond shape; `decisions` does that.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::name_or::{Details, NameOr};
use crate::leaf::Text;
use crate::raw::Raw;
use crate::snapshot::{Matching, Order};

/// vLLM Semantic Router's.
const ORDER: Order = Order::Priority;
const PRIORITY: i64 = 0;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionsSpec {
    /// What is looked for in a prompt, 1 to 256. Each says one of `domain`, `keywords`, `regex`, `examples`, `safety` and `pii`.
    pub(crate) signals: Vec<SignalSpec>,
    /// What may be decided, 1 to 256; the names are the policy's labels.
    pub(crate) decide: Vec<DecideSpec>,
    /// Which of several decisions that apply is taken: that of the highest `priority`, or of the highest `confidence`.
    #[serde(default = "order")]
    pub(crate) order: Raw<Order>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalSpec {
    /// The name that `when` uses.
    pub(crate) name: Raw<String>,
    /// Domains of the built-in `domain`: applies when the prompt's is one of them.
    pub(crate) domain: Option<Vec<Raw<String>>>,
    /// Words or phrases, found as whole words.
    pub(crate) keywords: Option<Vec<Raw<String>>>,
    /// With `keywords`: whether `any`, `all` or `none` of them must be found; `any` if absent.
    #[serde(rename = "match")]
    pub(crate) matching: Option<Raw<Matching>>,
    /// With `keywords`: whether case counts; it does not if absent.
    pub(crate) case_sensitive: Option<Raw<bool>>,
    /// Regular expression, as Rust's `regex` reads it.
    pub(crate) regex: Option<Raw<Text>>,
    /// Texts: applies to prompts that resemble them.
    pub(crate) examples: Option<Vec<Raw<Text>>>,
    /// Labels of the built-in `safety`: applies when they are likely, all together.
    pub(crate) safety: Option<Vec<Raw<String>>>,
    /// `true`: applies when the prompt holds personal data or a secret.
    pub(crate) pii: Option<Raw<bool>>,
    /// Confidence (0 to 1) from which it applies, for all but keywords and regular expressions; 0.4 for `examples`, else 0.5.
    pub(crate) threshold: Option<Raw<f64>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecideSpec {
    /// The label, as `routes` of the policy has it.
    pub(crate) name: Raw<String>,
    /// The higher, the earlier it is taken; may be below zero.
    #[serde(default = "priority")]
    pub(crate) priority: Raw<i64>,
    /// When it applies; absent, always.
    pub(crate) when: Option<WhenSpec>,
}

fn order() -> Raw<Order> {
    Raw::Default(ORDER)
}

fn priority() -> Raw<i64> {
    Raw::Default(PRIORITY)
}

/// A condition, and where it stands.
#[derive(Debug)]
pub(crate) enum WhenSpec {
    Signal(Raw<String>),
    Of(Box<OfSpec>, Location),
}

/// Exactly one of the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfSpec {
    pub(crate) all: Option<Vec<WhenSpec>>,
    pub(crate) any: Option<Vec<WhenSpec>>,
    pub(crate) not: Option<WhenSpec>,
}

impl<'de> Deserialize<'de> for WhenSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<NameOr<OfSpec>>::deserialize(deserializer)?;
        Ok(match value {
            NameOr::Name(name) => Self::Signal(Raw::read(&name, referenced)),
            NameOr::Map(of) => Self::Of(of, referenced),
        })
    }
}

impl Details for OfSpec {
    const EXPECTED: &str = "the name of a signal, or a map such as `{all: [a, {not: b}]}`,";
}

impl JsonSchema for WhenSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "condition".into()
    }

    /// It nests, so what is inside is told in words.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "object"],
            "format": "signal, or map with `all`, `any` or `not`",
            "propertyNames": { "enum": ["all", "any", "not"] },
            "minProperties": 1,
            "maxProperties": 1,
        })
    }
}
