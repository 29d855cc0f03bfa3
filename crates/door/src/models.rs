//! What clients may name as `model`: real models and virtual ones, in OpenAI's shape.
//!
//! Called for the list of models and for one of them.

use serde_json::{Value, json};
use waypost_router::Brain;

/// An entry for each, policies first.
#[must_use]
pub fn models(brain: &Brain) -> Vec<Value> {
    let snapshot = brain.snapshot();
    let entry = |id: &str, owner: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": owner});
    let auto = snapshot.default_policy.map(|_| entry("auto", "waypost-policy"));
    let policies = snapshot.policies.iter().map(|p| entry(&p.name, "waypost-policy"));
    let models = snapshot.models.iter().filter(|m| m.listed).map(|m| {
        let mut model = entry(&m.name, "waypost");
        if let Some(length) = m.context_length {
            // vLLM's name for it; clients read it there.
            model["max_model_len"] = length.into();
        }
        model
    });
    auto.into_iter().chain(policies).chain(models).collect()
}
