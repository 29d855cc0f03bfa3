//! Values that are one of a few words.
//!
//! Part of `leaf`, whose rules they follow.

use serde_json::{Value, json};

use super::Leaf;
use crate::nearest::hint;
use crate::snapshot::{Effort, Matching, Order};

/// A classifier that came with the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Task,
    Complexity,
    Domain,
    Safety,
    Pii,
}

impl Builtin {
    /// All of them, by the name in the file.
    pub(crate) const NAMES: [(&'static str, Self); 5] = [
        ("task", Self::Task),
        ("complexity", Self::Complexity),
        ("domain", Self::Domain),
        ("safety", Self::Safety),
        ("pii", Self::Pii),
    ];
}

impl Leaf for Builtin {
    const KIND: &'static str = "`task`, `complexity`, `domain`, `safety` or `pii`";

    fn parse(text: &str) -> Result<Self, String> {
        named(&Self::NAMES, text, "a built-in classifier")
    }

    fn to_json(&self) -> Value {
        json!(Self::NAMES.iter().find(|(_, b)| b == self).map(|(name, _)| name))
    }
}

/// How a door is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DoorTls {
    Off,
    SelfSigned,
    Files,
}

const DOOR_TLS: [(&str, DoorTls); 3] =
    [("off", DoorTls::Off), ("self_signed", DoorTls::SelfSigned), ("files", DoorTls::Files)];

impl Leaf for DoorTls {
    const KIND: &'static str = "`off`, `self_signed` or `files`";

    fn parse(text: &str) -> Result<Self, String> {
        named(&DOOR_TLS, text, Self::KIND)
    }

    fn to_json(&self) -> Value {
        json!(DOOR_TLS.iter().find(|(_, tls)| tls == self).map(|(name, _)| name))
    }
}

/// The value of that name, or what it is not and what was meant.
pub(super) fn named<T: Copy + Leaf>(names: &[(&str, T)], text: &str, what: &str) -> Result<T, String> {
    let word = text.trim();
    let found = names.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| match hint(word, names.iter().map(|(name, _)| *name)) {
        empty if empty.is_empty() && what != T::KIND => format!("is not {what}: {}", T::KIND),
        hint => format!("is not {what}{hint}"),
    })
}

/// Something a model takes besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capability {
    Images,
    Audio,
    Tools,
    JsonSchema,
}

const CAPABILITIES: [(&str, Capability); 4] = [
    ("images", Capability::Images),
    ("audio", Capability::Audio),
    ("tools", Capability::Tools),
    ("json_schema", Capability::JsonSchema),
];

impl Leaf for Capability {
    const KIND: &'static str = "`images`, `audio`, `tools` or `json_schema`";

    fn parse(text: &str) -> Result<Self, String> {
        named(&CAPABILITIES, text, Self::KIND)
    }

    fn to_json(&self) -> Value {
        let name = CAPABILITIES.iter().find(|(_, c)| c == self);
        json!(name.map(|(name, _)| name))
    }
}

const MATCHINGS: [(&str, Matching); 3] =
    [("any", Matching::Any), ("all", Matching::All), ("none", Matching::None)];

impl Leaf for Matching {
    const KIND: &'static str = "`any`, `all` or `none`";

    fn parse(text: &str) -> Result<Self, String> {
        named(&MATCHINGS, text, Self::KIND)
    }

    fn to_json(&self) -> Value {
        json!(MATCHINGS.iter().find(|(_, m)| m == self).map(|(name, _)| name))
    }
}

const ORDERS: [(&str, Order); 2] = [("priority", Order::Priority), ("confidence", Order::Confidence)];

impl Leaf for Order {
    const KIND: &'static str = "`priority` or `confidence`";

    fn parse(text: &str) -> Result<Self, String> {
        named(&ORDERS, text, Self::KIND)
    }

    fn to_json(&self) -> Value {
        json!(ORDERS.iter().find(|(_, o)| o == self).map(|(name, _)| name))
    }
}

impl Leaf for Effort {
    const KIND: &'static str = "`off`, `on`, `low`, `medium` or `high`";

    fn parse(text: &str) -> Result<Self, String> {
        named(&Self::ALL.map(|effort| (effort.as_str(), effort)), text, Self::KIND)
    }

    fn to_json(&self) -> Value {
        json!(self.as_str())
    }
}

/// A rule of an older router that a policy keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompatV1;

impl Leaf for CompatV1 {
    const KIND: &'static str = "`v1`";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "v1" => Ok(Self),
            _ => Err("is not `v1`, the only rule there is to keep".to_owned()),
        }
    }

    fn to_json(&self) -> Value {
        json!("v1")
    }
}

/// What `sticky` may say in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sticky;

impl Leaf for Sticky {
    const KIND: &'static str = "`conversation`";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "conversation" => Ok(Self),
            _ => Err("is not `conversation`; for details write a map such as `{spend: 0.2}`".to_owned()),
        }
    }

    fn to_json(&self) -> Value {
        json!("conversation")
    }
}
