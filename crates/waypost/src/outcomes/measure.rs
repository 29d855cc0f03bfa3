//! How good routing by expectations is, on prompts whose outcomes are known: quality, cost, and what else one might do.
//!
//! Pure. All figures of one prompt set come from the same choices; intervals are bootstrapped over prompts. Called by
//! `train --outcomes` and `eval --outcomes`.

use serde::Serialize;
use waypost_classify::train::Random;

use super::curve::{self, Curve};
use super::pair::{self, Pair};

/// Resamples behind every interval.
const RESAMPLES: usize = 500;
/// How far below the best a model may be expected, and still be taken for being cheaper.
const TOLERANCES: [f32; 6] = [0.0, 0.01, 0.02, 0.03, 0.05, 0.1];

/// Prompts whose outcomes are all known, with what was expected. Rows are prompts, columns models.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) models: Vec<String>,
    /// Index of the model with the best mean in training.
    pub(crate) best_single: usize,
    pub(crate) expected: Vec<f32>,
    pub(crate) truth: Vec<f32>,
    /// Cost as it can be foreseen.
    pub(crate) foreseen: Vec<f64>,
    /// Cost as it was.
    pub(crate) cost: Vec<f64>,
    /// Whether costs are USD; otherwise a call of the best single model costs 1 and any other nothing.
    pub(crate) in_usd: bool,
}

/// A share or a cost with a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// What a way of choosing gives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Way {
    pub(crate) name: String,
    pub(crate) quality: f64,
    pub(crate) cost: f64,
}

/// A rule by expectations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) quality: f64,
    pub(crate) cost: f64,
    /// Quality less that of the best single model.
    pub(crate) gain: Interval,
    /// Share of the best single model's cost that is saved.
    pub(crate) saving: Interval,
    /// Share of prompts given to each model, in their order.
    pub(crate) shares: Vec<f64>,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) n: usize,
    pub(crate) best_single: String,
    /// `USD a request` or `share of prompts for the best single model`.
    pub(crate) cost_unit: &'static str,
    pub(crate) singles: Vec<Way>,
    pub(crate) random: Way,
    /// The cheapest of the models that did best on each prompt.
    pub(crate) oracle: Way,
    /// The model expected to be best.
    pub(crate) best_quality: Rule,
    /// The cheapest within a tolerance of the best, where there are prices.
    pub(crate) tolerances: Vec<Rule>,
    /// The best trade-off that is as good as the best single model on one half of the prompts, judged on the other half.
    pub(crate) equal_quality: Option<Rule>,
    pub(crate) curve: Curve,
    /// Only for two models.
    pub(crate) pair: Option<Pair>,
}

impl Judged {
    pub(crate) fn len(&self) -> usize {
        self.truth.len() / self.models.len()
    }

