//! What training found, as the model card, as figures for scripts, and in one line.
//!
//! Holds no date, path or machine name: the same rows and seed give the same text. Pure. Called by `train`.

use std::fmt::Write as _;

use serde_json::json;
use waypost_classify::Gates;
use waypost_classify::train::Metrics;

use super::checks;
use super::split::Split;
use super::thresholds::{PRECISION, Threshold};
use crate::eval::confusions;

/// Up to so many labels the whole confusion table is shown.
const FULL_TABLE: usize = 20;
/// Beyond, so many of the worst confusions.
const WORST: usize = 20;

/// Everything there is to say about a trained classifier.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    pub(crate) name: String,
    /// The data file's own name.
    pub(crate) file: String,
    pub(crate) rows: usize,
    pub(crate) skipped: usize,
    pub(crate) names: &'a [String],
    /// Rows per label.
    pub(crate) counts: Vec<usize>,
    pub(crate) split: &'a Split,
    pub(crate) sources: &'a [String],
    pub(crate) warnings: &'a [String],
    /// The cascade on the test part.
    pub(crate) metrics: Metrics,
    /// Tier 0 alone.
    pub(crate) ngram: Metrics,
    /// Both tiers for every text; `None` without the encoder.
    pub(crate) both: Option<Metrics>,
    pub(crate) gates: &'a Gates,
    pub(crate) floor: Option<Threshold>,
    /// Per label.
    pub(crate) thresholds: Vec<Option<Threshold>>,
    /// Fingerprint of the encoder it belongs to.
    pub(crate) encoder: &'a str,
    pub(crate) seed: u64,
}

