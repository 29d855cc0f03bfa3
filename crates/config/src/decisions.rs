//! Policies by decisions: signals and conditions from what the user wrote to what the snapshot holds.
//!
//! Every name is resolved here, so that a request meets indices only. Whether a regular expression is one, the router
//! finds out. Called by `classifiers`.

use std::sync::Arc;

use serde_saphyr::Location;

use crate::classifiers::{EXAMPLES_THRESHOLD, MAX_EXAMPLES};
use crate::error::Fault;
use crate::file::{DecisionsSpec, OfSpec, SignalSpec, WhenSpec};
use crate::labels::Known;
use crate::leaf::Text;
use crate::nearest::hint;
use crate::raw::{Raw, Reader};
use crate::resolve::fraction;
use crate::snapshot::{Condition, Decide, Decisions, Matching, Signal, SignalKind};

/// Most signals of a policy, and most decisions.
const MOST: usize = 256;
/// How deep `all`, `any` and `not` may nest.
const MAX_DEPTH: usize = 8;
/// Confidence from which a signal by a built-in classifier applies: more likely than not. vLLM Semantic Router's, too.
const THRESHOLD: f32 = 0.5;
const ONE_OF: &str =
    "a signal says exactly one of `domain`, `keywords`, `regex`, `examples`, `safety` and `pii`";

/// Checks a policy of the name that `policy` has in the file; `has_default` tells whether decisions may lack a route.
pub(crate) fn decisions(
    reader: &mut Reader<'_>,
    spec: &DecisionsSpec,
    at: Location,
    has_default: bool,
    routed: &dyn Fn(&str) -> bool,
) -> Result<Decisions, Fault> {
    let signals = signals(reader, &spec.signals, at)?;
    count("decide", spec.decide.len(), at)?;
    let mut decide: Vec<Decide> = Vec::with_capacity(spec.decide.len());
    for spec in &spec.decide {
        let name: Arc<str> = reader.get(&spec.name)?.into();
        if decide.iter().any(|known| known.name == name) {
            return Err(spec.name.fault("another decision has this name"));
        }
        if !has_default && !routed(&name) {
            let message = format!("`routes` has no model for `{name}`, and the policy has no `default`");
            return Err(spec.name.fault(message));
        }
        let when = match &spec.when {
            Some(when) => condition(reader, when, &signals, 0)?,
            None => Condition::All(Vec::new()),
        };
        decide.push(Decide { name, priority: reader.get(&spec.priority)?, when });
    }
    warn_unused(reader, &spec.signals, &signals, &decide);
    let mut by_priority: Vec<usize> = (0..decide.len()).collect();
    by_priority.sort_by_key(|at| std::cmp::Reverse(decide[*at].priority));
    Ok(Decisions { signals, decide, order: reader.get(&spec.order)?, by_priority })
}

fn count(key: &str, count: usize, at: Location) -> Result<(), Fault> {
    match count {
        1..=MOST => Ok(()),
        0 => Err(Fault::new(at, format!("`{key}` is empty"))),
        _ => Err(Fault::new(at, format!("`{key}` lists {count}, at most {MOST} are possible"))),
    }
}

fn signals(reader: &mut Reader<'_>, specs: &[SignalSpec], at: Location) -> Result<Vec<Signal>, Fault> {
    count("signals", specs.len(), at)?;
    let mut signals: Vec<Signal> = Vec::with_capacity(specs.len());
    let mut examples = 0;
    for spec in specs {
        let name: Arc<str> = reader.get(&spec.name)?.into();
        if signals.iter().any(|known| known.name == name) {
            return Err(spec.name.fault("another signal has this name"));
        }
        let kind = kind(reader, spec)?;
        if let SignalKind::Examples { texts, .. } = &kind {
            examples += texts.len();
            if examples > MAX_EXAMPLES {
                let message =
                    format!("with this one there are {examples} examples, at most {MAX_EXAMPLES} are read");
                return Err(spec.name.fault(message));
            }
        }
        signals.push(Signal { name, kind });
    }
    Ok(signals)
}

