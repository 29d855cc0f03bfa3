//! Signals: what a policy by decisions asks of a prompt, and no more than its decision depends on.
//!
//! The prompt is read once for all classifiers of tier 0. The encoder is asked when a question that matters is in doubt,
//! once for all that share its output, and for all of them within one deadline. Called by `classifying`.

mod ready;

use crate::brain::Brain;
use crate::classifying::{Classified, Classifiers};
use crate::context::Context;
use crate::decision::{Asked, Escalation, Tier};
use crate::personal::{self, Personal};
use crate::prompt::PromptText;
use std::sync::Arc;
use std::time::{Duration, Instant};
use waypost_classify::encoder::{Branch, Encoding};
use waypost_classify::{Builtin, Doubt, Verdict};
use waypost_config::{Decide, Family, Matching, PolicyIndex, Signal, SignalKind};
use waypost_policy::{Holds, holds, taken};
use waypost_wire::RequestView;

pub(crate) use ready::Signals;

/// Index of "has personal data" among the probabilities of the detector.
const PII: usize = 1;

/// All signals and decisions of a policy, as a prompt has them.
#[derive(Debug, Clone)]
pub struct Survey {
    /// In the order of the configuration.
    pub signals: Vec<SignalSeen>,
    /// In the order of the configuration.
    pub decisions: Vec<DecisionSeen>,
    /// Whether the encoder was wanted, and what came of it.
    pub escalation: Option<Escalation>,
}

/// A signal, as a prompt shows it.
#[derive(Debug, Clone)]
pub struct SignalSeen {
    /// Its name.
    pub name: Arc<str>,
    /// Which question answers it.
    pub family: Family,
    /// Whether it applies.
    pub applied: bool,
    /// 0 to 1; also where it does not apply: then it is what its threshold was held against.
    pub confidence: f32,
}

/// A decision, as a prompt has it.
#[derive(Debug, Clone)]
pub struct DecisionSeen {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it applies.
    pub applied: bool,
    /// 0 to 1; 0 where it does not apply.
    pub confidence: f32,
}

impl Brain {
    /// All signals and all decisions of a policy about a request, not only what decides; `None` for a policy of another
    /// kind.
    pub async fn survey(&self, policy: PolicyIndex, view: &RequestView<'_>) -> Option<Survey> {
        let settings = &self.snapshot().policies[policy];
        let signals = self.classifiers().signals(policy)?;
        let text = PromptText::of(view, settings.compat_v1);
        let inquiry = Inquiry::new(self.classifiers(), signals, &text, settings.classify_timeout, None);
        Some(inquiry.survey().await)
    }
}

/// What was found out about a signal.
#[derive(Debug, Clone, Copy)]
struct Seen {
    applies: bool,
    confidence: f32,
}

impl Seen {
    fn from(confidence: f32, threshold: f32) -> Self {
        Self { applies: confidence >= threshold, confidence }
    }
}

/// What tier 0 says of a prompt; absent where no signal is interested.
#[derive(Debug)]
struct First {
    domain: Option<Verdict>,
    safety: Option<Verdict>,
    near: Vec<f32>,
}

/// One prompt under one policy: what is known of it so far.
#[derive(Debug)]
pub(crate) struct Inquiry<'a> {
    classifiers: &'a Classifiers,
    signals: &'a Signals,
    text: &'a PromptText,
    /// How long the encoder may take, from when it is first asked.
    patience: Duration,
    context: Option<&'a Context<'a>>,
    found: Vec<Option<Seen>>,
    first: Option<First>,
    begun: Option<Instant>,
    encodings: Vec<Encoding>,
    escalation: Option<Escalation>,
    personal: Option<Personal>,
}

impl<'a> Inquiry<'a> {
    pub(crate) fn new(
        classifiers: &'a Classifiers,
        signals: &'a Signals,
        text: &'a PromptText,
        timeout: Duration,
        context: Option<&'a Context<'a>>,
    ) -> Self {
        Self {
            classifiers,
            signals,
            text,
            patience: classifiers.patience(timeout),
            context,
            found: vec![None; signals.settings.signals.len()],
            first: None,
            begun: None,
            encodings: Vec::new(),
            escalation: None,
            personal: None,
        }
    }

