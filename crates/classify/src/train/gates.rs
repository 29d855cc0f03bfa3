//! When to believe which tier, learnt from texts the heads were not trained on.
//!
//! Temperatures make confidences honest; the weight of tier 1 is what predicts best; the gate is the lowest that keeps
//! the accuracy of asking both tiers about as many prompts as the budget allows. Called by `train`'s callers.

use super::sgd::Target;
use super::{Prepared, Trained};
use crate::calibrate::{Scored, argmax, fit_temperature, log_loss};
use crate::gates::Gates;

/// What may be chosen about the gates.
#[derive(Debug, Clone)]
pub struct GateOptions {
    /// Most of the validation texts that may be escalated, 0 to 1.
    pub escalated: f32,
    /// Accuracy that may be given up for fewer escalations; without it all that may be escalated is.
    pub slack: Option<f32>,
    /// Share of the validation texts that count as familiar however new their n-grams.
    pub familiar: f32,
    /// The weight of tier 1 that is taken unless another is better by more than chance.
    pub usual_weight: Option<f32>,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { escalated: 0.15, slack: Some(0.001), familiar: 0.98, usual_weight: None }
    }
}

/// Candidate weights of tier 1.
const WEIGHTS: [f32; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Candidate growths of temperature with novelty.
const SLOPES: [f32; 6] = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0];
/// Candidate gates below the budget's.
const GATE_STEPS: usize = 40;

/// What both tiers say of one text.
#[derive(Debug, Clone)]
pub(crate) struct Scores {
    pub(crate) ngram: Vec<f32>,
    pub(crate) encoder: Option<Vec<f32>>,
    pub(crate) novelty: f32,
}

impl Scores {
    /// The cascade's distribution, and whether tier 1 was asked.
    pub(super) fn cascade(&self, labels: usize, gates: &Gates) -> (Vec<f32>, bool) {
        let first = gates.first(&self.ngram[..labels], self.novelty);
        let asked = self.encoder.is_some() && gates.doubt(&first, self.novelty).is_some();
        (if asked { self.blend(labels, gates) } else { first }, asked)
    }

    /// The averaged distribution.
    fn blend(&self, labels: usize, gates: &Gates) -> Vec<f32> {
        let mut out = gates.first(&self.ngram[..labels], self.novelty);
        if let Some(encoder) = &self.encoder {
            gates.second(&mut out, &encoder[..labels], self.novelty);
        }
        out
    }
}

/// Fits the gates on the texts at `chosen`, none of which the heads were trained on.
pub fn fit_gates(
    trained: &Trained,
    data: &Prepared,
    targets: &[Target],
    chosen: &[usize],
    options: &GateOptions,
) -> Gates {
    let labels = trained.linear.labels;
    let rows: Vec<(Scores, usize, f32)> = chosen
        .iter()
        .filter_map(|&at| Some((trained.scores(data, at), targets[at].label? as usize, targets[at].weight)))
        .collect();
    let mut gates = Gates::default();
    if rows.is_empty() {
        return gates;
    }
    let scored = |logits: &dyn Fn(&Scores) -> Vec<f32>| -> Vec<(Scored, f32)> {
        let each = |(s, label, weight): &(Scores, usize, f32)| {
            (Scored { logits: logits(s), label: *label, weight: *weight }, s.novelty)
        };
        rows.iter().map(each).collect()
    };
    (gates.temperature, gates.novelty_slope) = fit_slope(&scored(&|s| s.ngram[..labels].to_vec()));
    if trained.dense.is_none() {
        return gates;
    }
    let encoder = |s: &Scores| s.encoder.as_ref().map_or_else(Vec::new, |e| e[..labels].to_vec());
    let encoded: Vec<Scored> = scored(&encoder).into_iter().map(|(s, _)| s).collect();
    gates.encoder_temperature = fit_temperature(&encoded);
    let losses = WEIGHTS.map(|weight| {
        let gates = Gates { encoder_weight: weight, ..gates.clone() };
        let loss = |(s, label, weight): &(Scores, usize, f32)| {
            -s.blend(labels, &gates)[*label].max(1e-9).ln() * weight
        };
        rows.iter().map(loss).collect()
    });
    gates.encoder_weight = best_weight(&losses, options.usual_weight);
    let logs = |s: &Scores| s.blend(labels, &gates).into_iter().map(|p| p.max(1e-9).ln()).collect();
    let (temperature, slope) = fit_slope(&scored(&logs));
    (gates.blend_temperature, gates.blend_novelty_slope) = (temperature, slope);
    gate(&mut gates, &rows, labels, options);
    gates
}

