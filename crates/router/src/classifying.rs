//! From prompt text to a label: rules first, then the policy's classifier, tier by tier.
//!
//! Rules and tier 0 run where the request is, in microseconds. Only where tier 0 is in doubt the encoder is asked, on
//! threads of its own and for no longer than its deadline; without it tier 0's answer stands. Called by the brain.

use crate::brain::Brain;
use crate::decision::{Asked, Dimensions, Escalation, Probabilities, Tier, millis};
use crate::encoding::Encoders;
use crate::error::Error;
use crate::intent::{Failure, Found, IntentRecord};
use crate::kserve;
use crate::personal::{self, Personal};
use crate::prompt::PromptText;
use crate::ready::{Judge, Preparing, Ready};
use std::sync::Arc;
use std::time::{Duration, Instant};
use waypost_classify::{Builtin, Engine, Tier as Answered, Verdict};
use waypost_config::{Classifier, PolicyIndex, Snapshot};
use waypost_wire::{ApiError, Code, RequestView, kserve::Scores};

/// What was found out about a prompt.
#[derive(Debug, Clone)]
pub struct Classified {
    /// The label with the highest probability; `#12` for an index that has no name.
    pub label: Arc<str>,
    /// Its probability; absent when the answer was one-hot.
    pub confidence: Option<f32>,
    /// All labels; none when a rule applied.
    pub probabilities: Probabilities,
    /// 0 to 1. Complexity only.
    pub difficulty: Option<f32>,
    /// Complexity only.
    pub dimensions: Option<Dimensions>,
    /// What the detector of personal data found.
    pub personal: Option<Personal>,
    /// What answered.
    pub tier: Tier,
    /// The rule that applied, counted from 1.
    pub rule: Option<usize>,
    /// Where tier 0 was in doubt.
    pub escalation: Option<Escalation>,
    /// What it took to ask a model.
    pub intent: Option<Box<IntentRecord>>,
}

/// Why a prompt has no label.
#[derive(Debug)]
pub(crate) struct Unclassified {
    /// For the client, where the policy has no default.
    pub(crate) error: ApiError,
    /// Who gave none.
    pub(crate) tier: Tier,
    /// The reason in a word, for the Decision.
    pub(crate) why: &'static str,
    /// What it took to ask a model.
    pub(crate) intent: Option<Box<IntentRecord>>,
}

impl From<ApiError> for Unclassified {
    /// From a KServe server: no other classifier has an error to tell.
    fn from(error: ApiError) -> Self {
        Self { why: error.code.as_str(), error, tier: Tier::Kserve, intent: None }
    }
}

/// Everything that can label a prompt under one configuration.
#[derive(Debug)]
pub struct Classifiers {
    engine: Arc<Engine>,
    encoders: Arc<Encoders>,
    /// In step with the snapshot's policies.
    policies: Vec<Ready>,
    warnings: Vec<String>,
}

impl Classifiers {
    /// Makes the classifiers of all policies ready. `previous` lends its encoder threads and examples, as far as they are
    /// still right.
    ///
    /// # Errors
    /// When a trained folder cannot be used, a rule cannot be built, or a route has a label that its trained classifier
    /// does not know; the error names policy and file.
    pub fn load(engine: Arc<Engine>, snapshot: &Snapshot, previous: Option<&Self>) -> Result<Self, Error> {
        let mut preparing = Preparing {
            engine: &engine,
            previous: previous.map_or(&[], |previous| &previous.policies),
            folders: Vec::new(),
        };
        let policies: Vec<Ready> =
            snapshot.policies.iter().map(|policy| preparing.policy(policy)).collect::<Result<_, _>>()?;
        let trained = snapshot.policies.iter().zip(&policies);
        let warnings = trained
            .filter(|(policy, _)| matches!(policy.classifier, Classifier::Trained { .. }))
            .filter_map(|(policy, ready)| {
                policy.dead_end(&ready.labels.iter().map(|label| &**label).collect::<Vec<_>>())
            })
            .collect();
        let encoders = match previous.filter(|previous| previous.encoders.settings() == snapshot.encoder) {
            Some(previous) => Arc::clone(&previous.encoders),
            None => Arc::new(Encoders::new(Arc::clone(engine.encoder()), snapshot.encoder)),
        };
        Ok(Self { engine, encoders, policies, warnings })
    }

    /// What is odd about the trained folders but not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The labels of a policy's classifier, in order.
    #[must_use]
    pub fn labels(&self, policy: PolicyIndex) -> &[Arc<str>] {
        &self.policies[policy].labels
    }

    /// The name of a policy's classifier in Decisions and metrics.
    #[must_use]
    pub fn name(&self, policy: PolicyIndex) -> &Arc<str> {
        &self.policies[policy].name
    }

    /// Base and built-in classifiers.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Prompts that wait for the encoder.
    #[must_use]
    pub fn encoder_queue_depth(&self) -> usize {
        self.encoders.depth()
    }

    #[cfg(test)]
    pub(crate) fn shares_encoder_and_examples_with(&self, other: &Self) -> bool {
        let examples = |ready: &Ready| match &ready.judge {
            Some(Judge::Examples { model, .. }) => Some(Arc::as_ptr(model)),
            _ => None,
        };
        Arc::ptr_eq(&self.encoders, &other.encoders)
            && self.policies.iter().map(examples).eq(other.policies.iter().map(examples))
    }

