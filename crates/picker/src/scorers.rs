//! llm-d's scorers: each gives every endpoint 0 to 1, and the highest weighted sum is taken.
//!
//! Formulas are those of its endpoint picker; the sum is not normalised. Where an engine's figures are unknown or old,
//! our own bookings stand in for them, so a silent endpoint is neither favoured nor shut out. Called by the choice.

use crate::cost::Side;
use crate::survey::{Row, Survey};
use waypost_config::Scorer;

/// Uncached prompt tokens in flight at which the token load scores 0 (llm-d's).
const TOKEN_LOAD_MAX: f64 = 4_194_304.0;
/// Waiting requests at which the load-aware score is 0, and its score where nobody waits (llm-d's).
const LOAD_AWARE: (f64, f64) = (128.0, 0.5);

/// Writes each eligible row's scores and their weighted sum. `session` is where the session was served last.
pub(crate) fn score(
    scorers: &[(Scorer, f64)],
    side: Side,
    survey: &mut Survey,
    blocks: u32,
    session: Option<usize>,
) {
    for (scorer, weight) in scorers {
        let bounds = Bounds::of(*scorer, survey);
        for (index, row) in survey.rows.iter_mut().enumerate().filter(|(_, row)| row.why_not.is_none()) {
            let score = match scorer {
                Scorer::Queue | Scorer::Running => bounds.falling(row),
                Scorer::ActiveRequests => bounds.idle(row),
                Scorer::KvUtilization => 1.0 - usage(row).unwrap_or(bounds.mean),
                // Decode gets its blocks from prefill, whatever it holds.
                Scorer::Prefix if side == Side::Decode => 0.0,
                Scorer::Prefix => f64::from(row.terms.cached.blocks()) / f64::from(blocks.max(1)),
                Scorer::LoraAffinity => row.figures.adapter,
                Scorer::TokenLoad => 1.0 - row.terms.prefill_tokens as f64 / TOKEN_LOAD_MAX,
                Scorer::SessionAffinity => f64::from(u8::from(session == Some(index))),
                Scorer::LoadAware => LOAD_AWARE.1 * (1.0 - figure(*scorer, row) / LOAD_AWARE.0),
            };
            let score = score.clamp(0.0, 1.0);
            row.scores.push(score);
            row.value = Some(row.value.unwrap_or(0.0) + weight * score);
        }
    }
}

/// The figure that a scorer compares.
fn figure(scorer: Scorer, row: &Row) -> f64 {
    let running = || row.terms.requests.saturating_sub(row.prefilling);
    match scorer {
        Scorer::Queue | Scorer::LoadAware => f64::from(row.figures.waiting.unwrap_or(row.prefilling)),
        Scorer::Running => f64::from(row.figures.running.unwrap_or_else(running)),
        _ => f64::from(row.terms.requests),
    }
}

fn usage(row: &Row) -> Option<f64> {
    row.figures.usage.or(row.figures.booked_usage)
}

/// The range of a scorer's figure over the eligible endpoints.
struct Bounds {
    scorer: Scorer,
    least: f64,
    most: f64,
    /// Mean KV usage where it is known; stands in where it is not.
    mean: f64,
}

impl Bounds {
    fn of(scorer: Scorer, survey: &Survey) -> Self {
        let mut bounds = Self { scorer, least: f64::INFINITY, most: f64::NEG_INFINITY, mean: 0.0 };
        let (mut known, mut sum) = (0.0, 0.0);
        for (_, row) in survey.eligible() {
            let figure = figure(scorer, row);
            bounds.least = bounds.least.min(figure);
            bounds.most = bounds.most.max(figure);
            if let Some(usage) = usage(row) {
                known += 1.0;
                sum += usage;
            }
        }
        if known > 0.0 {
            bounds.mean = sum / known;
        }
        bounds
    }

    /// 1 for the least figure, 0 for the most; 1 for all when they are equal.
    fn falling(&self, row: &Row) -> f64 {
        let range = self.most - self.least;
        if range > 0.0 { (self.most - figure(self.scorer, row)) / range } else { 1.0 }
    }

