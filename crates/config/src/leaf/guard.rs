//! What the guard refuses, and what it does when it cannot tell.
//!
//! Part of `leaf`, whose rules they follow.

use serde_json::{Value, json};

use super::Leaf;
use super::words::named;
use crate::labels::Known;

/// A label of `safety` that names an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attack(pub(crate) &'static str);

impl Leaf for Attack {
    const KIND: &'static str = "`jailbreak` or `injection`";

    fn parse(text: &str) -> Result<Self, String> {
        // The first label is no attack.
        let attacks: Vec<_> =
            Known::Safety.labels().iter().skip(1).map(|label| (*label, Self(label))).collect();
        named(&attacks, text, Self::KIND)
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// What happens to a request whose prompt was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    Pass,
    Refuse,
}

const ON_FAILURE: [(&str, OnFailure); 2] = [("pass", OnFailure::Pass), ("refuse", OnFailure::Refuse)];

impl Leaf for OnFailure {
    const KIND: &'static str = "`pass` or `refuse`";

    fn parse(text: &str) -> Result<Self, String> {
        named(&ON_FAILURE, text, Self::KIND)
    }

    fn to_json(&self) -> Value {
        json!(ON_FAILURE.iter().find(|(_, what)| what == self).map(|(name, _)| name))
    }
}
