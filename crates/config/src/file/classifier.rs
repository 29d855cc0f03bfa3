//! How a policy's classifier and rules are written: the name of a built-in one, or a map of one's own.
//!
//! Doc comments here are what users read, as in `file`. Nothing is checked beyond shape; `classifiers` does that.

use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::auto::AutoSpec;
use super::decisions::DecisionsSpec;
use super::intent::IntentSpec;
use super::name_or::{Details, NameOr};
use crate::leaf::{Builtin, FullUrl, Leaf, Text};
use crate::raw::Raw;

/// What labels the prompt.
#[derive(Debug)]
pub(crate) enum ClassifierSpec {
    /// One that came with the binary.
    Named(Raw<Builtin>),
    /// Anything that takes more than a name, and where it stands.
    Own(Box<OwnSpec>, Location),
}

/// Exactly one of the keys, `threshold` aside.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnSpec {
    /// Folder that `waypost train` wrote, relative to the folder of this file; read again when it changes.
    pub(crate) path: Option<Raw<String>>,
    /// The built-in `safety`, flagging at a rate of your choice.
    pub(crate) safety: Option<SafetySpec>,
    /// Texts for each label, 1 to 500 in all: a prompt gets the label of those it resembles most, without training.
    pub(crate) examples: Option<Examples>,
    /// With `examples`: below this similarity (0 to 1) `default` is taken; 0.4 if absent.
    pub(crate) threshold: Option<Raw<f64>>,
    /// A KServe v2 server, such as Triton, over HTTP.
    pub(crate) kserve: Option<KserveSpec>,
    /// Signals seen in the prompt, and decisions that follow from them by rules of your own.
    pub(crate) decisions: Option<DecisionsSpec>,
    /// A small model, asked which of the described routes the conversation wants.
    pub(crate) intent: Option<IntentSpec>,
    /// No labels: the model is chosen by learned quality, by price and by latency.
    pub(crate) auto: Option<AutoSpec>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SafetySpec {
    /// Share of harmless prompts that may be flagged, 0.0005 to 0.2.
    pub(crate) false_alarms: Raw<f64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KserveSpec {
    /// Inference address, used as written.
    pub(crate) url: Raw<FullUrl>,
    /// Label of each output, in order; may be absent when `routes` names task or complexity labels only.
    pub(crate) labels: Option<Vec<Raw<String>>>,
    /// Used instead of the policy's `classify_timeout`.
    pub(crate) timeout: Option<Raw<Duration>>,
}

/// A rule applies when one of its keywords or its regular expression is found in the last user turn.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleSpec {
    /// Label given to the prompt, the classifier's or one of its own; `routes` names it.
    pub(crate) label: Raw<String>,
    /// Words or phrases; case does not count, word boundaries do.
    #[serde(default)]
    pub(crate) keywords: Vec<Raw<String>>,
    /// Regular expression, as Rust's `regex` reads it.
    pub(crate) regex: Option<Raw<Text>>,
}

impl<'de> Deserialize<'de> for ClassifierSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<NameOr<OwnSpec>>::deserialize(deserializer)?;
        Ok(match value {
            NameOr::Name(name) => Self::Named(Raw::read(&name, referenced)),
            NameOr::Map(spec) => Self::Own(spec, referenced),
        })
    }
}

impl Details for OwnSpec {
    const EXPECTED: &str = "the name of a classifier, or a map such as `{path: DIR}`,";
}

impl JsonSchema for ClassifierSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "classifier".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                { "type": "string", "enum": Builtin::NAMES.map(|(name, _)| name), "format": Builtin::KIND },
                OwnSpec::json_schema(generator),
            ]
        })
    }
}

/// `label: …` pairs in the order of the file, with the place of each.
#[derive(Debug)]
pub(crate) struct Pairs<V>(pub(crate) Vec<(Raw<String>, V)>);

/// Label to model.
pub(crate) type Routes = Pairs<Raw<String>>;
/// Label to texts.
pub(crate) type Examples = Pairs<Vec<Raw<Text>>>;
/// Name to number.
pub(crate) type Numbers = Pairs<Raw<f64>>;

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Pairs<V>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map whose keys are names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

impl JsonSchema for Routes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "label: model".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "format": "map label: model",
            "additionalProperties": { "type": "string" },
        })
    }
}

impl JsonSchema for Examples {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "label: texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "format": "map label: list of text",
            "additionalProperties": { "type": "array", "items": { "type": "string" } },
        })
    }
}

impl JsonSchema for Numbers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "name: number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "format": "map name: number",
            "additionalProperties": { "type": "number" },
        })
    }
}
