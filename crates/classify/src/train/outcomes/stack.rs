//! Which parts are worth keeping, how much each counts, and how far all of them together may leave the means.
//!
//! Weights are least squares, never negative, over differences between models on prompts the parts were not taught; and
//! every comparison here is on folds whose own outcomes did not set the weights. Pure. Called by `outcomes`.

use serde::Serialize;

use super::Outcomes;
use super::folds::{FOLDS, Folded};
use crate::calibrate::argmax;
use crate::outcomes::blend::MAX_WEIGHT;
use crate::outcomes::{Blend, Part, Parts};

/// A part stays if it lowers the error by so many standard errors.
const PART_ERRORS: f64 = 1.0;
/// All parts together must lower it by so many, or outcomes are taken not to depend on prompts: chance alone does so once in
/// two hundred times.
const SIGNAL_ERRORS: f64 = 2.6;
/// Half of a 95 % interval, in standard errors.
const INTERVAL_ERRORS: f64 = 1.96;
/// Shares of the fitted weights that are tried, the boldest first.
const FACTORS: [f32; 8] = [1.0, 0.75, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01];
/// With fewer known models a prompt, there is nothing to compare within prompts.
const MIN_KNOWN: f64 = 1.5;
/// Coordinate descent over four numbers is done long before.
const DESCENTS: usize = 200;

/// What adding a part did, on prompts that neither the part nor its weight was taught.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Step {
    /// 0 without an encoding, 1 with.
    pub tier: u8,
    /// The part.
    pub part: Part,
    /// Share of the variance of differences between models that is told with it and all kept before.
    pub explained: f64,
    /// By how many standard errors it lowered the squared error.
    pub errors: f64,
    /// Mean quality when each prompt goes to the model expected to be best.
    pub quality: f64,
    /// Whether it was kept.
    pub kept: bool,
}

/// The gain over always taking the best single model, on prompts that were not taught.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gain {
    /// Prompts with at least two known models.
    pub n: usize,
    /// Mean quality of the best single model.
    pub single: f64,
    /// Mean quality of the model expected to be best.
    pub routed: f64,
    /// 95 % interval of the difference.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Share of the fitted weights that was kept; 0 when prompts are not told apart.
    pub factor: f32,
}

/// What was chosen.
pub(super) struct Found {
    pub(super) parts: Parts,
    pub(super) steps: Vec<Step>,
    pub(super) gain: Gain,
}

/// Chooses parts, weights and factor.
pub(super) fn choose(data: &Outcomes, folded: &Folded) -> Found {
    let judged = Judged::of(data, folded);
    let mut steps = Vec::new();
    let here = |part: &Part| folded.said.contains_key(part);
    let (first, first_losses) = judged.select(0, |part| here(part) && !part.asks_encoder(), &mut steps);
    let (mut second, mut losses) = judged.select(1, here, &mut steps);
    let encoder_helps = second.iter().any(|part| part.asks_encoder())
        && lowered(&first_losses, &losses).is_some_and(|errors| errors >= PART_ERRORS);
    if !encoder_helps {
        (second, losses) = (first.clone(), first_losses.clone());
    }
    let nothing = judged.losses(&[]);
    let speaks = |losses: &[f64]| lowered(&nothing, losses).is_some_and(|errors| errors >= SIGNAL_ERRORS);
    let blend = |parts: &[Part], losses: &[f64]| {
        if speaks(losses) { judged.blend(parts) } else { Blend::default() }
    };
    let fitted = Parts { tier0: blend(&first, &first_losses), tier1: blend(&second, &losses) };
    let factor0 = judged.boldest(&first, &fitted.tier0);
    let factor1 = judged.boldest(&second, &fitted.tier1);
    let parts = Parts { tier0: fitted.tier0.times(factor0), tier1: fitted.tier1.times(factor1) };
    let (best, factor) = if parts.tier1.moves() { (&second, factor1) } else { (&first, factor0) };
    let gain = judged.gain(best, factor);
    Found { parts, steps, gain }
}

impl Found {
    /// Parts with a weight in either tier.
    pub(super) fn wanted(&self) -> Vec<Part> {
        let counts =
            |part: &Part| self.parts.tier0.weight(*part) > 0.0 || self.parts.tier1.weight(*part) > 0.0;
        Part::ALL.into_iter().filter(counts).collect()
    }

    /// What to make of it, for a person.
    pub(super) fn words(&self, data: &Outcomes) -> String {
        let all: Vec<usize> = (0..data.len()).collect();
        let best = &data.models[argmax(&data.means(&all))];
        let Gain { n, single, routed, low, high, .. } = self.gain;
        if !(self.parts.tier0.moves() || self.parts.tier1.moves()) {
            return format!(
                "No gain was found: on {n} prompts not taught, which model does better could not be told from the prompt. Every prompt gets the models' means, so the best single model, {best}, is taken wherever quality decides."
            );
        }
        let points = |share: f64| share * 100.0;
        let figures = format!(
            "on {n} prompts not taught, taking the model expected to be best gave {:.1} %, always taking the best single model {:.1} % (difference {:+.1} points, 95 % interval {:+.1} to {:+.1})",
            points(routed),
            points(single),
            points(routed - single),
            points(low),
            points(high)
        );
        if low > 0.0 {
            format!("Worth routing for quality: {figures}.")
        } else {
            format!(
                "No gain in quality over always taking {best} is certain: {figures}. Prompts are told apart well enough to save cost where a little quality may be given up."
            )
        }
    }
}

