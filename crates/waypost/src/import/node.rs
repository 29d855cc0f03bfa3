//! YAML as it is written: mappings keep their order, and nothing is dropped.
//!
//! Called by `v2` and `vsr`.

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// A piece of YAML.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The entries of a mapping; a key without a value has none.
    ///
    /// # Errors
    /// When it is something else, which stands at `place`.
    pub(super) fn entries(&self, place: &str) -> Result<&[(String, Self)], String> {
        match self {
            Self::Map(entries) => Ok(entries),
            Self::Null => Ok(&[]),
            _ => Err(format!("{place} is not a mapping")),
        }
    }

    /// The value under `key`; a mapping alone has one.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text under `key`, if there is a value.
    ///
    /// # Errors
    /// When it is something else; this mapping stands at `place`.
    pub(super) fn text(&self, place: &str, key: &str) -> Result<Option<&str>, String> {
        match self.get(key) {
            None | Some(Self::Null) => Ok(None),
            Some(Self::Text(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{place}.{key}` is not text")),
        }
    }

    /// The items under `key`; a key without a value has none.
    ///
    /// # Errors
    /// When it is something else than a list; this mapping stands at `place`.
    pub(super) fn list(&self, place: &str, key: &str) -> Result<&[Self], String> {
        match self.get(key) {
            None | Some(Self::Null) => Ok(&[]),
            Some(Self::List(items)) => Ok(items),
            Some(_) => Err(format!("`{place}.{key}` is not a list")),
        }
    }

    /// The list of texts under `key`; whole numbers count as words, such as `2024`.
    ///
    /// # Errors
    /// When it is something else; this mapping stands at `place`.
    pub(super) fn texts(&self, place: &str, key: &str) -> Result<Vec<String>, String> {
        let text = |(at, item): (usize, &Self)| match item {
            Self::Text(text) => Ok(text.clone()),
            Self::Number(number) if number.fract() == 0.0 => Ok(number.to_string()),
            Self::Number(_) => Err(format!("`{place}.{key}[{at}]` is a number: write it in quotes")),
            _ => Err(format!("`{place}.{key}[{at}]` is not text")),
        };
        self.list(place, key)?.iter().enumerate().map(text).collect()
    }

    /// The flag under `key`, if there is a value.
    ///
    /// # Errors
    /// When it is something else; this mapping stands at `place`.
    pub(super) fn flag(&self, place: &str, key: &str) -> Result<Option<bool>, String> {
        match self.get(key) {
            None | Some(Self::Null) => Ok(None),
            Some(Self::Flag(flag)) => Ok(Some(*flag)),
            // YAML 1.1 has more words for it.
            Some(Self::Text(word)) if ["yes", "on"].contains(&&*word.to_ascii_lowercase()) => Ok(Some(true)),
            Some(Self::Text(word)) if ["no", "off"].contains(&&*word.to_ascii_lowercase()) => Ok(Some(false)),
            Some(_) => Err(format!("`{place}.{key}` is neither true nor false")),
        }
    }

    /// The number under `key`, if there is a value.
    ///
    /// # Errors
    /// When it is something else or not finite; this mapping stands at `place`.
    pub(super) fn number_at(&self, place: &str, key: &str) -> Result<Option<f64>, String> {
        match self.get(key) {
            None | Some(Self::Null) => Ok(None),
            Some(node) => match node.number().filter(|number| number.is_finite()) {
                Some(number) => Ok(Some(number)),
                None => Err(format!("`{place}.{key}` is not a number")),
            },
        }
    }

    /// A number, also one in quotes.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number as f64))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}
