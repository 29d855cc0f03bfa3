//! The linear part over words and pairs of words: ridge regression of the differences from each model's mean.
//!
//! Least squares on the difference itself, since routing compares differences of expectations, and a model that answers
//! wrongly where another is right teaches as much as the reverse. Models are independent of each other, so threads share
//! them and change no bit. Called by `folds`.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread::{ScopedJoinHandle, available_parallelism};

use bytes::Bytes;

use super::dense::known;
use super::descent;
use super::table::Residuals;
use crate::outcomes::TermHead;
use crate::outcomes::terms::BUCKETS;

/// Ridge penalty; the same within a factor of two either way.
const PENALTY: f32 = 10.0;
/// Fewer prompts with a term teach nothing about others.
const MIN_PROMPTS: u32 = 2;
/// Conjugate gradients come close enough in so many steps.
const STEPS: usize = 25;

/// A fitted head with which buckets have a row, one bit a bucket.
pub(super) struct Terms {
    pub(super) bits: Vec<u8>,
    pub(super) head: TermHead,
}

/// Fits the terms of the prompts at `chosen`; `None` if no term occurs twice.
pub(super) fn fit(terms: &[Vec<(u32, f32)>], residuals: &Residuals<'_>, chosen: &[usize]) -> Option<Terms> {
    let models = residuals.means.len();
    let design = Design::of(terms, chosen);
    let threads = available_parallelism().map_or(1, NonZero::get).min(models);
    let share = models.div_ceil(threads);
    let columns: Vec<usize> = (0..models).collect();
    let solved: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let design = &design;
        let solve = |models| scope.spawn(move || design.solve(residuals, chosen, models));
        let started: Vec<_> = columns.chunks(share).map(solve).collect();
        let solution =
            |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        started.into_iter().map(solution).collect()
    });
    let mut weights = vec![0.0_f32; design.rarity.len() * models];
    for (part, solution) in columns.chunks(share).zip(&solved) {
        for (into, row) in weights.chunks_exact_mut(models).zip(solution.chunks_exact(part.len())) {
            part.iter().zip(row).for_each(|(&model, value)| into[model] = *value);
        }
    }
    design.quantised(&weights, models)
}

/// The terms of some prompts as one sparse matrix, whose rows have length one.
struct Design {
    bits: Vec<u8>,
    rarity: Vec<f32>,
    unknown: f32,
    /// Per prompt its columns and their values.
    rows: Vec<Vec<(u32, f32)>>,
}

impl Design {
    fn of(terms: &[Vec<(u32, f32)>], chosen: &[usize]) -> Self {
        let mut prompts = vec![0_u32; BUCKETS];
        chosen.iter().flat_map(|&row| &terms[row]).for_each(|(bucket, _)| prompts[*bucket as usize] += 1);
        let mut bits = vec![0_u8; BUCKETS / 8];
        let mut column_of = vec![u32::MAX; BUCKETS];
        let mut rarity = Vec::new();
        for (bucket, &prompts) in prompts.iter().enumerate().filter(|(_, prompts)| **prompts >= MIN_PROMPTS) {
            bits[bucket / 8] |= 1 << (bucket % 8);
            column_of[bucket] = rarity.len() as u32;
            rarity.push(1.0 + ((1.0 + chosen.len() as f32) / (1.0 + prompts as f32)).ln());
        }
        let unknown = 1.0 + (1.0 + chosen.len() as f32).ln();
        let row = |&row: &usize| {
            let mut length = 0.0_f32;
            let mut values = Vec::new();
            for &(bucket, times) in &terms[row] {
                let column = column_of[bucket as usize];
                let value = times * rarity.get(column as usize).copied().unwrap_or(unknown);
                length += value * value;
                if column != u32::MAX {
                    values.push((column, value));
                }
            }
            let norm = length.sqrt().max(f32::MIN_POSITIVE);
            values.iter_mut().for_each(|(_, value)| *value /= norm);
            values
        };
        let rows = chosen.iter().map(row).collect();
        Self { bits, rarity, unknown, rows }
    }

    /// The ridge solution for some models: a row of one number per model for each column.
    fn solve(&self, residuals: &Residuals<'_>, chosen: &[usize], models: &[usize]) -> Vec<f32> {
        let k = models.len();
        let mut wanted = vec![0.0_f32; self.rarity.len() * k];
        for (row, &at) in self.rows.iter().zip(chosen) {
            let target: Vec<f32> = models.iter().map(|&model| known(residuals.at(at, model))).collect();
            row.iter().for_each(|&(column, x)| add(&mut wanted[column as usize * k..][..k], &target, x));
        }
        descent::solve(k, wanted, STEPS, |direction| {
            let mut out: Vec<f32> = direction.iter().map(|d| PENALTY * d).collect();
            let mut score = vec![0.0_f32; k];
            for (row, &at) in self.rows.iter().zip(chosen) {
                score.fill(0.0);
                row.iter()
                    .for_each(|&(column, x)| add(&mut score, &direction[column as usize * k..][..k], x));
                for (score, &model) in score.iter_mut().zip(models) {
                    if residuals.at(at, model).is_nan() {
                        *score = 0.0;
                    }
                }
                row.iter().for_each(|&(column, x)| add(&mut out[column as usize * k..][..k], &score, x));
            }
            out
        })
    }

    /// The weights as int8, with one scale per model.
    fn quantised(self, weights: &[f32], models: usize) -> Option<Terms> {
        let mut scales = vec![f32::MIN_POSITIVE; models];
        for row in weights.chunks_exact(models) {
            scales.iter_mut().zip(row).for_each(|(scale, weight)| *scale = scale.max(weight.abs() / 127.0));
        }
        let int8 = |row: &[f32]| {
            row.iter()
                .zip(&scales)
                .map(|(weight, scale)| (weight / scale).round() as i8 as u8)
                .collect::<Vec<_>>()
        };
        let bytes: Vec<u8> = weights.chunks_exact(models).flat_map(int8).collect();
        if bytes.is_empty() {
            return None;
        }
        let head = TermHead::new(&self.bits, (self.rarity, self.unknown), Bytes::from(bytes), scales)?;
        Some(Terms { bits: self.bits, head })
    }
}

fn add(out: &mut [f32], row: &[f32], x: f32) {
    out.iter_mut().zip(row).for_each(|(out, value)| *out += x * value);
}