    /// Starts the encoder's threads if a policy may want them, so that the first prompt need not wait for it.
    pub(crate) fn warm_up(&self) {
        if self.policies.iter().filter_map(|ready| ready.judge.as_ref()).any(|judge| judge.branch().is_some())
        {
            self.encoders.start();
        }
    }

    /// Labels a prompt as `policy`, one of `brain`'s, wants it.
    ///
    /// # Errors
    /// When a KServe server or an intent model is late, down or talks nonsense.
    pub(crate) async fn classify(
        &self,
        brain: &Brain,
        policy: PolicyIndex,
        view: &RequestView<'_>,
        text: PromptText,
    ) -> Result<Classified, Unclassified> {
        let (policy, ready) = (&brain.snapshot().policies[policy], &self.policies[policy]);
        if let Some(rule) = ready.rules.as_ref().and_then(|rules| rules.find(&text.focus)) {
            return Ok(by_rule(Arc::clone(&policy.rules[rule].label), rule));
        }
        if let Some(detector) = &ready.detector {
            return Ok(personal::classified(detector, &text, &ready.labels));
        }
        if let Some(asker) = &ready.asker {
            let (outcome, record) = asker.ask(brain, policy, view).await;
            return by_model(outcome, Box::new(record), asker.labels());
        }
        match (&ready.judge, &policy.classifier) {
            (None, Classifier::Kserve { url, labels }) => {
                let scores = kserve::ask(url, &text.joined(), policy.classify_timeout).await?;
                Ok(by_server(scores, labels))
            }
            (None, _) => Err(ApiError::new(Code::Internal, "The policy has no classifier.").into()),
            (Some(judge), _) => {
                let (verdict, escalation) = self.cascade(judge, &text, policy.classify_timeout).await;
                Ok(by_cascade(verdict, escalation, &ready.labels))
            }
        }
    }

    /// The verdict of a built-in classifier, its encoder awaited for `timeout` at most.
    pub async fn ask(
        &self,
        builtin: Builtin,
        text: &PromptText,
        timeout: Duration,
    ) -> (Verdict, Option<Escalation>) {
        let judge = Judge::Model { model: Arc::clone(self.engine.builtin(builtin)), false_alarms: None };
        self.cascade(&judge, text, timeout).await
    }

    /// Tier 0, and tier 1 where it is wanted and can be had.
    async fn cascade(
        &self,
        judge: &Judge,
        text: &PromptText,
        timeout: Duration,
    ) -> (Verdict, Option<Escalation>) {
        let first = self.engine.read(&text.prompt(), |reading| judge.first(&reading));
        let Some((because, branch)) = first.doubt.zip(judge.branch()) else { return (first, None) };
        let begun = Instant::now();
        let encoded = self.encoders.encode(&text.focus, branch, timeout).await;
        let ms = millis(begun.elapsed());
        match encoded {
            // Reading once more costs microseconds; keeping what was read would cost every waiting prompt its memory.
            Ok(encoding) => {
                let second = self.engine.read(&text.prompt(), |reading| judge.second(&reading, &encoding));
                (second, Some(Escalation { because, asked: Asked::Answered, ms }))
            }
            Err(asked) => (first, Some(Escalation { because, asked, ms })),
        }
    }
}

fn by_rule(label: Arc<str>, rule: usize) -> Classified {
    Classified {
        label,
        confidence: Some(1.0),
        probabilities: Probabilities::default(),
        difficulty: None,
        dimensions: None,
        personal: None,
        tier: Tier::Rule,
        rule: Some(rule + 1),
        escalation: None,
        intent: None,
    }
}

fn by_cascade(verdict: Verdict, escalation: Option<Escalation>, labels: &Arc<[Arc<str>]>) -> Classified {
    Classified {
        label: name(labels, verdict.label),
        confidence: Some(verdict.confidence),
        dimensions: Dimensions::of(&verdict),
        personal: None,
        probabilities: Probabilities { labels: Arc::clone(labels), values: verdict.probabilities },
        difficulty: verdict.difficulty,
        tier: match verdict.tier {
            Answered::Ngram => Tier::Ngram,
            Answered::Encoder => Tier::Encoder,
        },
        rule: None,
        escalation,
        intent: None,
    }
}

fn by_server(scores: Scores, labels: &[Arc<str>]) -> Classified {
    Classified {
        label: name(labels, scores.best),
        confidence: (!scores.one_hot).then(|| scores.probabilities[scores.best]),
        probabilities: Probabilities {
            labels: (0..scores.probabilities.len()).map(|i| name(labels, i)).collect(),
            values: scores.probabilities,
        },
        difficulty: None,
        dimensions: None,
        personal: None,
        tier: Tier::Kserve,
        rule: None,
        escalation: None,
        intent: None,
    }
}

fn by_model(
    outcome: Result<Found, Failure>,
    record: Box<IntentRecord>,
    labels: &[Arc<str>],
) -> Result<Classified, Unclassified> {
    match outcome {
        Ok(found) => Ok(Classified {
            label: name(labels, found.label),
            confidence: found.confidence,
            probabilities: Probabilities::default(),
            difficulty: None,
            dimensions: None,
            personal: None,
            tier: Tier::Intent,
            rule: None,
            escalation: None,
            intent: Some(record),
        }),
        Err(failure) => Err(Unclassified {
            error: failure.error(),
            tier: Tier::Intent,
            why: failure.as_str(),
            intent: Some(record),
        }),
    }
}

fn name(labels: &[Arc<str>], index: usize) -> Arc<str> {
    labels.get(index).cloned().unwrap_or_else(|| format!("#{index}").into())
}
