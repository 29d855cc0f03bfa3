//! The cost-quality curve: what each trade-off between the two gives, and the area beneath.
//!
//! Pure. Called by `measure`; `draw` makes it a picture.

use serde::Serialize;

use super::measure::{Interval, Judged, intervals, mean};

/// Trade-offs on the curve, at most.
const POINTS: usize = 60;

/// One trade-off: the models chosen by `quality - lambda * cost`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Point {
    /// Quality that a unit of cost is worth.
    pub(crate) lambda: f64,
    pub(crate) cost: f64,
    pub(crate) quality: f64,
}

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Curve {
    /// From the cheapest to the dearest trade-off.
    pub(crate) points: Vec<Point>,
    /// Mean quality over all costs from the cheapest single model's to the dearest's, each cost giving the best quality
    /// that is to be had for it or less.
    pub(crate) area: Interval,
    /// The same when prompts are shared out at random among single models.
    pub(crate) area_without_learning: f64,
}

/// Trade-offs at which choices change, evenly over prompts and models; nothing for cost, and all, included.
pub(crate) fn lambdas(judged: &Judged) -> Vec<f64> {
    let m = judged.models.len();
    let mut turns = Vec::new();
    for at in 0..judged.len() {
        let expected = &judged.expected[at * m..][..m];
        let cost = &judged.foreseen[at * m..][..m];
        let cheapest = (0..m).min_by(|a, b| cost[*a].total_cmp(&cost[*b])).unwrap_or_default();
        for model in 0..m {
            let (more, dearer) = (expected[model] - expected[cheapest], cost[model] - cost[cheapest]);
            if dearer > 0.0 && more > 0.0 {
                turns.push(f64::from(more) / dearer);
            }
        }
    }
    turns.sort_unstable_by(f64::total_cmp);
    let mut out = vec![0.0];
    if let Some(last) = turns.last() {
        out.extend((0..POINTS).map(|at| turns[at * (turns.len() - 1) / (POINTS - 1)]));
        out.push(last * 2.0);
    }
    out.dedup();
    out
}

impl Curve {
    pub(crate) fn of(judged: &Judged, lambdas: &[f64], resamples: &[Vec<u32>]) -> Self {
        let followed: Vec<Vec<(f64, f64)>> =
            lambdas.iter().map(|&lambda| judged.follow(&judged.at_lambda(lambda))).collect();
        let singles: Vec<Vec<(f64, f64)>> =
            (0..judged.models.len()).map(|model| judged.single(model)).collect();
        let ends = |counts: Option<&[u32]>| -> Vec<(f64, f64)> {
            singles.iter().map(|single| mean(single, counts)).map(|(quality, cost)| (cost, quality)).collect()
        };
        let figures = |counts: Option<&[u32]>| {
            let reached: Vec<(f64, f64)> =
                followed.iter().map(|f| mean(f, counts)).map(|(quality, cost)| (cost, quality)).collect();
            [area(&reached, &ends(counts))]
        };
        let [area_learnt] = intervals(figures, resamples);
        let mut points: Vec<Point> = lambdas
            .iter()
            .zip(&followed)
            .map(|(&lambda, followed)| {
                let (quality, cost) = mean(followed, None);
                Point { lambda, cost, quality }
            })
            .collect();
        points.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.lambda.total_cmp(&a.lambda)));
        let ends = ends(None);
        Self { points, area: area_learnt, area_without_learning: area(&ends, &ends) }
    }
}

/// Area under the upper hull of `(cost, quality)` points between the extreme costs of `ends`, by their distance: any
/// mix of two ways can be had by sharing prompts out at random.
fn area(points: &[(f64, f64)], ends: &[(f64, f64)]) -> f64 {
    let bounds = ends.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |b, e| (b.0.min(e.0), b.1.max(e.0)));
    let mut all: Vec<(f64, f64)> = points.to_vec();
    // Whoever has the cheapest model can always take it.
    all.extend(ends.iter().filter(|end| end.0 <= bounds.0));
    let hull = upper_hull(all);
    let (low, high) = bounds;
    if high <= low {
        return hull.last().map_or(0.0, |point| point.1);
    }
    let at = |cost: f64| quality_at(&hull, cost);
    let mut costs: Vec<f64> =
        hull.iter().map(|point| point.0).filter(|cost| (low..=high).contains(cost)).collect();
    costs.extend([low, high]);
    costs.sort_unstable_by(f64::total_cmp);
    let pieces = costs.windows(2).map(|pair| (pair[1] - pair[0]) * (at(pair[0]) + at(pair[1])) / 2.0);
    pieces.sum::<f64>() / (high - low)
}

/// The upper concave hull of `(cost, quality)` points, rising: more money never gives less.
pub(super) fn upper_hull(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut hull: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if hull.last().is_some_and(|last| point.1 <= last.1) {
            continue;
        }
        while let [.., a, b] = hull[..] {
            let turns_up = (b.1 - a.1) * (point.0 - a.0) <= (point.1 - a.1) * (b.0 - a.0);
            if !turns_up {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

/// Quality to be had for at most this cost.
fn quality_at(hull: &[(f64, f64)], cost: f64) -> f64 {
    let above = hull.iter().position(|point| point.0 > cost);
    match above {
        Some(0) | None => {
            hull.last().filter(|_| above.is_none()).or(hull.first()).map_or(0.0, |point| point.1)
        }
        Some(at) => {
            let (a, b) = (hull[at - 1], hull[at]);
            a.1 + (b.1 - a.1) * (cost - a.0) / (b.0 - a.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hull_is_what_mixing_can_reach() {
        let hull = upper_hull(vec![(0.0, 0.2), (0.5, 0.3), (1.0, 0.8), (0.9, 0.1), (1.5, 0.7)]);
        assert_eq!(hull, [(0.0, 0.2), (1.0, 0.8)]);
        assert_eq!(quality_at(&hull, 0.5), 0.5);
        assert_eq!((quality_at(&hull, -1.0), quality_at(&hull, 2.0)), (0.2, 0.8));
    }

    #[test]
    fn without_learning_the_area_is_that_of_a_straight_line() {
        let ends = [(1.0, 0.5), (3.0, 0.9)];
        assert!((area(&ends, &ends) - 0.7).abs() < 1e-12);
        let better = [(1.0, 0.5), (2.0, 0.9), (3.0, 0.9)];
        assert!((area(&better, &ends) - 0.8).abs() < 1e-12);
    }
}
