//! `POST /api/v1/classify/security`: whether a text attacks the model.

use crate::desk::{Desk, Seen, share, whole_ms};
use crate::input::Text;
use crate::refusal::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};
use waypost_classify::Builtin;
use waypost_router::Brain;

/// Share of harmless texts that may be flagged, by `sensitivity`.
const SENSITIVITIES: [(&str, f32); 3] = [("low", 0.001), ("medium", 0.01), ("high", 0.05)];
/// Where the client says nothing.
const SENSITIVITY: &str = "medium";
/// The label that is no attack.
pub(crate) const BENIGN: &str = "benign";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecurityRequest {
    #[serde(default)]
    pub(crate) text: String,
    pub(crate) options: Option<SecurityOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SecurityOptions {
    detection_types: Vec<String>,
    sensitivity: Option<String>,
    include_reasoning: bool,
}

pub(crate) async fn answer(desk: &Desk, brain: &Brain, request: &SecurityRequest) -> Result<Value, Refusal> {
    let none = SecurityOptions::default();
    let options = request.options.as_ref().unwrap_or(&none);
    let rate = rate(options.sensitivity.as_deref().unwrap_or(SENSITIVITY))?;
    let wanted: Vec<&str> =
        options.detection_types.iter().map(|name| attack(name)).collect::<Result<_, _>>()?;
    let seen = see(desk, brain, &Text::of(&request.text)?, rate).await;
    let found = seen.label();
    let attacks = found != BENIGN && (wanted.is_empty() || wanted.contains(&found));
    let types: &[&str] = if attacks { &[found] } else { &[] };
    let mut answer = json!({
        "is_jailbreak": attacks,
        "risk_score": share(risk(&seen)),
        "detection_types": types,
        "confidence": share(seen.confidence()),
        "recommendation": if attacks { "block" } else { "allow" },
        "patterns_detected": types,
        "processing_time_ms": whole_ms(seen.took),
    });
    if options.include_reasoning {
        let (confidence, percent) = (seen.confidence(), rate * 100.0);
        answer["reasoning"] = format!(
            "Read as '{found}' with a probability of {confidence:.3}, flagged so that {percent} % of harmless texts would be."
        )
        .into();
    }
    Ok(answer)
}

/// The built-in classifier's verdict, at the usual sensitivity.
pub(crate) async fn usual(desk: &Desk, brain: &Brain, text: &Text) -> Result<Seen, Refusal> {
    Ok(see(desk, brain, text, rate(SENSITIVITY)?).await)
}

/// Probability of any attack.
pub(crate) fn risk(seen: &Seen) -> f64 {
    1.0 - seen.verdict.probabilities.first().copied().map_or(1.0, f64::from)
}

async fn see(desk: &Desk, brain: &Brain, text: &Text, rate: f32) -> Seen {
    let mut seen = desk.see(brain, Builtin::Safety, text).await;
    let gates = brain.classifiers().engine().builtin(Builtin::Safety).gates();
    seen.verdict = seen.verdict.at_rate(rate, gates);
    seen
}

fn rate(sensitivity: &str) -> Result<f32, Refusal> {
    let known = SENSITIVITIES.iter().find(|(name, _)| *name == sensitivity);
    known.map(|(_, rate)| *rate).ok_or_else(|| Refusal::input("sensitivity must be low, medium or high"))
}

/// A label by its name, or by the usual longer one.
fn attack(name: &str) -> Result<&'static str, Refusal> {
    let short = name.strip_prefix("prompt_").unwrap_or(name);
    let known = Builtin::Safety.labels().iter().find(|label| **label == short && **label != BENIGN);
    known.copied().ok_or_else(|| {
        Refusal::input(format!("detection_types: '{name}' is not detected; known are jailbreak, injection"))
    })
}
