//! The nearest known prompts by embedding, and how the models did on them beyond what the table says.
//!
//! Bounded: at most [`MAX_NEIGHBOURS`] prompts are kept, as int8. Pure arithmetic, well below a millisecond per thousand.
//! Called by `outcomes`; training fills it.

use bytes::Bytes;

use crate::encoder::HIDDEN;

/// Most prompts kept.
pub(crate) const MAX_NEIGHBOURS: usize = 16_384;
/// An outcome that is not known.
pub(crate) const UNKNOWN: i8 = i8::MIN;
/// Nearest prompts that are asked.
const ASKED: usize = 100;
/// Largest value of a quantised number.
const FULL: f32 = 127.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct Neighbours {
    pub(crate) models: usize,
    /// What all prompts have in common.
    pub(crate) centre: Vec<f32>,
    /// A row of [`HIDDEN`] int8 numbers for each prompt: its direction from the centre.
    pub(crate) rows: Bytes,
    /// A row of one int8 number per model for each prompt, 127 for one whole, or [`UNKNOWN`].
    pub(crate) outcomes: Bytes,
    /// Similarities are divided by this before they weigh.
    pub(crate) temperature: f32,
    /// Weight of "nothing is known", on the scale of one very near neighbour.
    pub(crate) prior: f32,
}

/// The direction of an embedding from the centre, as int8.
pub(crate) fn direction(embedding: &[f32], centre: &[f32]) -> [i8; HIDDEN] {
    let from = |at: usize| embedding[at] - centre[at];
    let norm = (0..HIDDEN).map(|at| from(at) * from(at)).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    // The largest of 384 numbers of a unit vector is far below a half, so the scale is doubled.
    std::array::from_fn(|at| (from(at) / norm * 2.0 * FULL).round().clamp(-FULL, FULL) as i8)
}

impl Neighbours {
    /// How far each model is from what the table says, by what it did on the nearest prompts.
    pub(crate) fn of(&self, embedding: &[f32]) -> Vec<f32> {
        let wanted = direction(embedding, &self.centre);
        // `Bytes` knows only u8; the sum of products is taken over the same bits.
        let similar = self.rows.chunks_exact(HIDDEN).map(|row| dot(&wanted, row));
        let mut similar: Vec<(f32, u32)> = similar.zip(0..).collect();
        keep_nearest(&mut similar);
        let row = |at: u32| {
            self.outcomes[at as usize * self.models..][..self.models].iter().map(|&byte| byte as i8)
        };
        vote(&similar, self.models, self.temperature, self.prior, row)
    }
}

/// The cosine of two directions.
fn dot(a: &[i8; HIDDEN], b: &[u8]) -> f32 {
    let sum: i32 = a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b as i8)).sum();
    sum as f32 / (4.0 * FULL * FULL)
}

/// Leaves the [`ASKED`] most similar, the most similar first; the earlier on ties.
fn keep_nearest(similar: &mut Vec<(f32, u32)>) {
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if similar.len() > ASKED {
        similar.select_nth_unstable_by(ASKED - 1, order);
        similar.truncate(ASKED);
    }
    similar.sort_unstable_by(order);
}

/// The weighted mean of the neighbours' outcomes, with `prior` for "nothing known".
fn vote<R: Iterator<Item = i8>>(
    similar: &[(f32, u32)],
    models: usize,
    temperature: f32,
    prior: f32,
    row: impl Fn(u32) -> R,
) -> Vec<f32> {
    let (mut sums, mut weights) = (vec![0.0_f32; models], vec![prior; models]);
    for &(similarity, at) in similar {
        let weight = ((similarity - 1.0) / temperature).exp();
        for ((sum, total), outcome) in sums.iter_mut().zip(&mut weights).zip(row(at)) {
            if outcome != UNKNOWN {
                *sum += weight * f32::from(outcome) / FULL;
                *total += weight;
            }
        }
    }
    sums.iter().zip(weights).map(|(sum, weight)| sum / weight.max(f32::MIN_POSITIVE)).collect()
}