/// The prompts with what is true and what the parts said, as differences.
struct Judged<'a> {
    data: &'a Outcomes,
    folded: &'a Folded,
    /// Differences are taken from the prompt's own mean over its known models.
    within: bool,
}

/// Least-squares sums of one fold.
#[derive(Clone)]
struct Sums {
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl<'a> Judged<'a> {
    fn of(data: &'a Outcomes, folded: &'a Folded) -> Self {
        let known = folded
            .rows
            .iter()
            .map(|&row| data.row(row).iter().filter(|q| !q.is_nan()).count())
            .sum::<usize>();
        Self { data, folded, within: known as f64 >= MIN_KNOWN * folded.rows.len() as f64 }
    }

    /// Calls `each` for a prompt's known models with the true difference and what each part said of it.
    fn differences(&self, at: usize, parts: &[Part], mut each: impl FnMut(f64, &[f64])) {
        let models = self.data.models.len();
        let quality = self.data.row(self.folded.rows[at]);
        let known: Vec<usize> = (0..models).filter(|&model| !quality[model].is_nan()).collect();
        if known.is_empty() || (self.within && known.len() < 2) {
            return;
        }
        let centred = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let values: Vec<f64> = known.iter().map(|&model| value(model)).collect();
            let mean = if self.within { values.iter().sum::<f64>() / values.len() as f64 } else { 0.0 };
            values.into_iter().map(|value| value - mean).collect()
        };
        let truth = centred(&|model| f64::from(quality[model] - self.folded.means[at * models + model]));
        let said: Vec<Vec<f64>> = parts
            .iter()
            .map(|part| centred(&|model| f64::from(self.folded.said[part][at * models + model])))
            .collect();
        for (index, truth) in truth.into_iter().enumerate() {
            let said: Vec<f64> = said.iter().map(|said| said[index]).collect();
            each(truth, &said);
        }
    }

    fn sums(&self, parts: &[Part], of_fold: impl Fn(usize) -> bool) -> Sums {
        let p = parts.len();
        let mut sums = Sums { matrix: vec![0.0; p * p], right: vec![0.0; p] };
        for at in (0..self.folded.rows.len()).filter(|&at| of_fold(self.folded.fold[at])) {
            self.differences(at, parts, |truth, said| {
                for (i, a) in said.iter().enumerate() {
                    sums.right[i] += a * truth;
                    said.iter().enumerate().for_each(|(j, b)| sums.matrix[i * p + j] += a * b);
                }
            });
        }
        sums
    }

    /// The weights that other folds give to each fold.
    fn crossed(&self, parts: &[Part]) -> Vec<Vec<f64>> {
        (0..FOLDS).map(|fold| least_squares(&self.sums(parts, |of| of != fold))).collect()
    }

    /// Squared error of each prompt.
    fn losses(&self, parts: &[Part]) -> Vec<f64> {
        let weights = self.crossed(parts);
        let loss = |at: usize| {
            let (mut sum, mut count) = (0.0, 0_usize);
            self.differences(at, parts, |truth, said| {
                let told: f64 = said.iter().zip(&weights[self.folded.fold[at]]).map(|(s, w)| s * w).sum();
                sum += (truth - told).powi(2);
                count += 1;
            });
            if count == 0 { 0.0 } else { sum / count as f64 }
        };
        (0..self.folded.rows.len()).map(loss).collect()
    }

    /// Adds one part after the other and keeps what helps.
    fn select(
        &self,
        tier: u8,
        allowed: impl Fn(&Part) -> bool,
        steps: &mut Vec<Step>,
    ) -> (Vec<Part>, Vec<f64>) {
        let nothing = self.losses(&[]);
        let total: f64 = nothing.iter().sum();
        let (mut kept, mut losses) = (Vec::new(), nothing);
        for part in Part::ALL.into_iter().filter(allowed) {
            let tried = [&kept[..], &[part]].concat();
            let new = self.losses(&tried);
            let errors = lowered(&losses, &new).unwrap_or_default();
            let step = Step {
                tier,
                part,
                explained: if total > 0.0 { 1.0 - new.iter().sum::<f64>() / total } else { 0.0 },
                errors,
                quality: self.gain(&tried, 1.0).routed,
                kept: errors >= PART_ERRORS,
            };
            steps.push(step);
            if step.kept {
                (kept, losses) = (tried, new);
            }
        }
        (kept, losses)
    }