    /// Asks until the decision is certain; without a label where none applies.
    pub(crate) async fn decide(mut self) -> Classified {
        let decisions = &self.signals.settings;
        let taken = loop {
            match taken(decisions, &|signal| self.known(signal)) {
                Ok(taken) => break taken,
                Err(family) => self.ask(family).await,
            }
        };
        Classified {
            signals: self.seen().filter(|signal| signal.applied).collect(),
            confidence: taken.map(|(_, confidence)| confidence),
            tier: self.tier(),
            escalation: self.escalation,
            personal: self.personal,
            ..Classified::of(taken.map(|(decision, _)| Arc::clone(&decisions.decide[decision].name)))
        }
    }

    /// Asks for everything.
    async fn survey(mut self) -> Survey {
        let decisions = &self.signals.settings;
        for signal in 0..decisions.signals.len() {
            if let Err(family) = self.known(signal) {
                self.ask(family).await;
            }
        }
        let known = |signal: usize| self.known(signal);
        let decided = |decide: &Decide| {
            let confidence = holds(&decide.when, &known).ok().flatten();
            DecisionSeen {
                name: Arc::clone(&decide.name),
                applied: confidence.is_some(),
                confidence: confidence.unwrap_or(0.0),
            }
        };
        Survey {
            signals: self.seen().collect(),
            decisions: decisions.decide.iter().map(decided).collect(),
            escalation: self.escalation,
        }
    }

    /// Every signal, as far as it was asked for.
    fn seen(&self) -> impl Iterator<Item = SignalSeen> {
        let seen = |(signal, seen): (&Signal, &Option<Seen>)| SignalSeen {
            name: Arc::clone(&signal.name),
            family: signal.kind.family(),
            applied: seen.is_some_and(|seen| seen.applies),
            confidence: seen.map_or(0.0, |seen| seen.confidence),
        };
        self.signals.settings.signals.iter().zip(&self.found).map(seen)
    }

    fn known(&self, signal: usize) -> Holds {
        match self.found[signal] {
            Some(seen) => Ok(seen.applies.then_some(seen.confidence)),
            None => Err(self.signals.settings.signals[signal].kind.family()),
        }
    }

    /// What the answer rests on.
    fn tier(&self) -> Tier {
        match (&self.encodings[..], &self.first, &self.personal) {
            ([_, ..], ..) => Tier::Encoder,
            (_, Some(_), _) => Tier::Ngram,
            (.., Some(_)) => Tier::Detector,
            _ => Tier::Rule,
        }
    }

    /// Finds out about every signal of a family.
    async fn ask(&mut self, family: Family) {
        match family {
            Family::Rules => {
                let found = self.signals.rules.as_ref().map(|rules| rules.find_all(&self.text.focus));
                let found = found.unwrap_or_default();
                self.see(family, |kind, place| words(kind, &found[place..]));
            }
            Family::Domain => {
                let verdict = self.verdict(Builtin::Domain).await;
                let other = Builtin::Domain.labels().iter().position(|label| *label == "other");
                self.see(family, |kind, _| domain(kind, verdict.as_ref()?, other?));
            }
            Family::Safety => {
                let verdict = self.verdict(Builtin::Safety).await;
                self.see(family, |kind, _| safety(kind, verdict.as_ref()?));
            }
            Family::Pii => {
                let found =
                    self.signals.detector.as_ref().map(|detector| personal::look(detector, self.text));
                let (_, probabilities, personal) = found.unwrap_or_default();
                self.see(family, |kind, _| pii(kind, &probabilities));
                self.personal = Some(personal);
            }
            Family::Examples => {
                let near = self.near().await;
                self.see(family, |kind, place| similar(kind, near.get(place)));
            }
        }
    }

    /// Writes down what `look` sees of each signal of a family, by its kind and its place.
    fn see(&mut self, family: Family, look: impl Fn(&SignalKind, usize) -> Option<Seen>) {
        let Signals { settings, places, .. } = self.signals;
        for (at, signal) in settings.signals.iter().enumerate() {
            if signal.kind.family() == family {
                let nothing = Seen { applies: false, confidence: 0.0 };
                self.found[at] = Some(look(&signal.kind, places[at]).unwrap_or(nothing));
            }
        }
    }

    /// Tier 0 of all classifiers that a signal is interested in: reading the prompt costs more than judging it.
    fn first(&mut self) -> &mut First {
        let Self { classifiers, signals, text, first, .. } = self;
        first.get_or_insert_with(|| {
            let engine = classifiers.engine();
            engine.read(&text.prompt(), |reading| {
                let verdict =
                    |family, builtin| signals.asks(family).then(|| engine.builtin(builtin).judge(&reading));
                First {
                    domain: verdict(Family::Domain, Builtin::Domain),
                    safety: verdict(Family::Safety, Builtin::Safety),
                    near: signals.examples.as_ref().map(|model| model.near(&reading)).unwrap_or_default(),
                }
            })
        })
    }

