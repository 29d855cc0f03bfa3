//! The linear parts: ridge regression of the differences from each model's mean.
//!
//! Least squares on the difference itself, since routing compares differences of expectations (and a model that answers
//! wrongly where another is right teaches as much as the reverse). Over n-grams by conjugate gradients, over encodings by
//! the normal equations. Models are independent of each other, so threads share them and change no bit. Called by `folds`.

use std::num::NonZero;
use std::thread::available_parallelism;

use super::super::linear::Weights;
use super::table::Residuals;
use crate::encoder::{Encoding, HIDDEN};
use crate::encoder_head::Projection;
use crate::features::{BUCKETS, DENSE, Features};

/// Ridge penalty over n-grams, whose rows have length one or so.
const NGRAM_PENALTY: f32 = 12.0;
/// Length of the other features of tier 0 beside the n-grams'.
const DENSE_SCALE: f32 = 0.35;
/// Fewer prompts with an n-gram teach nothing about others.
const MIN_PROMPTS: u32 = 2;
/// Conjugate gradients come close enough in so many steps.
const STEPS: usize = 25;
/// Ridge penalty over encodings, whose rows have length one or so.
const ENCODING_PENALTY: f64 = 30.0;
/// Least spread of a column, so that a constant one is not blown up.
const MIN_DEVIATION: f64 = 1e-3;

/// Fits tier 0's features of the prompts at `chosen`.
pub(super) fn ngrams(features: &[Features], residuals: &Residuals<'_>, chosen: &[usize]) -> Weights {
    let models = residuals.means.len();
    let design = Design::of(features, chosen);
    let threads = available_parallelism().map_or(1, NonZero::get).min(models);
    let share = models.div_ceil(threads);
    let columns: Vec<usize> = (0..models).collect();
    let solved: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let started: Vec<_> = columns
            .chunks(share)
            .map(|models| scope.spawn(|| design.solve(residuals, chosen, models)))
            .collect();
        // A panic of such a thread would be a defect; its models then stay at their means.
        started.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let mut weights = Weights::new(models, models);
    for (part, solution) in columns.chunks(share).zip(&solved) {
        for (column, row) in solution.chunks_exact(part.len()).enumerate() {
            let (into, scale) = match design.bucket_of.get(column) {
                Some(&bucket) => {
                    weights.kept[bucket as usize] = true;
                    (&mut weights.ngrams[bucket as usize * models..], design.scales[column])
                }
                None => (&mut weights.dense[(column - design.bucket_of.len()) * models..], DENSE_SCALE),
            };
            part.iter().zip(row).for_each(|(&model, value)| into[model] = value * scale);
        }
    }
    weights.prune();
    weights
}

/// The features of some prompts as one sparse matrix, rare and common n-grams scaled as TF-IDF does.
struct Design<'a> {
    features: Vec<&'a Features>,
    /// Column of each bucket that occurs often enough, or `u32::MAX`.
    column_of: Vec<u32>,
    bucket_of: Vec<u32>,
    scales: Vec<f32>,
}

impl<'a> Design<'a> {
    fn of(features: &'a [Features], chosen: &[usize]) -> Self {
        let features: Vec<&Features> = chosen.iter().map(|&row| &features[row]).collect();
        let mut prompts = vec![0_u32; BUCKETS];
        features.iter().flat_map(|f| &f.sparse).for_each(|&bucket| prompts[bucket as usize] += 1);
        let bucket_of: Vec<u32> =
            (0..BUCKETS as u32).filter(|&bucket| prompts[bucket as usize] >= MIN_PROMPTS).collect();
        let mut column_of = vec![u32::MAX; BUCKETS];
        (0..).zip(&bucket_of).for_each(|(column, &bucket)| column_of[bucket as usize] = column);
        let rarity = |bucket: &u32| {
            1.0 + ((1.0 + features.len() as f32) / (1.0 + prompts[*bucket as usize] as f32)).ln()
        };
        let mut scales: Vec<f32> = bucket_of.iter().map(rarity).collect();
        // Rows shall have length one: the square mean over what occurs, not over what there is.
        let (sum, count) =
            bucket_of.iter().zip(&scales).fold((0.0_f64, 0.0_f64), |(sum, count), (&bucket, scale)| {
                let times = f64::from(prompts[bucket as usize]);
                (sum + times * f64::from(scale * scale), count + times)
            });
        let length = (sum / count.max(1.0)).sqrt().max(f64::MIN_POSITIVE) as f32;
        scales.iter_mut().for_each(|scale| *scale /= length);
        Self { features, column_of, bucket_of, scales }
    }

