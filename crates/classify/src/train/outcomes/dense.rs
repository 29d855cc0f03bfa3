//! The linear parts over dense inputs: ridge regression of the differences from each model's mean.
//!
//! Inputs are taken in standard deviations, cut at three, and each of the two blocks has length one or so, whatever its
//! width. Called by `folds`.

use super::descent;
use super::table::Residuals;
use crate::outcomes::Linear;
use crate::outcomes::linear::standard;

/// Ridge penalty; the same within a factor of two either way.
const PENALTY: f32 = 30.0;
const STEPS: usize = 25;
/// Least spread of a column, so that a constant one is not blown up.
const MIN_DEVIATION: f64 = 1e-4;

/// Fits on the prompts at `chosen`. `inputs` gives a prompt's inputs and where the second block begins.
pub(super) fn fit(
    inputs: &dyn Fn(usize) -> (Vec<f32>, usize),
    residuals: &Residuals<'_>,
    chosen: &[usize],
) -> Linear {
    let models = residuals.means.len();
    let (width, border) = chosen.first().map_or((0, 0), |&row| {
        let (inputs, border) = inputs(row);
        (inputs.len(), border)
    });
    let (means, factors) = spread(inputs, chosen, width);
    let scale = |at: usize| {
        let block = if at < border { border } else { width - border };
        (block.max(1) as f32).sqrt().recip()
    };
    let mut matrix = Vec::with_capacity(chosen.len() * width);
    for &row in chosen {
        let (inputs, _) = inputs(row);
        matrix.extend((0..width).map(|at| scale(at) * standard(inputs[at], means[at], factors[at])));
    }
    let rows = || matrix.chunks_exact(width.max(1)).zip(chosen);
    let mut wanted = vec![0.0_f32; width * models];
    let mut target = vec![0.0_f32; models];
    for (row, &at) in rows() {
        target.iter_mut().enumerate().for_each(|(model, target)| *target = known(residuals.at(at, model)));
        outer(&mut wanted, row, &target);
    }
    let mut weights = descent::solve(models, wanted, STEPS, |direction| {
        let mut out: Vec<f32> = direction.iter().map(|d| PENALTY * d).collect();
        for (row, &at) in rows() {
            let mut score = vec![0.0_f32; models];
            for (x, weights) in row.iter().zip(direction.chunks_exact(models)) {
                score.iter_mut().zip(weights).for_each(|(score, weight)| *score += x * weight);
            }
            let unknown = |model: &usize| residuals.at(at, *model).is_nan();
            (0..models).filter(unknown).for_each(|model| score[model] = 0.0);
            outer(&mut out, row, &score);
        }
        out
    });
    for (at, row) in weights.chunks_exact_mut(models).enumerate() {
        row.iter_mut().for_each(|weight| *weight *= scale(at));
    }
    Linear { models, means, factors, weights }
}

/// What is not known pulls nowhere.
pub(super) fn known(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value }
}

/// Adds the product of a column and a row.
fn outer(out: &mut [f32], column: &[f32], row: &[f32]) {
    for (out, x) in out.chunks_exact_mut(row.len()).zip(column) {
        out.iter_mut().zip(row).for_each(|(out, value)| *out += x * value);
    }
}

/// Mean of each column and what to multiply by.
fn spread(
    inputs: &dyn Fn(usize) -> (Vec<f32>, usize),
    chosen: &[usize],
    width: usize,
) -> (Vec<f32>, Vec<f32>) {
    let count = chosen.len().max(1) as f64;
    let (mut sums, mut squares) = (vec![0.0_f64; width], vec![0.0_f64; width]);
    for &row in chosen {
        for (at, value) in inputs(row).0.into_iter().enumerate() {
            sums[at] += f64::from(value);
            squares[at] += f64::from(value) * f64::from(value);
        }
    }
    let factor = |(sum, square): (&f64, f64)| {
        let deviation = (square / count - (sum / count).powi(2)).max(0.0).sqrt();
        if deviation < MIN_DEVIATION { 0.0 } else { (1.0 / deviation) as f32 }
    };
    let factors = sums.iter().zip(squares).map(factor).collect();
    (sums.iter().map(|sum| (sum / count) as f32).collect(), factors)
}
