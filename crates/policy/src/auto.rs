//! From what is expected of each contestant to the order in which they are tried.
//!
//! Contestants that cannot take the request are gone before this. Called by the router for auto policies.

use std::cmp::Ordering;

use smallvec::SmallVec;
use waypost_config::{AutoRule, ModelIndex};

use crate::{Ordered, Reason};

/// What is expected of a model, should it answer this request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// The model.
    pub model: ModelIndex,
    /// Its position among the policy's contestants.
    pub contestant: usize,
    /// Probability that its answer is right, or its expected score, 0 to 1.
    pub quality: f32,
    /// US dollars for prompt and answer; unknown without a price.
    pub cost_usd: Option<f64>,
    /// Milliseconds to the end of the answer; unknown until it has been observed or learned.
    pub latency_ms: Option<f64>,
}

impl Expected {
    fn cost(&self) -> f64 {
        self.cost_usd.unwrap_or(f64::INFINITY)
    }
}

/// The model the rule takes, then the others from the best to the worst: whoever stands in for a model that fails should
/// be able to answer.
#[must_use]
pub fn rank(rule: &AutoRule, contestants: &[Expected]) -> Ordered {
    let mut order: SmallVec<[&Expected; 8]> = contestants.iter().collect();
    order.sort_by(|a, b| better(a, b));
    let Some((chosen, reason)) = choose(rule, &order) else { return Ordered::new() };
    let others = order.iter().filter(|other| other.model != chosen.model);
    std::iter::once((chosen.model, reason))
        .chain(others.map(|other| (other.model, Reason::Fallback)))
        .collect()
}

/// Higher quality first, then lower cost, then the order of the file.
fn better(a: &Expected, b: &Expected) -> Ordering {
    b.quality.total_cmp(&a.quality).then(cheaper(a, b))
}

/// Lower cost first, then the order of the file.
fn cheaper(a: &Expected, b: &Expected) -> Ordering {
    a.cost().total_cmp(&b.cost()).then(a.contestant.cmp(&b.contestant))
}

/// `order` runs from the best to the worst.
fn choose<'a>(rule: &AutoRule, order: &[&'a Expected]) -> Option<(&'a Expected, Reason)> {
    let best = *order.first()?;
    let cheapest = |among: &mut dyn Iterator<Item = &&'a Expected>| {
        among.min_by(|a, b| a.cost().total_cmp(&b.cost()).then(better(a, b))).copied()
    };
    match rule {
        AutoRule::Tolerance(tolerance) => {
            let floor = best.quality - tolerance;
            let chosen = cheapest(&mut order.iter().filter(|e| e.quality >= floor)).unwrap_or(best);
            let reason =
                if chosen.model == best.model { Reason::BestQuality } else { Reason::CheapestGoodEnough };
            Some((chosen, reason))
        }
        AutoRule::Maximize { cost, latency } => {
            let score = |e: &Expected| {
                let spent = if *cost > 0.0 { cost * e.cost() } else { 0.0 };
                // What has never been observed is given the benefit of the doubt.
                f64::from(e.quality) - spent - latency * e.latency_ms.unwrap_or(0.0) / 1e3
            };
            let by_score = |a: &&&Expected, b: &&&Expected| score(b).total_cmp(&score(a)).then(better(a, b));
            order.iter().min_by(by_score).map(|e| (*e, Reason::Objective))
        }
        AutoRule::Budget(budget) => match order.iter().find(|e| e.cost() <= *budget) {
            Some(chosen) => Some((chosen, Reason::WithinBudget)),
            None => cheapest(&mut order.iter()).map(|chosen| (chosen, Reason::OverBudget)),
        },
        AutoRule::Thresholds { thresholds, costs } => by_thresholds(thresholds, costs.as_deref(), order),
    }
}

