//! A policy's classifier and rules: from what the user wrote to what the snapshot holds.
//!
//! Routes are held against the classifier's labels wherever those are known here; those of a trained folder are known
//! to the router when it loads it. Reads no file. Called by `policies`.

use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Location;

use crate::auto;
use crate::decisions::decisions;
use crate::error::Fault;
use crate::file::{ClassifierSpec, Examples, KserveSpec, PolicySpec, Routes, RuleSpec, SafetySpec};
use crate::intent;
use crate::labels::Known;
use crate::leaf::{Builtin, FullUrl, Text};
use crate::models::Models;
use crate::nearest::hint;
use crate::raw::{Raw, Reader};
use crate::resolve::fraction;
use crate::snapshot::{Classifier, Embedding, Labelled, Route, Rule};

/// Rates of false alarms that thresholds are known for.
const MIN_FALSE_ALARMS: f32 = 0.0005;
const MAX_FALSE_ALARMS: f32 = 0.2;
/// Most example texts of a policy: each is encoded when the configuration is loaded, a few milliseconds apiece.
pub(crate) const MAX_EXAMPLES: usize = 500;
/// Similarity (0 to 1) below which a prompt resembles no example.
pub(crate) const EXAMPLES_THRESHOLD: f32 = 0.4;
const ONE_OF: &str = "a classifier is one of `path`, `safety`, `examples`, `decisions`, `kserve`, `intent` and `auto`, or the \
    name of a built-in one";

/// What a classifier may refer to.
#[derive(Clone, Copy)]
pub(crate) struct Within<'a> {
    pub(crate) models: &'a Models<'a>,
    pub(crate) embeddings: &'a [Embedding],
}

/// The classifier, with every route found among its labels where they are known, or among those that its `rules` give.
pub(crate) fn bind(
    reader: &mut Reader<'_>,
    policy: &PolicySpec,
    spec: &ClassifierSpec,
    routes: &Routes,
    bound: &[Route],
    within: Within<'_>,
) -> Result<Classifier, Fault> {
    let ruled: Vec<String> =
        policy.rules.iter().map(|rule| reader.get(&rule.label)).collect::<Result<_, _>>()?;
    let only_known = |labels: &[&str]| only_known(routes, bound, labels, &ruled);
    let (own, at) = match spec {
        ClassifierSpec::Named(name) => {
            let (classifier, known) = match reader.get(name)? {
                Builtin::Task => (Classifier::Task, Known::Task),
                Builtin::Complexity => (Classifier::Complexity, Known::Complexity),
                Builtin::Domain => (Classifier::Domain, Known::Domain),
                Builtin::Safety => (Classifier::Safety { false_alarms: None }, Known::Safety),
                Builtin::Pii => (Classifier::Pii, Known::Pii),
            };
            only_known(known.labels())?;
            return Ok(classifier);
        }
        ClassifierSpec::Own(own, at) => (own, *at),
    };
    if own.threshold.is_some() && own.examples.is_none() {
        return Err(Fault::new(
            at,
            "`threshold` belongs to `examples`; for others there is `confidence_floor`",
        ));
    }
    let said = [
        own.path.is_some(),
        own.safety.is_some(),
        own.examples.is_some(),
        own.decisions.is_some(),
        own.kserve.is_some(),
        own.intent.is_some(),
        own.auto.is_some(),
    ];
    if said.into_iter().filter(|said| *said).count() > 1 {
        return Err(Fault::new(at, ONE_OF));
    }
    if let Some(path) = &own.path {
        return Ok(Classifier::Trained { folder: reader.folder.join(reader.get(path)?).into() });
    }
    if let Some(safety) = &own.safety {
        only_known(Known::Safety.labels())?;
        return read_safety(reader, safety);
    }
    if let Some(examples) = &own.examples {
        let texts = read_examples(reader, examples, at)?;
        let labels: Vec<&str> = texts.iter().map(|(label, _)| label.as_str()).collect();
        only_known(&labels)?;
        return Ok(Classifier::Examples { texts: texts.into() });
    }
    if let Some(spec) = &own.decisions {
        let routed = |label: &str| bound.iter().any(|route| *route.label == *label);
        let decisions = decisions(reader, spec, at, policy.default.is_some(), &routed)?;
        let classifier = Classifier::Decisions(Arc::new(decisions));
        only_known(&classifier.labels())?;
        return Ok(classifier);
    }
    if let Some(kserve) = &own.kserve {
        let FullUrl(url) = reader.get(&kserve.url)?;
        let labels = kserve_labels(reader, kserve, routes, bound)?;
        return Ok(Classifier::Kserve { url: url.into(), labels });
    }
    if let Some(spec) = &own.intent {
        let intent = intent::intent(reader, spec, within.models)?;
        only_known(&intent.labels())?;
        return Ok(Classifier::Intent(Arc::new(intent)));
    }
    if let Some(spec) = &own.auto {
        only_known(&[])?;
        return auto::bind(reader, spec, at, within.models, within.embeddings)
            .map(|auto| Classifier::Auto(Arc::new(auto)));
    }
    Err(Fault::new(at, ONE_OF))
}

