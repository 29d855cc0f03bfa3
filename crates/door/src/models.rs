//! What clients may name as `model`: real models and virtual ones, in OpenAI's shape.
//!
//! Called for the list of models and for one of them.

use serde_json::{Value, json};
use waypost_router::Brain;

/// An entry for each, virtual ones first.
#[must_use]
pub fn models(brain: &Brain) -> Vec<Value> {
    let snapshot = brain.snapshot();
    let entry = |id: &str, owner: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": owner});
    let default = snapshot.default_policy;
    let policy = |id: &str, index: usize| {
        let mut virtual_one = entry(id, "waypost-policy");
        // vLLM Semantic Router's way to tell what a virtual name leads to.
        virtual_one["routing"] = json!({
            "resolution": "virtual",
            "selectable": true,
            "default_route": default == Some(index),
            "recipe": &*snapshot.policies[index].name,
        });
        virtual_one
    };
    let auto = snapshot.auto_names.first().zip(default).map(|(name, index)| policy(name, index));
    let policies = snapshot.policies.iter().enumerate().map(|(index, p)| policy(&p.name, index));
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