    /// The weights that all folds give together.
    fn blend(&self, parts: &[Part]) -> Blend {
        let weights = least_squares(&self.sums(parts, |_| true));
        parts
            .iter()
            .zip(weights)
            .fold(Blend::default(), |blend, (part, weight)| blend.with(*part, weight as f32))
    }

    /// The largest share of the weights that is nearly as good as the best one and no worse than the best single model.
    fn boldest(&self, parts: &[Part], blend: &Blend) -> f32 {
        if !blend.moves() {
            return 0.0;
        }
        let gains = FACTORS.map(|factor| self.gain(parts, factor));
        let of = |gain: &Gain| gain.routed - gain.single;
        let best = gains.iter().max_by(|a, b| of(a).total_cmp(&of(b)));
        let Some(best) = best else { return 0.0 };
        let enough = (of(best) - (best.high - best.low) / 2.0 / INTERVAL_ERRORS).max(0.0);
        let fine = gains.iter().find(|gain| of(gain) >= enough);
        fine.map_or(FACTORS[FACTORS.len() - 1], |gain| gain.factor)
    }

    /// What taking the model expected to be best gains over the best single one.
    fn gain(&self, parts: &[Part], factor: f32) -> Gain {
        let weights = self.crossed(parts);
        let models = self.data.models.len();
        let mut pairs = Vec::new();
        for (at, &row) in self.folded.rows.iter().enumerate() {
            let quality = self.data.row(row);
            let means = &self.folded.means[at * models..][..models];
            let known: Vec<usize> = (0..models).filter(|&model| !quality[model].is_nan()).collect();
            if known.len() < 2 {
                continue;
            }
            let expected = |model: usize| {
                let told: f64 = parts
                    .iter()
                    .zip(&weights[self.folded.fold[at]])
                    .map(|(part, weight)| weight * f64::from(self.folded.said[part][at * models + model]))
                    .sum();
                means[model] + factor * told as f32
            };
            let best = |score: &dyn Fn(usize) -> f32| {
                known[argmax(&known.iter().map(|&model| score(model)).collect::<Vec<_>>())]
            };
            let (routed, single) = (best(&expected), best(&|model| means[model]));
            pairs.push((f64::from(quality[routed]), f64::from(quality[single])));
        }
        let n = pairs.len();
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n.max(1) as f64;
        let (routed, single) = (mean(&|pair| pair.0), mean(&|pair| pair.1));
        let spread = mean(&|pair| (pair.0 - pair.1 - (routed - single)).powi(2));
        let half = INTERVAL_ERRORS * (spread / n.max(1) as f64).sqrt();
        let gain = routed - single;
        Gain { n, single, routed, low: gain - half, high: gain + half, factor }
    }
}

/// By how many standard errors the second losses are lower; `None` where nothing differs.
fn lowered(before: &[f64], after: &[f64]) -> Option<f64> {
    let count = before.len() as f64;
    let differences = || before.iter().zip(after).map(|(b, a)| b - a);
    let mean = differences().sum::<f64>() / count;
    let spread = differences().map(|d| (d - mean).powi(2)).sum::<f64>() / count;
    (spread > 0.0).then(|| mean / (spread / count).sqrt())
}

/// Least squares with weights from nothing to [`MAX_WEIGHT`], by coordinate descent.
fn least_squares(sums: &Sums) -> Vec<f64> {
    let p = sums.right.len();
    let mut weights = vec![0.0; p];
    for _ in 0..DESCENTS {
        for i in 0..p {
            let own = sums.matrix[i * p + i];
            let others: f64 = (0..p).filter(|&j| j != i).map(|j| sums.matrix[i * p + j] * weights[j]).sum();
            weights[i] = if own > 0.0 {
                ((sums.right[i] - others) / own).clamp(0.0, f64::from(MAX_WEIGHT))
            } else {
                0.0
            };
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_squares_finds_weights_and_refuses_negative_ones() {
        // Columns (1, 0), (0, 1), (1, 1) with the truth 2a + b.
        let sums = Sums { matrix: vec![2.0, 1.0, 1.0, 2.0], right: vec![5.0, 4.0] };
        let weights = least_squares(&sums);
        assert!((weights[0] - 2.0).abs() < 1e-6 && (weights[1] - 1.0).abs() < 1e-6, "{weights:?}");
        let sums = Sums { matrix: vec![1.0, 0.0, 0.0, 1.0], right: vec![-1.0, 9.0] };
        assert_eq!(least_squares(&sums), [0.0, 4.0]);
    }

    #[test]
    fn losses_are_compared_in_standard_errors() {
        assert_eq!(lowered(&[1.0; 4], &[1.0; 4]), None);
        let errors = lowered(&[1.0, 2.0, 1.0, 2.0], &[0.0, 1.5, 0.0, 1.5]).unwrap();
        assert!((errors - 0.75 / (0.0625_f64 / 4.0).sqrt()).abs() < 1e-9, "{errors}");
    }
}
