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
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { escalated: 0.15, slack: Some(0.001), familiar: 0.98 }
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
    let loss = |gates: &Gates| -> f32 {
        rows.iter().map(|(s, label, weight)| -s.blend(labels, gates)[*label].max(1e-9).ln() * weight).sum()
    };
    let weighed = WEIGHTS.map(|weight| Gates { encoder_weight: weight, ..gates.clone() });
    let best = weighed.into_iter().min_by(|a, b| loss(a).total_cmp(&loss(b)));
    gates = best.unwrap_or(gates);
    let logs = |s: &Scores| s.blend(labels, &gates).into_iter().map(|p| p.max(1e-9).ln()).collect();
    let (temperature, slope) = fit_slope(&scored(&logs));
    (gates.blend_temperature, gates.blend_novelty_slope) = (temperature, slope);
    gate(&mut gates, &rows, labels, options);
    gates
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
