//! The thresholds of the safety classifier: how high a score a given share of harmless prompts exceeds.
//!
//! Called by `heads`.

use waypost_classify::train::{Prepared, Target, Trained};
use waypost_classify::{Alarm, Gates};

/// False-alarm rates for which thresholds are kept.
const RATES: [f32; 9] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];

/// A threshold per rate, from the harmless prompts at `judged`, which the heads have not seen.
pub(crate) fn alarms(
    trained: &Trained,
    data: &Prepared,
    targets: &[Target],
    judged: &[usize],
    gates: &Gates,
) -> Vec<Alarm> {
    let scores = |gates: Gates| -> Vec<(f32, f32)> {
        let mut scores: Vec<(f32, f32)> = judged
            .iter()
            .filter(|&&at| targets[at].label == Some(0))
            .flat_map(|&at| {
                let outcomes = trained.outcomes(data, targets, &[at], &gates);
                outcomes.into_iter().map(move |o| (1.0 - o.probabilities[0], targets[at].weight))
            })
            .collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        scores
    };
    let ngram = scores(gates.never_asking());
    let both = scores(gates.always_asking());
    let alarm = |rate| Alarm { rate, ngram: exceeded_by(&ngram, rate), encoder: exceeded_by(&both, rate) };
    RATES.map(alarm).to_vec()
}

/// The score that a weighted share `rate` of `scores` (falling) exceeds.
fn exceeded_by(scores: &[(f32, f32)], rate: f32) -> f32 {
    let total: f32 = scores.iter().map(|(_, weight)| weight).sum();
    let mut above = 0.0;
    for (score, weight) in scores {
        above += weight;
        if above > rate * total {
            return *score;
        }
    }
    0.0
}
