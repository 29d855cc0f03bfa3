//! How much models are to think: the names that requests say it by, and the labels it is said for.
//!
//! Called by `models` and `policies`.

use std::sync::Arc;

use crate::classifiers::unknown_label;
use crate::error::Fault;
use crate::file::{PolicySpec, ReasoningSpec};
use crate::raw::{Raw, Reader};
use crate::snapshot::{Classifier, Effort, Model, Policy, Reasoning, Route};

/// Longest name of a member, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Members of a request that are something else.
const TAKEN: [&str; 16] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "tools",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "min_tokens",
    "chat_template_kwargs",
    "nvext",
    "kv_transfer_params",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "nim-llm-router",
];

/// How a model is told.
pub(crate) fn told(
    reader: &mut Reader<'_>,
    spec: &ReasoningSpec,
    model: &Raw<String>,
) -> Result<Reasoning, Fault> {
    match (&spec.chat_template, &spec.chat_template_effort, &spec.effort) {
        (Some(raw), None, None) => name(reader, raw).map(Reasoning::ChatTemplate),
        (None, Some(raw), None) => name(reader, raw).map(Reasoning::ChatTemplateEffort),
        (None, None, Some(raw)) => match name(reader, raw)? {
            name if TAKEN.contains(&&*name) => Err(raw.wrong("is another member of the request")),
            name => Ok(Reasoning::Effort(name)),
        },
        _ => Err(model
            .fault("`reasoning` says exactly one of `chat_template`, `chat_template_effort` and `effort`")),
    }
}

/// A name that stands in JSON as it is.
fn name(reader: &mut Reader<'_>, raw: &Raw<String>) -> Result<Arc<str>, Fault> {
    let name = reader.get(raw)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name.len() <= MAX_NAME_BYTES && name.chars().all(plain) {
        true => Ok(name.into()),
        false => {
            Err(raw.wrong("is no name of a request's member: letters, digits, `_`, `-` and `.`, 64 at most"))
        }
    }
}

/// How much the models of a policy's labels are to think.
pub(crate) fn efforts(
    reader: &mut Reader<'_>,
    spec: &PolicySpec,
    classifier: &Classifier,
    routes: &[Route],
) -> Result<Vec<(Arc<str>, Effort)>, Fault> {
    let mut efforts: Vec<(Arc<str>, Effort)> = Vec::new();
    let labels = classifier.labels();
    for (raw, effort) in spec.reasoning.iter().flat_map(|pairs| &pairs.0) {
        let label: Arc<str> = reader.get(raw)?.into();
        if efforts.iter().any(|(known, _)| *known == label) {
            return Err(raw.fault("this label is listed twice"));
        }
        // Those of a trained folder are known when it is read.
        let later = matches!(classifier, Classifier::Trained { .. });
        if !later && !labels.contains(&&*label) && !routes.iter().any(|route| route.label == label) {
            return Err(raw.fault(unknown_label(&raw.quoted(), &label, &labels)));
        }
        efforts.push((label, reader.get(effort)?));
    }
    Ok(efforts)
}

/// Says so where the efforts of a policy reach no model.
pub(crate) fn warn_untold(reader: &mut Reader<'_>, spec: &PolicySpec, policy: &Policy, models: &[Model]) {
    let untold = policy.models().iter().all(|model| models[*model].reasoning.is_none());
    if let (Some((raw, _)), true) = (spec.reasoning.as_ref().and_then(|efforts| efforts.0.first()), untold) {
        let message =
            "no model of this policy is told how much to think: give them `reasoning` under `models`";
        reader.warn(raw.location(), message);
    }
}

impl Policy {
    /// How much the model of a label is to think, where that is said.
    #[must_use]
    pub fn effort(&self, label: &str) -> Option<Effort> {
        self.reasoning.iter().find(|(known, _)| **known == *label).map(|(_, effort)| *effort)
    }
}
