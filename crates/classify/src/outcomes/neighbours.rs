//! Known prompts by embedding, and how each pulls the models' expectations for prompts that resemble it.
//!
//! Kernel ridge regression, k = exp(-g (1 - cosine)), over embeddings less what all prompts have in common: a soft vote of
//! the neighbours, weighed so that it fits best. Bounded: at most [`MAX_NEIGHBOURS`] prompts are kept, as int8. Pure
//! arithmetic. Called by `outcomes`; training finds the pulls.

use bytes::Bytes;

use crate::encoder::HIDDEN;

/// Most prompts kept.
pub(crate) const MAX_NEIGHBOURS: usize = 10_000;
/// How fast likeness fades with distance.
const FADING: f32 = 2.0;
/// Largest value of a quantised number.
const FULL: f32 = 127.0;
/// The largest of the 384 numbers of a unit vector is far below a half.
const STRETCH: f32 = 2.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct Neighbours {
    pub(crate) models: usize,
    /// What all prompts have in common.
    pub(crate) centre: Vec<f32>,
    /// A row of [`HIDDEN`] int8 numbers for each prompt: its direction from the centre.
    pub(crate) rows: Bytes,
    /// A row of one number per model for each prompt.
    pub(crate) pulls: Vec<f32>,
}

/// The direction of an embedding from the centre, as int8.
pub(crate) fn direction(embedding: &[f32], centre: &[f32]) -> [i8; HIDDEN] {
    let from = |at: usize| embedding[at] - centre[at];
    let norm = (0..HIDDEN).map(|at| from(at) * from(at)).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    std::array::from_fn(|at| (from(at) / norm * STRETCH * FULL).round().clamp(-FULL, FULL) as i8)
}

/// How alike two directions are, from the sum of their products: 1 for the same.
pub(crate) fn likeness(product: f32) -> f32 {
    let cosine = product / (STRETCH * STRETCH * FULL * FULL);
    (-FADING * (1.0 - cosine)).exp()
}

impl Neighbours {
    /// How far each model is from its mean, by what it did on prompts like this one.
    pub(crate) fn of(&self, embedding: &[f32]) -> Vec<f32> {
        let wanted = direction(embedding, &self.centre).map(i16::from);
        let mut out = vec![0.0_f32; self.models];
        for (row, pulls) in self.rows.chunks_exact(HIDDEN).zip(self.pulls.chunks_exact(self.models)) {
            let like = likeness(product(&wanted, row) as f32);
            out.iter_mut().zip(pulls).for_each(|(out, pull)| *out += like * pull);
        }
        out
    }
}

/// `Bytes` knows only u8; the products are of the same bits as i8, and fit sixteen.
fn product(a: &[i16; HIDDEN], b: &[u8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a * i16::from(b as i8))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_like_pull_and_the_unlike_hardly_do() {
        let at =
            |axis: usize| -> Vec<f32> { (0..HIDDEN).map(|i| if i == axis { 0.3 } else { 0.0 }).collect() };
        let centre = vec![0.0; HIDDEN];
        // Spread over several numbers, so that none is cut off.
        let spread = |from: usize| -> Vec<f32> {
            (0..HIDDEN).map(|i| if (from..from + 64).contains(&i) { 1.0 } else { 0.0 }).collect()
        };
        let rows: Vec<u8> =
            [0, 100].iter().flat_map(|&from| direction(&spread(from), &centre).map(|v| v as u8)).collect();
        let known = Neighbours { models: 2, centre, rows: rows.into(), pulls: vec![1.0, 0.0, 0.0, 1.0] };
        let said = known.of(&spread(0));
        assert!((said[0] - 1.0).abs() < 0.02 && (said[1] - (-FADING).exp()).abs() < 0.01, "{said:?}");
        assert!(known.of(&at(300)).iter().all(|pull| (pull - (-FADING).exp()).abs() < 1e-3));
    }
}
