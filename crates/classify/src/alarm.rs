//! Flagging at a rate of false alarms that the user fixed, rather than by the likeliest label.
//!
//! Training measured, for a few rates, the threshold on 1 - p(benign) beyond which that share of benign prompts lies.
//! Pure arithmetic. Called by the router for `safety`.

use crate::calibrate::argmax;
use crate::gates::{Alarm, Gates};
use crate::prompt::{Tier, Verdict};

/// The label that raises no alarm; the others are attacks.
const BENIGN: usize = 0;

impl Gates {
    /// The threshold on 1 - p(benign) that flags about `rate` of the benign prompts when `tier` answers. Between measured
    /// rates it is linear in the rate's logarithm, outside them the nearest holds; `None` where nothing was measured.
    pub fn alarm(&self, rate: f32, tier: Tier) -> Option<f32> {
        let threshold = |alarm: &Alarm| match tier {
            Tier::Ngram => alarm.ngram,
            Tier::Encoder => alarm.encoder,
        };
        let by_rate = |a: &&Alarm, b: &&Alarm| a.rate.total_cmp(&b.rate);
        let below = self.alarms.iter().filter(|a| a.rate <= rate).max_by(by_rate);
        let above = self.alarms.iter().filter(|a| a.rate >= rate).min_by(by_rate);
        match (below, above) {
            (Some(below), Some(above)) if below.rate < above.rate => {
                let share = (rate / below.rate).ln() / (above.rate / below.rate).ln();
                Some(threshold(below) + share * (threshold(above) - threshold(below)))
            }
            (below, above) => below.or(above).map(threshold),
        }
    }
}

impl Verdict {
    /// The verdict at this rate of false alarms: the likelier attack where the threshold is passed, else benign. Without
    /// measured thresholds it stays as it is.
    #[must_use]
    pub fn at_rate(mut self, rate: f32, gates: &Gates) -> Self {
        if let Some(threshold) = gates.alarm(rate, self.tier) {
            let flagged = 1.0 - self.probabilities[BENIGN] > threshold;
            self.label = if flagged { 1 + argmax(&self.probabilities[1..]) } else { BENIGN };
            self.confidence = self.probabilities[self.label];
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates() -> Gates {
        // Out of order, as a file may have them.
        let alarms = [(0.1, 0.2, 0.1), (0.001, 0.9, 0.8), (0.01, 0.6, 0.4)]
            .map(|(rate, ngram, encoder)| Alarm { rate, ngram, encoder });
        Gates { alarms: alarms.to_vec(), ..Gates::default() }
    }

    fn verdict(probabilities: &[f32], tier: Tier) -> Verdict {
        Verdict {
            label: argmax(probabilities),
            confidence: probabilities[argmax(probabilities)],
            probabilities: probabilities.to_vec(),
            tier,
            doubt: None,
            novelty: 0.0,
            difficulty: None,
            few_shots: None,
            constraints: None,
        }
    }

    #[test]
    fn measured_rates_keep_their_thresholds_and_those_between_are_log_linear() {
        let gates = gates();
        let close = |rate: f32, tier: Tier, expected: f32| {
            let found = gates.alarm(rate, tier).unwrap();
            assert!((found - expected).abs() < 1e-5, "{rate}: {found}, not {expected}");
        };
        close(0.01, Tier::Ngram, 0.6);
        close(0.01, Tier::Encoder, 0.4);
        // Half way between 0.001 and 0.01 on a logarithmic scale.
        close(0.01 / 10.0_f32.sqrt(), Tier::Ngram, 0.75);
        close(0.000_5, Tier::Ngram, 0.9);
        close(0.2, Tier::Encoder, 0.1);
        assert_eq!(Gates::default().alarm(0.01, Tier::Ngram), None);
    }

    #[test]
    fn a_strict_rate_lets_pass_what_a_generous_one_flags() {
        let doubtful = || verdict(&[0.5, 0.2, 0.3], Tier::Ngram);
        let strict = doubtful().at_rate(0.001, &gates());
        assert_eq!((strict.label, strict.confidence), (0, 0.5));
        let generous = doubtful().at_rate(0.1, &gates());
        assert_eq!((generous.label, generous.confidence), (2, 0.3));
        let by_encoder = verdict(&[0.5, 0.3, 0.2], Tier::Encoder).at_rate(0.01, &gates());
        assert_eq!(by_encoder.label, 1, "each tier has thresholds of its own");
        assert_eq!(doubtful().at_rate(0.01, &Gates::default()), doubtful());
    }
}
