//! The Decision in short, as headers of the answer; v1's header among them.
//!
//! It sets nothing itself: doors have different headers. Called when the head of an answer is ready.

use http::{HeaderName, HeaderValue};
use std::borrow::Cow;
use waypost_router::{Decision, Tier};

/// What the client is told of `decision`: each name at most once, to replace one that is there.
pub fn explain(decision: &Decision) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let (model, label) = (decision.model.as_deref(), decision.label.as_deref());
    let (attempts, confidence) = (decision.attempts.len(), decision.confidence);
    let refused = decision.no_place.filter(|_| attempts == 0);
    let told = [
        ("x-waypost-decision-id", Some(Cow::from(&decision.id))),
        ("x-waypost-model", model.map(Cow::from)),
        ("x-chosen-classifier", model.map(|model| Cow::from(label.unwrap_or(model)))),
        ("x-waypost-policy", decision.policy.as_deref().map(Cow::from)),
        ("x-waypost-label", label.map(Cow::from)),
        ("x-waypost-confidence", confidence.map(|confidence| Cow::from(format!("{confidence:.3}")))),
        ("x-waypost-tier", decision.tier.map(Tier::as_str).map(Cow::from)),
        ("x-waypost-fallback", decision.fallback.map(Cow::from)),
        ("x-waypost-refused", refused.map(|reason| Cow::from(reason.as_str()))),
        ("x-waypost-attempts", (attempts > 1).then(|| Cow::from(attempts.to_string()))),
    ];
    told.into_iter().filter_map(|(name, value)| {
        // A label may hold any UTF-8; only control characters cannot stand in a header.
        let value = HeaderValue::from_bytes(value?.as_bytes()).ok()?;
        Some((HeaderName::from_static(name), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(decision: &Decision) -> Vec<(String, Vec<u8>)> {
        explain(decision).map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn only_what_is_known_is_told_and_what_no_header_can_hold_is_left_out() {
        let mut decision = Decision { id: "7".to_owned(), ..Decision::default() };
        decision.label = Some("M\u{e4}rchen".into());
        decision.confidence = Some(0.98765);
        let told_of = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let expected = [
            told_of("x-waypost-decision-id", "7"),
            told_of("x-waypost-label", "M\u{e4}rchen"),
            told_of("x-waypost-confidence", "0.988"),
        ];
        assert_eq!(told(&decision), expected);

        decision.label = Some("two\nlines".into());
        decision.model = Some("m".into());
        let names: Vec<_> = told(&decision).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["x-waypost-decision-id", "x-waypost-model", "x-waypost-confidence"]);
    }
}