fn read_safety(reader: &mut Reader<'_>, safety: &SafetySpec) -> Result<Classifier, Fault> {
    Ok(Classifier::Safety { false_alarms: Some(false_alarms(reader, &safety.false_alarms)?) })
}

/// A rate of false alarms that `safety` can be held to.
pub(crate) fn false_alarms(reader: &mut Reader<'_>, raw: &Raw<f64>) -> Result<f32, Fault> {
    let rate = fraction(reader, raw)?;
    if !(MIN_FALSE_ALARMS..=MAX_FALSE_ALARMS).contains(&rate) {
        let problem = format!("must be between {MIN_FALSE_ALARMS} and {MAX_FALSE_ALARMS}");
        return Err(raw.wrong(&problem));
    }
    Ok(rate)
}

/// Whether a policy by this classifier chooses its model without labels.
pub(crate) fn needs_no_routes(spec: &ClassifierSpec) -> bool {
    matches!(spec, ClassifierSpec::Own(own, _) if own.auto.is_some())
}

/// The timeout that belongs to the classifier rather than to the policy.
pub(crate) fn timeout(spec: &ClassifierSpec) -> Option<&Raw<Duration>> {
    let ClassifierSpec::Own(own, _) = spec else { return None };
    own.kserve.as_ref()?.timeout.as_ref()
}

/// The policy's confidence floor; for one from examples, whose confidence is a similarity, their threshold.
pub(crate) fn floor(reader: &mut Reader<'_>, spec: &PolicySpec) -> Result<f32, Fault> {
    let raw = &spec.confidence_floor;
    let floor = fraction(reader, raw)?;
    let own = match &spec.classifier {
        Some(ClassifierSpec::Own(own, _)) => own,
        _ => return Ok(floor),
    };
    if own.safety.is_some() && floor > 0.0 {
        reader.warn(
            raw.location(),
            "`confidence_floor` sends prompts to `default` that `false_alarms` would flag or let pass",
        );
    }
    if own.auto.is_some() && matches!(raw, Raw::Text { .. }) {
        return Err(
            raw.fault("`confidence_floor` does not go with `auto`, which has no labels to be sure of")
        );
    }
    // Signals have thresholds, and a decision that always applies has a confidence of 0: a floor would undo what the user
    // has decided.
    if own.decisions.is_some() && matches!(raw, Raw::Text { .. }) {
        return Err(raw.fault(
            "`confidence_floor` does not go with `decisions`, whose signals have a `threshold` each",
        ));
    }
    if own.examples.is_none() {
        return Ok(floor);
    }
    if let Raw::Text { .. } = raw {
        let message =
            "`confidence_floor` does not go with `examples`: their similarity has its own `threshold`";
        return Err(raw.fault(message));
    }
    if spec.default.is_none() {
        let message = "a policy from examples needs `default`: prompts that resemble none of them go there";
        return Err(spec.name.fault(message));
    }
    own.threshold.as_ref().map_or(Ok(EXAMPLES_THRESHOLD), |raw| fraction(reader, raw))
}

