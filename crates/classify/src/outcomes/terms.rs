//! Words and pairs of words of a whole prompt, hashed and weighed by how rare they are, under a linear head.
//!
//! Unlike the classifiers' n-grams this reads the middle too: what is asked matters here, not only what is wanted. Pure
//! arithmetic; int8 rows are read in place. Called by `outcomes`; training fits the head.

use bytes::Bytes;

use crate::ends;
use crate::hash;
use crate::head::Rows;
use crate::words::for_each_word;

/// log2 of the number of buckets.
const BUCKET_BITS: u32 = 17;
/// Number of buckets.
pub(crate) const BUCKETS: usize = 1 << BUCKET_BITS;
/// Bytes read from each end of a prompt.
const EDGE_BYTES: usize = 12 * 1024;
const NS_WORD: u64 = 21;
const NS_PAIR: u64 = 22;

/// The buckets of a prompt's terms, rising, each with one plus the logarithm of how often they occur.
pub(crate) fn terms(text: &str) -> Vec<(u32, f32)> {
    let mut buckets = Vec::new();
    let (mut buffer, mut previous) = (String::new(), None);
    let (head, tail) = ends::of(text, EDGE_BYTES, EDGE_BYTES);
    for part in [head, tail] {
        for_each_word(part, &mut buffer, |word| {
            let hash = hash::bytes(NS_WORD, word.text.as_bytes());
            buckets.push(hash);
            buckets.extend(previous.map(|previous| hash::join(hash::join(NS_PAIR, previous), hash)));
            previous = Some(hash);
        });
    }
    let mut buckets: Vec<u32> = buckets.into_iter().map(|hash| (hash >> (64 - BUCKET_BITS)) as u32).collect();
    buckets.sort_unstable();
    let same = buckets.chunk_by(|a, b| a == b);
    same.map(|same| (same[0], 1.0 + (same.len() as f32).ln())).collect()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct TermHead {
    pub(crate) models: usize,
    rows: Rows,
    /// How rare the terms of each row are.
    pub(crate) rarity: Vec<f32>,
    /// How rare a term without a row is: what is new weighs nothing, but leaves the rest less to say.
    pub(crate) unknown: f32,
    /// int8, one number per model and row.
    pub(crate) weights: Bytes,
    /// What a model's weights are multiplied by.
    pub(crate) scales: Vec<f32>,
}

impl TermHead {
    /// From one bit a bucket, lowest first, that says which have a row; `None` if that is not as many as there are rows.
    pub(crate) fn new(
        bits: &[u8],
        (rarity, unknown): (Vec<f32>, f32),
        weights: Bytes,
        scales: Vec<f32>,
    ) -> Option<Self> {
        let rows = Rows::of(bits);
        (rows.count == rarity.len()).then(|| Self {
            models: scales.len(),
            rows,
            rarity,
            unknown,
            weights,
            scales,
        })
    }

    /// How far each model is from its mean.
    pub(crate) fn of(&self, terms: &[(u32, f32)]) -> Vec<f32> {
        let mut out = vec![0.0_f32; self.models];
        let mut length = 0.0_f32;
        for &(bucket, times) in terms {
            let Some(row) = self.rows.of_bucket(bucket as usize) else {
                length += (times * self.unknown).powi(2);
                continue;
            };
            let value = times * self.rarity[row];
            length += value * value;
            let weights = &self.weights[row * self.models..][..self.models];
            out.iter_mut().zip(weights).for_each(|(out, &weight)| *out += value * f32::from(weight as i8));
        }
        let norm = length.sqrt().max(f32::MIN_POSITIVE);
        out.iter_mut().zip(&self.scales).for_each(|(out, scale)| *out *= scale / norm);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_words_and_pairs_and_how_often_they_occur() {
        let found = terms("Ba, ba ba");
        // Words "ba" and ","; pairs "ba ,", ", ba" and "ba ba".
        assert_eq!(found.len(), 5);
        let most = found.iter().map(|term| term.1).fold(0.0, f32::max);
        assert!((most - (1.0 + 3.0_f32.ln())).abs() < 1e-6);
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(terms("").is_empty());
    }

    #[test]
    fn a_head_weighs_what_it_knows_and_ignores_the_rest() {
        let known = terms("ba")[0].0;
        let mut bits = vec![0_u8; BUCKETS / 8];
        bits[known as usize / 8] |= 1 << (known % 8);
        let head =
            |rarity: Vec<f32>| TermHead::new(&bits, (rarity, 4.0), vec![2_u8, 0xff].into(), vec![0.5, 0.1]);
        assert!(head(vec![3.0, 1.0]).is_none());
        let head = head(vec![3.0]).unwrap();
        let close = |text: &str, wanted: [f32; 2]| {
            let said = head.of(&terms(text));
            assert!(said.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{text}: {said:?}");
        };
        close("ba", [1.0, -0.1]);
        // Beside a new word and a new pair: 3 of the length of (3, 4, 4).
        let share = 3.0 / 41.0_f32.sqrt();
        close("ba new", [share, -0.1 * share]);
        close("", [0.0, 0.0]);
    }
}
