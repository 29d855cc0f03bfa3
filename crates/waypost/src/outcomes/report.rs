//! Measured routing, in words and tables.
//!
//! Pure. Called by `train --outcomes` for the card and the last word, and by `eval --outcomes`.

use std::fmt::Write as _;

use super::measure::{Interval, Measured, Rule, Way};
use crate::table::percent;

/// A difference of shares, in points with its interval.
fn points(interval: Interval) -> String {
    let Interval { value, low, high } = interval;
    format!("{:+.1} [{:+.1}, {:+.1}]", value * 100.0, low * 100.0, high * 100.0)
}

fn with_interval(interval: Interval) -> String {
    format!("{:.3} [{:.3}, {:.3}]", interval.value, interval.low, interval.high)
}

impl Measured {
    fn cost(&self, cost: f64) -> String {
        if self.cost_unit.starts_with("USD") { format!("{cost:.6}") } else { percent(cost) }
    }

    /// What the gain in quality means, in words.
    fn verdict(&self) -> String {
        let Interval { value, low, high } = self.best_quality.gain;
        let single = &self.best_single;
        if value == 0.0 && low == 0.0 && high == 0.0 {
            format!("no gain in quality: every prompt goes to {single}, or as good a model")
        } else if low > 0.0 {
            format!("a gain in quality over always taking {single}")
        } else if high < 0.0 {
            format!("a loss of quality against always taking {single}")
        } else {
            format!("no certain gain in quality over always taking {single}")
        }
    }
}

/// The line a person reads at the end.
pub(crate) fn summary(measured: &Measured, how: &str) -> String {
    let rule = &measured.best_quality;
    format!(
        "on {} prompts held out {how}: {}, {} against {}, {} points",
        measured.n,
        measured.verdict(),
        percent(rule.quality),
        percent(rule.quality - rule.gain.value),
        points(rule.gain)
    )
}

/// A Markdown table of all ways to choose.
fn rule_table(measured: &Measured) -> String {
    let mut out = format!(
        "| always, or by rule | quality | {} | to the best single model: quality, points | cost saved |\n|---|---|---|---|---|\n",
        measured.cost_unit
    );
    let plain = |out: &mut String, way: &Way, name: &str| {
        let _ = writeln!(out, "| {name} | {} | {} | | |", percent(way.quality), measured.cost(way.cost));
    };
    for single in &measured.singles {
        let name = super::report::cell(&single.name);
        let best = if single.name == measured.best_single { " (best single)" } else { "" };
        plain(&mut out, single, &format!("always {name}{best}"));
    }
    plain(&mut out, &measured.random, "random");
    let rules =
        std::iter::once(&measured.best_quality).chain(&measured.tolerances).chain(&measured.equal_quality);
    for rule in rules {
        let Rule { name, quality, cost, gain, saving, .. } = rule;
        let _ = writeln!(
            out,
            "| **{name}** | {} | {} | {} | {:.0} % [{:.0}, {:.0}] |",
            percent(*quality),
            measured.cost(*cost),
            points(*gain),
            saving.value * 100.0,
            saving.low * 100.0,
            saving.high * 100.0
        );
    }
    plain(&mut out, &measured.oracle, "oracle (the cheapest that is right, known beforehand)");
    out
}

/// Everything, for a person.
pub(crate) fn shown(measured: &Measured) -> String {
    let mut out = rule_table(measured);
    let curve = &measured.curve;
    let _ = writeln!(
        out,
        "\nMean quality over all costs: {}; by sharing out prompts at random {:.3}.",
        with_interval(curve.area),
        curve.area_without_learning
    );
    if let Some(pair) = &measured.pair {
        let _ = writeln!(
            out,
            "{} against {}: APGR {} (random 0.5), CPT50 {}, CPT80 {}.",
            pair.strong,
            pair.weak,
            with_interval(pair.apgr),
            share(pair.cpt50),
            share(pair.cpt80)
        );
    }
    out
}

fn share(interval: Interval) -> String {
    let Interval { value, low, high } = interval;
    format!("{:.1} % [{:.1}, {:.1}]", value * 100.0, low * 100.0, high * 100.0)
}

/// Text that stays within its cell of a table.
pub(crate) fn cell(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|")
}
