//! The figures of one classifier: as an object for scripts, as text for people, with what to be wary of.
//!
//! Pure. Called by `eval`; `train` shares the list of confusions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use waypost_classify::train::{Metrics, Outcome};

use super::judge::{Answer, Judged};
use super::percent;
use super::safety::Safety;
use crate::data::Table;

/// Confusions that are listed.
const SHOWN: usize = 10;
/// Names shown of a list of unknown labels.
const SHOWN_NAMES: usize = 20;
/// Longest label name shown in full in a table, in characters.
const NAME_WIDTH: usize = 64;

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) classifier: String,
    pub(super) n: usize,
    pub(super) accuracy: f64,
    pub(super) macro_f1: f64,
    /// Absent for a server that names no confidence.
    pub(super) ece: Option<f64>,
    /// Microseconds a prompt, half of them at most this.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Absent for a server, which does not say.
    pub(super) escalated: Option<f64>,
    pub(super) labels: BTreeMap<Arc<str>, Label>,
    /// The commonest first.
    confusions: Vec<Confusion>,
    /// Rows that could not be used.
    skipped: usize,
    /// Rows a server gave no answer for; they count in no other figure.
    failed: usize,
    #[serde(skip)]
    failure: Option<String>,
    /// Labels of the data the classifier does not know, with their rows, all counted as wrong.
    unknown_labels: BTreeMap<Arc<str>, usize>,
    /// The classifier names a label and no confidence.
    one_hot: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety: Option<Safety>,
    /// The classifier's labels, then the unknown ones.
    #[serde(skip)]
    pub(super) all_labels: Vec<Arc<str>>,
    #[serde(skip)]
    pub(super) metrics: Metrics,
}

/// How one label fares.
#[derive(Debug, Serialize)]
pub(super) struct Label {
    n: usize,
    precision: f64,
    recall: f64,
    f1: f64,
}

/// Rows of a label that were given another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Confusion {
    pub(crate) label: String,
    pub(crate) taken_for: String,
    pub(crate) n: usize,
    /// Rows of the label.
    pub(crate) of: usize,
}

/// The commonest confusions, at most `most`.
pub(crate) fn confusions(metrics: &Metrics, labels: &[impl AsRef<str>], most: usize) -> Vec<Confusion> {
    let counts = &metrics.confusion.counts;
    let name =
        |label: usize| labels.get(label).map_or_else(|| format!("#{label}"), |l| l.as_ref().to_owned());
    let mut out = Vec::new();
    for (right, row) in counts.iter().enumerate() {
        let of = row.iter().sum();
        for (given, &n) in row.iter().enumerate().filter(|&(given, n)| given != right && *n > 0) {
            out.push(Confusion { label: name(right), taken_for: name(given), n, of });
        }
    }
    out.sort_by_key(|confusion| std::cmp::Reverse(confusion.n));
    out.truncate(most);
    out
}

impl Report {
    pub(super) fn of(judged: &Judged, table: &Table) -> Self {
        let mut all_labels = judged.labels.clone();
        let mut index: BTreeMap<Arc<str>, usize> =
            judged.labels.iter().enumerate().map(|(at, label)| (Arc::clone(label), at)).collect();
        let mut unknown_labels: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut answered: Vec<(usize, &Answer)> = Vec::new();
        for (row, answer) in table.rows.iter().zip(&judged.answers) {
            let Some(answer) = answer else { continue };
            let label = match index.get(row.label.as_str()) {
                Some(&label) => label,
                None => {
                    let name: Arc<str> = row.label.as_str().into();
                    index.insert(Arc::clone(&name), all_labels.len());
                    all_labels.push(name);
                    all_labels.len() - 1
                }
            };
            if label >= judged.labels.len() {
                *unknown_labels.entry(Arc::clone(&all_labels[label])).or_default() += 1;
            }
            let (probabilities, escalated) = (answer.probabilities.clone(), answer.escalated);
            outcomes.push(Outcome { probabilities, label, escalated });
            answered.push((label, answer));
        }
        let metrics = Metrics::of(&outcomes);
        let [p50_us, p99_us] = percentiles(answered.iter().map(|(_, answer)| answer.micros).collect());
        let label = |(at, name): (usize, &Arc<str>)| {
            let n = metrics.confusion.counts.get(at)?.iter().sum();
            let [precision, recall, f1] = metrics.confusion.scores(at);
            Some((Arc::clone(name), Label { n, precision, recall, f1 }))
        };
        Self {
            classifier: judged.name.clone(),
            n: metrics.n,
            accuracy: metrics.accuracy,
            macro_f1: metrics.macro_f1,
            ece: (!judged.one_hot).then_some(metrics.ece),
            p50_us,
            p99_us,
            escalated: (!judged.served).then_some(metrics.escalated),
            labels: all_labels.iter().enumerate().filter_map(label).collect(),
            confusions: confusions(&metrics, &all_labels, SHOWN),
            skipped: table.left_out.rows,
            failed: table.rows.len() - answered.len(),
            failure: judged.failure.clone(),
            unknown_labels,
            one_hot: judged.one_hot,
            safety: Safety::of(&judged.labels, &judged.alarms, &answered),
            all_labels,
            metrics,
        }
    }

    /// Whether any row's label is one of the classifier's, or no row was judged.
    pub(super) fn knows_any(&self) -> bool {
        self.n == 0 || self.unknown_labels.values().sum::<usize>() < self.n
    }

