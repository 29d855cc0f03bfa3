//! From prompt text to a label: rules first, then the policy's classifier, tier by tier.
//!
//! Rules and tier 0 run where the request is, in microseconds. Only where tier 0 is in doubt the encoder is asked, on
//! threads of its own and for no longer than its deadline; without it tier 0's answer stands. Called by the brain.

use crate::brain::Brain;
use crate::context::{Context, Remote};
use crate::decision::{Asked, Dimensions, Escalation, Probabilities, Tier, millis};
use crate::encoding::Encoders;
use crate::error::Error;
use crate::intent::{Failure, Found, IntentRecord};
use crate::kserve;
use crate::outlook::{self, Oracle, Outlook};
use crate::personal::{self, Personal};
use crate::prompt::PromptText;
use crate::reach;
use crate::ready::{Judge, Preparing, Ready};
use crate::signals::{Inquiry, SignalSeen, Signals};
use std::sync::Arc;
use std::time::{Duration, Instant};
use waypost_classify::encoder::{Branch, Encoding, excerpt};
use waypost_classify::outcomes::stem;
use waypost_classify::{Builtin, Doubt, Engine, Verdict};
use waypost_config::{Classifier, PolicyIndex, Snapshot};
use waypost_wire::{ApiError, Code, RequestView, kserve::Scores};

/// What was found out about a prompt.
#[derive(Debug, Clone)]
pub struct Classified {
    /// The label with the highest probability, `#12` for an index that has no name, or the decision that is taken; `None`
    /// where no decision applies.
    pub label: Option<Arc<str>>,
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
    /// Signals that apply, each with its confidence. Decisions only.
    pub signals: Vec<SignalSeen>,
    /// What answered.
    pub tier: Tier,
    /// The rule that applied, counted from 1.
    pub rule: Option<usize>,
    /// Where tier 0 was in doubt.
    pub escalation: Option<Escalation>,
    /// What it took to ask a model.
    pub intent: Option<Box<IntentRecord>>,
}

/// Why a policy has nothing to go by.
#[derive(Debug)]
pub(crate) struct Unanswered {
    /// For the client, where the policy has no default.
    pub(crate) error: ApiError,
    /// The reason in a word, for the Decision.
    pub(crate) why: &'static str,
    /// What it took to ask a model.
    pub(crate) intent: Option<Box<IntentRecord>>,
}

impl From<ApiError> for Unanswered {
    fn from(error: ApiError) -> Self {
        Self { why: error.code.as_str(), error, intent: None }
    }
}

/// What a policy has to go by.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A label.
    Label(Box<Classified>),
    /// What is expected of each contestant of an auto policy.
    Outlook(Outlook),
}

