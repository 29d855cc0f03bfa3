//! The Decision in short, as headers of the answer: ours, v1's, and vLLM Semantic Router's.
//!
//! It sets nothing itself: doors have different headers. Called when the head of an answer is ready.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::collections::BTreeMap;
use waypost_config::{Effort, Family};
use waypost_router::{Decision, Tier};
use waypost_wire::Code;

/// Version of vLLM Semantic Router's header contract that the `x-vsr-` headers follow.
const VSR_SCHEMA: &str = "2";
/// With `true` in it, a request's answer tells more.
const VSR_DEBUG: &str = "x-vsr-debug";

/// Whether a client asks for more.
pub(crate) fn wants_debug(headers: &HeaderMap) -> bool {
    headers.get(VSR_DEBUG).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// What the client is told of `decision`: each name at most once, to replace one that is there.
pub(crate) fn explain(decision: &Decision, debug: bool) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let mut families = BTreeMap::<_, Vec<_>>::new();
    for (family, name) in signals(decision).filter(|_| debug) {
        families.entry(family).or_default().push(name);
    }
    let matched = families.into_iter().filter_map(|(family, names)| {
        let header = HeaderName::from_bytes(format!("x-vsr-matched-{family}").as_bytes()).ok()?;
        Some((header, HeaderValue::from_bytes(names.join(",").as_bytes()).ok()?))
    });
    let told = ours(decision).into_iter().chain(vsr(decision));
    let told = told.filter_map(|(name, value)| {
        // A label may hold any UTF-8; only control characters cannot stand in a header.
        let value = HeaderValue::from_bytes(value?.as_bytes()).ok()?;
        Some((HeaderName::from_static(name), value))
    });
    told.chain(matched)
}

type Told<'a> = (&'static str, Option<Cow<'a, str>>);

fn ours(decision: &Decision) -> [Told<'_>; 10] {
    let (model, label) = (decision.model.as_deref(), decision.label.as_deref());
    let (attempts, confidence) = (decision.attempts.len(), decision.confidence);
    let refused = decision.no_place.filter(|_| attempts == 0);
    [
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
    ]
}

/// Version 2 has the first two always and what was selected on success; `selected-category` and `injected-system-prompt`
/// are what clients of the versions before expect there, too.
fn vsr(decision: &Decision) -> [Told<'_>; 9] {
    let ok = (200..300).contains(&decision.status);
    let decided = ok && decision.policy.is_some();
    let label = decision.label.as_deref().filter(|_| ok);
    let confidence = decision.confidence.filter(|_| ok);
    let reasoning = decision.reasoning.filter(|_| ok);
    let reasoning = reasoning.map(|effort| if effort == Effort::Off { "off" } else { "on" });
    [
        ("x-vsr-schema-version", Some(VSR_SCHEMA.into())),
        ("x-vsr-response-path", Some(path(decision).into())),
        ("x-vsr-selected-recipe", decision.policy.as_deref().filter(|_| ok).map(Cow::from)),
        ("x-vsr-selected-decision", label.map(Cow::from)),
        ("x-vsr-selected-category", label.map(Cow::from)),
        ("x-vsr-selected-confidence", confidence.map(|confidence| format!("{confidence:.4}").into())),
        ("x-vsr-selected-model", decision.model.as_deref().filter(|_| ok).map(Cow::from)),
        ("x-vsr-selected-reasoning", reasoning.map(Cow::from)),
        // Nothing is put into anybody's prompt here.
        ("x-vsr-injected-system-prompt", decided.then_some("false".into())),
    ]
}

/// Who gave the answer, in vLLM Semantic Router's words.
fn path(decision: &Decision) -> &'static str {
    let is = |code: Code| decision.error == Some(code.as_str());
    match decision.error {
        None => "upstream",
        Some(_) if is(Code::ContentPolicy) => "blocked",
        Some(_) if is(Code::Saturated) || is(Code::UpstreamRateLimited) => "rate_limited",
        Some(_) => "error",
    }
}

/// What the policy went by, as vLLM Semantic Router sorts signals: each with its [`family`]. Of a policy of decisions those
/// that apply, of any other the label.
pub fn signals(decision: &Decision) -> impl Iterator<Item = (&'static str, &str)> {
    let by_label = match (decision.rule, decision.classifier.as_deref()) {
        (Some(_), _) => Some(family(Family::Rules)),
        (None, Some("decisions")) => None,
        (None, Some("domain")) => Some(family(Family::Domain)),
        (None, Some("complexity")) => Some("complexity"),
        (None, Some("safety")) => Some(family(Family::Safety)),
        (None, Some("pii")) => Some(family(Family::Pii)),
        (None, _) => Some("classifier"),
    };
    let applied = decision.signals.iter().map(|signal| (family(signal.family), &*signal.name));
    applied.chain(by_label.zip(decision.label.as_deref()))
}