    /// What to be wary of, a line each.
    pub(super) fn warnings(&self) -> String {
        let mut out = String::new();
        if !self.unknown_labels.is_empty() {
            let rows: usize = self.unknown_labels.values().sum();
            let names: Vec<String> = self
                .unknown_labels
                .iter()
                .take(SHOWN_NAMES)
                .map(|(name, n)| format!("'{name}' ({n} {})", if *n == 1 { "row" } else { "rows" }))
                .collect();
            let more = match self.unknown_labels.len().saturating_sub(SHOWN_NAMES) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let _ = writeln!(
                out,
                "warning: {} does not know {}{more}; these {rows} of {} rows count as wrong",
                self.classifier,
                names.join(", "),
                self.n
            );
        }
        if let Some(failure) = &self.failure {
            let _ = writeln!(
                out,
                "warning: {} gave no answer for {} rows, which count in no figure; the first time: {failure}",
                self.classifier, self.failed
            );
        }
        if self.one_hot {
            let _ = writeln!(
                out,
                "warning: {} names a label without a confidence; it has no ECE",
                self.classifier
            );
        }
        out
    }

    /// For a person.
    pub(super) fn shown(&self) -> String {
        let mut out = format!("{}\n", self.classifier);
        for (name, value) in self.headline() {
            let _ = writeln!(out, "  {name:<12} {value}");
        }
        if let Some(safety) = &self.safety {
            out.push_str(&safety.shown());
        }
        let width =
            self.labels.keys().map(|name| name.chars().count()).max().unwrap_or(0).clamp(5, NAME_WIDTH);
        let _ = writeln!(
            out,
            "\n  {:<width$} {:>7} {:>9} {:>7} {:>6}",
            "label", "rows", "precision", "recall", "F1"
        );
        for (name, Label { n, precision, recall, f1 }) in &self.labels {
            let _ = writeln!(out, "  {name:<width$} {n:>7} {precision:>9.3} {recall:>7.3} {f1:>6.3}");
        }
        if !self.confusions.is_empty() {
            out.push_str("\n  commonest mistakes\n");
        }
        for Confusion { label, taken_for, n, of } in &self.confusions {
            let _ = writeln!(out, "  {n:>5} of {of:<6} {label} taken for {taken_for}");
        }
        out
    }

    /// The figures one looks at first.
    pub(super) fn headline(&self) -> [(&'static str, String); 7] {
        [
            ("rows", self.n.to_string()),
            ("accuracy", percent(self.accuracy)),
            ("macro-F1", percent(self.macro_f1)),
            ("ECE", self.ece.map_or_else(|| "-".to_owned(), |ece| format!("{ece:.3}"))),
            ("p50", format!("{:.0} us", self.p50_us)),
            ("p99", format!("{:.0} us", self.p99_us)),
            ("escalated", self.escalated.map_or_else(|| "-".to_owned(), percent)),
        ]
    }
}

/// The 50th and the 99th percentile; zero of nothing.
pub(super) fn percentiles(mut micros: Vec<f64>) -> [f64; 2] {
    micros.sort_by(f64::total_cmp);
    [0.5, 0.99].map(|share| {
        let rank = (micros.len() as f64 * share).ceil() as usize;
        micros.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Row;

    fn report(rows: &[(&str, Option<[f32; 2]>)]) -> Report {
        let mut table = Table::default();
        let row = |label: &str| Row { text: "t".into(), label: label.into(), source: None, line: 1 };
        table.rows = rows.iter().map(|(label, _)| row(label)).collect();
        let answer = |p: [f32; 2]| Answer {
            probabilities: p.to_vec(),
            given: usize::from(p[1] > p[0]),
            escalated: p[0] < 0.6,
            micros: f64::from(p[0]),
        };
        let judged = Judged {
            name: "c".into(),
            labels: vec!["a".into(), "b".into()],
            answers: rows.iter().map(|(_, p)| p.map(answer)).collect(),
            failure: None,
            alarms: Vec::new(),
            one_hot: false,
            served: false,
        };
        Report::of(&judged, &table)
    }

    #[test]
    fn labels_the_classifier_does_not_know_count_as_wrong_and_are_named() {
        let report =
            report(&[("a", Some([0.9, 0.1])), ("b", Some([0.8, 0.2])), ("z", Some([0.5, 0.5])), ("a", None)]);
        assert_eq!((report.n, report.failed), (3, 1));
        assert!(
            (report.accuracy - 1.0 / 3.0).abs() < 1e-9
                && report.escalated.is_some_and(|share| (share - 1.0 / 3.0).abs() < 1e-9)
        );
        assert!((report.macro_f1 - 0.5 / 3.0).abs() < 1e-9, "a: 1/3 precision, recall 1; b and z: 0");
        assert!(report.warnings().contains("c does not know 'z' (1 row); these 1 of 3 rows count as wrong"));
        assert_eq!(report.confusions[0], Confusion { label: "b".into(), taken_for: "a".into(), n: 1, of: 1 });
        let object = serde_json::json!(report);
        for key in ["n", "accuracy", "macro_f1", "ece", "p50_us", "p99_us", "escalated"] {
            assert!(object[key].is_number(), "{key}");
        }
        assert_eq!(object["labels"]["z"]["n"], 1);
    }

    #[test]
    fn percentiles_are_measured_values() {
        assert_eq!(percentiles((1..=100).map(f64::from).collect()), [50.0, 99.0]);
        assert_eq!(percentiles(vec![7.0]), [7.0, 7.0]);
        assert_eq!(percentiles(Vec::new()), [0.0, 0.0]);
    }
}
