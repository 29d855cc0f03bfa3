//! `waypost check`: what a configuration does, or what is wrong with it.

use crate::error::Error;
use crate::print;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use waypost_classify::Engine;
use waypost_config::{Classifier, Policy, Snapshot, Warning};
use waypost_router::{Classifiers, Loaded};

pub(crate) fn run(file: &Path) -> Result<(), Error> {
    let mut snapshot = waypost_config::load_file(file)?;
    crate::feeding::discover(&mut snapshot)?;
    let classifiers = Loaded::load(Arc::new(Engine::embedded()?), &snapshot, None)?.classifiers;
    let mut out = String::new();
    for warning in warnings(file, &snapshot, &classifiers) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "warning: {warning}");
    }
    let _ = write!(out, "{} is valid\n{}", file.display(), summary(&snapshot, &classifiers));
    print(&out)
}

/// Everything odd about a configuration, each with its place.
pub(crate) fn warnings(file: &Path, snapshot: &Snapshot, classifiers: &Classifiers) -> Vec<String> {
    let written = snapshot.warnings.iter().map(|warning| describe(file, warning));
    let loaded = classifiers.warnings().iter().map(|message| format!("{}: {message}", file.display()));
    written.chain(loaded).collect()
}

fn describe(file: &Path, warning: &Warning) -> String {
    match warning.line {
        Some(line) => format!("{}:{line}: {}", file.display(), warning.message),
        None => format!("{}: {}", file.display(), warning.message),
    }
}

/// Models and policies, a line each.
pub(crate) fn summary(snapshot: &Snapshot, classifiers: &Classifiers) -> String {
    let mut out = String::new();
    for model in &snapshot.models {
        let endpoints: Vec<&str> = model.endpoints.iter().map(|e| &*e.base).collect();
        let _ = writeln!(out, "  model   {}  at {}", model.name, endpoints.join(", "));
    }
    for (i, policy) in snapshot.policies.iter().enumerate() {
        let name = snapshot.auto_names.first().filter(|_| snapshot.default_policy == Some(i));
        let auto = name.map(|name| format!("  (also as \"{name}\")")).unwrap_or_default();
        let does = does(snapshot, policy, classifiers.labels(i).len());
        let _ = writeln!(out, "  policy  {}  {does}{auto}", policy.name);
        if let Some(advice) = classifiers.advice(i) {
            let _ = writeln!(out, "          {advice}");
        }
    }
    out
}

/// What a policy does with a request, in half a sentence.
fn does(snapshot: &Snapshot, policy: &Policy, labels: usize) -> String {
    let classifier = policy.classifier.shown();
    let rules = match policy.rules.len() {
        0 => String::new(),
        1 => "1 rule, then ".to_owned(),
        count => format!("{count} rules, then "),
    };
    match &policy.classifier {
        Classifier::Auto(auto) => {
            let names: Vec<&str> = auto.contestants.iter().map(|c| &*snapshot.models[c.model].name).collect();
            format!("chooses among {} by {rules}{classifier}", names.join(", "))
        }
        Classifier::Split(split) => {
            let arm =
                |(policy, weight): &(usize, f64)| format!("{} {weight}", snapshot.policies[*policy].name);
            format!("shares its requests: {}", split.arms.iter().map(arm).collect::<Vec<_>>().join(", "))
        }
        Classifier::Decisions(decisions) => {
            let (signals, routed) = (decisions.signals.len(), policy.routes.len());
            format!("{routed} of {labels} decisions routed, by {rules}{signals} signals")
        }
        _ => format!("{} of {labels} labels routed, by {rules}{classifier}", policy.routes.len()),
    }
}
