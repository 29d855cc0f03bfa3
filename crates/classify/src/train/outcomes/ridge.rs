//! The linear part over n-grams: ridge regression of the differences from each model's mean.
//!
//! Least squares on the difference itself, since routing compares differences of expectations, and a model that answers
//! wrongly where another is right teaches as much as the reverse. Models are independent of each other, so threads share
//! them and change no bit. Called by `folds`.

use std::num::NonZero;
use std::thread::available_parallelism;

use super::super::linear::Weights;
use super::dense::known;
use super::descent;
use super::table::Residuals;
use crate::features::{BUCKETS, DENSE, Features};

/// Ridge penalty over n-grams, whose rows have length one or so.
const NGRAM_PENALTY: f32 = 12.0;
/// Length of the other features of tier 0 beside the n-grams'.
const DENSE_SCALE: f32 = 0.35;
/// Fewer prompts with an n-gram teach nothing about others.
const MIN_PROMPTS: u32 = 2;
/// Conjugate gradients come close enough in so many steps.
const STEPS: usize = 25;

/// Fits tier 0's features of the prompts at `chosen`.
pub(super) fn fit(features: &[Features], residuals: &Residuals<'_>, chosen: &[usize]) -> Weights {
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
        let mut wanted = vec![0.0_f32; self.width() * k];
        for (row, &at) in chosen.iter().enumerate() {
            let target: Vec<f32> = models.iter().map(|&model| known(residuals.at(at, model))).collect();
            self.row(row, |column, x| add(&mut wanted[column * k..][..k], &target, x));
        }
        descent::solve(k, wanted, STEPS, |direction| self.curve(residuals, chosen, models, direction))
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

fn add(out: &mut [f32], row: &[f32], x: f32) {
    out.iter_mut().zip(row).for_each(|(out, value)| *out += x * value);
}