    fn width(&self) -> usize {
        self.bucket_of.len() + DENSE
    }

    /// Calls `each` with the columns of a row and their values.
    fn row(&self, row: usize, mut each: impl FnMut(usize, f32)) {
        let features = self.features[row];
        let value = features.sparse_value();
        for &bucket in &features.sparse {
            let column = self.column_of[bucket as usize];
            if column != u32::MAX {
                each(column as usize, value * self.scales[column as usize]);
            }
        }
        for (at, &x) in features.dense.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            each(self.bucket_of.len() + at, DENSE_SCALE * x);
        }
    }

    /// The ridge solution for some models: a row of one number per model for each column.
    fn solve(&self, residuals: &Residuals<'_>, chosen: &[usize], models: &[usize]) -> Vec<f32> {
        let k = models.len();
        let mut gradient = vec![0.0_f32; self.width() * k];
        for (row, &at) in chosen.iter().enumerate() {
            let wanted: Vec<f32> =
                models.iter().map(|&model| zero_if_unknown(residuals.at(at, model))).collect();
            self.row(row, |column, x| add(&mut gradient[column * k..][..k], &wanted, x));
        }
        let mut solution = vec![0.0_f32; gradient.len()];
        let mut direction = gradient.clone();
        let mut squares = dots(&gradient, &gradient, k);
        for _ in 0..STEPS {
            let curved = self.curve(residuals, chosen, models, &direction);
            let curvature = dots(&direction, &curved, k);
            let step: Vec<f32> = squares.iter().zip(&curvature).map(|(s, c)| ratio(*s, *c)).collect();
            for ((x, g), (d, c)) in solution
                .chunks_exact_mut(k)
                .zip(gradient.chunks_exact_mut(k))
                .zip(direction.chunks_exact(k).zip(curved.chunks_exact(k)))
            {
                for at in 0..k {
                    x[at] += step[at] * d[at];
                    g[at] -= step[at] * c[at];
                }
            }
            let new = dots(&gradient, &gradient, k);
            let turn: Vec<f32> = new.iter().zip(&squares).map(|(n, s)| ratio(*n, *s)).collect();
            for (d, g) in direction.chunks_exact_mut(k).zip(gradient.chunks_exact(k)) {
                (0..k).for_each(|at| d[at] = g[at] + turn[at] * d[at]);
            }
            squares = new;
        }
        solution
    }

    /// The normal equations' matrix times `direction`.
    fn curve(
        &self,
        residuals: &Residuals<'_>,
        chosen: &[usize],
        models: &[usize],
        direction: &[f32],
    ) -> Vec<f32> {
        let k = models.len();
        let mut out: Vec<f32> = direction.iter().map(|d| NGRAM_PENALTY * d).collect();
        let mut score = vec![0.0_f32; k];
        for (row, &at) in chosen.iter().enumerate() {
            score.fill(0.0);
            self.row(row, |column, x| add(&mut score, &direction[column * k..][..k], x));
            for (score, &model) in score.iter_mut().zip(models) {
                if residuals.at(at, model).is_nan() {
                    *score = 0.0;
                }
            }
            self.row(row, |column, x| add(&mut out[column * k..][..k], &score, x));
        }
        out
    }
}

/// What is not known pulls nowhere.
fn zero_if_unknown(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value }
}

fn add(out: &mut [f32], row: &[f32], x: f32) {
    out.iter_mut().zip(row).for_each(|(out, value)| *out += x * value);
}

fn dots(a: &[f32], b: &[f32], k: usize) -> Vec<f64> {
    let mut out = vec![0.0_f64; k];
    for (a, b) in a.chunks_exact(k).zip(b.chunks_exact(k)) {
        (0..k).for_each(|at| out[at] += f64::from(a[at]) * f64::from(b[at]));
    }
    out
}

fn ratio(a: f64, b: f64) -> f32 {
    if b > f64::MIN_POSITIVE { (a / b) as f32 } else { 0.0 }
}