/// The weight with the least loss or, among those that are no worse by more than a standard error, the nearest to the usual
/// one: a few dozen texts tell little, and a weight of one gives tier 0 away on their word (Breiman et al. 1984).
fn best_weight(losses: &[Vec<f32>; WEIGHTS.len()], usual: Option<f32>) -> f32 {
    let sum = |at: usize| losses[at].iter().map(|loss| f64::from(*loss)).sum::<f64>();
    let best = (0..WEIGHTS.len()).min_by(|a, b| sum(*a).total_cmp(&sum(*b))).unwrap_or_default();
    let Some(usual) = usual else { return WEIGHTS[best] };
    let no_worse = |at: &usize| {
        let differences = || losses[*at].iter().zip(&losses[best]).map(|(a, b)| f64::from(a - b));
        let (count, total) = (losses[best].len() as f64, differences().sum::<f64>());
        let spread = differences().map(|d| (d - total / count).powi(2)).sum::<f64>();
        // Of a sum: the spread of one difference times the root of their number.
        total <= spread.sqrt()
    };
    let nearest = |a: &usize, b: &usize| (WEIGHTS[*a] - usual).abs().total_cmp(&(WEIGHTS[*b] - usual).abs());
    WEIGHTS[(0..WEIGHTS.len()).filter(no_worse).min_by(nearest).unwrap_or(best)]
}

/// The temperature, and its growth with novelty, under which the right labels are likeliest.
fn fit_slope(scored: &[(Scored, f32)]) -> (f32, f32) {
    let fitted = SLOPES.map(|slope| {
        let cooled: Vec<Scored> = scored
            .iter()
            .map(|(s, novelty)| {
                let by = 1.0 + slope * novelty;
                Scored { logits: s.logits.iter().map(|l| l / by).collect(), ..s.clone() }
            })
            .collect();
        let temperature = fit_temperature(&cooled);
        (log_loss(&cooled, temperature), temperature, slope)
    });
    let best = fitted.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or((1.0, 0.0), |(_, temperature, slope)| (temperature, slope))
}

fn gate(gates: &mut Gates, rows: &[(Scores, usize, f32)], labels: usize, options: &GateOptions) {
    let mut novelties: Vec<f32> = rows.iter().map(|(s, ..)| s.novelty).collect();
    novelties.sort_by(f32::total_cmp);
    gates.familiar_to = novelties[((novelties.len() - 1) as f32 * options.familiar) as usize];
    let mut confidences: Vec<f32> = rows
        .iter()
        .map(|(s, ..)| gates.first(&s.ngram[..labels], s.novelty).into_iter().fold(0.0, f32::max))
        .collect();
    confidences.sort_by(f32::total_cmp);
    let at_share = |share: f32| confidences[((confidences.len() - 1) as f32 * share) as usize];
    let accuracy = |gates: &Gates| {
        let right = rows.iter().filter(|(s, label, _)| argmax(&s.cascade(labels, gates).0) == *label);
        right.count() as f32 / rows.len() as f32
    };
    let with = |share: f32| Gates { sure_from: at_share(share), ..gates.clone() };
    let saved = options.slack.and_then(|slack| {
        let wanted = accuracy(&with(options.escalated)) - slack;
        let mut shares = (0..=GATE_STEPS).map(|step| options.escalated * step as f32 / GATE_STEPS as f32);
        shares.find(|&share| accuracy(&with(share)) >= wanted)
    });
    gates.sure_from = at_share(saved.unwrap_or(options.escalated));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses of texts for which each weight is as good as its likeness to `best`, give or take what `noise` says.
    fn losses(count: usize, best: f32, noise: impl Fn(usize) -> f32) -> [Vec<f32>; WEIGHTS.len()] {
        WEIGHTS.map(|w| (0..count).map(|at| 1.0 + (w - best).powi(2) + noise(at) * (w - best)).collect())
    }

    #[test]
    fn a_weight_other_than_the_usual_must_be_better_by_more_than_chance() {
        let noise = |at: usize| if at.is_multiple_of(2) { 0.7 } else { -0.7 };
        assert_eq!(best_weight(&losses(20, 0.9, noise), Some(0.6)), 0.8, "within a standard error of 0.16");
        assert_eq!(best_weight(&losses(20_000, 0.9, noise), Some(0.6)), 0.9);
        assert_eq!(best_weight(&losses(20, 0.9, noise), None), 0.9);
    }
}
