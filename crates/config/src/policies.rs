//! Policies: either form to one, with what can never happen reported.
//!
//! Waypost's own form is bound here, v1's in `v1`; what they share (default, floor, fallbacks) is
//! read and checked once for both. Called by `resolve`.

use std::sync::Arc;

use crate::error::Fault;
use crate::file::{ClassifierSpec, KserveSpec, PolicySpec, Routes};
use crate::labels::Known;
use crate::leaf::FullUrl;
use crate::models::{Adopted, Models};
use crate::nearest::hint;
use crate::raw::{Raw, Reader};
use crate::resolve::{AUTO, fraction, positive};
use crate::snapshot::{Classifier, ModelIndex, Policy, Route};
use crate::v1;

/// The policies' names, each free and not taken twice.
pub(crate) fn names(reader: &mut Reader<'_>, specs: &[PolicySpec]) -> Result<Vec<String>, Fault> {
    let mut names: Vec<String> = Vec::with_capacity(specs.len());
    for spec in specs {
        let name = reader.get(&spec.name)?;
        if name == AUTO {
            let message = format!("`{AUTO}` is reserved: it stands for the default policy");
            return Err(spec.name.fault(message));
        }
        if names.contains(&name) {
            return Err(spec.name.fault("another policy has this name"));
        }
        names.push(name);
    }
    Ok(names)
}

/// Every policy; `names` and `adopted` run in step with `specs`.
pub(crate) fn resolve(
    reader: &mut Reader<'_>,
    specs: &[PolicySpec],
    names: &[String],
    models: &Models<'_>,
    adopted: &[Vec<Adopted>],
) -> Result<Vec<Policy>, Fault> {
    specs
        .iter()
        .zip(names)
        .zip(adopted)
        .map(|((spec, name), adopted)| policy(reader, spec, name, models, adopted))
        .collect()
}

fn policy(
    reader: &mut Reader<'_>,
    spec: &PolicySpec,
    name: &str,
    models: &Models<'_>,
    adopted: &[Adopted],
) -> Result<Policy, Fault> {
    let default = match &spec.default {
        Some(raw) => Some(models.find(reader, raw)?),
        None => None,
    };
    let confidence_floor = fraction(reader, &spec.confidence_floor)?;
    let mut classify_timeout = &spec.classify_timeout;

    let (classifier, routes) = match (&spec.routes, &spec.llms) {
        (Some(_), Some(_)) => {
            return Err(spec.name.fault("this policy has `routes` and v1's `llms`; keep one"));
        }
        (None, None) => {
            return Err(spec
                .name
                .fault("this policy routes nothing: it needs `routes` (label to model), or v1's `llms`"));
        }
        (None, Some(llms)) => {
            v1::bind(reader, spec, llms, adopted, default.map(|at| &models.list[at]), models)?
        }
        (Some(routes), None) => {
            if let Some(url) = &spec.url {
                return Err(url.fault(
                    "`url` belongs to v1's form; beside `routes` write `classifier: {kserve: {url: …}}`",
                ));
            }
            if let Some(ClassifierSpec::Kserve(KserveSpec { timeout: Some(own), .. })) = &spec.classifier {
                classify_timeout = own;
            }
            own(reader, spec, routes, models)?
        }
    };
    let policy = Policy {
        name: name.into(),
        fallbacks: fallbacks(reader, spec, models, &routes, default)?,
        classifier,
        routes,
        default,
        confidence_floor,
        compat_v1: reader.opt(spec.compat.as_ref())?.is_some(),
        classify_timeout: positive(reader, classify_timeout)?,
    };
    warn_dead_ends(reader, spec, &policy);
    Ok(policy)
}

