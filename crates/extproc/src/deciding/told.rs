//! What the client is told of a decision: Waypost's headers, and vLLM Semantic Router's beside them.
//!
//! Called when the head of a response passes, and for refusals.

use http::{HeaderName, HeaderValue};
use waypost_router::Decision;

/// Version of vLLM Semantic Router's header contract that these follow.
const VSR_SCHEMA: &str = "2";

/// All of them; each replaces one that is there.
pub(super) fn told(decision: &Decision) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    waypost_door::explain(decision).chain(vsr(decision))
}

fn vsr(decision: &Decision) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let ok = (200..300).contains(&decision.status);
    let path = if decision.error.is_some() { "error" } else { "upstream" };
    let on_success = |value: Option<String>| value.filter(|_| ok);
    let label = decision.label.as_deref().map(str::to_owned);
    let told = [
        ("x-vsr-schema-version", Some(VSR_SCHEMA.to_owned())),
        ("x-vsr-response-path", Some(path.to_owned())),
        ("x-vsr-selected-recipe", on_success(decision.policy.as_deref().map(str::to_owned))),
        ("x-vsr-selected-decision", on_success(label.clone())),
        // The name before version 2.
        ("x-vsr-selected-category", on_success(label)),
        (
            "x-vsr-selected-confidence",
            on_success(decision.confidence.map(|confidence| format!("{confidence:.4}"))),
        ),
        ("x-vsr-selected-model", on_success(decision.model.as_deref().map(str::to_owned))),
    ];
    told.into_iter().filter_map(|(name, value)| {
        let value = HeaderValue::from_bytes(value?.as_bytes()).ok()?;
        Some((HeaderName::from_static(name), value))
    })
}