    /// A built-in classifier's verdict, with the encoder where tier 0 is in doubt; once only.
    async fn verdict(&mut self, builtin: Builtin) -> Option<Verdict> {
        let first = self.first();
        let first = if builtin == Builtin::Domain { first.domain.take() } else { first.safety.take() }?;
        let model = Arc::clone(self.classifiers.engine().builtin(builtin));
        let Some((because, branch)) = first.doubt.zip(model.branch()) else { return Some(first) };
        let (engine, prompt) = (Arc::clone(self.classifiers.engine()), self.text.prompt());
        let encoding = self.encoding(because, branch).await;
        let second = |encoding| engine.read(&prompt, |reading| model.judge_with(&reading, encoding));
        Some(encoding.map_or(first, second))
    }

    /// The similarity to each signal's examples, by the encoder where it can be had.
    async fn near(&mut self) -> Vec<f32> {
        let near = std::mem::take(&mut self.first().near);
        let Some(model) = self.signals.examples.clone() else { return near };
        let (engine, prompt) = (Arc::clone(self.classifiers.engine()), self.text.prompt());
        let encoding = self.encoding(Doubt::Similarity, Branch::Sentence).await;
        let second = |encoding| engine.read(&prompt, |reading| model.near_with(&reading, encoding));
        encoding.map_or(near, second)
    }

    /// The encoder's output. It is not asked again once it did not answer: its time is over.
    async fn encoding(&mut self, because: Doubt, branch: Branch) -> Option<&Encoding> {
        let had = self.encodings.iter().position(|encoding| encoding.branch() == branch);
        let willing = self.escalation.is_none_or(|before| before.asked == Asked::Answered);
        if had.is_none() && willing {
            let left = self.patience.saturating_sub(self.begun.get_or_insert_with(Instant::now).elapsed());
            let asked = self.classifiers.encode(because, &self.text.focus, branch, left, self.context);
            let (encoding, now) = asked.await;
            self.escalation = Some(match self.escalation {
                Some(before) => Escalation { asked: now.asked, ms: before.ms + now.ms, ..before },
                None => now,
            });
            self.encodings.extend(encoding);
        }
        self.encodings.iter().find(|encoding| encoding.branch() == branch)
    }
}

/// Words are found or not. `found` begins with the rules of this signal.
fn words(kind: &SignalKind, found: &[bool]) -> Option<Seen> {
    let applies = match kind {
        SignalKind::Keywords { words, matching: Matching::All, .. } => {
            found[..words.len()].iter().all(|found| *found)
        }
        SignalKind::Keywords { matching: Matching::None, .. } => !found[0],
        _ => found[0],
    };
    Some(Seen { applies, confidence: f32::from(u8::from(applies)) })
}

/// A prompt has one domain: the likeliest, or `other` where that is not likely enough. So the confidence is the probability
/// of one label, the likeliest of the signal's, and not of all of them together: a signal with many labels is no surer
/// than one with few, and the threshold is held against the very number that is shown. What counts as `other` for want of
/// anything better has the probability of `other` itself, and so never outranks what was recognised.
fn domain(kind: &SignalKind, verdict: &Verdict, other: usize) -> Option<Seen> {
    let SignalKind::Domain { labels, threshold } = kind else { return None };
    let counts_as = if verdict.confidence < *threshold { other } else { verdict.label };
    let confidence = labels.iter().map(|label| verdict.probabilities[*label]).fold(0.0, f32::max);
    Some(Seen { applies: labels.contains(&counts_as), confidence })
}

/// Attacks of two kinds are an attack: the probabilities of the labels add up.
fn safety(kind: &SignalKind, verdict: &Verdict) -> Option<Seen> {
    let SignalKind::Safety { labels, threshold } = kind else { return None };
    let sum = |label: usize| if labels.contains(&label) { verdict.probabilities[label] } else { 0.0 };
    let confidence: f32 = (0..verdict.probabilities.len()).map(sum).sum();
    Some(Seen::from(confidence.min(1.0), *threshold))
}

fn pii(kind: &SignalKind, probabilities: &[f32]) -> Option<Seen> {
    let SignalKind::Pii { threshold } = kind else { return None };
    Some(Seen::from(*probabilities.get(PII)?, *threshold))
}

fn similar(kind: &SignalKind, near: Option<&f32>) -> Option<Seen> {
    let SignalKind::Examples { threshold, .. } = kind else { return None };
    Some(Seen::from(*near?, *threshold))
}