/// The rules, each with a label that is routed.
pub(crate) fn rules(
    reader: &mut Reader<'_>,
    specs: &[RuleSpec],
    routes: &[Route],
) -> Result<Vec<Rule>, Fault> {
    let mut rules = Vec::with_capacity(specs.len());
    for spec in specs {
        let label = reader.get(&spec.label)?;
        let Some(route) = routes.iter().find(|route| *route.label == *label) else {
            let hint = hint(&label, routes.iter().map(|route| &*route.label));
            return Err(spec.label.fault(format!("`routes` has no label{}{hint}", spec.label.quoted())));
        };
        if spec.keywords.is_empty() && spec.regex.is_none() {
            return Err(spec.label.fault("this rule never applies: it needs `keywords` or `regex`"));
        }
        let keywords = spec.keywords.iter().map(|raw| reader.get(raw)).collect::<Result<_, _>>()?;
        let regex = reader.opt(spec.regex.as_ref())?.map(|Text(regex)| regex);
        rules.push(Rule { label: Arc::clone(&route.label), keywords, regex });
    }
    Ok(rules)
}

fn read_examples(reader: &mut Reader<'_>, examples: &Examples, at: Location) -> Result<Vec<Labelled>, Fault> {
    let mut texts: Vec<Labelled> = Vec::with_capacity(examples.0.len());
    for (raw, listed) in &examples.0 {
        let label = reader.get(raw)?;
        if texts.iter().any(|(known, _)| *known == label) {
            return Err(raw.fault("this label is listed twice"));
        }
        if listed.is_empty() {
            return Err(raw.fault(format!("`{label}` has no example")));
        }
        let listed = listed.iter().map(|raw| reader.get(raw).map(|Text(text)| text));
        texts.push((label, listed.collect::<Result<_, _>>()?));
    }
    match texts.iter().map(|(_, texts)| texts.len()).sum() {
        1..=MAX_EXAMPLES => Ok(texts),
        0 => Err(Fault::new(at, "`examples` is empty")),
        count => {
            let message = format!(
                "{count} examples, at most {MAX_EXAMPLES} are read; `waypost train` takes any number"
            );
            Err(Fault::new(at, message))
        }
    }
}

fn only_known(routes: &Routes, bound: &[Route], labels: &[&str], ruled: &[String]) -> Result<(), Fault> {
    for ((raw, _), route) in routes.0.iter().zip(bound) {
        if !labels.contains(&&*route.label) && !ruled.iter().any(|label| **label == *route.label) {
            return Err(raw.fault(unknown_label(&raw.quoted(), &route.label, labels)));
        }
    }
    Ok(())
}

/// Says that a classifier has no such label, `quoted` as the user wrote it, and which was probably meant.
pub(crate) fn unknown_label(quoted: &str, label: &str, labels: &[&str]) -> String {
    if labels.is_empty() {
        return format!("the classifier has no labels{quoted}: only those of `rules` can be routed");
    }
    let hint = match hint(label, labels.iter().copied()) {
        empty if empty.is_empty() => format!("; its labels are {}", labels.join(", ")),
        hint => hint,
    };
    format!("the classifier has no label{quoted}{hint}")
}

fn kserve_labels(
    reader: &mut Reader<'_>,
    kserve: &KserveSpec,
    routes: &Routes,
    bound: &[Route],
) -> Result<Vec<Arc<str>>, Fault> {
    let Some(listed) = &kserve.labels else {
        return match Known::of(bound.iter().map(|route| &*route.label)) {
            Some(known) => Ok(known.labels().iter().map(|label| (*label).into()).collect()),
            None => Err(kserve
                .url
                .fault("this classifier needs `labels`: the label of each of its outputs, in order")),
        };
    };
    let mut labels: Vec<Arc<str>> = Vec::with_capacity(listed.len());
    for raw in listed {
        let label: Arc<str> = reader.get(raw)?.into();
        if labels.contains(&label) {
            return Err(raw.fault("this label is listed twice"));
        }
        labels.push(label);
    }
    for ((raw, _), route) in routes.0.iter().zip(bound) {
        if !labels.contains(&route.label) {
            let hint = hint(&route.label, labels.iter().map(|label| &**label));
            let label = &route.label;
            reader.warn(
                raw.location(),
                format!("the route for `{label}` is never taken: `labels` does not list it{hint}"),
            );
        }
    }
    Ok(labels)
}
