//! Which parts are worth keeping, how far their average may leave the means, and whether others may beat the best single
//! model.
//!
//! Kept parts count alike; one scale for all is least squares over differences between models. Every comparison is on
//! prompts whose own outcomes set neither parts nor scale. Pure. Called by `outcomes`.

use serde::Serialize;

use super::Outcomes;
use super::folds::{FOLDS, Folded};
use crate::calibrate::argmax;
use crate::outcomes::blend::MAX_WEIGHT;
use crate::outcomes::file::MAX_SAMPLE;
use crate::outcomes::{Blend, Part, Parts, keep_in_range};

/// A part stays if it lowers the error by so many standard errors: little, since an average forgives a part that adds
/// nothing, and all together must pass a harder test.
const PART_ERRORS: f64 = 0.5;
/// The parts that ask the encoder must lower it by so many more, for they take milliseconds.
const ENCODER_ERRORS: f64 = 1.0;
/// All parts together must lower it by so many, or outcomes are taken not to depend on prompts: chance alone does so once in
/// two hundred times.
const SIGNAL_ERRORS: f64 = 2.6;
/// Others may lead if that gained quality by so many standard errors. Of 400 pools of models and five held-out folds each,
/// 1.3 % then did worse than their best single model, and 6 % when others always might.
const LEAD_ERRORS: f64 = 2.0;
/// Half of a 95 % interval, in standard errors.
const INTERVAL_ERRORS: f64 = 1.96;
/// With fewer known models a prompt, there is nothing to compare within prompts.
const MIN_KNOWN: f64 = 1.5;

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
    /// What the average of the parts is multiplied by; 0 when prompts are not told apart.
    pub scale: f32,
    /// Whether others than the best single model may be expected to be best.
    pub others_may_lead: bool,
}

/// What was chosen.
pub(super) struct Found {
    pub(super) parts: Parts,
    pub(super) steps: Vec<Step>,
    pub(super) gain: Gain,
    /// What is expected of each model for some prompts, by parts that were not taught them: for telling what a rule will do.
    pub(super) sample: Vec<f32>,
}

/// Chooses parts, their scale, and who may lead.
pub(super) fn choose(data: &Outcomes, folded: &Folded) -> Found {
    let judged = Judged::of(data, folded);
    let mut steps = Vec::new();
    let here = |part: &Part| folded.said.contains_key(part);
    let (first, first_losses) = judged.select(0, &[], |part| here(part) && !part.asks_encoder(), &mut steps);
    let (mut second, mut losses) =
        judged.select(1, &first, |part| here(part) && part.asks_encoder(), &mut steps);
    if !lowered(&first_losses, &losses).is_some_and(|errors| errors >= ENCODER_ERRORS) {
        (second, losses) = (first.clone(), first_losses.clone());
    }
    let nothing = judged.losses(&[]);
    let settle = |parts: &[Part], losses: &[f64]| {
        if lowered(&nothing, losses).is_some_and(|errors| errors >= SIGNAL_ERRORS) {
            judged.settle(parts)
        } else {
            (Blend::default(), judged.gain(&[]))
        }
    };
    let (tier0, first_gain) = settle(&first, &first_losses);
    let (tier1, second_gain) = settle(&second, &losses);
    let (gain, blend, parts) =
        if tier1.moves() { (second_gain, &tier1, &second) } else { (first_gain, &tier0, &first) };
    let sample = judged.sample(parts, blend);
    Found { parts: Parts { tier0, tier1 }, steps, gain, sample }
}

impl Found {
    /// Parts with a weight in either tier.
    pub(super) fn wanted(&self) -> Vec<Part> {
        let counts =
            |part: &Part| self.parts.tier0.weight(*part) > 0.0 || self.parts.tier1.weight(*part) > 0.0;
        Part::ALL.into_iter().filter(counts).collect()
    }

    /// What to make of it, for a person; `best` is the best single model.
    pub(super) fn words(&self, best: &str) -> String {
        let Gain { n, single, routed, low, high, others_may_lead, .. } = self.gain;
        if !(self.parts.tier0.moves() || self.parts.tier1.moves()) {
            return format!(
                "No gain was found: in turns over {n} prompts, each held out once, which model does better could not be told from the prompt. Every prompt gets the models' means, so the best single model, {best}, is taken wherever quality decides."
            );
        }
        if !others_may_lead {
            return format!(
                "No gain in quality over always taking {best} is certain in turns over {n} prompts, each held out once, so no other model is ever expected to be better. Prompts are told apart well enough to save cost where a little quality may be given up."
            );
        }
        let points = |share: f64| share * 100.0;
        format!(
            "Worth routing for quality: in turns over {n} prompts, each held out once, taking the model expected to be best gave {:.1} %, always taking the best single model, {best}, {:.1} % (difference {:+.1} points, 95 % interval {:+.1} to {:+.1}).",
            points(routed),
            points(single),
            points(routed - single),
            points(low),
            points(high)
        )
    }
}

