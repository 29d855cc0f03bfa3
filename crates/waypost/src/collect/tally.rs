//! What came of asking, model by model: shares of right answers, cost, time, and what failed.
//!
//! Rows that were in the file before count, too. Part of `collect`.

use super::ask::Asked;
use super::rows::Row;
use crate::table::{Table, or_dash, percent, usd};
use std::fmt::Write;
use waypost_config::Price;

/// Different failures told of, for each model.
const REASONS: usize = 3;
/// Latencies kept for the median, for each model.
const MAX_LATENCIES: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Tally {
    models: Vec<Tallied>,
}

#[derive(Debug)]
struct Tallied {
    name: String,
    price: Option<Price>,
    rows: u64,
    score: f64,
    /// Rows with tokens, and what they cost.
    priced: u64,
    cost: f64,
    latencies: Vec<f32>,
    cut: u64,
    unjudged: u64,
    failed: u64,
    given_up: u64,
    failed_in_a_row: u64,
    reasons: Vec<(String, u64)>,
}

impl Tally {
    pub(super) fn new(models: &[Asked]) -> Self {
        let tallied = |asked: &Asked| Tallied {
            name: asked.model.name.to_string(),
            price: asked.model.price,
            rows: 0,
            score: 0.0,
            priced: 0,
            cost: 0.0,
            latencies: Vec::new(),
            cut: 0,
            unjudged: 0,
            failed: 0,
            given_up: 0,
            failed_in_a_row: 0,
            reasons: Vec::new(),
        };
        Self { models: models.iter().map(tallied).collect() }
    }

    /// A row of the file, of now or before.
    pub(super) fn row(&mut self, row: &Row<'_>) {
        let Some(of) = self.models.iter_mut().find(|of| of.name == row.model) else { return };
        of.rows += 1;
        of.score += row.score;
        if let (Some(price), Some(prompt), Some(completion)) =
            (of.price, row.prompt_tokens, row.completion_tokens)
        {
            of.priced += 1;
            of.cost += price.cost_usd(prompt, completion);
        }
        if let Some(latency) = row.latency_ms.filter(|_| of.latencies.len() < MAX_LATENCIES) {
            of.latencies.push(latency as f32);
        }
    }

    pub(super) fn answered(&mut self, model: usize, cut: bool) {
        let of = &mut self.models[model];
        of.failed_in_a_row = 0;
        of.cut += u64::from(cut);
    }

    pub(super) fn unjudged(&mut self, model: usize) {
        let of = &mut self.models[model];
        of.failed_in_a_row = 0;
        of.unjudged += 1;
    }

    pub(super) fn failure(&mut self, model: usize, reason: &str) {
        let of = &mut self.models[model];
        of.failed += 1;
        of.failed_in_a_row += 1;
        if let Some((_, count)) = of.reasons.iter_mut().find(|(known, _)| known == reason) {
            *count += 1;
        } else if of.reasons.len() < REASONS {
            of.reasons.push((reason.to_owned(), 1));
        }
    }

    /// It is not asked, because it only failed lately.
    pub(super) fn given_up(&mut self, model: usize) {
        self.models[model].given_up += 1;
    }

    pub(super) fn failing(&self, model: usize) -> u64 {
        self.models[model].failed_in_a_row
    }

    pub(super) fn failed(&self) -> u64 {
        self.models.iter().map(|of| of.failed + of.given_up).sum()
    }

    pub(super) fn rows(&self) -> u64 {
        self.models.iter().map(|of| of.rows).sum()
    }

    pub(super) fn shown(&self) -> String {
        let headings =
            ["model", "rows", "right", "cost", "p50 ms", "cut short", "failed", "not asked", "no verdict"];
        let mut table = Table::new(&headings, 1);
        for of in &self.models {
            let mut sorted = of.latencies.clone();
            sorted.sort_by(f32::total_cmp);
            table.row(vec![
                of.name.clone(),
                of.rows.to_string(),
                or_dash((of.rows > 0).then(|| of.score / of.rows as f64), percent),
                or_dash((of.priced > 0).then_some(of.cost), usd),
                or_dash(sorted.get(sorted.len() / 2), |ms| format!("{ms:.0}")),
                of.cut.to_string(),
                of.failed.to_string(),
                of.given_up.to_string(),
                of.unjudged.to_string(),
            ]);
        }
        let mut out = table.shown();
        for of in &self.models {
            for (reason, count) in &of.reasons {
                // Writing to a string cannot fail.
                let _ = writeln!(out, "  {} failed {count} times: {reason}", of.name);
            }
        }
        out
    }
}
