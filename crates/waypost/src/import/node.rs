//! YAML as it is written: mappings keep their order, and nothing is dropped.
//!
//! Called by `v2` and `vsr`.

use crate::yaml::Yaml;
use serde::Deserialize;

/// A piece of YAML.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Yaml<String, Node>")]
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

impl From<Yaml<String, Node>> for Node {
    fn from(yaml: Yaml<String, Node>) -> Self {
        match yaml {
            Yaml::Null => Self::Null,
            Yaml::Flag(flag) => Self::Flag(flag),
            Yaml::Whole(number) => Self::Number(number as f64),
            Yaml::Number(number) => Self::Number(number),
            Yaml::Text(text) => Self::Text(text),
            Yaml::List(items) => Self::List(items),
            Yaml::Map(entries) => Self::Map(entries),
        }
    }
}
