//! Words of the choice among replicas.
//!
//! Part of `leaf`, whose rules they follow.

use serde_json::{Value, json};

use super::Leaf;
use super::words::named;
use crate::snapshot::{Connector, Role, Strategy};

/// Leaves that are one of a few words.
macro_rules! words {
    ($leaf:ty, $what:literal, $kind:literal, [$($name:literal => $value:expr),+ $(,)?]) => {
        impl Leaf for $leaf {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                named(&[$(($name, $value)),+], text, $what)
            }

            fn to_json(&self) -> Value {
                let names = [$(($name, $value)),+];
                json!(names.iter().find(|(_, value)| value == self).map(|(name, _)| name))
            }
        }
    };
}

words!(Role, "a role", "`prefill`, `decode` or `both`", [
    "prefill" => Role::Prefill,
    "decode" => Role::Decode,
    "both" => Role::Both,
]);

words!(Connector, "a connector", "`nixl`, `sglang` or `dynamo`", [
    "nixl" => Connector::Nixl,
    "sglang" => Connector::Sglang,
    "dynamo" => Connector::Dynamo,
]);

/// What the prefix index is filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrefixSource {
    Events,
    Approximate,
    Dynamo,
}

words!(PrefixSource, "a source of prefixes", "`events`, `approximate` or `dynamo`", [
    "events" => PrefixSource::Events,
    "approximate" => PrefixSource::Approximate,
    "dynamo" => PrefixSource::Dynamo,
]);

/// Whose metrics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Vllm,
    Sglang,
    TrtLlm,
    Triton,
    Custom,
}

words!(Form, "a form of metrics", "`vllm`, `sglang`, `trtllm`, `triton` or `custom`", [
    "vllm" => Form::Vllm,
    "sglang" => Form::Sglang,
    "trtllm" => Form::TrtLlm,
    "triton" => Form::Triton,
    "custom" => Form::Custom,
]);

impl Leaf for Strategy {
    const KIND: &'static str =
        "`ttft`, `kv`, `scorers`, `least-load`, `power-of-two`, `round-robin` or `random`";

    fn parse(text: &str) -> Result<Self, String> {
        named(&Self::NAMES, text, "a strategy")
    }

    fn to_json(&self) -> Value {
        json!(self.as_str())
    }
}
