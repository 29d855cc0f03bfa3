//! A linear model over dense inputs: each input against its mean and spread, no further out than three of them.
//!
//! Pure arithmetic. Called by `outcomes`; training fits it.

/// Further from the mean than this many standard deviations counts as this many.
pub(crate) const FARTHEST: f32 = 3.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) models: usize,
    pub(crate) means: Vec<f32>,
    /// What a distance from the mean is multiplied by to be in standard deviations.
    pub(crate) factors: Vec<f32>,
    /// A row of one number per model for each input.
    pub(crate) weights: Vec<f32>,
}

impl Linear {
    /// How far each model is from its mean.
    pub(crate) fn of(&self, input: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.models];
        let columns = input.iter().zip(self.means.iter().zip(&self.factors));
        for ((value, (mean, factor)), row) in columns.zip(self.weights.chunks_exact(self.models)) {
            let x = standard(*value, *mean, *factor);
            out.iter_mut().zip(row).for_each(|(out, weight)| *out += x * weight);
        }
        out
    }
}

/// A value in standard deviations from the mean.
pub(crate) fn standard(value: f32, mean: f32, factor: f32) -> f32 {
    ((value - mean) * factor).clamp(-FARTHEST, FARTHEST)
}
