//! NVIDIA LLM Router v1's form of a policy: `url` and `llms`.
//!
//! v1 sends output `i` to entry `i` of `llms`, whatever their names. Here entries with the names of a
//! published router are bound by name, and a warning says where v1 would have gone astray; only lists
//! of names we do not know are bound by position. Called by `policies`.

use std::sync::Arc;

use crate::classifiers::unknown_label;
use crate::error::Fault;
use crate::file::{LlmSpec, PolicySpec};
use crate::labels::Known;
use crate::leaf::FullUrl;
use crate::models::{Adopted, Models};
use crate::nearest::nearest;
use crate::raw::Reader;
use crate::snapshot::{Classifier, Model, Route};

/// Classifier and routes of a v1 policy; `adopted` runs in step with `llms`.
pub(crate) fn bind(
    reader: &mut Reader<'_>,
    spec: &PolicySpec,
    llms: &[LlmSpec],
    adopted: &[Adopted],
    default: Option<&Model>,
    models: &Models<'_>,
) -> Result<(Classifier, Vec<Route>), Fault> {
    if spec.classifier.is_some() {
        return Err(spec.name.fault(
            "`classifier` does not go with v1's `llms`: give `url`, or neither for the built-in one",
        ));
    }
    if llms.is_empty() {
        return Err(spec.name.fault("`llms` is empty"));
    }
    let mut routes: Vec<Route> = Vec::with_capacity(adopted.len());
    for (llm, entry) in llms.iter().zip(adopted) {
        if routes.iter().any(|route| *route.label == *entry.label) {
            return Err(llm.name.fault("another entry of `llms` has this name"));
        }
        routes.push(Route { label: entry.label.as_str().into(), model: entry.model });
    }
    let known = Known::of(routes.iter().map(|route| &*route.label));
    let Some(url) = &spec.url else {
        return match known {
            Some(Known::Complexity) => Ok((Classifier::Complexity, routes)),
            Some(_) => Ok((Classifier::Task, routes)),
            None => Err(needs_url(spec, llms, &routes)),
        };
    };
    let FullUrl(url) = reader.get(url)?;
    let labels: Vec<Arc<str>> = match known {
        Some(known) => {
            warn_order(reader, llms, &routes, known, default, models);
            known.labels().iter().map(|label| (*label).into()).collect()
        }
        None => {
            warn_slip(reader, llms, &routes);
            routes.iter().map(|route| Arc::clone(&route.label)).collect()
        }
    };
    let url = url.into();
    Ok((Classifier::Kserve { url, labels }, routes))
}

/// The published router that most of these names belong to.
fn closest(routes: &[Route]) -> Option<Known> {
    Known::V1.into_iter().find(|known| {
        let names = routes.iter().map(|route| &*route.label);
        names.filter(|name| known.labels().contains(name)).count() * 2 > routes.len()
    })
}

fn needs_url(spec: &PolicySpec, llms: &[LlmSpec], routes: &[Route]) -> Fault {
    if let Some(known) = closest(routes) {
        let stray = llms.iter().zip(routes).find(|(_, route)| !known.labels().contains(&&*route.label));
        if let Some((llm, route)) = stray {
            return llm.name.fault(unknown_label(&llm.name.quoted(), &route.label, known.labels()));
        }
    }
    spec.name.fault("this policy needs `url`: its `llms` do not have the labels of a built-in classifier")
}

/// A mistyped label turns binding by name into binding by position; say so.
fn warn_slip(reader: &mut Reader<'_>, llms: &[LlmSpec], routes: &[Route]) {
    let Some(known) = closest(routes) else {
        return;
    };
    for (llm, route) in llms.iter().zip(routes) {
        let label = &*route.label;
        let labels = known.labels();
        if labels.contains(&label) {
            continue;
        }
        if let Some(meant) = nearest(label, labels.iter().copied()) {
            reader.warn(
                llm.name.location(),
                format!(
                    "`{label}` looks like `{meant}`; as written, `llms` is bound to the classifier \
                     by position, not by name"
                ),
            );
        }
    }
}

/// v1's silent misrouting, made loud: names the first output that v1 sent elsewhere.
fn warn_order(
    reader: &mut Reader<'_>,
    llms: &[LlmSpec],
    routes: &[Route],
    known: Known,
    default: Option<&Model>,
    models: &Models<'_>,
) {
    let pairs = known.labels().iter().zip(llms.iter().zip(routes));
    let Some((index, (label, (llm, listed)))) =
        pairs.enumerate().find(|(_, (label, (_, route)))| *route.label != ***label)
    else {
        return;
    };
    let named = routes.iter().find(|route| *route.label == **label);
    let now = match (named, default) {
        (Some(route), _) => format!("to `{}`", models.list[route.model].name),
        (None, Some(default)) => format!("to the default, `{}`", default.name),
        (None, None) => "nowhere (no entry, no `default`)".to_owned(),
    };
    let other = &listed.label;
    let then = &models.list[listed.model].name;
    reader.warn(
        llm.name.location(),
        format!(
            "`llms` is not in the classifier's order: output {index} is `{label}`, but `{other}` \
             stands there, so v1 sent {label} prompts to `{then}`; Waypost goes by name and sends \
             them {now}"
        ),
    );
}