    fn row<'v, T>(&self, values: &'v [T], at: usize) -> &'v [T] {
        &values[at * self.models.len()..][..self.models.len()]
    }

    /// The model that is best by `score` of a prompt and a model, the first on ties.
    pub(crate) fn choose(&self, score: impl Fn(usize, usize) -> f64) -> Vec<usize> {
        let best = |at: usize| {
            (1..self.models.len())
                .fold(0, |best, model| if score(at, model) > score(at, best) { model } else { best })
        };
        (0..self.len()).map(best).collect()
    }

    /// The choices under `quality - lambda * cost`.
    pub(crate) fn at_lambda(&self, lambda: f64) -> Vec<usize> {
        let m = self.models.len();
        self.choose(|at, model| {
            f64::from(self.expected[at * m + model]) - lambda * self.foreseen[at * m + model]
        })
    }

    fn within(&self, tolerance: f32) -> Vec<usize> {
        let m = self.models.len();
        let choose = |at: usize| {
            let expected = self.row(&self.expected, at);
            let best = expected.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let good = (0..m).filter(|&model| expected[model] >= best - tolerance);
            // Of equal cost the better one.
            let order = |a: &usize, b: &usize| {
                let cost = |model: usize| self.foreseen[at * m + model];
                cost(*a).total_cmp(&cost(*b)).then(expected[*b].total_cmp(&expected[*a])).then(a.cmp(b))
            };
            good.min_by(order).unwrap_or_default()
        };
        (0..self.len()).map(choose).collect()
    }

    /// Quality and cost of each prompt under some choices.
    pub(crate) fn follow(&self, choices: &[usize]) -> Vec<(f64, f64)> {
        let m = self.models.len();
        let each =
            |(at, model): (usize, &usize)| (f64::from(self.truth[at * m + model]), self.cost[at * m + model]);
        choices.iter().enumerate().map(each).collect()
    }

    pub(crate) fn single(&self, model: usize) -> Vec<(f64, f64)> {
        self.follow(&vec![model; self.len()])
    }

    fn oracle(&self) -> Vec<(f64, f64)> {
        let m = self.models.len();
        let most = self.cost.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        // Costs only break ties of quality.
        self.follow(&self.choose(|at, model| {
            f64::from(self.truth[at * m + model]) - 1e-7 * self.cost[at * m + model] / most
        }))
    }

    fn way(name: String, followed: &[(f64, f64)]) -> Way {
        let (quality, cost) = mean(followed, None);
        Way { name, quality, cost }
    }

    fn rule(&self, name: String, choices: &[usize], resamples: &[Vec<u32>]) -> Rule {
        let (mine, single) = (self.follow(choices), self.single(self.best_single));
        let (quality, cost) = mean(&mine, None);
        let compared = |counts: Option<&[u32]>| {
            let (a, b) = (mean(&mine, counts), mean(&single, counts));
            [a.0 - b.0, if b.1 > 0.0 { 1.0 - a.1 / b.1 } else { 0.0 }]
        };
        let [gain, saving] = intervals(compared, resamples);
        let n = self.len().max(1) as f64;
        let shares =
            (0..self.models.len()).map(|model| choices.iter().filter(|c| **c == model).count() as f64 / n);
        Rule { name, quality, cost, gain, saving, shares: shares.collect() }
    }

    /// Trade-offs that match the best single model's quality on the other half, with the least cost.
    fn equal_quality(&self, lambdas: &[f64], resamples: &[Vec<u32>], seed: u64) -> Rule {
        let mut random = Random(seed ^ HALVES);
        let half: Vec<bool> = (0..self.len()).map(|_| random.bits() & 1 == 1).collect();
        let single = self.single(self.best_single);
        let mut choices = vec![self.best_single; self.len()];
        for side in [false, true] {
            let counts: Vec<u32> = half.iter().map(|of| u32::from(*of == side)).collect();
            let enough = mean(&single, Some(&counts));
            let tried = lambdas.iter().map(|&lambda| self.at_lambda(lambda));
            let good = tried.filter_map(|tried| {
                let (quality, cost) = mean(&self.follow(&tried), Some(&counts));
                (quality >= enough.0 && cost <= enough.1).then_some((cost, tried))
            });
            if let Some((_, tried)) = good.min_by(|a, b| a.0.total_cmp(&b.0)) {
                (0..self.len()).filter(|&at| half[at] != side).for_each(|at| choices[at] = tried[at]);
            }
        }
        self.rule("as good as the best single model, for less".to_owned(), &choices, resamples)
    }

    /// All figures.
    pub(crate) fn measure(&self, seed: u64) -> Measured {
        let resamples = resamples(self.len(), seed);
        let singles: Vec<Vec<(f64, f64)>> = (0..self.models.len()).map(|model| self.single(model)).collect();
        let random: Vec<(f64, f64)> = (0..self.len())
            .map(|at| {
                let sum = singles.iter().fold((0.0, 0.0), |sum, s| (sum.0 + s[at].0, sum.1 + s[at].1));
                (sum.0 / singles.len() as f64, sum.1 / singles.len() as f64)
            })
            .collect();
        let lambdas = curve::lambdas(self);
        let name = |tolerance: f32| format!("cheapest within {tolerance:.2} of the best");
        Measured {
            n: self.len(),
            best_single: self.models[self.best_single].clone(),
            cost_unit: if self.in_usd {
                "USD a request"
            } else {
                "share of prompts for the best single model"
            },
            singles: self.models.iter().zip(&singles).map(|(name, s)| Self::way(name.clone(), s)).collect(),
            random: Self::way("random".to_owned(), &random),
            oracle: Self::way("oracle".to_owned(), &self.oracle()),
            best_quality: self.rule("the best expected".to_owned(), &self.at_lambda(0.0), &resamples),
            tolerances: TOLERANCES
                .into_iter()
                .filter(|_| self.in_usd)
                .map(|tolerance| self.rule(name(tolerance), &self.within(tolerance), &resamples))
                .collect(),
            equal_quality: self.in_usd.then(|| self.equal_quality(&lambdas, &resamples, seed)),
            curve: Curve::of(self, &lambdas, &resamples),
            pair: pair::measure(self, &resamples),
        }
    }
}

/// Keeps the halves apart from other uses of the seed.
const HALVES: u64 = 0x4841_4c46;

