//! `POST /api/v1/classify/intent`: the domain of a text, and where it would be sent.

use crate::desk::{Desk, Seen, share, whole_ms};
use crate::eval::All;
use crate::input::{IntentRequest, Question};
use crate::refusal::Refusal;
use crate::routed::{Routed, Signals};
use serde_json::{Value, json};
use std::time::Instant;
use waypost_classify::Builtin;
use waypost_router::Brain;

/// From this confidence on a category counts as sure, unless the client says otherwise.
const SURE_FROM: f64 = 0.7;
/// From this confidence on a domain is a signal that matched, as in vLLM Semantic Router.
pub(crate) const DOMAIN_FROM: f64 = 0.5;

pub(crate) async fn answer(desk: &Desk, brain: &Brain, request: &IntentRequest) -> Result<Value, Refusal> {
    let begun = Instant::now();
    let options = request.options.clone().unwrap_or_default();
    let sure_from = options.threshold()?.unwrap_or(SURE_FROM);
    let question = Question::new(brain, request)?;
    let routed = Routed::of(desk, brain, &question).await?;
    let (seen, signals) = if options.evaluate_all_signals {
        let all = All::of(desk, brain, &question).await?;
        let signals = all.matched(routed.as_ref());
        (all.domain, signals)
    } else {
        let seen = desk.see(brain, Builtin::Domain, &question.text).await;
        let signals = signals(routed.as_ref(), &seen);
        (seen, signals)
    };
    let mut answer = json!({
        "classification": {
            "category": seen.label(),
            "confidence": share(seen.confidence()),
            "processing_time_ms": whole_ms(begun.elapsed()),
        },
        "routing_decision": routing_decision(routed.as_ref(), &seen, sure_from),
        "matched_signals": signals.into_json(),
    });
    if options.return_probabilities {
        answer["probabilities"] = seen.probabilities();
    }
    if options.include_explanation {
        answer["explanation"] = explanation(routed.as_ref(), &seen).into();
    }
    let Some(routed) = routed else { return Ok(answer) };
    if let Some(model) = routed.model() {
        answer["recommended_model"] = model.into();
    }
    if let Some(result) = routed.decision_result() {
        answer["decision_result"] = result;
    }
    if let Some(error) = routed.error() {
        answer["signal_errors"] = json!({"policy": error});
    }
    Ok(answer)
}

/// The decision's name; where none was made, whether the category is sure.
fn routing_decision(routed: Option<&Routed>, seen: &Seen, sure_from: f64) -> String {
    let by_confidence =
        if seen.confidence() >= sure_from { "high_confidence_specialized" } else { "low_confidence_general" };
    routed.and_then(Routed::matched).unwrap_or(by_confidence).to_owned()
}

/// What matched: the domain, where it is clear, and what the policy went by.
pub(crate) fn signals(routed: Option<&Routed>, seen: &Seen) -> Signals {
    let mut signals = Signals::default();
    if seen.confidence() >= DOMAIN_FROM {
        signals.add("domains", seen.label());
    }
    for (family, name) in routed.into_iter().flat_map(Routed::signals) {
        signals.add(family, name);
    }
    signals
}

fn explanation(routed: Option<&Routed>, seen: &Seen) -> String {
    let (category, confidence) = (seen.label(), seen.confidence());
    let mut text = format!("The domain is '{category}' ({confidence:.2}), by {}.", seen.verdict.tier.name());
    if let Some(routed) = routed {
        text.push(' ');
        text.push_str(&why(routed));
    }
    text
}

/// What the policy did, in a sentence.
pub(crate) fn why(routed: &Routed) -> String {
    let policy = routed.decision.policy.as_deref().unwrap_or_default();
    let label =
        routed.decision.label.as_deref().map(|label| format!(" for the label '{label}'")).unwrap_or_default();
    match (routed.model(), routed.reason(), routed.refusal()) {
        (Some(model), Some(reason), _) => format!("The policy '{policy}' takes '{model}'{label}: {reason}."),
        (.., Some(refusal)) => refusal.to_owned(),
        _ => String::new(),
    }
}