/// The prompts with what is true and what the parts said, as differences.
struct Judged<'a> {
    data: &'a Outcomes,
    folded: &'a Folded,
    /// Differences are taken from the prompt's own mean over its known models.
    within: bool,
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

    /// The average of what the parts say.
    fn average(&self, at: usize, parts: &[Part], model: usize) -> f64 {
        let place = at * self.data.models.len() + model;
        let sum: f64 = parts.iter().map(|part| f64::from(self.folded.said[part][place])).sum();
        sum / parts.len().max(1) as f64
    }

    /// Calls `each` for a prompt's known models with the true difference and the average of what the parts said of it.
    fn differences(&self, at: usize, parts: &[Part], mut each: impl FnMut(f64, f64)) {
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
        let said = centred(&|model| self.average(at, parts, model));
        truth.into_iter().zip(said).for_each(|(truth, said)| each(truth, said));
    }

    /// Least squares of the truth on the average of the parts, over some folds.
    fn scale(&self, parts: &[Part], of_fold: impl Fn(usize) -> bool) -> f64 {
        let (mut products, mut squares) = (0.0, 0.0);
        for at in (0..self.folded.rows.len()).filter(|&at| of_fold(self.folded.fold[at])) {
            self.differences(at, parts, |truth, said| {
                products += truth * said;
                squares += said * said;
            });
        }
        if squares > 0.0 { (products / squares).clamp(0.0, f64::from(MAX_WEIGHT)) } else { 0.0 }
    }

    /// The scale that other folds give to each fold.
    fn crossed(&self, parts: &[Part]) -> Vec<f64> {
        (0..FOLDS).map(|fold| self.scale(parts, |of| of != fold)).collect()
    }

    /// Squared error of each prompt.
    fn losses(&self, parts: &[Part]) -> Vec<f64> {
        let scales = self.crossed(parts);
        let loss = |at: usize| {
            let (mut sum, mut count) = (0.0, 0_usize);
            self.differences(at, parts, |truth, said| {
                sum += (truth - scales[self.folded.fold[at]] * said).powi(2);
                count += 1;
            });
            if count == 0 { 0.0 } else { sum / count as f64 }
        };
        (0..self.folded.rows.len()).map(loss).collect()
    }

    /// Adds one part after the other to those kept before, and keeps what helps.
    fn select(
        &self,
        tier: u8,
        before: &[Part],
        allowed: impl Fn(&Part) -> bool,
        steps: &mut Vec<Step>,
    ) -> (Vec<Part>, Vec<f64>) {
        let total: f64 = self.losses(&[]).iter().sum();
        let (mut kept, mut losses) = (before.to_vec(), self.losses(before));
        for part in Part::ALL.into_iter().filter(allowed) {
            let tried = [&kept[..], &[part]].concat();
            let new = self.losses(&tried);
            let errors = lowered(&losses, &new).unwrap_or_default();
            let step = Step {
                tier,
                part,
                explained: if total > 0.0 { 1.0 - new.iter().sum::<f64>() / total } else { 0.0 },
                errors,
                quality: self.gain(&tried).routed,
                kept: errors >= PART_ERRORS,
            };
            steps.push(step);
            if step.kept {
                (kept, losses) = (tried, new);
            }
        }
        (kept, losses)
    }

    /// The weights of the parts, and what they gain.
    fn settle(&self, parts: &[Part]) -> (Blend, Gain) {
        let scale = self.scale(parts, |_| true) as f32;
        let weight = scale / parts.len().max(1) as f32;
        let blend = parts.iter().fold(Blend::default(), |blend, part| blend.with(*part, weight));
        let mut gain = self.gain(parts);
        let error = (gain.high - gain.low) / 2.0 / INTERVAL_ERRORS;
        let lead = gain.routed - gain.single > LEAD_ERRORS * error;
        if !lead {
            gain.routed = gain.single;
            (gain.low, gain.high) = (0.0, 0.0);
        }
        (gain.scale, gain.others_may_lead) = (scale, lead);
        (Blend { others_may_lead: lead, ..blend }, gain)
    }

    /// What is expected for prompts from all over the data, a row of models each.
    fn sample(&self, parts: &[Part], blend: &Blend) -> Vec<f32> {
        let models = self.data.models.len();
        let step = self.folded.rows.len().div_ceil(MAX_SAMPLE).max(1);
        let scales = if blend.moves() { self.crossed(parts) } else { vec![0.0; FOLDS] };
        let mut sample = Vec::new();
        for at in (0..self.folded.rows.len()).step_by(step) {
            let told = |model| (scales[self.folded.fold[at]] * self.average(at, parts, model)) as f32;
            let mut row: Vec<f32> =
                (0..models).map(|model| self.folded.means[at * models + model] + told(model)).collect();
            keep_in_range(&mut row, blend, argmax(&self.folded.means[at * models..][..models]));
            sample.append(&mut row);
        }
        sample
    }

    /// What taking the model expected to be best gains over the best single one.
    fn gain(&self, parts: &[Part]) -> Gain {
        let scales = self.crossed(parts);
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
                let told = scales[self.folded.fold[at]] * self.average(at, parts, model);
                means[model] + told as f32
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
        Gain { n, single, routed, low: gain - half, high: gain + half, scale: 0.0, others_may_lead: false }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_compared_in_standard_errors() {
        assert_eq!(lowered(&[1.0; 4], &[1.0; 4]), None);
        let errors = lowered(&[1.0, 2.0, 1.0, 2.0], &[0.0, 1.5, 0.0, 1.5]).unwrap();
        assert!((errors - 0.75 / (0.0625_f64 / 4.0).sqrt()).abs() < 1e-9, "{errors}");
    }
}
