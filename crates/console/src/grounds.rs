//! Why a policy decided as it did: what its decision rests on, what else it looks for, and each of its branches.
//!
//! A policy of decisions is asked for all its signals, not only for those that were decisive; of any other the labels tell.
//! Called for `eval`.

use crate::desk::{Desk, share};
use crate::input::Question;
use crate::refusal::Refusal;
use crate::routed::{Routed, Signals};
use serde_json::{Value, json};
use waypost_config::{Classifier, Decisions};
use waypost_door::family;
use waypost_router::{Brain, Survey};
use waypost_wire::RequestView;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Grounds {
    pub(crate) used: Signals,
    pub(crate) unmatched: Signals,
    /// One branch each: whether it applies, and how surely.
    pub(crate) trace: Vec<Value>,
}

impl Grounds {
    pub(crate) async fn of(
        desk: &Desk,
        brain: &Brain,
        question: &Question,
        routed: &Routed,
    ) -> Result<Self, Refusal> {
        let (snapshot, decision) = (brain.snapshot(), &routed.decision);
        // A rule comes before the decisions.
        let name = decision.policy.as_deref().filter(|_| decision.rule.is_none());
        if let Some(policy) = name.and_then(|name| snapshot.policy(name))
            && let Classifier::Decisions(decisions) = &snapshot.policies[policy].classifier
            && let Some(survey) = brain.survey(policy, &RequestView::parse(&question.body)?).await
        {
            desk.note(decision.classifier.as_deref().unwrap_or_default(), survey.escalation.as_ref());
            return Ok(Self::in_signals(decisions, &survey, routed.matched()));
        }
        Ok(Self::in_labels(routed))
    }

    fn in_signals(decisions: &Decisions, survey: &Survey, matched: Option<&str>) -> Self {
        let mut grounds = Self::default();
        if let Some(taken) = decisions.decide.iter().find(|decide| matched == Some(&*decide.name)) {
            taken.when.each_signal(&mut |signal| {
                if let Some(signal) = survey.signals.get(signal) {
                    grounds.used.add(family(signal.family), &*signal.name);
                }
            });
        }
        for signal in survey.signals.iter().filter(|signal| !signal.applied) {
            grounds.unmatched.add(family(signal.family), &*signal.name);
        }
        let branches =
            survey.decisions.iter().map(|decide| branch(&decide.name, decide.applied, decide.confidence));
        grounds.trace.extend(branches);
        grounds
    }

    /// The policy's label is what it went by, the others are what it has not found.
    fn in_labels(routed: &Routed) -> Self {
        let (mut grounds, matched) = (Self::default(), routed.matched());
        for (family, name) in routed.signals() {
            grounds.used.add(family, name);
        }
        let family = waypost_door::signals(&routed.decision).next().map(|(family, _)| family);
        let probabilities = &routed.decision.probabilities;
        for (label, probability) in probabilities.labels.iter().zip(&probabilities.values) {
            let taken = matched == Some(&**label);
            grounds.trace.push(branch(label, taken, *probability));
            if let Some(family) = family.filter(|_| !taken) {
                grounds.unmatched.add(family, &**label);
            }
        }
        grounds
    }
}

fn branch(name: &str, matched: bool, confidence: f32) -> Value {
    json!({"decision_name": name, "matched": matched, "confidence": share(f64::from(confidence))})
}
