//! v1's body object `nim-llm-router`: how an NVIDIA LLM Router client says what it wants.
//!
//! v1 treats an object with any field of the wrong type as missing; here the reason is kept, so that
//! the answer can name it. Called by the request view.

use super::{Problem, duplicate_key};
use crate::json::{Kind, Scanner};
use std::borrow::Cow;

/// How the model is to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// By the policy's classifier.
    Triton,
    /// By the client, who names a label or a model.
    Manual,
}

/// The object as it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NimRouter<'a> {
    /// Name of the policy, trimmed.
    pub policy: Option<Cow<'a, str>>,
    /// The strategy, when one was given.
    pub strategy: Option<Strategy>,
    /// A label or a model, for [`Strategy::Manual`].
    pub model: Option<Cow<'a, str>>,
    /// Why the object cannot be used, naming field and value.
    pub problem: Option<String>,
}

/// Longest piece of a client's own value repeated in an error message, in characters.
const MAX_ECHO_CHARS: usize = 64;

pub(super) fn scan<'a>(s: &mut Scanner<'a>) -> Result<NimRouter<'a>, Problem> {
    let mut nim = NimRouter::default();
    if s.kind()? == Kind::Object {
        scan_fields(s, &mut nim)?;
        if nim.policy.is_none() && nim.problem.is_none() {
            nim.problem = Some("'policy' is required".to_owned());
        }
    } else {
        s.skip()?;
        nim.problem = Some("it must be an object".to_owned());
    }
    Ok(nim)
}

fn scan_fields<'a>(s: &mut Scanner<'a>, nim: &mut NimRouter<'a>) -> Result<(), Problem> {
    let mut seen = Vec::new();
    s.object(|s, key| {
        let key = key.decode();
        let known = matches!(key.as_ref(), "policy" | "routing_strategy" | "model" | "threshold");
        if known && seen.contains(&key) {
            return Err(duplicate_key(&format!("nim-llm-router.{key}")));
        }
        let kind = s.kind()?;
        match (key.as_ref(), kind) {
            ("policy", Kind::String) => nim.policy = Some(trimmed(s.string()?.decode())),
            ("routing_strategy", Kind::String) => {
                let word = s.string()?.decode();
                nim.strategy = match word.as_ref() {
                    "triton" => Some(Strategy::Triton),
                    "manual" => Some(Strategy::Manual),
                    _ => {
                        let echo: String = word.chars().take(MAX_ECHO_CHARS).collect();
                        nim.problem =
                            Some(format!("'routing_strategy' must be 'triton' or 'manual', not '{echo}'"));
                        None
                    }
                };
            }
            ("model", Kind::String) => nim.model = Some(s.string()?.decode()),
            ("model" | "threshold" | "routing_strategy", Kind::Null) | ("threshold", Kind::Number) => {
                s.skip()?
            }
            ("policy" | "routing_strategy" | "model", _) => {
                nim.problem = Some(format!("'{key}' must be a string"));
                s.skip()?;
            }
            ("threshold", _) => {
                nim.problem = Some("'threshold' must be a number".to_owned());
                s.skip()?;
            }
            _ => s.skip()?,
        }
        if known {
            seen.push(key);
        }
        Ok(())
    })
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}