/// vLLM Semantic Router's word for a family of signals.
#[must_use]
pub fn family(family: Family) -> &'static str {
    match family {
        Family::Rules => "keywords",
        Family::Domain => "domains",
        Family::Safety => "jailbreak",
        Family::Pii => "pii",
        Family::Examples => "embeddings",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_router::SignalSeen;

    fn told(decision: &Decision, debug: bool) -> Vec<(String, Vec<u8>)> {
        explain(decision, debug).map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
    }

    fn value(decision: &Decision, name: &str) -> Option<String> {
        let found = explain(decision, true).find(|(known, _)| known == name);
        found.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    #[test]
    fn only_what_is_known_is_told_and_what_no_header_can_hold_is_left_out() {
        let mut decision = Decision { id: "7".to_owned(), status: 502, ..Decision::default() };
        decision.label = Some("M\u{e4}rchen".into());
        decision.confidence = Some(0.98765);
        let told_of = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let expected = [
            told_of("x-waypost-decision-id", "7"),
            told_of("x-waypost-label", "M\u{e4}rchen"),
            told_of("x-waypost-confidence", "0.988"),
            told_of("x-vsr-schema-version", "2"),
            told_of("x-vsr-response-path", "upstream"),
        ];
        assert_eq!(told(&decision, false), expected);

        decision.label = Some("two\nlines".into());
        decision.model = Some("m".into());
        let names: Vec<_> = told(&decision, true).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[..3], ["x-waypost-decision-id", "x-waypost-model", "x-waypost-confidence"]);
        assert!(!names.iter().any(|name| name.contains("label") || name.contains("matched")));
    }

    #[test]
    fn what_was_selected_is_told_on_success_only() {
        let mut decision = Decision { status: 200, ..Decision::default() };
        decision.policy = Some("by-domain".into());
        decision.label = Some("math".into());
        decision.classifier = Some("domain".into());
        decision.model = Some("large".into());
        decision.confidence = Some(0.5);
        let selected = ["recipe", "decision", "category", "confidence", "model"]
            .map(|what| format!("x-vsr-selected-{what}"));
        let values: Vec<_> = selected.iter().filter_map(|name| value(&decision, name)).collect();
        assert_eq!(values, ["by-domain", "math", "math", "0.5000", "large"]);
        assert_eq!(value(&decision, "x-vsr-injected-system-prompt").as_deref(), Some("false"));
        assert_eq!(value(&decision, "x-vsr-matched-domains").as_deref(), Some("math"));
        assert!(!told(&decision, false).iter().any(|(name, _)| name.contains("matched")));
        decision.status = 503;
        assert!(selected.iter().all(|name| value(&decision, name).is_none()));
        assert_eq!(value(&decision, "x-vsr-injected-system-prompt"), None);
    }

    #[test]
    fn of_decisions_the_signals_that_apply_are_told_by_family() {
        let seen =
            |name: &str, family| SignalSeen { name: name.into(), family, applied: true, confidence: 1.0 };
        let decision = Decision {
            label: Some("sums".into()),
            classifier: Some("decisions".into()),
            signals: vec![
                seen("urgent", Family::Rules),
                seen("maths", Family::Domain),
                seen("asap", Family::Rules),
            ],
            ..Decision::default()
        };
        let mut told = told(&decision, true);
        told.retain(|(name, _)| name.contains("matched"));
        let expected = [("x-vsr-matched-domains", "maths"), ("x-vsr-matched-keywords", "urgent,asap")];
        assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
        assert_eq!(
            serde_json::to_value(&decision).unwrap()["signals"],
            serde_json::json!({"urgent": 1.0, "maths": 1.0, "asap": 1.0})
        );
    }

    #[test]
    fn whoever_answered_is_named() {
        let path =
            |code: Option<Code>| path(&Decision { error: code.map(Code::as_str), ..Decision::default() });
        let codes = [None, Some(Code::ContentPolicy), Some(Code::Saturated), Some(Code::Internal)];
        assert_eq!(codes.map(path), ["upstream", "blocked", "rate_limited", "error"]);
    }
}
