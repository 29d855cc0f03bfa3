//! A Decision as advice: what it says, and beside it what a client needs to act on it.
//!
//! Called for `/v1/decision` and by `waypost decide`.

use crate::brain::Brain;
use crate::decision::Decision;
use serde_json::{Value, json};
use waypost_policy::Plan;

impl Brain {
    /// The Decision as an object, with `upstream_model`, `reason` and `fallbacks` of its plan.
    #[must_use]
    pub fn advice(&self, plan: &Plan, decision: &Decision) -> Value {
        let models = &self.snapshot().models;
        let mut whole = serde_json::to_value(decision).unwrap_or_default();
        if let (Value::Object(whole), Some(((first, reason), rest))) = (&mut whole, plan.models.split_first())
        {
            whole.insert("upstream_model".to_owned(), json!(models[*first].upstream_id));
            whole.insert("reason".to_owned(), json!(reason));
            let fallbacks: Vec<_> = rest.iter().map(|(model, _)| &models[*model].name).collect();
            whole.insert("fallbacks".to_owned(), json!(fallbacks));
        }
        whole
    }
}
