//! What signals need before the first request: keywords and expressions compiled, examples encoded.
//!
//! Called by `ready` when a configuration is loaded.

use crate::ready::Preparing;
use std::sync::Arc;
use waypost_classify::Error;
use waypost_classify::encoder::Branch;
use waypost_classify::examples::ExampleModel;
use waypost_classify::pii::Detector;
use waypost_classify::rules::{Rule, Rules, in_this_case};
use waypost_classify::{Builtin, Engine};
use waypost_config::{Decisions, Family, Labelled, Matching, Signal, SignalKind};

/// The signals of a policy.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(super) settings: Arc<Decisions>,
    /// Those of keywords and regular expressions.
    pub(super) rules: Option<Rules>,
    /// Of each signal: its first rule, or its label among the examples; of no meaning for others.
    pub(super) places: Vec<usize>,
    texts: Arc<[Labelled]>,
    pub(super) examples: Option<Arc<ExampleModel>>,
    pub(super) detector: Option<Detector>,
}

impl Signals {
    pub(crate) fn load(preparing: &Preparing<'_>, settings: &Arc<Decisions>) -> Result<Self, Error> {
        let (mut rules, mut texts, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for signal in &settings.signals {
            let own = words(signal);
            check(signal, &own)?;
            places.push(if let SignalKind::Examples { .. } = signal.kind {
                texts.len()
            } else {
                rules.len()
            });
            rules.extend(own);
            if let SignalKind::Examples { texts: own, .. } = &signal.kind {
                texts.push((signal.name.to_string(), own.clone()));
            }
        }
        let texts: Arc<[Labelled]> = texts.into();
        let examples = (!texts.is_empty()).then(|| preparing.examples(&texts, true));
        let wants_detector = settings.signals.iter().any(|signal| signal.kind.family() == Family::Pii);
        Ok(Self {
            settings: Arc::clone(settings),
            rules: (!rules.is_empty()).then(|| Rules::build(&rules)).transpose()?,
            places,
            texts,
            examples: examples.transpose()?,
            detector: wants_detector.then(Detector::embedded).transpose()?,
        })
    }

    /// Whether a signal belongs to this family.
    pub(super) fn asks(&self, family: Family) -> bool {
        self.settings.signals.iter().any(|signal| signal.kind.family() == family)
    }

    /// The layers of the encoder that it may want.
    pub(crate) fn branch(&self, engine: &Engine) -> Option<Branch> {
        let builtin = |family, builtin| self.asks(family).then(|| engine.builtin(builtin).branch()).flatten();
        let examples = self.examples.as_ref().map(|_| Branch::Sentence);
        examples
            .or_else(|| builtin(Family::Domain, Builtin::Domain))
            .or_else(|| builtin(Family::Safety, Builtin::Safety))
    }

    /// Its examples, and what was made of them.
    pub(crate) fn examples(&self) -> Option<(&Arc<[Labelled]>, &Arc<ExampleModel>)> {
        Some((&self.texts, self.examples.as_ref()?))
    }
}

/// The rules of a signal: one, but for keywords that all must be found.
fn words(signal: &Signal) -> Vec<Rule> {
    let rule = |keywords: &[String], regex| Rule {
        label: signal.name.to_string(),
        keywords: keywords.to_vec(),
        regex,
    };
    let SignalKind::Keywords { words, matching, case_sensitive } = &signal.kind else {
        let SignalKind::Regex(regex) = &signal.kind else { return Vec::new() };
        return vec![rule(&[], Some(regex.clone()))];
    };
    let each = if *matching == Matching::All { 1 } else { words.len() };
    let of = |words: &[String]| match case_sensitive {
        false => rule(words, None),
        true => {
            let exact: Vec<_> = words.iter().map(|word| in_this_case(word)).collect();
            rule(&[], Some(exact.join("|")))
        }
    };
    words.chunks(each.max(1)).map(of).collect()
}

/// Names the signal where its rules are wrong; together they may still be too many.
fn check(signal: &Signal, rules: &[Rule]) -> Result<(), Error> {
    let wrong = |error: Error| {
        let reason = error.to_string();
        let reason = reason
            .split_once(": ")
            .filter(|(rule, _)| rule.starts_with("rule "))
            .map_or(&*reason, |(_, why)| why);
        Error::Policy(format!("signal `{}`: {reason}", signal.name))
    };
    if rules.is_empty() { Ok(()) } else { Rules::build(rules).map(drop).map_err(wrong) }
}