impl Findings<'_> {
    /// The line a person reads at the end.
    pub(crate) fn summary(&self, out: &std::path::Path) -> String {
        let Metrics { n, accuracy, macro_f1, ece, .. } = &self.metrics;
        if *n == 0 {
            let labels = self.names.len();
            return format!(
                "{}: {labels} labels; too few rows to hold any out, nothing was measured",
                out.display()
            );
        }
        format!(
            "{}: {} labels; on {n} rows held out {}: accuracy {accuracy:.3}, macro-F1 {macro_f1:.3}, ECE {ece:.3}",
            out.display(),
            self.names.len(),
            if self.split.test_sources.is_empty() { "at random" } else { "by source" }
        )
    }

    pub(crate) fn labels_json(&self) -> String {
        let labels: Vec<_> = self
            .names
            .iter()
            .enumerate()
            .map(|(at, name)| json!({"label": name, "rows": self.counts[at], "threshold": self.thresholds[at]}))
            .collect();
        pretty(&json!({ "name": self.name, "floor": self.floor, "labels": labels }))
    }

    pub(crate) fn metrics_json(&self) -> String {
        // Nothing measured is not the same as nothing right.
        let known = |figure: f64| (self.metrics.n > 0).then_some(figure);
        let short = |m: &Metrics| json!({"accuracy": known(m.accuracy), "macro_f1": known(m.macro_f1), "ece": known(m.ece)});
        let split = self.split;
        pretty(&json!({
            "name": self.name, "waypost": env!("CARGO_PKG_VERSION"), "encoder": self.encoder, "seed": self.seed,
            "rows": self.rows, "skipped": self.skipped, "warnings": self.warnings,
            "split": {
                "by": if split.test_sources.is_empty() { "random" } else { "source" },
                "train": split.train.len(), "calibration": split.calibration.len(), "test": split.test.len(),
                "calibration_is_test": split.shared,
                "test_sources": self.named(&split.test_sources), "calibration_sources": self.named(&split.calibration_sources),
            },
            "n": self.metrics.n, "accuracy": known(self.metrics.accuracy), "macro_f1": known(self.metrics.macro_f1),
            "ece": known(self.metrics.ece), "escalated": known(self.metrics.escalated), "bins": self.metrics.bins,
            "ngram_alone": short(&self.ngram), "encoder_always": self.both.as_ref().map(short),
            "gates": self.gates, "floor": self.floor,
            "confusions": confusions(&self.metrics, self.names, usize::MAX),
        }))
    }

    /// The model card, in Markdown. Writing to a string cannot fail.
    pub(crate) fn card(&self) -> String {
        let mut out = format!(
            "# Model card: {}\n\nA classifier of {} trained by `waypost train` {} (encoder {}, seed {}).\n\n",
            line(&self.name),
            checks::count(self.names.len(), "label"),
            env!("CARGO_PKG_VERSION"),
            self.encoder,
            self.seed
        );
        self.data(&mut out);
        self.figures(&mut out);
        self.gates(&mut out);
        self.confusion(&mut out);
        self.labels(&mut out);
        out
    }

    fn data(&self, out: &mut String) {
        let _ = write!(out, "## Data\n\n{} of `{}`", checks::count(self.rows, "row"), line(&self.file));
        let _ = writeln!(
            out,
            "{}.\n",
            if self.skipped > 0 { format!("; {} left out", self.skipped) } else { String::new() }
        );
        if self.split.test.is_empty() {
            out.push_str("* Too few rows to hold any out: nothing was measured or calibrated.\n");
        } else {
            self.held_out(out);
        }
        self.warnings.iter().for_each(|warning| {
            let _ = writeln!(out, "* Warning: {}.", line(warning));
        });
        out.push('\n');
    }

    fn held_out(&self, out: &mut String) {
        let Split { train, calibration, test, shared, test_sources, calibration_sources, .. } = self.split;
        let named = |sources: &[u32]| line(&checks::list(&self.named(sources)));
        let how = match test_sources.as_slice() {
            [] => "at random, every label giving its share. **Random splits flatter**: prompts of other origin will be answered worse".to_owned(),
            sources => format!("by source: {} ({})", named(sources), checks::count(sources.len(), "source")),
        };
        let _ = writeln!(out, "* {} held out to test, {how}.", checks::count(test.len(), "row"));
        if *shared {
            out.push_str("* Too few rows for a calibration part: the gates were fitted on the test rows, so that **accuracy and ECE below flatter**.\n");
        } else {
            let how = match calibration_sources.as_slice() {
                [] => "at random from the rest".to_owned(),
                sources => format!("by source: {}", named(sources)),
            };
            let _ = writeln!(out, "* {} to calibrate, {how}.", checks::count(calibration.len(), "row"));
        }
        let _ = writeln!(
            out,
            "* {} to train for these figures; the weights in this folder were then trained on all {}.",
            checks::count(train.len(), "row"),
            self.rows
        );
    }

    /// The names of sources; rows without one count as one.
    fn named(&self, sources: &[u32]) -> Vec<&str> {
        let name = |source: &u32| match self.sources[*source as usize].as_str() {
            "" => "(none)",
            name => name,
        };
        sources.iter().map(name).collect()
    }

    fn figures(&self, out: &mut String) {
        out.push_str("## Figures\n\n");
        if self.metrics.n == 0 {
            out.push_str("None: with so few rows none could be held out.\n\n");
            return;
        }
        out.push_str("| | accuracy | macro-F1 | ECE (15 bins) |\n|---|---|---|---|\n");
        let mut row = |name: &str, m: &Metrics| {
            let _ = writeln!(out, "| {name} | {:.3} | {:.3} | {:.3} |", m.accuracy, m.macro_f1, m.ece);
        };
        match &self.both {
            None => row("**n-grams** (trained without the encoder)", &self.metrics),
            Some(both) => {
                row("**as it answers** (encoder where in doubt)", &self.metrics);
                row("n-grams alone", &self.ngram);
                row("encoder always", both);
            }
        }
        let _ = writeln!(
            out,
            "\nMeasured on {}; the encoder was asked for {:.1} %. `reliability.svg` and `confusion.svg` show the same rows.\n",
            checks::count(self.metrics.n, "row"),
            self.metrics.escalated * 100.0
        );
    }

    fn gates(&self, out: &mut String) {
        let gates = self.gates;
        out.push_str("## When it is believed\n\n");
        let _ = writeln!(
            out,
            "* n-gram scores are divided by {:.3} (temperature), so that confidence means what it says.",
            gates.temperature
        );
        if self.both.is_some() && gates.encoder_weight == 0.0 {
            out.push_str("* The encoder is never asked: on the calibration rows it did not help.\n");
        } else if self.both.is_some() && gates.always_asks() {
            let _ = writeln!(
                out,
                "* The encoder is asked about every prompt: there were too few rows to learn when the n-grams may be believed.\n* Both distributions are averaged, the encoder's with weight {:.2} (temperatures: encoder {:.3}, average {:.3}).",
                gates.encoder_weight, gates.encoder_temperature, gates.blend_temperature
            );
        } else if self.both.is_some() {
            let _ = writeln!(
                out,
                "* The encoder is asked when the n-grams' confidence is below {:.3}, or when more than {:.1} % of a prompt's words and pairs of words were never seen in training.\n* Then both distributions are averaged, the encoder's with weight {:.2} (temperatures: encoder {:.3}, average {:.3}).",
                gates.sure_from,
                gates.familiar_to * 100.0,
                gates.encoder_weight,
                gates.encoder_temperature,
                gates.blend_temperature
            );
        }
        let promise = PRECISION * 100.0;
        let _ = match self.floor {
            Some(floor) => writeln!(
                out,
                "* Suggested confidence floor: **{:.2}**. {:.1} % of the test answers at or above it are right (at least {promise:.0} % was asked for); {:.1} % of all answers are.",
                floor.at,
                floor.precision * 100.0,
                floor.kept * 100.0
            ),
            None => writeln!(out, "* No confidence floor makes {promise:.0} % of the test answers right."),
        };
        out.push('\n');
    }

    fn confusion(&self, out: &mut String) {
        let (n, counts) = (self.names.len(), &self.metrics.confusion.counts);
        if self.metrics.n == 0 {
            return;
        }
        if n > FULL_TABLE {
            let _ =
                writeln!(out, "## Worst confusions\n\n| label | taken for | times | of |\n|---|---|---|---|");
            for confusion in confusions(&self.metrics, self.names, WORST) {
                let (label, given) = (cell(&confusion.label), cell(&confusion.taken_for));
                let _ = writeln!(out, "| {label} | {given} | {} | {} |", confusion.n, confusion.of);
            }
        } else {
            out.push_str(
                "## Confusion table\n\nDown: true label; across: given label, in the same order.\n\n| |",
            );
            for at in 1..=n {
                let _ = write!(out, " {at} |");
            }
            let _ = writeln!(out, "\n|---|{}", "---|".repeat(n));
            for (at, name) in self.names.iter().enumerate() {
                let _ = write!(out, "| {} {} |", at + 1, cell(name));
                for given in 0..n {
                    let count = counts.get(at).and_then(|row| row.get(given)).copied().unwrap_or(0);
                    let _ = write!(out, " {count} |");
                }
                out.push('\n');
            }
        }
        out.push('\n');
    }

    fn labels(&self, out: &mut String) {
        let promise = PRECISION * 100.0;
        let _ = writeln!(
            out,
            "## Labels\n\nThe threshold answers \"is it this one?\": at or above it {promise:.0} % of the test rows are of the label.\n\n| label | rows | precision | recall | F1 | threshold |\n|---|---|---|---|---|---|"
        );
        for (at, name) in self.names.iter().enumerate() {
            let tested =
                self.metrics.confusion.counts.get(at).is_some_and(|row| row.iter().sum::<usize>() > 0);
            let [precision, recall, f1] = if tested {
                self.metrics.confusion.scores(at).map(|score| format!("{score:.2}"))
            } else {
                [const { String::new() }; 3]
            };
            let threshold =
                self.thresholds[at].map_or_else(String::new, |threshold| format!("{:.2}", threshold.at));
            let _ = writeln!(
                out,
                "| {} | {} | {precision} | {recall} | {f1} | {threshold} |",
                cell(name),
                self.counts[at]
            );
        }
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Text that stays within its line.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Text that stays within its cell of a table.
fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}
