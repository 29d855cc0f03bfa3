//! `POST /api/v1/eval`: everything that is known of a text, whether the policy goes by it or not.

use crate::desk::{Desk, Seen, share};
use crate::grounds::Grounds;
use crate::input::{IntentRequest, Question};
use crate::intent::{DOMAIN_FROM, signals, why};
use crate::refusal::Refusal;
use crate::routed::{Routed, Signals};
use crate::security::{self, BENIGN};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use waypost_classify::Builtin;
use waypost_classify::pii::strongest;
use waypost_config::Classifier;
use waypost_router::{Brain, millis};

pub(crate) async fn answer(
    desk: &Desk,
    brain: &Brain,
    request: &IntentRequest,
    trace: bool,
) -> Result<Value, Refusal> {
    let options = request.options.clone().unwrap_or_default();
    options.threshold()?;
    let question = Question::new(brain, request)?;
    let all = All::of(desk, brain, &question).await?;
    let routed = Routed::of(desk, brain, &question).await?;
    let mut answer = json!({
        "original_text": question.text.prompt().focus,
        "metrics": all.metrics,
        "signal_confidences": all.confidences,
        "signal_values": all.values,
        "selection_status": selection_status(routed.as_ref()),
    });
    if !request.model().is_empty() {
        answer["requested_model"] = request.model().into();
    }
    if options.return_probabilities {
        answer["probabilities"] = all.domain.probabilities();
    }
    let matched = all.matched(routed.as_ref());
    let Some(routed) = routed else {
        answer["decision_result"] = json!({"decision_name": "", "matched_signals": matched.into_json()});
        return Ok(answer);
    };
    let grounds = Grounds::of(desk, brain, &question, &routed).await?;
    answer["recipe"] = json!(routed.decision.policy);
    answer["decision_result"] = json!({
        "decision_name": routed.matched().unwrap_or_default(),
        "algorithm": algorithm(brain, &routed),
        "used_signals": grounds.used.into_json(),
        "matched_signals": matched.into_json(),
        "unmatched_signals": grounds.unmatched.into_json(),
    });
    answer["recommended_models"] = json!(routed.models());
    if let (Some(model), Some(reason)) = (routed.model(), routed.reason()) {
        answer["selected_model"] = model.into();
        answer["selection_method"] = reason.into();
        answer["selection_reason"] = why(&routed).into();
    }
    if let Some(label) = routed.matched() {
        answer["routing_decision"] = label.into();
    }
    if let Some(error) = routed.error() {
        answer["signal_errors"] = json!({"policy": error});
    }
    if let Some(refusal) = routed.refusal() {
        answer["decision_error"] = refusal.into();
    }
    if trace || options.trace {
        answer["eval_trace"] = grounds.trace.into();
    }
    Ok(answer)
}

/// What every built-in classifier says.
pub(crate) struct All {
    pub(crate) domain: Seen,
    safety: Seen,
    complexity: Seen,
    task: Seen,
    kinds: Vec<&'static str>,
    metrics: Map<String, Value>,
    confidences: Map<String, Value>,
    values: Map<String, Value>,
}

impl All {
    pub(crate) async fn of(desk: &Desk, brain: &Brain, question: &Question) -> Result<Self, Refusal> {
        let text = &question.text;
        let mut all = Self {
            domain: desk.see(brain, Builtin::Domain, text).await,
            safety: security::usual(desk, brain, text).await?,
            complexity: desk.see(brain, Builtin::Complexity, text).await,
            task: desk.see(brain, Builtin::Task, text).await,
            kinds: Vec::new(),
            metrics: Map::new(),
            confidences: Map::new(),
            values: Map::new(),
        };
        let told = [
            ("domain", all.domain.label(), all.domain.confidence(), all.domain.took),
            ("jailbreak", all.safety.label(), all.safety.confidence(), all.safety.took),
            ("complexity", all.complexity.label(), all.complexity.confidence(), all.complexity.took),
            ("task", all.task.label(), all.task.confidence(), all.task.took),
        ];
        for (signal, label, confidence, took) in told {
            all.tell(signal, label, confidence, took);
        }
        let begun = Instant::now();
        let spans = desk.detector.find(&text.prompt().focus);
        all.kinds = spans.iter().map(|span| span.kind.name()).collect();
        let confidence = f64::from(strongest(&spans));
        all.tell("pii", if confidence > 0.0 { "pii" } else { "none" }, confidence, begun.elapsed());
        all.values.insert("jailbreak:risk_score".to_owned(), share(security::risk(&all.safety)));
        if let Some(difficulty) = all.complexity.verdict.difficulty {
            all.values.insert("complexity:difficulty".to_owned(), share(f64::from(difficulty)));
        }
        Ok(all)
    }

    fn tell(&mut self, signal: &str, label: &str, confidence: f64, took: Duration) {
        let confidence = share(confidence);
        self.confidences.insert(format!("{signal}:{label}"), confidence.clone());
        let metrics = json!({"execution_time_ms": millis(took), "confidence": confidence});
        self.metrics.insert(signal.to_owned(), metrics);
    }

    /// All signals that matched, whether the policy goes by them or not.
    pub(crate) fn matched(&self, routed: Option<&Routed>) -> Signals {
        let mut matched = signals(routed, &self.domain);
        if self.safety.label() != BENIGN {
            matched.add("jailbreak", self.safety.label());
        }
        if self.complexity.confidence() >= DOMAIN_FROM {
            matched.add("complexity", self.complexity.label());
        }
        if self.task.confidence() >= DOMAIN_FROM {
            matched.add("classifier", self.task.label());
        }
        for kind in &self.kinds {
            matched.add("pii", *kind);
        }
        matched
    }
}

fn selection_status(routed: Option<&Routed>) -> &'static str {
    match routed {
        None => "unavailable",
        Some(routed) if routed.refusal().is_some() => "failed",
        Some(routed) if Brain::fallback_at(&routed.decision, 0).is_some() => "fallback",
        Some(_) => "selected",
    }
}

/// How the policy chooses: by `static` routes, or by what it is called.
fn algorithm(brain: &Brain, routed: &Routed) -> String {
    let snapshot = brain.snapshot();
    let policy = routed.decision.policy.as_deref().and_then(|name| snapshot.policy(name));
    match policy.map(|policy| &snapshot.policies[policy].classifier) {
        Some(classifier @ (Classifier::Auto(_) | Classifier::Split(_))) => classifier.name().into_owned(),
        _ => "static".to_owned(),
    }
}
