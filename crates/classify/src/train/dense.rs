//! Tier 1's training: one linear layer over pooled encoder outputs.
//!
//! Logistic regression by AdaGrad with feature dropout, on inputs standardised per column; the
//! standardisation is folded into the weights at the end, so that inference is a plain product. Called by `train`.

use super::random::Random;
use super::sgd::{Target, accumulate, adagrad, gradient};
use crate::encoder::Encoding;
use crate::encoder_head::Projection;

/// What may be chosen about training tier 1's head.
#[derive(Debug, Clone)]
pub struct DenseOptions {
    /// Passes over the examples.
    pub epochs: usize,
    /// AdaGrad step.
    pub rate: f32,
    /// Ridge penalty.
    pub l2: f32,
    /// Share of inputs hidden at each visit.
    pub dropout: f32,
    /// Probability mass spread over the wrong labels.
    pub smoothing: f32,
    /// Seed of order and dropout.
    pub seed: u64,
}

impl Default for DenseOptions {
    fn default() -> Self {
        Self { epochs: 40, rate: 0.1, l2: 1e-5, dropout: 0.5, smoothing: 0.05, seed: 2026 }
    }
}

/// Length of a standardised input.
const INPUT_LENGTH: f32 = 6.0;
/// Least spread of a column, so that a constant one is not blown up.
const MIN_DEVIATION: f32 = 1e-3;

/// Trains on the encodings at `chosen`, which all have the same width.
pub(crate) fn train(
    encodings: &[Encoding],
    targets: &[Target],
    chosen: &[usize],
    (labels, measures): (usize, bool),
    options: &DenseOptions,
    mut progress: impl FnMut(usize),
) -> Projection {
    let outputs = labels + usize::from(measures);
    let width = chosen.first().map_or(0, |&at| encodings[at].values().len());
    let (means, factors) = spread(encodings, chosen, width);
    let mut weights = vec![0.0_f32; width * outputs];
    let mut squares = weights.clone();
    let (mut bias, mut bias_squares) = (vec![0.0_f32; outputs], vec![0.0_f32; outputs]);
    let mut random = Random(options.seed);
    let mut order = chosen.to_vec();
    let mut input = vec![0.0_f32; width];
    let mut scores = vec![0.0_f32; outputs];
    let keep = 1.0 / (1.0 - options.dropout);
    for epoch in 0..options.epochs {
        random.shuffle(&mut order);
        let rate = options.rate * (1.0 - epoch as f32 / options.epochs as f32);
        for &at in &order {
            let columns = encodings[at].values().iter().zip(means.iter().zip(&factors));
            for (x, (value, (mean, factor))) in input.iter_mut().zip(columns) {
                *x = if random.unit() < options.dropout { 0.0 } else { (value - mean) * factor * keep };
            }
            scores.copy_from_slice(&bias);
            for (&x, row) in input.iter().zip(weights.chunks_exact(outputs)) {
                if x != 0.0 {
                    accumulate(&mut scores, row, x);
                }
            }
            gradient(&mut scores, &targets[at], labels, options.smoothing);
            let rows = weights.chunks_exact_mut(outputs).zip(squares.chunks_exact_mut(outputs));
            for (&x, (row, square)) in input.iter().zip(rows) {
                if x != 0.0 {
                    adagrad(row, square, &scores, x, rate, options.l2);
                }
            }
            adagrad(&mut bias, &mut bias_squares, &scores, 1.0, rate, 0.0);
        }
        progress(epoch + 1);
    }
    fold(&mut weights, &mut bias, &means, &factors);
    Projection { outputs, weights, bias }
}

/// Mean of each column and what to multiply by: standardised, then scaled so that a whole input has length one or so
/// whatever its width.
fn spread(encodings: &[Encoding], chosen: &[usize], width: usize) -> (Vec<f32>, Vec<f32>) {
    let count = chosen.len().max(1) as f64;
    let (mut sums, mut squares) = (vec![0.0_f64; width], vec![0.0_f64; width]);
    for &at in chosen {
        for (column, &value) in encodings[at].values().iter().enumerate() {
            sums[column] += f64::from(value);
            squares[column] += f64::from(value) * f64::from(value);
        }
    }
    let scale = INPUT_LENGTH / (width.max(1) as f32).sqrt();
    let mut factors = Vec::with_capacity(width);
    for (sum, square) in sums.iter_mut().zip(squares) {
        *sum /= count;
        let deviation = (square / count - *sum * *sum).max(0.0).sqrt() as f32;
        factors.push(scale / deviation.max(MIN_DEVIATION));
    }
    (sums.into_iter().map(|mean| mean as f32).collect(), factors)
}

/// Moves the standardisation into weights and bias.
fn fold(weights: &mut [f32], bias: &mut [f32], means: &[f32], factors: &[f32]) {
    for (row, (mean, factor)) in weights.chunks_exact_mut(bias.len()).zip(means.iter().zip(factors)) {
        for (weight, bias) in row.iter_mut().zip(bias.iter_mut()) {
            *weight *= factor;
            *bias -= *weight * mean;
        }
    }
}