/// What is to be classified: a request under one policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) brain: &'a Brain,
    pub(crate) policy: PolicyIndex,
    pub(crate) view: &'a RequestView<'a>,
    pub(crate) context: &'a Context<'a>,
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
        let mut preparing = Preparing::new(&engine, previous.map_or(&[], |previous| &previous.policies));
        let policies: Vec<Ready> = snapshot
            .policies
            .iter()
            .map(|policy| preparing.policy(snapshot, policy))
            .collect::<Result<_, _>>()?;
        let loaded = snapshot.policies.iter().zip(&policies);
        let warnings = loaded
            .filter_map(|(policy, ready)| match (&policy.classifier, &ready.oracle) {
                (Classifier::Trained { .. }, _) => {
                    policy.dead_end(&ready.labels.iter().map(|label| &**label).collect::<Vec<_>>())
                }
                (Classifier::Auto(auto), Some(oracle)) => reach::warning(snapshot, policy, auto, oracle),
                _ => None,
            })
            .collect();
        let encoders = match previous.filter(|previous| previous.encoders.settings() == snapshot.encoder) {
            Some(previous) => Arc::clone(&previous.encoders),
            None => Arc::new(Encoders::new(Arc::clone(engine.encoder()), snapshot.encoder)),
        };
        Ok(Self { engine, encoders, policies, warnings })
    }

    /// What is odd about the trained folders and learned outcomes but not wrong.
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

    /// How long the encoder may take where a policy waits for `timeout`.
    pub(crate) fn patience(&self, timeout: Duration) -> Duration {
        timeout.min(self.encoders.settings().deadline)
    }

    /// The signals of a policy by decisions.
    pub(crate) fn signals(&self, policy: PolicyIndex) -> Option<&Signals> {
        self.policies[policy].signals.as_ref()
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
        let examples = |ready: &Ready| ready.examples().map(|(_, model)| Arc::as_ptr(model));
        Arc::ptr_eq(&self.encoders, &other.encoders)
            && self.policies.iter().map(examples).eq(other.policies.iter().map(examples))
    }

    /// What training found about an auto policy's outcomes, in words.
    #[must_use]
    pub fn advice(&self, policy: PolicyIndex) -> Option<&str> {
        self.policies[policy].oracle.as_ref()?.advice()
    }

    /// Starts the encoder's threads if a policy or a guard may want them, so that the first prompt need not wait for it.
    pub(crate) fn warm_up(&self, guarded: bool) {
        if guarded || self.policies.iter().any(|ready| ready.branch(&self.engine).is_some()) {
            self.encoders.start();
        }
    }

    /// What `question`'s policy has to go by: rules first, then its classifier.
    ///
    /// # Errors
    /// When a server that is asked is late, down or talks nonsense, or an image cannot be embedded.
    pub(crate) async fn answer(&self, question: Question<'_>) -> Result<Answer, Unanswered> {
        let policy = &question.brain.snapshot().policies[question.policy];
        let ready = &self.policies[question.policy];
        let text = PromptText::of(question.view, policy.compat_v1);
        let label = |classified| Ok(Answer::Label(Box::new(classified)));
        if let Some(rule) = ready.rules.as_ref().and_then(|rules| rules.find(&text.focus)) {
            return label(by_rule(Arc::clone(&policy.rules[rule].label), rule));
        }
        if let Some(detector) = &ready.detector {
            return label(personal::classified(detector, &text, &ready.labels));
        }
        let context = Some(question.context);
        if let Some(signals) = &ready.signals {
            return label(
                Inquiry::new(self, signals, &text, policy.classify_timeout, context).decide().await,
            );
        }
        match (question.context.given.and_then(|given| given.said_for(&policy.name)), &policy.classifier) {
            (Some(Remote::Qualities(known)), Classifier::Auto(auto)) => {
                return Ok(Answer::Outlook(outlook::repeat(question.brain.snapshot(), auto, known)));
            }
            (Some(remote), _) => return remote.repeat().map_err(Unanswered::from).and_then(label),
            (None, _) => {}
        }
        if let Some(oracle) = &ready.oracle {
            return Ok(Answer::Outlook(self.outlook(oracle, question, &text).await?));
        }
        if let Some(asker) = &ready.asker {
            let (outcome, record) = asker.ask(question.brain, policy, question.view).await;
            return by_model(outcome, Box::new(record), &ready.labels).and_then(label);
        }
        match (&ready.judge, &policy.classifier) {
            (None, Classifier::Kserve { url, labels }) => {
                let scores = kserve::ask(url, &text.joined(), policy.classify_timeout).await?;
                label(by_server(scores, labels))
            }
            (None, _) => Err(ApiError::new(Code::Internal, "The policy has no classifier.").into()),
            (Some(judge), _) => {
                let (verdict, escalation) =
                    self.cascade(judge, &text, policy.classify_timeout, context).await;
                label(by_cascade(verdict, escalation, &ready.labels))
            }
        }
    }

    /// What is expected of an auto policy's contestants.
    async fn outlook(
        &self,
        oracle: &Oracle,
        question: Question<'_>,
        text: &PromptText,
    ) -> Result<Outlook, ApiError> {
        let timeout = question.brain.snapshot().policies[question.policy].classify_timeout;
        match oracle {
            Oracle::Network { network, embedder, columns } => {
                outlook::by_network(network, embedder, columns, question.view, timeout).await
            }
            Oracle::Outcomes { model, columns } => {
                let signals = model.signals(&self.engine, &text.prompt());
                let (encoding, escalation) = match model.branch() {
                    Some(branch) => {
                        let (encoding, escalation) = self
                            .encode(
                                Doubt::Outcome,
                                stem(&text.focus),
                                branch,
                                timeout,
                                Some(question.context),
                            )
                            .await;
                        (encoding, Some(escalation))
                    }
                    None => (None, None),
                };
                let all = model.expect(&signals, encoding.as_ref());
                Ok(Outlook {
                    learnt: columns.iter().map(|column| all[*column]).collect(),
                    tier: if encoding.is_some() { Tier::Encoder } else { Tier::Ngram },
                    escalation,
                })
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
        self.ask_as_then(builtin, text, timeout, None).await
    }

    /// [`Self::ask`] for a request that may be decided again.
    pub(crate) async fn ask_as_then(
        &self,
        builtin: Builtin,
        text: &PromptText,
        timeout: Duration,
        context: Option<&Context<'_>>,
    ) -> (Verdict, Option<Escalation>) {
        let judge = Judge::Model { model: Arc::clone(self.engine.builtin(builtin)), false_alarms: None };
        self.cascade(&judge, text, timeout, context).await
    }

    /// Tier 0, and tier 1 where it is wanted and can be had.
    async fn cascade(
        &self,
        judge: &Judge,
        text: &PromptText,
        timeout: Duration,
        context: Option<&Context<'_>>,
    ) -> (Verdict, Option<Escalation>) {
        let first = self.engine.read(&text.prompt(), |reading| judge.first(&reading));
        let Some((because, branch)) = first.doubt.zip(judge.branch()) else { return (first, None) };
        let (encoding, escalation) = self.encode(because, &text.focus, branch, timeout, context).await;
        // Reading once more costs microseconds; keeping what was read would cost every waiting prompt its memory.
        let verdict = match encoding {
            Some(encoding) => self.engine.read(&text.prompt(), |reading| judge.second(&reading, &encoding)),
            None => first,
        };
        (verdict, Some(escalation))
    }

    /// The encoder's output, where it can be had, and what came of asking. Where it was not had the first time, a
    /// request that is decided again does without it too.
    pub(crate) async fn encode(
        &self,
        because: Doubt,
        focus: &str,
        branch: Branch,
        timeout: Duration,
        context: Option<&Context<'_>>,
    ) -> (Option<Encoding>, Escalation) {
        let begun = Instant::now();
        let before = context.and_then(|context| context.given).and_then(|given| given.encoder);
        let encoded = match before.filter(|asked| *asked != Asked::Answered) {
            Some(asked) => Err(asked),
            None => self.encoding(focus, branch, timeout, context).await,
        };
        let asked = encoded.as_ref().err().copied().unwrap_or(Asked::Answered);
        (encoded.ok(), Escalation { because, asked, ms: millis(begun.elapsed()) })
    }

    /// The encoder's output, at most once for a text of a request.
    async fn encoding(
        &self,
        focus: &str,
        branch: Branch,
        timeout: Duration,
        context: Option<&Context<'_>>,
    ) -> Result<Encoding, Asked> {
        let excerpt: Arc<str> = excerpt(focus).into();
        if let Some(kept) = context.and_then(|context| context.encoding(&excerpt, branch)) {
            return Ok(kept);
        }
        let encoding = self.encoders.encode(Arc::clone(&excerpt), branch, timeout).await?;
        if let Some(context) = context {
            context.keep(excerpt, &encoding);
        }
        Ok(encoding)
    }
}

impl Classified {
    /// A label, and nothing known beside it.
    pub(crate) fn of(label: Option<Arc<str>>) -> Self {
        Self {
            label,
            confidence: None,
            probabilities: Probabilities::default(),
            difficulty: None,
            dimensions: None,
            personal: None,
            signals: Vec::new(),
            tier: Tier::None,
            rule: None,
            escalation: None,
            intent: None,
        }
    }
}

fn by_rule(label: Arc<str>, rule: usize) -> Classified {
    Classified {
        confidence: Some(1.0),
        tier: Tier::Rule,
        rule: Some(rule + 1),
        ..Classified::of(Some(label))
    }
}

impl Remote {
    /// What was said the first time.
    fn repeat(&self) -> Result<Classified, ApiError> {
        let Self::Label(label, confidence, tier) = self else {
            return Err(ApiError::new(Code::ClassifierUnavailable, "The classifier failed the first time."));
        };
        Ok(Classified { confidence: *confidence, tier: *tier, ..Classified::of(Some(Arc::clone(label))) })
    }
}

fn by_cascade(verdict: Verdict, escalation: Option<Escalation>, labels: &Arc<[Arc<str>]>) -> Classified {
    Classified {
        confidence: Some(verdict.confidence),
        dimensions: Dimensions::of(&verdict),
        probabilities: Probabilities { labels: Arc::clone(labels), values: verdict.probabilities },
        difficulty: verdict.difficulty,
        tier: verdict.tier.into(),
        escalation,
        ..Classified::of(Some(name(labels, verdict.label)))
    }
}

fn by_server(scores: Scores, labels: &[Arc<str>]) -> Classified {
    Classified {
        confidence: (!scores.one_hot).then(|| scores.probabilities[scores.best]),
        probabilities: Probabilities {
            labels: (0..scores.probabilities.len()).map(|i| name(labels, i)).collect(),
            values: scores.probabilities,
        },
        tier: Tier::Kserve,
        ..Classified::of(Some(name(labels, scores.best)))
    }
}

fn by_model(
    outcome: Result<Found, Failure>,
    record: Box<IntentRecord>,
    labels: &[Arc<str>],
) -> Result<Classified, Unanswered> {
    match outcome {
        Ok(found) => Ok(Classified {
            confidence: found.confidence,
            tier: Tier::Intent,
            intent: Some(record),
            ..Classified::of(Some(name(labels, found.label)))
        }),
        Err(failure) => {
            Err(Unanswered { error: failure.error(), why: failure.as_str(), intent: Some(record) })
        }
    }
}

fn name(labels: &[Arc<str>], index: usize) -> Arc<str> {
    labels.get(index).cloned().unwrap_or_else(|| format!("#{index}").into())
}
