//! Intent policies: a small model names one of the routes that the user has described.
//!
//! Checks what the model is shown and what it may answer; routes live here and nowhere in code. What is asked, and how
//! an answer is read, is the router's. Called by `classifiers`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::Fault;
use crate::file::IntentSpec;
use crate::leaf::{KIB, Leaf, Text};
use crate::models::Models;
use crate::nearest::hint;
use crate::raw::{Raw, Reader};
use crate::resolve::{number, size};
use crate::snapshot::ModelIndex;

/// The label of a conversation that no route fits.
pub const OTHER: &str = "other";

/// Routes of a policy; a small model loses its way among more.
const MAX_ROUTES: usize = 64;
/// Longest name of a route, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Longest description of a route, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 2 * KIB;
const CONTEXT_BYTES: std::ops::RangeInclusive<usize> = 512..=256 * KIB;
const MAX_CONCURRENCY: u64 = 4096;
const MAX_CACHE: u64 = 1_000_000;

/// What an intent policy asks, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The model that is asked.
    pub model: ModelIndex,
    /// Routes in the order of the file; `other` only where it is described.
    pub routes: Vec<IntentRoute>,
    /// How the answer is held to their names.
    pub guided: Guided,
    /// Most of the conversation that is shown, in bytes of JSON.
    pub context_bytes: usize,
    /// Questions under way at once.
    pub concurrency: usize,
    /// Answers kept.
    pub cache: usize,
}

/// Something a conversation may want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRoute {
    /// The label.
    pub name: Arc<str>,
    /// When it is right.
    pub description: String,
}

/// How a model's answer is held to the names of the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guided {
    /// By what the server takes: `response_format`, else `guided_json`, else nothing.
    Auto,
    /// `response_format` with a JSON schema.
    JsonSchema,
    /// vLLM's `guided_json`.
    GuidedJson,
    /// By the question alone.
    Off,
}

impl Guided {
    const NAMES: [(&'static str, Self); 4] = [
        ("auto", Self::Auto),
        ("json_schema", Self::JsonSchema),
        ("guided_json", Self::GuidedJson),
        ("off", Self::Off),
    ];
}

impl Leaf for Guided {
    const KIND: &'static str = "`auto`, `json_schema`, `guided_json` or `off`";

    fn parse(text: &str) -> Result<Self, String> {
        let word = text.trim();
        let found = Self::NAMES.iter().find(|(name, _)| *name == word);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let hint = hint(word, Self::NAMES.iter().map(|(name, _)| *name));
            format!("is not {}{hint}", Self::KIND)
        })
    }

    fn to_json(&self) -> Value {
        json!(Self::NAMES.iter().find(|(_, value)| value == self).map(|(name, _)| name))
    }
}

impl Intent {
    /// Names of the routes in order, `other` last where it is not described.
    #[must_use]
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = self.routes.iter().map(|route| &*route.name).collect();
        if !labels.contains(&OTHER) {
            labels.push(OTHER);
        }
        labels
    }
}

/// A name as it is compared: answers differ from it in case, blanks, dashes and underscores only.
#[must_use]
pub fn fold(name: &str) -> String {
    let kept = name.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '_'));
    kept.flat_map(char::to_lowercase).collect()
}

pub(crate) fn intent(
    reader: &mut Reader<'_>,
    spec: &IntentSpec,
    models: &Models<'_>,
) -> Result<Intent, Fault> {
    let model = models.find(reader, &spec.model)?;
    let mut routes: Vec<IntentRoute> = Vec::with_capacity(spec.routes.len());
    for route in &spec.routes {
        let name = name(reader, &route.name, &routes)?;
        let Text(description) = reader.get(&route.description)?;
        if description.len() > MAX_DESCRIPTION_BYTES {
            let message = format!("this description is longer than {MAX_DESCRIPTION_BYTES} bytes");
            return Err(route.description.fault(message));
        }
        routes.push(IntentRoute { name, description: description.trim().to_owned() });
    }
    if !routes.iter().any(|route| *route.name != *OTHER) {
        return Err(spec.model.fault("`intent` needs `routes` with at least one route beside `other`"));
    }
    if routes.len() > MAX_ROUTES {
        let message = format!("{} routes, at most {MAX_ROUTES} are possible", routes.len());
        return Err(spec.model.fault(message));
    }
    Ok(Intent {
        model,
        routes,
        guided: reader.get(&spec.guided)?,
        context_bytes: size(reader, &spec.context, CONTEXT_BYTES)?,
        concurrency: number(reader, &spec.concurrency, 1..=MAX_CONCURRENCY)? as usize,
        cache: number(reader, &spec.cache, 0..=MAX_CACHE)? as usize,
    })
}

/// A name that an answer can be held against without doubt.
fn name(reader: &mut Reader<'_>, raw: &Raw<String>, before: &[IntentRoute]) -> Result<Arc<str>, Fault> {
    let name = reader.get(raw)?;
    if name.len() > MAX_NAME_BYTES {
        return Err(raw.wrong(&format!("is longer than {MAX_NAME_BYTES} bytes")));
    }
    if name.contains(['"', '\'', '`', '\\', '<', '>', '{', '}']) {
        return Err(raw.wrong("holds a quote, a bracket or a backslash; answers are read by those"));
    }
    let folded = fold(&name);
    if folded.is_empty() {
        return Err(raw.wrong("has neither letter nor digit"));
    }
    if folded == OTHER && name != OTHER {
        return Err(raw.wrong("would be taken for `other`, the route of what fits no other"));
    }
    match before.iter().find(|known| fold(&known.name) == folded) {
        Some(known) if *known.name == *name => Err(raw.fault("another route has this name")),
        Some(known) => Err(raw.wrong(&format!("could not be told from `{}` in an answer", known.name))),
        None => Ok(name.into()),
    }
}