    /// 1 for those without a request, 0 for the busiest.
    fn idle(&self, row: &Row) -> f64 {
        let figure = figure(self.scorer, row);
        if figure > 0.0 { (self.most - figure) / self.most } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::WhyNot;
    use crate::cost::Terms;
    use crate::prefixes::Cached;
    use crate::survey::Figures;

    fn scores(scorer: Scorer, rows: Vec<Row>) -> Vec<f64> {
        let mut survey = Survey::of(rows);
        score(&[(scorer, 2.0)], Side::Whole, &mut survey, 10, Some(1));
        let value = |row: &Row| row.value.unwrap_or(f64::NAN);
        survey.rows.iter().for_each(|row| assert_eq!(value(row), 2.0 * row.scores[0]));
        survey.rows.iter().map(|row| row.scores[0]).collect()
    }

    fn told(figures: Figures) -> Row {
        Row { figures, ..Row::default() }
    }

    fn booked(terms: Terms) -> Row {
        Row { terms, ..Row::default() }
    }

    #[test]
    fn queue_and_running_fall_from_the_least_to_the_most() {
        let waiting = |n| told(Figures { waiting: Some(n), ..Figures::default() });
        assert_eq!(scores(Scorer::Queue, [2, 4, 10].map(waiting).into()), [1.0, 0.75, 0.0]);
        assert_eq!(scores(Scorer::Queue, [3, 3].map(waiting).into()), [1.0, 1.0]);
        assert_eq!(scores(Scorer::LoadAware, [0, 32, 128, 500].map(waiting).into()), [0.5, 0.375, 0.0, 0.0]);
        let running = |n| told(Figures { running: Some(n), ..Figures::default() });
        assert_eq!(scores(Scorer::Running, [0, 5].map(running).into()), [1.0, 0.0]);
    }

    #[test]
    fn bookings_stand_in_for_figures_that_are_old() {
        let mut silent = booked(Terms { requests: 7, ..Terms::default() });
        silent.prefilling = 3;
        let waiting = |n| told(Figures { waiting: Some(n), running: Some(n), ..Figures::default() });
        assert_eq!(scores(Scorer::Queue, vec![waiting(0), silent, waiting(6)]), [1.0, 0.5, 0.0]);
        let mut silent = booked(Terms { requests: 7, ..Terms::default() });
        silent.prefilling = 3;
        assert_eq!(scores(Scorer::Running, vec![waiting(0), silent, waiting(8)]), [1.0, 0.5, 0.0]);
    }

    #[test]
    fn active_requests_count_from_zero() {
        let busy = |requests| booked(Terms { requests, ..Terms::default() });
        assert_eq!(scores(Scorer::ActiveRequests, [0, 1, 4].map(busy).into()), [1.0, 0.75, 0.0]);
        assert_eq!(scores(Scorer::ActiveRequests, [4, 4].map(busy).into()), [0.0, 0.0]);
        assert_eq!(scores(Scorer::ActiveRequests, [0, 0].map(busy).into()), [1.0, 1.0]);
    }

    #[test]
    fn utilisation_is_what_is_told_else_booked_else_the_mean() {
        let rows = vec![
            told(Figures { usage: Some(0.25), booked_usage: Some(0.9), ..Figures::default() }),
            told(Figures { booked_usage: Some(0.75), ..Figures::default() }),
            told(Figures::default()),
        ];
        assert_eq!(scores(Scorer::KvUtilization, rows), [0.75, 0.25, 0.5]);
        assert_eq!(scores(Scorer::KvUtilization, vec![told(Figures::default())]), [1.0]);
    }

    #[test]
    fn the_others_are_shares() {
        let holds =
            |device, host| booked(Terms { cached: Cached { device, host, disk: 0 }, ..Terms::default() });
        assert_eq!(scores(Scorer::Prefix, vec![holds(0, 0), holds(4, 1), holds(10, 0)]), [0.0, 0.5, 1.0]);
        let backlog = |prefill_tokens| booked(Terms { prefill_tokens, ..Terms::default() });
        let rows = [0, 1_048_576, 8_388_608].map(backlog).into();
        assert_eq!(scores(Scorer::TokenLoad, rows), [1.0, 0.75, 0.0]);
        let ready = |adapter| told(Figures { adapter, ..Figures::default() });
        assert_eq!(scores(Scorer::LoraAffinity, [0.8, 0.0].map(ready).into()), [0.8, 0.0]);
        assert_eq!(scores(Scorer::SessionAffinity, vec![Row::default(), Row::default()]), [0.0, 1.0]);
    }

    #[test]
    fn the_sum_is_weighted_and_not_normalised_and_barred_rows_have_none() {
        let mut rows = vec![Row::default(), Row::default()];
        rows[0].why_not = Some(WhyNot::Aside);
        let mut survey = Survey::of(rows);
        let scorers = [(Scorer::Queue, 2.0), (Scorer::KvUtilization, 2.0), (Scorer::Prefix, 3.0)];
        score(&scorers, Side::Whole, &mut survey, 4, None);
        assert_eq!(survey.rows[0].value, None);
        assert_eq!(survey.rows[1].value, Some(4.0));
    }
}
