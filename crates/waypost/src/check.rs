//! `waypost check`: what a configuration does, or what is wrong with it.

use crate::error::Error;
use crate::print;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use waypost_classify::Engine;
use waypost_config::{Snapshot, Warning};
use waypost_router::Classifiers;

pub(crate) fn run(file: &Path) -> Result<(), Error> {
    let snapshot = waypost_config::load_file(file)?;
    let classifiers = Classifiers::load(Arc::new(Engine::embedded()?), &snapshot, None)?;
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
        let classifier = policy.classifier.shown();
        let rules = match policy.rules.len() {
            0 => String::new(),
            1 => "1 rule, then ".to_owned(),
            count => format!("{count} rules, then "),
        };
        let auto = if snapshot.default_policy == Some(i) { "  (also as \"auto\")" } else { "" };
        let _ = writeln!(
            out,
            "  policy  {}  {} of {} labels routed, by {rules}{classifier}{auto}",
            policy.name,
            policy.routes.len(),
            classifiers.labels(i).len()
        );
    }
    out
}
