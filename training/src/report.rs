//! The figures that `models/metrics.json` and the model card quote.
//!
//! Pure bookkeeping over outcomes. Called by `heads`.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

use std::collections::BTreeMap;

use serde::Serialize;
use waypost_classify::train::{Metrics, Outcome, Prepared, Target, Trained};
use waypost_classify::{Builtin, Gates};

use crate::corpus::Row;

/// What was measured for one classifier.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(skip)]
    builtin: Builtin,
    /// Rows taught, by label and family of sources.
    taught: BTreeMap<&'static str, BTreeMap<String, usize>>,
    parts: BTreeMap<String, Part>,
    /// Share of development prompts whose label survives case, spacing and typing noise.
    unchanged_under_noise: f64,
}

/// One set of texts judged three ways.
#[derive(Debug, Serialize)]
struct Part {
    n: usize,
    ngram: Figures,
    both: Figures,
    cascade: Figures,
    recall: BTreeMap<&'static str, f64>,
    worst: String,
    /// Safety only: area under the ROC curve of 1 - p(benign); recall and false alarms at the 1 % threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<[f64; 3]>,
}

#[derive(Debug, Serialize)]
struct Figures {
    accuracy: f64,
    macro_f1: f64,
    ece: f64,
    escalated: f64,
}

impl Figures {
    fn of(metrics: &Metrics) -> Self {
        Self {
            accuracy: metrics.accuracy,
            macro_f1: metrics.macro_f1,
            ece: metrics.ece,
            escalated: metrics.escalated,
        }
    }
}

impl Report {
    pub(crate) fn new(builtin: Builtin) -> Self {
        Self { builtin, taught: BTreeMap::new(), parts: BTreeMap::new(), unchanged_under_noise: 0.0 }
    }

    /// Notes how many labels survive noise.
    pub(crate) fn stability(&mut self, share: f64) {
        self.unchanged_under_noise = share;
    }

    /// Counts the rows that teach.
    pub(crate) fn rows(&mut self, rows: &[Row], targets: &[Target]) {
        for (row, target) in rows.iter().zip(targets) {
            if let Some(label) = target.label {
                let label = self.builtin.labels()[label as usize];
                *self.taught.entry(label).or_default().entry(row.family().to_owned()).or_default() += 1;
            }
        }
    }

    /// Judges the texts at `at` by tier 0, by both tiers, and by the cascade.
    pub(crate) fn part(
        &mut self,
        name: &str,
        trained: &Trained,
        data: &Prepared,
        targets: &[Target],
        at: &[usize],
        gates: &Gates,
    ) {
        let outcomes = |gates: &Gates| trained.outcomes(data, targets, at, gates);
        let judged = outcomes(gates);
        if judged.is_empty() {
            return;
        }
        let cascade = Metrics::of(&judged);
        let part = Part {
            n: cascade.n,
            ngram: Figures::of(&Metrics::of(&outcomes(&gates.never_asking()))),
            both: Figures::of(&Metrics::of(&outcomes(&gates.always_asking()))),
            cascade: Figures::of(&cascade),
            recall: self.recall(&cascade),
            worst: self.worst(&cascade),
            alarm: (self.builtin == Builtin::Safety).then(|| alarm(&judged, gates)),
        };
        self.parts.insert(name.to_owned(), part);
    }

    fn recall(&self, metrics: &Metrics) -> BTreeMap<&'static str, f64> {
        let occurs = |label: &usize| {
            metrics.confusion.counts.get(*label).is_some_and(|row| row.iter().sum::<usize>() > 0)
        };
        let labels = self.builtin.labels().iter().enumerate();
        labels
            .filter(|(label, _)| occurs(label))
            .map(|(label, name)| (*name, metrics.confusion.scores(label)[1]))
            .collect()
    }

    /// The three commonest mistakes.
    fn worst(&self, metrics: &Metrics) -> String {
        let labels = self.builtin.labels();
        let mut mistakes: Vec<(usize, String)> = Vec::new();
        for (right, row) in metrics.confusion.counts.iter().enumerate() {
            for (given, &count) in
                row.iter().enumerate().filter(|(given, count)| *given != right && **count > 0)
            {
                mistakes.push((count, format!("{} as {} {count}", labels[right], labels[given])));
            }
        }
        mistakes.sort_by(|a, b| b.cmp(a));
        mistakes.into_iter().take(3).map(|(_, text)| text).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn print(&self, gates: &Gates) {
        println!("\n## {}\n{gates:?}", self.builtin.name());
        println!("unchanged under noise {:.3}", self.unchanged_under_noise);
        for (name, part) in &self.parts {
            println!(
                "{name:<20} {:>6}  ngram {:.3} (ECE {:.3})  both {:.3} ({:.3})  cascade {:.3} ({:.3}) F1 {:.3} at {:.0}%  {}{}",
                part.n,
                part.ngram.accuracy,
                part.ngram.ece,
                part.both.accuracy,
                part.both.ece,
                part.cascade.accuracy,
                part.cascade.ece,
                part.cascade.macro_f1,
                part.cascade.escalated * 100.0,
                part.worst,
                part.alarm.map_or_else(String::new, |[auc, recall, rate]| {
                    format!("  AUC {auc:.3}, recall {recall:.3} at {rate:.3}")
                }),
            );
        }
    }
}

fn alarm(outcomes: &[Outcome], gates: &Gates) -> [f64; 3] {
    let threshold = |escalated: bool| {
        let alarm = gates.alarms.iter().find(|a| a.rate >= 0.01);
        alarm.map_or(0.5, |a| if escalated { a.encoder } else { a.ngram })
    };
    let scores: Vec<(f32, bool, bool)> = outcomes
        .iter()
        .map(|o| {
            let score = 1.0 - o.probabilities[0];
            (score, o.label != 0, score > threshold(o.escalated))
        })
        .collect();
    let share = |attack: bool| {
        let of: Vec<_> = scores.iter().filter(|s| s.1 == attack).collect();
        of.iter().filter(|s| s.2).count() as f64 / of.len().max(1) as f64
    };
    [auc(&scores), share(true), share(false)]
}

/// The chance that an attack scores higher than a harmless prompt.
fn auc(scores: &[(f32, bool, bool)]) -> f64 {
    let mut sorted: Vec<&(f32, bool, bool)> = scores.iter().collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins, mut attacks) = (0.0, 0.0, 0.0);
    for tie in sorted.chunk_by(|a, b| a.0 == b.0) {
        let harmless = tie.iter().filter(|s| !s.1).count() as f64;
        let hostile = tie.len() as f64 - harmless;
        wins += hostile * (below + harmless / 2.0);
        below += harmless;
        attacks += hostile;
    }
    if below * attacks > 0.0 { wins / (below * attacks) } else { f64::NAN }
}
