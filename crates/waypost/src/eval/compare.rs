//! Two classifiers side by side, and the rows that only one of them got right (McNemar's counts).
//!
//! Pure. Called by `eval`.

use std::fmt::Write as _;

use super::judge::Judged;
use super::report::Report;
use crate::data::Row;

/// Rows that exactly one got right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Only {
    pub(super) a: usize,
    pub(super) b: usize,
}

/// Counts over the rows that both answered.
pub(super) fn only_one_right(a: &Judged, b: &Judged, rows: &[Row]) -> Only {
    let mut only = Only { a: 0, b: 0 };
    for (row, (first, second)) in rows.iter().zip(a.answers.iter().zip(&b.answers)) {
        let (Some(first), Some(second)) = (first, second) else { continue };
        match (*a.labels[first.given] == *row.label, *b.labels[second.given] == *row.label) {
            (true, false) => only.a += 1,
            (false, true) => only.b += 1,
            _ => {}
        }
    }
    only
}

/// For a person.
pub(super) fn shown(a: &Report, b: &Report, only: Only) -> String {
    let width = a.classifier.chars().count().max(12);
    let mut out = format!("{:<14} {:>width$}  {}\n", "", a.classifier, b.classifier);
    for ((name, first), (_, second)) in a.headline().into_iter().zip(b.headline()) {
        let _ = writeln!(out, "{name:<14} {first:>width$}  {second}");
    }
    let _ = writeln!(out, "{:<14} {:>width$}  {}", "only this right", only.a, only.b);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::judge::Answer;

    #[test]
    fn rows_are_compared_by_name_and_only_where_both_answered() {
        let judged = |labels: [&str; 2], given: &[Option<usize>]| Judged {
            name: "c".into(),
            labels: labels.map(Into::into).to_vec(),
            answers: given
                .iter()
                .map(|given| {
                    given.map(|given| Answer {
                        probabilities: vec![0.5, 0.5],
                        given,
                        escalated: false,
                        micros: 1.0,
                    })
                })
                .collect(),
            failure: None,
            alarms: Vec::new(),
            one_hot: false,
            served: false,
        };
        let row = |label: &str| Row { text: "t".into(), label: label.into(), source: None, line: 1 };
        let rows = ["x", "x", "y", "z", "x"].map(row);
        let a = judged(["x", "y"], &[Some(0), Some(0), Some(0), Some(0), Some(0)]);
        let b = judged(["y", "x"], &[Some(1), Some(0), Some(0), Some(0), None]);
        assert_eq!(only_one_right(&a, &b, &rows), Only { a: 1, b: 1 });
    }
}
