//! What both tiers' training shares: the target of an example, the loss's gradient, one AdaGrad step.
//!
//! Called by `linear` and `dense`.

use crate::calibrate::{sigmoid, softmax};

/// Keeps AdaGrad's first step finite.
const EPSILON: f32 = 1e-3;

/// What one example teaches.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// The right label, if known.
    pub label: Option<u32>,
    /// How hard it is, 0 to 1, if known; only for models that measure it.
    pub difficulty: Option<f32>,
    /// How much it counts; 1 is ordinary.
    pub weight: f32,
    /// What a teacher holds likely, one probability per label; empty without a teacher.
    pub(crate) taught: Vec<f32>,
}

impl Target {
    /// A target without a teacher.
    pub fn new(label: Option<u32>, difficulty: Option<f32>, weight: f32) -> Self {
        Self { label, difficulty, weight, taught: Vec::new() }
    }
}

/// How much a teacher's word counts against the label, where there are both.
const TEACHER_SHARE: f32 = 0.5;

/// Replaces scores by the loss's gradient with respect to them.
pub(super) fn gradient(scores: &mut [f32], target: &Target, labels: usize, smoothing: f32) {
    let difficulty = scores.get(labels).map(|&score| sigmoid(score));
    if target.label.is_none() && target.taught.is_empty() {
        scores[..labels].fill(0.0);
    } else {
        let spread = smoothing / labels as f32;
        let trust = match (target.label, target.taught.is_empty()) {
            (_, true) => 0.0,
            (None, false) => 1.0,
            (Some(_), false) => TEACHER_SHARE,
        };
        let probabilities = softmax(&scores[..labels], 1.0);
        for (index, (score, p)) in scores.iter_mut().zip(probabilities).enumerate() {
            let right = if target.label == Some(index as u32) { 1.0 - smoothing } else { 0.0 };
            let taught = target.taught.get(index).copied().unwrap_or(0.0);
            let wanted = (1.0 - trust) * (right + spread) + trust * taught;
            *score = (p - wanted) * target.weight;
        }
    }
    if let (Some(score), Some(predicted)) = (scores.get_mut(labels), difficulty) {
        *score = target.difficulty.map_or(0.0, |wanted| predicted - wanted);
    }
}

/// Adds `x` times a row.
pub(super) fn accumulate(out: &mut [f32], row: &[f32], x: f32) {
    for (out, weight) in out.iter_mut().zip(row) {
        *out += x * weight;
    }
}

/// One step of a row whose input was `x`.
pub(super) fn adagrad(row: &mut [f32], squares: &mut [f32], gradient: &[f32], x: f32, rate: f32, l2: f32) {
    for ((weight, square), g) in row.iter_mut().zip(squares).zip(gradient) {
        let g = g * x + l2 * *weight;
        *square += g * g;
        *weight -= rate * g / (square.sqrt() + EPSILON);
    }
}
