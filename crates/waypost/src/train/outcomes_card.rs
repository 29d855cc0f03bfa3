//! What learning from outcomes found, as the card, as figures for scripts, and as the curve's points.
//!
//! Holds no date, path or machine name: the same rows and seed give the same text. Pure. Called by `train --outcomes`.

use std::fmt::Write as _;

use serde_json::json;
use waypost_classify::train::outcomes::{Fitted, Outcomes, Step};

use super::checks;
use crate::outcomes::{Measured, shown};

/// One set of held-out prompts.
pub(super) struct Held {
    /// `at random` or `by source (…)`.
    pub(super) how: String,
    pub(super) taught: usize,
    pub(super) tested: usize,
    /// As it answers.
    pub(super) measured: Measured,
    /// Without the encoder, where that is not the same.
    pub(super) tier0: Option<Measured>,
    pub(super) fitted: Fitted,
}

/// Everything there is to say.
pub(super) struct Findings<'a> {
    pub(super) name: String,
    /// The data file's own name.
    pub(super) file: String,
    pub(super) rows: usize,
    pub(super) skipped: usize,
    pub(super) prompts: usize,
    pub(super) outcomes: &'a Outcomes,
    pub(super) learnt: &'a [usize],
    pub(super) priced: bool,
    pub(super) whole: &'a Fitted,
    /// The first is the headline.
    pub(super) held: &'a [Held],
    pub(super) encoder: &'a str,
    pub(super) seed: u64,
}

impl Findings<'_> {
    /// What is printed.
    pub(super) fn report(&self) -> String {
        self.held
            .iter()
            .map(|held| format!("Held out {}:\n\n{}\n", held.how, shown(&held.measured)))
            .collect()
    }

    pub(super) fn metrics_json(&self) -> String {
        let held = |held: &Held| {
            json!({
                "split": held.how, "taught": held.taught, "tested": held.tested,
                "measured": held.measured, "tier0": held.tier0,
                "parts": held.fitted.parts, "gain_on_folds": held.fitted.gain,
            })
        };
        let means = self.outcomes.means(self.learnt);
        let models: Vec<_> = self
            .outcomes
            .models
            .iter()
            .zip(means)
            .map(|(name, mean)| json!({"name": name, "quality": mean}))
            .collect();
        pretty(&json!({
            "name": self.name, "waypost": env!("CARGO_PKG_VERSION"), "encoder": self.encoder, "seed": self.seed,
            "rows": self.rows, "skipped": self.skipped, "prompts": self.prompts, "models": models, "priced": self.priced,
            "held_out": self.held.iter().map(held).collect::<Vec<_>>(),
            "advice": self.whole.advice, "parts": self.whole.parts, "steps": self.whole.steps, "gain_on_folds": self.whole.gain,
        }))
    }

    pub(super) fn curve_json(&self) -> String {
        let curve = |held: &Held| {
            let Measured { cost_unit, singles, random, oracle, curve, .. } = &held.measured;
            json!({
                "split": held.how, "cost_unit": cost_unit, "points": curve.points, "area": curve.area,
                "area_without_learning": curve.area_without_learning, "singles": singles, "random": random, "oracle": oracle,
            })
        };
        pretty(&json!(self.held.iter().map(curve).collect::<Vec<_>>()))
    }

    /// The card, in Markdown. Writing to a string cannot fail.
    pub(super) fn card(&self) -> String {
        let mut out = format!(
            "# Card: {}\n\nWhich of {} does well on what, learnt by `waypost train --outcomes` {} (encoder {}, seed {}).\n\n**{}**\n\n",
            line(&self.name),
            checks::count(self.outcomes.models.len(), "model"),
            env!("CARGO_PKG_VERSION"),
            self.encoder,
            self.seed,
            self.whole.advice
        );
        self.data(&mut out);
        for held in self.held {
            let _ = writeln!(
                out,
                "## Figures, held out {}\n\nLearnt from {}, measured on {} others.{}\n\n{}",
                line(&held.how),
                checks::count(held.taught, "prompt"),
                held.tested,
                if held.how == "at random" {
                    " **Random splits flatter**: prompts of other origin will be answered worse."
                } else {
                    ""
                },
                shown(&held.measured)
            );
            if let Some(tier0) = &held.tier0 {
                let _ = writeln!(
                    out,
                    "Without the encoder: the best expected {:.1} %, area {:.3}.\n",
                    tier0.best_quality.quality * 100.0,
                    tier0.curve.area.value
                );
            }
        }
        if self.held.is_empty() {
            out.push_str(
                "## Figures\n\nNone: too few prompts with the outcomes of all models could be held out.\n\n",
            );
        }
        self.parts(&mut out);
        out
    }

    fn data(&self, out: &mut String) {
        let skipped = if self.skipped > 0 { format!("; {} left out", self.skipped) } else { String::new() };
        let _ = writeln!(
            out,
            "## Data\n\n{} of `{}`{skipped}: {}. Costs are {}.\n\n| model | mean quality |\n|---|---|",
            checks::count(self.rows, "row"),
            line(&self.file),
            checks::count(self.prompts, "prompt"),
            if self.priced {
                "in USD, from the prices given"
            } else {
                "calls of the best single model, for no prices were given"
            }
        );
        for (name, mean) in self.outcomes.models.iter().zip(self.outcomes.means(self.learnt)) {
            let _ = writeln!(out, "| {} | {:.1} % |", line(name).replace('|', "\\|"), mean * 100.0);
        }
        out.push('\n');
    }

    fn parts(&self, out: &mut String) {
        out.push_str(
            "## What it learnt\n\nEach part was fitted on four fifths of the prompts and judged by the last fifth, in turns. *Explained* is the share of the variance of differences between models; *errors* by how many standard errors the part lowered what is left.\n\n| encoder | part | explained | errors | quality of the best expected | weight |\n|---|---|---|---|---|---|\n",
        );
        for step in &self.whole.steps {
            let Step { tier, part, explained, errors, quality, kept } = *step;
            let blend = if tier == 0 { &self.whole.parts.tier0 } else { &self.whole.parts.tier1 };
            let weight = blend.weight(part);
            let _ = writeln!(
                out,
                "| {} | {} | {:.1} % | {errors:+.1} | {:.1} % | {} |",
                if tier == 0 { "no" } else { "yes" },
                part.name(),
                explained * 100.0,
                quality * 100.0,
                if kept && weight > 0.0 { format!("{weight:.2}") } else { "not used".to_owned() }
            );
        }
        let gain = &self.whole.gain;
        let _ = writeln!(
            out,
            "\nThe parts used count alike; their average is multiplied by {:.2}, which fits best. {}",
            gain.scale,
            if gain.others_may_lead {
                "Others than the best single model may be expected to be best."
            } else {
                "No model is ever expected to be better than the best single one: that did not certainly pay on prompts not taught."
            }
        );
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Text that stays within its line.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
