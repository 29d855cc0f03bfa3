//! Policies: either form to one, with what can never happen reported.
//!
//! Waypost's own form is bound here, v1's in `v1`; what they share (default, floor, fallbacks) is
//! read and checked once for both. Called by `resolve`.

use std::sync::Arc;

use crate::classifiers::{self, Within};
use crate::conversations;
use crate::error::Fault;
use crate::file::{Pairs, PolicySpec, Routes};
use crate::models::{Adopted, Models};
use crate::raw::Reader;
use crate::reasoning;
use crate::resolve::positive;
use crate::snapshot::{AutoSource, Classifier, ModelIndex, Policy, Route};
use crate::v1;

/// The policies' names, each free and not taken twice.
pub(crate) fn names(reader: &mut Reader<'_>, specs: &[PolicySpec]) -> Result<Vec<String>, Fault> {
    let mut names: Vec<String> = Vec::with_capacity(specs.len());
    for spec in specs {
        let name = reader.get(&spec.name)?;
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
    within: Within<'_>,
    adopted: &[Vec<Adopted>],
) -> Result<Vec<Policy>, Fault> {
    let mut policies = Vec::with_capacity(specs.len());
    for ((spec, name), adopted) in specs.iter().zip(names).zip(adopted) {
        let mut policy = policy(reader, (specs, names), spec, name, within, adopted)?;
        policy.shadow = conversations::shadow(reader, spec, specs, names)?;
        policies.push(policy);
    }
    Ok(policies)
}

fn policy(
    reader: &mut Reader<'_>,
    all: (&[PolicySpec], &[String]),
    spec: &PolicySpec,
    name: &str,
    within: Within<'_>,
    adopted: &[Adopted],
) -> Result<Policy, Fault> {
    let models = within.models;
    let default = match &spec.default {
        Some(raw) => Some(models.find(reader, raw)?),
        None => None,
    };
    let mut classify_timeout = &spec.classify_timeout;

    let (classifier, routes) = match (&spec.routes, &spec.llms) {
        _ if spec.split.is_some() => (split(reader, all, spec)?, Vec::new()),
        (None, None) if spec.classifier.as_ref().is_some_and(classifiers::needs_no_routes) => {
            own(reader, spec, &Pairs(Vec::new()), within)?
        }
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
            if let Some(own) = spec.classifier.as_ref().and_then(classifiers::timeout) {
                classify_timeout = own;
            }
            if routes.0.is_empty() {
                return Err(spec.name.fault("`routes` is empty"));
            }
            own(reader, spec, routes, within)?
        }
    };
    let policy = Policy {
        name: name.into(),
        fallbacks: fallbacks(reader, spec, models, &routes, default)?,
        rules: classifiers::rules(reader, &spec.rules, &routes)?,
        reasoning: reasoning::efforts(reader, spec, &classifier, &routes)?,
        classifier,
        routes,
        default,
        confidence_floor: classifiers::floor(reader, spec)?,
        compat_v1: reader.opt(spec.compat.as_ref())?.is_some(),
        classify_timeout: positive(reader, classify_timeout)?,
        sticky: conversations::sticky(reader, spec)?,
        shadow: Vec::new(),
    };
    warn_dead_ends(reader, spec, &policy);
    reasoning::warn_untold(reader, spec, &policy, &models.list);
    Ok(policy)
}

/// A policy that shares its traffic among others decides nothing itself.
fn split(
    reader: &mut Reader<'_>,
    (specs, names): (&[PolicySpec], &[String]),
    spec: &PolicySpec,
) -> Result<Classifier, Fault> {
    let own = spec.classifier.is_some() || spec.routes.is_some() || spec.llms.is_some() || spec.url.is_some();
    let more = !spec.rules.is_empty() || !spec.fallbacks.is_empty() || spec.default.is_some();
    if own || more || spec.sticky.is_some() || !spec.shadow.is_empty() || spec.reasoning.is_some() {
        return Err(spec.name.fault("a policy with `split` has nothing else: its arms decide"));
    }
    let Some(split) = &spec.split else { return Err(spec.name.fault("this policy has no `split`")) };
    let split = conversations::split(reader, split, spec.name.location(), specs, names)?;
    Ok(Classifier::Split(Arc::new(split)))
}

