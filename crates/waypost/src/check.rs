//! `waypost check`: what a configuration does, or what is wrong with it.

use crate::error::Error;
use crate::print;
use std::fmt::Write;
use std::path::Path;
use waypost_config::{COMPLEXITY_LABELS, Classifier, Snapshot, TASK_LABELS, Warning};

pub(crate) fn run(file: &Path) -> Result<(), Error> {
    let snapshot = waypost_config::load_file(file)?;
    let mut out = String::new();
    for warning in &snapshot.warnings {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "warning: {}", describe(file, warning));
    }
    let _ = write!(out, "{} is valid\n{}", file.display(), summary(&snapshot));
    print(&out)
}

/// A warning with its place.
pub(crate) fn describe(file: &Path, warning: &Warning) -> String {
    match warning.line {
        Some(line) => format!("{}:{line}: {}", file.display(), warning.message),
        None => format!("{}: {}", file.display(), warning.message),
    }
}

/// Models and policies, a line each.
pub(crate) fn summary(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for model in &snapshot.models {
        let endpoints: Vec<&str> = model.endpoints.iter().map(|e| &*e.base).collect();
        let _ = writeln!(out, "  model   {}  at {}", model.name, endpoints.join(", "));
    }
    for (i, policy) in snapshot.policies.iter().enumerate() {
        let classifier = policy.classifier.shown();
        let labels = match &policy.classifier {
            Classifier::Task => TASK_LABELS.len(),
            Classifier::Complexity => COMPLEXITY_LABELS.len(),
            Classifier::Kserve { labels, .. } => labels.len(),
        };
        let auto = if snapshot.default_policy == Some(i) { "  (also as \"auto\")" } else { "" };
        let _ = writeln!(
            out,
            "  policy  {}  {} of {} labels routed, by {classifier}{auto}",
            policy.name,
            policy.routes.len(),
            labels
        );
    }
    out
}
