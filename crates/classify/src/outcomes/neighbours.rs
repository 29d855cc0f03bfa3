//! Known prompts by embedding, and what they say of prompts that resemble them.
//!
//! Two votes, averaged: kernel ridge regression, k = exp(-g (1 - cosine)), in which every known prompt pulls as fits best;
//! and the plain mean over the nearest. Both over the encoder's output less what all prompts have in common. Bounded: at
//! most [`MAX_NEIGHBOURS`] prompts are kept, as int8. Pure arithmetic. Called by `outcomes`; training finds the pulls.

use bytes::Bytes;

use crate::encoder::{HIDDEN, POOLED_LAYERS};

/// Numbers of a prompt.
pub(crate) const WIDTH: usize = POOLED_LAYERS * HIDDEN;
/// Most prompts kept.
pub(crate) const MAX_NEIGHBOURS: usize = 10_000;
/// How fast likeness fades with distance.
const FADING: f32 = 2.5;
/// One in so many known prompts is among the nearest, within these bounds.
const KNOWN_PER_NEAREST: usize = 25;
const MIN_NEAREST: usize = 10;
const MAX_NEAREST: usize = 300;
/// An outcome that is not known.
pub(crate) const UNKNOWN: i8 = i8::MIN;
/// Largest value of a quantised number.
pub(crate) const FULL: f32 = 127.0;
/// The largest of the 384 numbers of a unit vector is far below a half.
const STRETCH: f32 = 2.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct Neighbours {
    pub(crate) models: usize,
    /// What all prompts have in common.
    pub(crate) centre: Vec<f32>,
    /// A row of [`WIDTH`] int8 numbers for each prompt: its direction from the centre, layer by layer.
    pub(crate) rows: Bytes,
    /// A row of one number per model for each prompt.
    pub(crate) pulls: Vec<f32>,
    /// A row of one int8 number per model for each prompt: how far it was from its mean, 127 for one, or [`UNKNOWN`].
    pub(crate) outcomes: Bytes,
}

/// The direction of each layer's output from the centre, as int8.
pub(crate) fn direction(values: &[f32], centre: &[f32]) -> [i8; WIDTH] {
    let mut out = [0; WIDTH];
    let layers = values.chunks_exact(HIDDEN).zip(centre.chunks_exact(HIDDEN));
    for (out, (values, centre)) in out.chunks_exact_mut(HIDDEN).zip(layers) {
        let from = || values.iter().zip(centre).map(|(value, centre)| value - centre);
        let norm = from().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        let scale = STRETCH * FULL / norm;
        out.iter_mut().zip(from()).for_each(|(out, x)| *out = (x * scale).round().clamp(-FULL, FULL) as i8);
    }
    out
}

/// How alike two prompts are, from the sum of their directions' products: 1 for the same.
pub(crate) fn likeness(product: f32) -> f32 {
    let cosine = product / (POOLED_LAYERS as f32 * (STRETCH * FULL).powi(2));
    (-FADING * (1.0 - cosine)).exp()
}

/// How many of `known` prompts are the nearest: enough that chance averages out.
pub(crate) fn nearest_of(known: usize) -> usize {
    (known / KNOWN_PER_NEAREST).clamp(MIN_NEAREST, MAX_NEAREST)
}

impl Neighbours {
    /// How far each model is from its mean, by what it did on prompts like this one.
    pub(crate) fn of(&self, values: &[f32]) -> Vec<f32> {
        let wanted = direction(values, &self.centre).map(i16::from);
        let alike: Vec<f32> =
            self.rows.chunks_exact(WIDTH).map(|row| likeness(product(&wanted, row) as f32)).collect();
        let mut pulled = vec![0.0_f32; self.models];
        for (like, pulls) in alike.iter().zip(self.pulls.chunks_exact(self.models)) {
            pulled.iter_mut().zip(pulls).for_each(|(out, pull)| *out += like * pull);
        }
        let mut near: Vec<(f32, usize)> = alike.into_iter().zip(0..).collect();
        let row = |at: usize| {
            let outcomes = &self.outcomes[at * self.models..][..self.models];
            outcomes
                .iter()
                .map(|&byte| byte as i8)
                .map(|o| if o == UNKNOWN { f32::NAN } else { f32::from(o) / FULL })
        };
        let count = nearest_of(near.len());
        average(&pulled, &mean_of_nearest(&mut near, count, self.models, row))
    }
}

/// The two votes as one.
pub(crate) fn average(pulled: &[f32], near: &[f32]) -> Vec<f32> {
    pulled.iter().zip(near).map(|(a, b)| (a + b) / 2.0).collect()
}

/// The mean outcome of the most alike, the earlier on ties; nothing for a model that none of them was asked.
pub(crate) fn mean_of_nearest<R: Iterator<Item = f32>>(
    alike: &mut [(f32, usize)],
    count: usize,
    models: usize,
    row: impl Fn(usize) -> R,
) -> Vec<f32> {
    let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let near = if count < alike.len() { alike.select_nth_unstable_by(count, order).0 } else { alike };
    // In one order whatever the selection left, so that sums are the same bits.
    near.sort_unstable_by_key(|(_, at)| *at);
    let (mut sums, mut counts) = (vec![0.0_f32; models], vec![0.0_f32; models]);
    for &mut (_, at) in near {
        for ((sum, count), outcome) in sums.iter_mut().zip(&mut counts).zip(row(at)) {
            if !outcome.is_nan() {
                *sum += outcome;
                *count += 1.0;
            }
        }
    }
    sums.iter().zip(counts).map(|(sum, count)| sum / count.max(1.0)).collect()
}

/// `Bytes` knows only u8; the products are of the same bits as i8, and fit sixteen.
fn product(a: &[i16; WIDTH], b: &[u8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a * i16::from(b as i8))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_like_pull_and_the_unlike_hardly_do() {
        let centre = vec![0.0; WIDTH];
        // Spread over several numbers of every layer, so that none is cut off.
        let spread = |from: usize| -> Vec<f32> {
            (0..WIDTH).map(|i| if (from..from + 64).contains(&(i % HIDDEN)) { 1.0 } else { 0.0 }).collect()
        };
        let rows: Vec<u8> =
            [0, 100].iter().flat_map(|&from| direction(&spread(from), &centre).map(|v| v as u8)).collect();
        let outcomes = Bytes::from(vec![127_u8, 0, 0, UNKNOWN as u8]);
        let known =
            Neighbours { models: 2, centre, rows: rows.into(), pulls: vec![1.0, 0.0, 0.0, 1.0], outcomes };
        // The mean over both is a half of the first model's, and of the second what the first prompt says.
        let said = known.of(&spread(0));
        let far = (-FADING).exp();
        assert!((said[0] - (1.0 + 0.5) / 2.0).abs() < 0.03 && (said[1] - far / 2.0).abs() < 0.01, "{said:?}");
        assert!((known.of(&spread(300))[1] - far / 2.0).abs() < 1e-3);
    }
}
