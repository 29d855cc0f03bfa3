//! `waypost eval`: how good a classifier is on labelled rows, or which of two is better.
//!
//! Anything that can label a text is judged by the same figures: built in, trained, or behind a KServe URL. Called by
//! `main`; `train` shares the pictures and the list of confusions.

mod compare;
mod judge;
mod outcomes;
pub(crate) mod plot;
mod report;
mod safety;

use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use crate::cli::Eval;
use crate::data::{Fields, Table};
use crate::error::Error;
use crate::print;
use crate::table::percent;
use judge::{Judge, Judged};
use report::Report;
pub(crate) use report::confusions;

pub(crate) fn run(options: &Eval) -> Result<(), Error> {
    if let Some(folder) = &options.outcomes {
        return outcomes::run(options, folder);
    }
    if let Some(stray) = options.outcome.given() {
        return Err(Error::Usage(format!("{stray} is for --outcomes, not for classifiers")));
    }
    let asked = options.classifier.iter().chain(&options.compare);
    if options.labels.is_some() && !asked.into_iter().any(|name| judge::is_url(name)) {
        return Err(Error::Usage(
            "--labels names a server's outputs; this classifier has its own".to_owned(),
        ));
    }
    let judge = |name: &str| Judge::named(name, options.labels.as_deref());
    // A wrong name should not cost the time to read the rows.
    let judges: Vec<Judge> = match &options.classifier {
        Some(name) => vec![judge(name)?],
        None => options.compare.iter().map(|name| judge(name)).collect::<Result<_, _>>()?,
    };
    let mut table = Table::default();
    let fields = Fields {
        text: &options.text_field,
        label: &options.label_field,
        source: None,
        source_is_wanted: false,
    };
    for file in &options.data {
        table.read(file, fields)?;
    }
    note(&table.left_out.shown());
    let mut judged: Vec<(Judged, Report)> = Vec::new();
    for judge in judges {
        let answers = judge.judge(&table.rows)?;
        let report = Report::of(&answers, &table);
        note(&report.warnings());
        judged.push((answers, report));
    }
    if let Some((answers, report)) = judged.first().filter(|_| !judged.iter().any(|(_, r)| r.knows_any())) {
        let labels = answers.labels.iter().map(|label| &**label).collect::<Vec<_>>().join(", ");
        return Err(Error::Data(format!("no row has a label of {}: {labels}", report.classifier)));
    }
    if let Some(folder) = &options.out {
        for (at, (_, report)) in judged.iter().enumerate() {
            draw(folder, report, if judged.len() > 1 { ["-a", "-b"][at % 2] } else { "" })?;
        }
    }
    match judged.as_slice() {
        [(first, a), (second, b)] => {
            let only = compare::only_one_right(first, second, &table.rows);
            if options.json {
                let both = json!({"a": a, "b": b, "only_a_right": only.a, "only_b_right": only.b});
                return print(&format!("{both}\n"));
            }
            print(&compare::shown(a, b, only))
        }
        [(_, report)] if options.json => print(&format!("{}\n", json!(report))),
        [(_, report)] => print(&report.shown()),
        _ => Err(Error::Internal("one classifier is judged, or two".to_owned())),
    }
}

fn draw(folder: &Path, report: &Report, suffix: &str) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
    let labels: Vec<&str> = report.all_labels.iter().map(|label| &**label).collect();
    for (name, svg) in [
        ("reliability", plot::reliability(&report.classifier, &report.metrics)),
        ("confusion", plot::confusion(&report.classifier, &labels, &report.metrics)),
    ] {
        let path = folder.join(format!("{name}{suffix}.svg"));
        std::fs::write(&path, svg).map_err(|source| Error::File { path, source })?;
    }
    Ok(())
}

/// What a person should know, on standard error.
fn note(text: &str) {
    // Nobody is left to tell if this fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