/// Classifier and routes of Waypost's own form.
fn own(
    reader: &mut Reader<'_>,
    spec: &PolicySpec,
    routes: &Routes,
    models: &Models<'_>,
) -> Result<(Classifier, Vec<Route>), Fault> {
    let Some(classifier) = &spec.classifier else {
        return Err(spec
            .name
            .fault("this policy has no `classifier`: `task`, `complexity` or `{kserve: {url: …}}`"));
    };
    if routes.0.is_empty() {
        return Err(spec.name.fault("`routes` is empty"));
    }
    let mut bound: Vec<Route> = Vec::with_capacity(routes.0.len());
    for (label, model) in &routes.0 {
        let name: Arc<str> = reader.get(label)?.into();
        if bound.iter().any(|route| route.label == name) {
            return Err(label.fault("this label is routed twice"));
        }
        let model = models.find(reader, model)?;
        bound.push(Route { label: name, model });
    }
    let classifier = match classifier {
        ClassifierSpec::Task => {
            only_known(routes, &bound, Known::Task)?;
            Classifier::Task
        }
        ClassifierSpec::Complexity => {
            only_known(routes, &bound, Known::Complexity)?;
            Classifier::Complexity
        }
        ClassifierSpec::Kserve(kserve) => {
            let FullUrl(url) = reader.get(&kserve.url)?;
            let labels = kserve_labels(reader, kserve, routes, &bound)?;
            Classifier::Kserve { url: url.into(), labels }
        }
    };
    Ok((classifier, bound))
}

fn only_known(routes: &Routes, bound: &[Route], known: Known) -> Result<(), Fault> {
    for ((raw, _), route) in routes.0.iter().zip(bound) {
        if !known.labels().contains(&&*route.label) {
            return Err(unknown_label(raw, &route.label, known));
        }
    }
    Ok(())
}

/// The fault for a label that a built-in classifier does not have.
pub(crate) fn unknown_label(raw: &Raw<String>, label: &str, known: Known) -> Fault {
    let hint = match hint(label, known.labels().iter().copied()) {
        empty if empty.is_empty() => format!("; its labels are {}", known.labels().join(", ")),
        hint => hint,
    };
    raw.fault(format!("the classifier has no label{}{hint}", raw.quoted()))
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

fn fallbacks(
    reader: &mut Reader<'_>,
    spec: &PolicySpec,
    models: &Models<'_>,
    routes: &[Route],
    default: Option<ModelIndex>,
) -> Result<Vec<ModelIndex>, Fault> {
    let mut fallbacks = Vec::with_capacity(spec.fallbacks.len());
    for raw in &spec.fallbacks {
        let model = models.find(reader, raw)?;
        let name = &models.list[model].name;
        if fallbacks.contains(&model) {
            reader.warn(raw.location(), format!("fallback `{name}` is listed twice"));
            continue;
        }
        // It would only ever follow itself.
        let always_first = routes.iter().map(|r| r.model).chain(default).all(|m| m == model);
        if always_first {
            reader.warn(
                raw.location(),
                format!("fallback `{name}` is never tried: every branch already chooses it"),
            );
        }
        fallbacks.push(model);
    }
    Ok(fallbacks)
}

/// What happens to prompts for which nothing is chosen.
fn warn_dead_ends(reader: &mut Reader<'_>, spec: &PolicySpec, policy: &Policy) {
    if policy.default.is_some() {
        return;
    }
    if policy.confidence_floor > 0.0 {
        reader.warn(
            spec.confidence_floor.location(),
            format!(
                "policy `{}` has a `confidence_floor` but no `default`: prompts below it get an error",
                policy.name
            ),
        );
    }
    let unrouted: Vec<&str> = labels_of(&policy.classifier)
        .into_iter()
        .filter(|label| !policy.routes.iter().any(|route| *route.label == **label))
        .collect();
    if !unrouted.is_empty() {
        reader.warn(
            spec.name.location(),
            format!(
                "policy `{}` has no model for {}: prompts so classified get an error; set `default`",
                policy.name,
                quoted_list(&unrouted)
            ),
        );
    }
}

fn labels_of(classifier: &Classifier) -> Vec<&str> {
    match classifier {
        Classifier::Task => Known::Task.labels().to_vec(),
        Classifier::Complexity => Known::Complexity.labels().to_vec(),
        Classifier::Kserve { labels, .. } => labels.iter().map(|label| &**label).collect(),
    }
}

fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
