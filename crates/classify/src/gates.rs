//! When to believe which tier: what training found out, and the arithmetic that follows from it.
//!
//! Serving and training ask the same methods, so that gates are fitted on what will be answered. Pure. Called by `model` and
//! by `train`; `alarm` reads the thresholds of `safety`.

use serde::{Deserialize, Serialize};

use crate::calibrate::{argmax, softmax, temper};
use crate::prompt::Doubt;

/// A confidence that no answer has.
const BEYOND_ANY: f32 = 2.0;

/// What training found about when to believe which tier. Stored in the file as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gates {
    /// Tier 0's logits are divided by this, times one plus `novelty_slope` times the prompt's novelty.
    pub temperature: f32,
    /// How much less to trust tier 0 the newer a prompt's words and pairs of words are.
    pub novelty_slope: f32,
    /// Tier 1's logits are divided by this.
    pub encoder_temperature: f32,
    /// Weight of tier 1 where both distributions are averaged, 0 to 1.
    pub encoder_weight: f32,
    /// The averaged distribution is sharpened (below 1) or softened (above 1) by this, times one plus
    /// `blend_novelty_slope` times the prompt's novelty.
    pub blend_temperature: f32,
    /// How much less to trust both tiers the newer a prompt's words and pairs of words are.
    pub blend_novelty_slope: f32,
    /// Below this confidence tier 0 asks for tier 1.
    pub sure_from: f32,
    /// Above this novelty tier 0 asks for tier 1, however sure it is.
    pub familiar_to: f32,
    /// Scores above which a prompt is flagged, by tier and false-alarm rate; empty but for `safety`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
}

/// A threshold on 1 - p(benign) and the share of benign prompts beyond it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Share of benign prompts flagged, 0 to 1.
    pub rate: f32,
    /// Threshold when tier 0 answered.
    pub ngram: f32,
    /// Threshold when both tiers did.
    pub encoder: f32,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            novelty_slope: 0.0,
            encoder_temperature: 1.0,
            encoder_weight: 0.5,
            blend_temperature: 1.0,
            blend_novelty_slope: 0.0,
            sure_from: 0.0,
            familiar_to: 1.0,
            alarms: Vec::new(),
        }
    }
}

impl Gates {
    /// The same, but the encoder is never asked.
    #[must_use]
    pub fn never_asking(&self) -> Self {
        Self { sure_from: 0.0, familiar_to: 1.0, ..self.clone() }
    }

    /// The same, but the encoder is asked about everything.
    #[must_use]
    pub fn always_asking(&self) -> Self {
        Self { sure_from: BEYOND_ANY, ..self.clone() }
    }

    /// Whether the encoder is asked about everything.
    pub fn always_asks(&self) -> bool {
        self.sure_from > 1.0
    }

    /// Tier 0's distribution: from its raw scores, for a prompt of this novelty.
    pub(crate) fn first(&self, logits: &[f32], novelty: f32) -> Vec<f32> {
        softmax(logits, self.temperature * (1.0 + self.novelty_slope * novelty))
    }

    /// Why tier 0's distribution will not do.
    pub(crate) fn doubt(&self, first: &[f32], novelty: f32) -> Option<Doubt> {
        if first[argmax(first)] < self.sure_from {
            Some(Doubt::Unsure)
        } else {
            (novelty > self.familiar_to).then_some(Doubt::Unfamiliar)
        }
    }

    /// Averages tier 1's raw scores into tier 0's distribution.
    pub(crate) fn second(&self, first: &mut [f32], encoder: &[f32], novelty: f32) {
        for (p, q) in first.iter_mut().zip(softmax(encoder, self.encoder_temperature)) {
            *p += self.encoder_weight * (q - *p);
        }
        temper(first, self.blend_temperature * (1.0 + self.blend_novelty_slope * novelty));
    }

    /// Whether every number is one that training could have found.
    pub(crate) fn sound(&self) -> bool {
        let positive = |t: f32| t.is_finite() && t > 0.0;
        let share = |s: f32| (0.0..=1.0).contains(&s);
        [self.temperature, self.encoder_temperature, self.blend_temperature].into_iter().all(positive)
            && [self.encoder_weight, self.familiar_to].into_iter().all(share)
            && [self.novelty_slope, self.blend_novelty_slope].into_iter().all(|s| s.is_finite() && s >= 0.0)
            && self.sure_from.is_finite()
    }
}