/// v2's rule, as its code has it: the threshold is met when the probability is not below it; the costs are relative ones
/// of its own; ties go to the higher probability, then to the order of the file.
fn by_thresholds<'a>(
    thresholds: &[f64],
    costs: Option<&[f64]>,
    order: &[&'a Expected],
) -> Option<(&'a Expected, Reason)> {
    let qualified = || order.iter().filter(|e| f64::from(e.quality) >= thresholds[e.contestant]);
    let Some(best) = qualified().next() else {
        return order.first().map(|e| (*e, Reason::ThresholdFallback));
    };
    let Some(costs) = costs else { return Some((best, Reason::HighestProbability)) };
    let cost = |e: &Expected| costs[e.contestant];
    let cheapest = qualified().min_by(|a, b| cost(a).total_cmp(&cost(b)).then(better(a, b)));
    cheapest.map(|e| (*e, Reason::CostOptimized))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contestants(qualities: &[f32], costs: &[f64]) -> Vec<Expected> {
        let each = qualities.iter().zip(costs).enumerate();
        each.map(|(i, (quality, cost))| Expected {
            model: i,
            contestant: i,
            quality: *quality,
            cost_usd: Some(*cost),
            latency_ms: Some(1000.0 * cost),
        })
        .collect()
    }

    fn first(rule: &AutoRule, qualities: &[f32], costs: &[f64]) -> (ModelIndex, Reason) {
        rank(rule, &contestants(qualities, costs))[0]
    }

    const COSTS: [f64; 3] = [0.1, 0.5, 1.0];

    #[test]
    fn the_cheapest_within_tolerance_edges_included() {
        let rule = AutoRule::Tolerance(0.25);
        assert_eq!(first(&rule, &[0.5, 0.7, 0.75], &COSTS), (0, Reason::CheapestGoodEnough));
        assert_eq!(first(&rule, &[0.49, 0.7, 0.75], &COSTS), (1, Reason::CheapestGoodEnough));
        assert_eq!(first(&rule, &[0.1, 0.2, 0.75], &COSTS), (2, Reason::BestQuality));
        let exact = AutoRule::Tolerance(0.0);
        assert_eq!(first(&exact, &[0.5, 0.5, 0.5], &COSTS), (0, Reason::BestQuality));
    }

    #[test]
    fn the_rest_stands_by_from_the_best_on() {
        let order = rank(&AutoRule::Tolerance(1.0), &contestants(&[0.1, 0.9, 0.5], &COSTS));
        assert_eq!(
            order[..],
            [(0, Reason::CheapestGoodEnough), (1, Reason::Fallback), (2, Reason::Fallback)]
        );
        assert!(rank(&AutoRule::Tolerance(1.0), &[]).is_empty());
    }

    #[test]
    fn quality_less_cost_and_latency() {
        let rule = |cost, latency| AutoRule::Maximize { cost, latency };
        assert_eq!(first(&rule(0.0, 0.0), &[0.5, 0.6, 0.7], &COSTS), (2, Reason::Objective));
        assert_eq!(first(&rule(0.3, 0.0), &[0.5, 0.6, 0.7], &COSTS), (0, Reason::Objective));
        assert_eq!(first(&rule(0.0, 0.3), &[0.5, 0.6, 0.7], &COSTS), (0, Reason::Objective));
        let mut unknown = contestants(&[0.5, 0.4], &[1.0, 1.0]);
        unknown[0].cost_usd = None;
        unknown[1].latency_ms = None;
        assert_eq!(
            rank(&rule(0.0, 0.0), &unknown)[0].0,
            0,
            "an unknown cost does not count where none counts"
        );
        assert_eq!(rank(&rule(0.1, 0.0), &unknown)[0].0, 1, "an unknown cost is never cheap");
        assert_eq!(rank(&rule(0.0, 0.2), &unknown)[0].0, 1, "an unknown latency is tried");
    }

    #[test]
    fn a_budget_takes_the_best_it_can_pay_and_says_when_it_cannot() {
        assert_eq!(first(&AutoRule::Budget(0.5), &[0.1, 0.2, 0.9], &COSTS), (1, Reason::WithinBudget));
        assert_eq!(first(&AutoRule::Budget(0.49), &[0.1, 0.2, 0.9], &COSTS), (0, Reason::WithinBudget));
        assert_eq!(first(&AutoRule::Budget(0.01), &[0.1, 0.2, 0.9], &COSTS), (0, Reason::OverBudget));
    }

    #[test]
    fn v2s_thresholds_at_their_edges() {
        let rule = |costs: Option<Vec<f64>>| AutoRule::Thresholds { thresholds: vec![0.5, 0.65, 0.6], costs };
        let costs = Some(vec![1.0, 0.5, 0.3]);
        let choose = |qualities: &[f32]| first(&rule(costs.clone()), qualities, &COSTS);
        assert_eq!(choose(&[0.9, 0.9, 0.625]), (2, Reason::CostOptimized));
        assert_eq!(choose(&[0.9, 0.9, 0.59]), (1, Reason::CostOptimized));
        assert_eq!(
            choose(&[0.5, 0.64, 0.59]),
            (0, Reason::CostOptimized),
            "0.5 is exact in binary, and meets 0.5"
        );
        assert_eq!(choose(&[0.499, 0.64, 0.59]), (1, Reason::ThresholdFallback));
        let single = choose(&[0.4, 0.65, 0.1]);
        assert_eq!(
            single,
            (1, Reason::ThresholdFallback),
            "0.65 in single precision lies below 0.65, as in v2"
        );
        assert_eq!(first(&rule(None), &[0.6, 0.9, 0.7], &COSTS), (1, Reason::HighestProbability));
        let unlisted = Some(vec![f64::INFINITY, f64::INFINITY, 0.3]);
        assert_eq!(first(&rule(unlisted.clone()), &[0.7, 0.9, 0.1], &COSTS), (1, Reason::CostOptimized));
        assert_eq!(first(&rule(unlisted), &[0.7, 0.9, 0.6], &COSTS), (2, Reason::CostOptimized));
    }
}
