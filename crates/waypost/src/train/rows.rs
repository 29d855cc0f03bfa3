//! The rows to learn from: read, numbered, and looked over.
//!
//! Says on standard error which rows were left out. Called by `train`.

use std::collections::BTreeMap;
use std::path::Path;

use waypost_classify::train::Target;

use super::checks::{self, Labelled};
use super::progress::Progress;
use super::split::{self, Split};
use crate::cli::Train;
use crate::data::{Fields, Row, Table};
use crate::error::Error;

/// Fewer rows than this say little about a classifier.
const FEW_TEST_ROWS: usize = 5;

/// Most labels of one classifier.
const MAX_LABELS: usize = 2000;
/// Where a row comes from, unless the user says otherwise.
const SOURCE_FIELD: &str = "source";

/// The rows of the file the user named.
pub(crate) fn read(options: &Train, file: &Path, progress: &Progress) -> Result<Table, Error> {
    progress.phase(format!("reading {}", file.display()), 0);
    let mut table = Table::default();
    let fields = Fields {
        text: &options.text_field,
        label: &options.label_field,
        source: Some(options.source_field.as_deref().unwrap_or(SOURCE_FIELD)),
        source_is_wanted: options.source_field.is_some(),
    };
    table.read(file, fields)?;
    let left_out = table.left_out.shown();
    if !left_out.is_empty() {
        progress.note(left_out.trim_end());
    }
    Ok(table)
}

/// Labels and sources as numbers.
pub(crate) struct Data<'a> {
    rows: &'a [Row],
    /// The labels, sorted.
    pub(crate) names: Vec<String>,
    pub(crate) labels: Vec<u32>,
    /// The sources, sorted; one nameless for rows without.
    pub(crate) sources: Vec<String>,
    source_of: Vec<u32>,
    groups: Vec<u32>,
}

impl<'a> Data<'a> {
    pub(crate) fn of(rows: &'a [Row], file: &Path) -> Result<Self, Error> {
        let (names, labels) = numbered(rows.iter().map(|row| row.label.as_str()));
        let (sources, source_of) = numbered(rows.iter().map(|row| row.source.as_deref().unwrap_or_default()));
        let fail = |what: String| Err(Error::Data(format!("{}: {what}", file.display())));
        if let [only] = names.as_slice() {
            return fail(format!(
                "all {} rows have the label '{only}'; a classifier needs two labels",
                rows.len()
            ));
        }
        if names.len() > MAX_LABELS {
            return fail(format!("{} labels, more than {MAX_LABELS}; is this the right field?", names.len()));
        }
        let groups = checks::groups(rows.iter().map(|row| row.text.as_str()));
        Ok(Self { rows, names, labels, sources, source_of, groups })
    }

    pub(crate) fn split_rows(&self) -> split::Rows<'_> {
        split::Rows { labels: &self.labels, sources: &self.source_of, groups: &self.groups }
    }

    pub(crate) fn warnings(&self, split: &Split) -> Vec<String> {
        let Self { rows, names, labels, groups, .. } = self;
        let mut out = checks::warnings(Labelled { rows, names, labels, groups });
        if split.returned > 0 {
            let rows = checks::count(split.returned, "row");
            out.push(format!(
                "{rows} of held-out sources repeat texts of other sources; they are taught, not tested on"
            ));
        }
        if self.sources.len() >= split::MIN_SOURCES && split.test_sources.is_empty() {
            out.push(
                "no source can be held out without its labels; the split is at random, which flatters"
                    .to_owned(),
            );
        } else if self.sources.len() == 2 {
            out.push(
                "two sources are too few to hold one out; the split is at random, which flatters".to_owned(),
            );
        }
        if split.test.len() < FEW_TEST_ROWS {
            let rows = checks::count(split.test.len(), "row");
            out.push(format!("measured on {rows} only: the figures mean little"));
        }
        out
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        self.labels.iter().map(|&label| Target::new(Some(label), None, 1.0)).collect()
    }
}

/// The distinct names, sorted, and the index of each item's.
fn numbered<'n>(items: impl Iterator<Item = &'n str> + Clone) -> (Vec<String>, Vec<u32>) {
    let mut known: BTreeMap<&str, u32> = items.clone().map(|name| (name, 0)).collect();
    known.values_mut().enumerate().for_each(|(at, index)| *index = at as u32);
    let indices = items.map(|name| known[name]).collect();
    (known.into_keys().map(str::to_owned).collect(), indices)
}