/// Fits the last layer's output for the prompts at `chosen`; the other layers weigh nothing.
pub(super) fn encodings(encodings: &[Encoding], residuals: &Residuals<'_>, chosen: &[usize]) -> Projection {
    let models = residuals.means.len();
    let width = chosen.first().map_or(HIDDEN, |&row| encodings[row].values().len());
    let from = width - HIDDEN;
    let (means, factors) = spread(encodings, chosen, from);
    let mut head =
        Projection { outputs: models, weights: vec![0.0; width * models], bias: vec![0.0; models] };
    let input = |row: usize, out: &mut [f32]| {
        let values = encodings[row].values()[from..].iter();
        out.iter_mut()
            .zip(values)
            .enumerate()
            .for_each(|(at, (out, value))| *out = (value - means[at]) * factors[at]);
    };
    // Models that were asked the same prompts share a matrix.
    let mut factored: Vec<(Vec<bool>, Vec<f64>)> = Vec::new();
    for model in 0..models {
        let known: Vec<bool> = chosen.iter().map(|&row| !residuals.at(row, model).is_nan()).collect();
        if !factored.iter().any(|(of, _)| *of == known) {
            let matrix = cholesky(gram(chosen, &known, &input));
            factored.push((known.clone(), matrix));
        }
        let Some((_, matrix)) = factored.iter().find(|(of, _)| *of == known) else { continue };
        let mut wanted = vec![0.0_f64; HIDDEN];
        let mut x = vec![0.0_f32; HIDDEN];
        for (&row, _) in chosen.iter().zip(&known).filter(|(_, known)| **known) {
            input(row, &mut x);
            let y = residuals.at(row, model);
            wanted.iter_mut().zip(&x).for_each(|(wanted, x)| *wanted += f64::from(x * y));
        }
        for (at, weight) in solve(matrix, wanted).into_iter().enumerate() {
            let weight = weight as f32 * factors[at];
            head.weights[(from + at) * models + model] = weight;
            head.bias[model] -= weight * means[at];
        }
    }
    head
}

/// Mean of each column and what to multiply by, so that a row has length one or so.
fn spread(encodings: &[Encoding], chosen: &[usize], from: usize) -> (Vec<f32>, Vec<f32>) {
    let count = chosen.len().max(1) as f64;
    let (mut sums, mut squares) = (vec![0.0_f64; HIDDEN], vec![0.0_f64; HIDDEN]);
    for &row in chosen {
        for (at, &value) in encodings[row].values()[from..].iter().enumerate() {
            sums[at] += f64::from(value);
            squares[at] += f64::from(value) * f64::from(value);
        }
    }
    let factor = |(sum, square): (&f64, f64)| {
        let deviation = (square / count - (sum / count).powi(2)).max(0.0).sqrt();
        (1.0 / (deviation.max(MIN_DEVIATION) * (HIDDEN as f64).sqrt())) as f32
    };
    let factors = sums.iter().zip(squares).map(factor).collect();
    (sums.iter().map(|sum| (sum / count) as f32).collect(), factors)
}

/// Sum over the known rows of each row times itself; only the lower half is filled.
fn gram(chosen: &[usize], known: &[bool], input: &dyn Fn(usize, &mut [f32])) -> Vec<f64> {
    let mut sums = vec![0.0_f32; HIDDEN * HIDDEN];
    let mut x = vec![0.0_f32; HIDDEN];
    for (&row, _) in chosen.iter().zip(known).filter(|(_, known)| **known) {
        input(row, &mut x);
        for at in 0..HIDDEN {
            add(&mut sums[at * HIDDEN..][..=at], &x[..=at], x[at]);
        }
    }
    let mut out: Vec<f64> = sums.into_iter().map(f64::from).collect();
    (0..HIDDEN).for_each(|at| out[at * HIDDEN + at] += ENCODING_PENALTY);
    out
}

/// The lower triangle L with L Lᵀ = the matrix, in place; the matrix is positive definite thanks to the penalty.
fn cholesky(mut m: Vec<f64>) -> Vec<f64> {
    for i in 0..HIDDEN {
        for j in 0..=i {
            let (a, b) = (&m[i * HIDDEN..][..j], &m[j * HIDDEN..][..j]);
            let sum = m[i * HIDDEN + j] - a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            m[i * HIDDEN + j] =
                if i == j { sum.max(f64::MIN_POSITIVE).sqrt() } else { sum / m[j * HIDDEN + j] };
        }
    }
    m
}

/// Solves L Lᵀ x = b.
fn solve(l: &[f64], mut b: Vec<f64>) -> Vec<f64> {
    for i in 0..HIDDEN {
        let sum: f64 = (0..i).map(|j| l[i * HIDDEN + j] * b[j]).sum();
        b[i] = (b[i] - sum) / l[i * HIDDEN + i];
    }
    for i in (0..HIDDEN).rev() {
        let sum: f64 = (i + 1..HIDDEN).map(|j| l[j * HIDDEN + i] * b[j]).sum();
        b[i] = (b[i] - sum) / l[i * HIDDEN + i];
    }
    b
}