/// Means over prompts, each counted so often.
pub(crate) fn mean(values: &[(f64, f64)], counts: Option<&[u32]>) -> (f64, f64) {
    let (mut quality, mut cost, mut n) = (0.0, 0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let count = counts.map_or(1.0, |counts| f64::from(counts[at]));
        quality += count * value.0;
        cost += count * value.1;
        n += count;
    }
    if n == 0.0 { (0.0, 0.0) } else { (quality / n, cost / n) }
}

/// How often each prompt is drawn, resample by resample.
fn resamples(n: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut random = Random(seed);
    let draw = |_| {
        let mut counts = vec![0; n];
        (0..n).for_each(|_| counts[random.below(n)] += 1);
        counts
    };
    (0..RESAMPLES).map(draw).collect()
}

/// Figures with their intervals: the middle 95 % of what the resamples give.
pub(crate) fn intervals<const N: usize>(
    figures: impl Fn(Option<&[u32]>) -> [f64; N],
    resamples: &[Vec<u32>],
) -> [Interval; N] {
    let values = figures(None);
    let drawn: Vec<[f64; N]> = resamples.iter().map(|counts| figures(Some(counts))).collect();
    std::array::from_fn(|at| {
        let mut sorted: Vec<f64> = drawn.iter().map(|figures| figures[at]).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let place = |share: f64| {
            let rank = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
            sorted.get(rank).copied().unwrap_or(values[at])
        };
        Interval { value: values[at], low: place(0.025), high: place(0.975) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcomes::picture;

    /// A cheap model that is right on the first half, a dear one that is right on all but one in ten; expected so.
    fn judged(in_usd: bool) -> Judged {
        let n = 200;
        let cheap = |at: usize| if at < n / 2 { 1.0 } else { 0.0 };
        let dear = |at: usize| if at.is_multiple_of(10) { 0.0 } else { 1.0 };
        let costs: Vec<f64> = (0..n).flat_map(|_| if in_usd { [0.001, 0.01] } else { [0.0, 1.0] }).collect();
        Judged {
            models: vec!["cheap".into(), "dear".into()],
            best_single: 1,
            expected: (0..n).flat_map(|at| [0.2 + 0.7 * cheap(at), 0.9]).collect(),
            truth: (0..n).flat_map(|at| [cheap(at), dear(at)]).collect(),
            foreseen: costs.clone(),
            cost: costs,
            in_usd,
        }
    }

    #[test]
    fn the_cheap_one_is_taken_where_it_is_as_good_and_cost_is_saved() {
        let measured = judged(true).measure(1);
        let quality: Vec<f64> = measured.singles.iter().map(|way| way.quality).collect();
        assert!((quality[0] - 0.5).abs() < 1e-9 && (quality[1] - 0.9).abs() < 1e-9);
        assert!(
            (measured.oracle.quality - 0.95).abs() < 1e-9 && (measured.random.quality - 0.7).abs() < 1e-9
        );
        let rule = &measured.tolerances[3];
        assert_eq!(rule.shares, [0.5, 0.5]);
        assert!((rule.quality - 0.95).abs() < 1e-9 && (rule.saving.value - 0.45).abs() < 1e-9, "{rule:?}");
        assert!(rule.gain.low > 0.0 && rule.gain.low < 0.05 && rule.gain.high > 0.05);
        let equal = measured.equal_quality.as_ref().unwrap();
        assert!(equal.saving.value > 0.4 && equal.gain.value >= 0.0, "{equal:?}");
        assert!(measured.curve.area.value > measured.curve.area_without_learning);
        assert!(measured.pair.as_ref().is_some_and(|pair| pair.apgr.value > 0.7 && pair.strong == "dear"));
    }

    #[test]
    fn without_prices_calls_are_counted_and_nothing_is_called_cheap() {
        let measured = judged(false).measure(1);
        assert!(measured.tolerances.is_empty() && measured.equal_quality.is_none());
        assert_eq!(measured.cost_unit, "share of prompts for the best single model");
        assert_eq!(measured.singles.iter().map(|way| way.cost).collect::<Vec<_>>(), [0.0, 1.0]);
    }

    #[test]
    fn the_picture_has_every_way_and_survives_nothing_to_draw() {
        let svg = picture("a < b", &judged(true).measure(1));
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        assert_eq!(svg.matches("<circle").count(), 4);
        let none = Judged { expected: vec![], truth: vec![], foreseen: vec![], cost: vec![], ..judged(true) };
        assert!(!picture("t", &none.measure(1)).contains("NaN"));
    }
}