fn kind(reader: &mut Reader<'_>, spec: &SignalSpec) -> Result<SignalKind, Fault> {
    let matching = reader.opt(spec.matching.as_ref())?;
    let case_sensitive = reader.opt(spec.case_sensitive.as_ref())?;
    let threshold = spec.threshold.as_ref().map(|raw| fraction(reader, raw)).transpose()?;
    if spec.keywords.is_none() {
        let stray =
            spec.matching.as_ref().map(Raw::location).or(spec.case_sensitive.as_ref().map(Raw::location));
        if let Some(at) = stray {
            return Err(Fault::new(at, "`match` and `case_sensitive` belong to `keywords`"));
        }
    }
    if let (Some(raw), true) = (&spec.threshold, spec.keywords.is_some() || spec.regex.is_some()) {
        return Err(raw.fault("keywords and regular expressions are found or not: they have no `threshold`"));
    }
    let or = |threshold: Option<f32>| threshold.unwrap_or(THRESHOLD);
    match (&spec.domain, &spec.keywords, &spec.regex, &spec.examples, &spec.safety, &spec.pii) {
        (Some(labels), None, None, None, None, None) => Ok(SignalKind::Domain {
            labels: known(reader, labels, Known::Domain, spec)?,
            threshold: or(threshold),
        }),
        (None, Some(words), None, None, None, None) => Ok(SignalKind::Keywords {
            words: listed(reader, words, spec)?,
            matching: matching.unwrap_or(Matching::Any),
            case_sensitive: case_sensitive.unwrap_or(false),
        }),
        (None, None, Some(regex), None, None, None) => {
            reader.get(regex).map(|Text(regex)| SignalKind::Regex(regex))
        }
        (None, None, None, Some(texts), None, None) => Ok(SignalKind::Examples {
            texts: listed(reader, texts, spec)?.into_iter().map(|Text(text)| text).collect(),
            threshold: threshold.unwrap_or(EXAMPLES_THRESHOLD),
        }),
        (None, None, None, None, Some(labels), None) => Ok(SignalKind::Safety {
            labels: known(reader, labels, Known::Safety, spec)?,
            threshold: or(threshold),
        }),
        (None, None, None, None, None, Some(pii)) => match reader.get(pii)? {
            true => Ok(SignalKind::Pii { threshold: or(threshold) }),
            false => Err(pii.fault("`pii` can only be `true`; for its absence write `{not: …}` in `when`")),
        },
        _ => Err(spec.name.fault(ONE_OF)),
    }
}

/// The values of a list that must not be empty.
fn listed<T: crate::leaf::Leaf>(
    reader: &mut Reader<'_>,
    list: &[Raw<T>],
    signal: &SignalSpec,
) -> Result<Vec<T>, Fault> {
    if list.is_empty() {
        return Err(signal.name.fault("the list of this signal is empty"));
    }
    list.iter().map(|raw| reader.get(raw)).collect()
}

/// Indices of labels that are known by heart.
fn known(
    reader: &mut Reader<'_>,
    list: &[Raw<String>],
    order: Known,
    signal: &SignalSpec,
) -> Result<Vec<usize>, Fault> {
    let names = listed(reader, list, signal)?;
    let labels = order.labels();
    let index = |(name, raw): (&String, &Raw<String>)| {
        labels
            .iter()
            .position(|label| label == name)
            .ok_or_else(|| raw.fault(crate::classifiers::unknown_label(&raw.quoted(), name, labels)))
    };
    names.iter().zip(list).map(index).collect()
}

/// `depth` counts the maps around it.
fn condition(
    reader: &mut Reader<'_>,
    spec: &WhenSpec,
    signals: &[Signal],
    depth: usize,
) -> Result<Condition, Fault> {
    let (of, at) = match spec {
        WhenSpec::Signal(raw) => return signal(reader, raw, signals).map(Condition::Signal),
        WhenSpec::Of(of, at) => (&**of, *at),
    };
    if depth >= MAX_DEPTH {
        return Err(Fault::new(at, format!("`when` nests deeper than {MAX_DEPTH}")));
    }
    let mut each = |children: &[WhenSpec]| -> Result<Vec<Condition>, Fault> {
        children.iter().map(|child| condition(reader, child, signals, depth + 1)).collect()
    };
    match of {
        OfSpec { all: Some(children), any: None, not: None } => each(children).map(Condition::All),
        OfSpec { all: None, any: Some(children), not: None } if children.is_empty() => {
            Err(Fault::new(at, "`any` of nothing never applies"))
        }
        OfSpec { all: None, any: Some(children), not: None } => each(children).map(Condition::Any),
        OfSpec { all: None, any: None, not: Some(child) } => {
            Ok(Condition::Not(Box::new(condition(reader, child, signals, depth + 1)?)))
        }
        _ => Err(Fault::new(
            at,
            "a condition is the name of a signal, or a map with one key: `all`, `any` or `not`",
        )),
    }
}

fn signal(reader: &mut Reader<'_>, raw: &Raw<String>, signals: &[Signal]) -> Result<usize, Fault> {
    let name = reader.get(raw)?;
    signals.iter().position(|signal| *signal.name == *name).ok_or_else(|| {
        let hint = hint(&name, signals.iter().map(|signal| &*signal.name));
        raw.fault(format!("unknown signal{}{hint}", raw.quoted()))
    })
}

fn warn_unused(reader: &mut Reader<'_>, specs: &[SignalSpec], signals: &[Signal], decide: &[Decide]) {
    let mut used = vec![false; signals.len()];
    decide.iter().for_each(|decide| decide.when.each_signal(&mut |signal| used[signal] = true));
    for ((spec, signal), _) in specs.iter().zip(signals).zip(used).filter(|(_, used)| !used) {
        reader.warn(spec.name.location(), format!("no decision uses the signal `{}`", signal.name));
    }
}
