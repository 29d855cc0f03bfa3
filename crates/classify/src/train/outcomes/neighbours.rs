//! Finds how known prompts pull: kernel ridge regression over their embeddings.
//!
//! How alike all of them are is computed once; every fold solves for those it is taught. Called by `folds`.

use std::num::NonZero;
use std::thread::available_parallelism;

use bytes::Bytes;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::Matrix;

use super::dense::known;
use super::descent;
use super::table::Residuals;
use crate::encoder::Encoding;
use crate::error::Error;
use crate::outcomes::Neighbours;
use crate::outcomes::neighbours::{
    FULL, UNKNOWN, WIDTH, average, direction, likeness, mean_of_nearest, nearest_of,
};

/// Ridge penalty.
const PENALTY: f32 = 15.0;
const STEPS: usize = 20;
/// Rows whose likeness to all others is computed at once.
const BLOCK: usize = 256;
/// Sums kept side by side, so that they can be taken at once.
const LANES: usize = 16;

/// The known prompts and how alike they are.
pub(super) struct Alike {
    centre: Vec<f32>,
    /// Their directions as int8, row after row.
    rows: Vec<i8>,
    /// Row after row, symmetric.
    likeness: Vec<f32>,
    count: usize,
}

impl Alike {
    /// Compares all encodings with each other.
    pub(super) fn of<'e>(encodings: impl Iterator<Item = &'e Encoding>) -> Result<Self, Error> {
        let values: Vec<&[f32]> = encodings.map(Encoding::values).collect();
        let count = values.len();
        let mean = |at: usize| values.iter().map(|v| f64::from(v[at])).sum::<f64>() / count.max(1) as f64;
        let centre: Vec<f32> = (0..WIDTH).map(|at| mean(at) as f32).collect();
        let rows: Vec<i8> = values.iter().flat_map(|v| direction(v, &centre)).collect();
        let floats: Vec<f32> = rows.iter().map(|&value| f32::from(value)).collect();
        let gemm = GemmExecutor::<f32>::default();
        let all = Matrix::from_data([count, WIDTH], floats.as_slice());
        let mut alike = vec![0.0_f32; count * count];
        for (block, out) in floats.chunks(BLOCK * WIDTH).zip(alike.chunks_mut(BLOCK * count.max(1))) {
            let some = Matrix::from_data([block.len() / WIDTH, WIDTH], block);
            let (a, b) = (GemmInputA::Unpacked(some), GemmInputB::Unpacked(all.transposed()));
            gemm.gemm(out, a, b, GemmOptions::default()).map_err(|error| Error::Kernel(error.to_string()))?;
            out.iter_mut().for_each(|product| *product = likeness(*product));
        }
        Ok(Self { centre, rows, likeness: alike, count })
    }

    /// The pulls of the prompts that are `taught`, nothing for the others. `row` is where a prompt's residuals stand.
    pub(super) fn pulls(&self, residuals: &Residuals<'_>, row: &[usize], taught: &[bool]) -> Vec<f32> {
        let models = residuals.means.len();
        let told = |at: usize, model: usize| taught[at] && !residuals.at(row[at], model).is_nan();
        let cells = || (0..self.count).flat_map(|at| (0..models).map(move |model| (at, model)));
        let target =
            |(at, model): (usize, usize)| if taught[at] { known(residuals.at(row[at], model)) } else { 0.0 };
        let wanted: Vec<f32> = cells().map(target).collect();
        descent::solve(models, wanted, STEPS, |pulls| {
            let mut out = self.times(pulls, models, &|at| taught[at]);
            for ((cell, out), pull) in cells().zip(&mut out).zip(pulls) {
                *out = if told(cell.0, cell.1) { *out + PENALTY * pull } else { 0.0 };
            }
            out
        })
    }

    /// What the taught prompts say of those that are not; nothing of themselves.
    pub(super) fn says(
        &self,
        pulls: &[f32],
        residuals: &Residuals<'_>,
        row: &[usize],
        taught: &[bool],
    ) -> Vec<f32> {
        let models = residuals.means.len();
        let pulled = self.times(pulls, models, &|at| !taught[at]);
        let count = nearest_of(taught.iter().filter(|taught| **taught).count());
        let mut out = vec![0.0_f32; pulled.len()];
        share(&mut out, models, &|at, out| {
            if taught[at] {
                return;
            }
            let alike = self.likeness[at * self.count..][..self.count].iter().copied().zip(0..);
            let mut alike: Vec<(f32, usize)> = alike.filter(|(_, other)| taught[*other]).collect();
            let outcomes = |other: usize| (0..models).map(move |model| residuals.at(row[other], model));
            let near = mean_of_nearest(&mut alike, count, models, outcomes);
            out.copy_from_slice(&average(&pulled[at * models..][..models], &near));
        });
        out
    }

    /// The likeness matrix times the pulls, in the rows that are `wanted`.
    fn times(&self, pulls: &[f32], models: usize, wanted: &(dyn Fn(usize) -> bool + Sync)) -> Vec<f32> {
        let columns: Vec<Vec<f32>> =
            (0..models).map(|model| pulls.iter().skip(model).step_by(models).copied().collect()).collect();
        let mut out = vec![0.0_f32; self.count * models];
        share(&mut out, models, &|at, out| {
            if wanted(at) {
                let alike = &self.likeness[at * self.count..][..self.count];
                out.iter_mut().zip(&columns).for_each(|(out, column)| *out = dot(alike, column));
            }
        });
        out
    }

    /// What is kept to be asked later.
    pub(super) fn keep(&self, pulls: Vec<f32>, residuals: &Residuals<'_>, row: &[usize]) -> Neighbours {
        let models = residuals.means.len();
        let int8 = |residual: f32| if residual.is_nan() { UNKNOWN } else { (residual * FULL).round() as i8 };
        let outcomes = row.iter().flat_map(|&row| (0..models).map(move |model| (row, model)));
        Neighbours {
            models,
            centre: self.centre.clone(),
            rows: Bytes::from(self.rows.iter().map(|&value| value as u8).collect::<Vec<_>>()),
            pulls,
            outcomes: outcomes
                .map(|(row, model)| int8(residuals.at(row, model)) as u8)
                .collect::<Vec<_>>()
                .into(),
        }
    }
}

/// Gives each row of `out` to `fill`, on all cores; who fills a row changes no bit.
fn share(out: &mut [f32], models: usize, fill: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let threads = available_parallelism().map_or(1, NonZero::get);
    let rows = (out.len() / models).div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (part, out) in out.chunks_mut(rows * models).enumerate() {
            scope.spawn(move || {
                (part * rows..).zip(out.chunks_exact_mut(models)).for_each(|(at, out)| fill(at, out))
            });
        }
    });
}

/// The sum of products, in a fixed order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        (0..LANES).for_each(|at| sums[at] += a[at] * b[at]);
    }
    sums.iter().sum::<f32>() + rest
}