/// Classifier and routes of Waypost's own form.
fn own(
    reader: &mut Reader<'_>,
    spec: &PolicySpec,
    routes: &Routes,
    within: Within<'_>,
) -> Result<(Classifier, Vec<Route>), Fault> {
    let Some(classifier) = &spec.classifier else {
        return Err(spec.name.fault(
            "this policy has no `classifier`: a built-in one such as `task`, `{path: DIR}`, `{examples: …}` or \
             `{kserve: {url: …}}`",
        ));
    };
    let mut bound: Vec<Route> = Vec::with_capacity(routes.0.len());
    for (label, model) in &routes.0 {
        let name: Arc<str> = reader.get(label)?.into();
        if bound.iter().any(|route| route.label == name) {
            return Err(label.fault("this label is routed twice"));
        }
        let model = within.models.find(reader, model)?;
        bound.push(Route { label: name, model });
    }
    let classifier = classifiers::bind(reader, spec, classifier, routes, &bound, within)?;
    Ok((classifier, bound))
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
    let depends_on = match &policy.classifier {
        Classifier::Decisions(decisions) => {
            decisions.may_be_none().then_some("none of its decisions applies")
        }
        Classifier::Intent(_) => Some("its intent model is late, down or unclear"),
        Classifier::Auto(auto) if matches!(auto.source, AutoSource::Network { .. }) => {
            Some("its embeddings cannot be had")
        }
        _ => None,
    };
    if let Some(when) = depends_on {
        let message = format!("policy `{}` has no `default`: when {when}, clients get an error", policy.name);
        reader.warn(spec.name.location(), message);
    }
    if let Some(message) = policy.dead_end(&policy.classifier.labels()) {
        reader.warn(spec.name.location(), message);
    }
}

impl Policy {
    /// Every model it may send a request to, each once, in the order in which they are named.
    #[must_use]
    pub fn models(&self) -> Vec<ModelIndex> {
        let routed = self.routes.iter().map(|route| route.model);
        let mut models: Vec<ModelIndex> = Vec::new();
        for model in
            routed.chain(self.contestants()).chain(self.default).chain(self.fallbacks.iter().copied())
        {
            if !models.contains(&model) {
                models.push(model);
            }
        }
        models
    }

    /// The models that an auto policy chooses from; none for others.
    pub fn contestants(&self) -> impl Iterator<Item = ModelIndex> {
        let contestants = match &self.classifier {
            Classifier::Auto(auto) => &auto.contestants[..],
            _ => &[],
        };
        contestants.iter().map(|contestant| contestant.model)
    }

    /// Holds routes and reasoning against labels that became known after the configuration was read.
    ///
    /// # Errors
    /// A sentence about the first label that is neither among them nor given by a rule.
    pub fn check_labels(&self, labels: &[&str]) -> Result<(), String> {
        let ruled = |label: &str| self.rules.iter().any(|rule| *rule.label == *label);
        let routed = self.routes.iter().map(|route| &*route.label);
        let mut named = routed.chain(self.reasoning.iter().map(|(label, _)| &**label));
        match named.find(|label| !labels.contains(label) && !ruled(label)) {
            Some(label) => Err(classifiers::unknown_label(&format!(" `{label}`"), label, labels)),
            None => Ok(()),
        }
    }

    /// A warning about those of `labels` that lead nowhere, where there are such.
    #[must_use]
    pub fn dead_end(&self, labels: &[&str]) -> Option<String> {
        let routed = |label: &str| self.routes.iter().any(|route| *route.label == *label);
        let unrouted: Vec<&str> = labels.iter().copied().filter(|label| !routed(label)).collect();
        (self.default.is_none() && !unrouted.is_empty()).then(|| {
            format!(
                "policy `{}` has no model for {}: prompts so classified get an error; set `default`",
                self.name,
                quoted_list(&unrouted)
            )
        })
    }
}

fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
