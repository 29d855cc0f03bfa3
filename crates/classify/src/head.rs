//! Tier 0's head: features to one logit per output, and how much of a text it has never seen the like of.
//!
//! N-gram weights are int8 rows read in place; a row exists only for buckets that training touched. Called by `model`;
//! `train` makes the tensors it reads.

use bytes::Bytes;

use crate::error::Error;
use crate::features::{BUCKETS, DENSE, Features, GRAMS};
use crate::model_file::ModelFile;
use crate::wide::wide;

/// The trained weights of tier 0.
#[derive(Debug)]
pub(crate) struct LinearHead {
    outputs: usize,
    rows: Rows,
    /// One bit per slot of words and pairs that training saw.
    known: Bytes,
    ngrams: Bytes,
    ngram_scales: Vec<f32>,
    dense: Vec<f32>,
    bias: Vec<f32>,
}

impl LinearHead {
    /// Reads the head's tensors for `outputs` outputs.
    pub(crate) fn open(file: &ModelFile<'_>, outputs: usize) -> Result<Self, Error> {
        let rows = Rows::of(&file.int8("ngram_buckets", &[BUCKETS / 8])?);
        Ok(Self {
            outputs,
            known: file.int8("known_grams", &[GRAMS / 8])?,
            ngrams: file.int8("ngrams", &[rows.count, outputs])?,
            rows,
            ngram_scales: file.floats("ngram_scales", &[outputs])?,
            dense: file.floats("dense", &[DENSE, outputs])?,
            bias: file.floats("bias", &[outputs])?,
        })
    }

    /// Raw scores of a text, and its novelty.
    pub(crate) fn logits(&self, features: &Features) -> (Vec<f32>, f32) {
        let mut logits = vec![0.0; self.outputs];
        wide(
            #[inline(always)]
            || self.score(features, &mut logits),
        );
        (logits, novelty(&self.known, features))
    }

    #[inline(always)]
    fn score(&self, features: &Features, logits: &mut [f32]) {
        let value = features.sparse_value();
        for (block, logits) in logits.chunks_mut(LANES).enumerate() {
            let from = block * LANES;
            let mut counts = [0_i32; LANES];
            for &bucket in &features.sparse {
                let Some(row) = self.rows.of_bucket(bucket as usize) else { continue };
                let weights = lanes(&self.ngrams, row * self.outputs + from);
                for (count, weight) in counts.iter_mut().zip(weights) {
                    *count += i32::from(weight as i8);
                }
            }
            let mut sums = [0.0; LANES];
            for (at, sum) in sums[..logits.len()].iter_mut().enumerate() {
                *sum = self.bias[from + at] + counts[at] as f32 * self.ngram_scales[from + at] * value;
            }
            for (at, &x) in features.dense.iter().enumerate() {
                let weights = lanes(&self.dense, at * self.outputs + from);
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += x * weight;
                }
            }
            logits.copy_from_slice(&sums[..logits.len()]);
        }
    }
}

/// Outputs that are summed up at once: what the widest registers hold.
const LANES: usize = 16;

/// What stands from `at` on. Where a row is narrower, the next one's beginning is in the lanes that nobody looks at.
#[inline(always)]
fn lanes<T: Copy + Default>(data: &[T], at: usize) -> [T; LANES] {
    let data = &data[at..];
    match data.first_chunk() {
        Some(lanes) => *lanes,
        None => {
            let mut lanes = [T::default(); LANES];
            lanes[..data.len()].copy_from_slice(data);
            lanes
        }
    }
}

/// Which buckets have a row of weights, and where it is: a bit a bucket, and how many are set before each word of bits.
#[derive(Debug)]
pub(crate) struct Rows {
    bits: Vec<u64>,
    before: Vec<u32>,
    pub(crate) count: usize,
}

impl Rows {
    /// From one bit a bucket, lowest first.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let bits: Vec<u64> = bytes.chunks(8).map(word).collect();
        let mut count = 0_u32;
        let number = |word: &u64| {
            let before = count;
            count += word.count_ones();
            before
        };
        let before = bits.iter().map(number).collect();
        Self { bits, before, count: count as usize }
    }

    pub(crate) fn of_bucket(&self, bucket: usize) -> Option<usize> {
        let (word, bit) = (self.bits[bucket / 64], 1_u64 << (bucket % 64));
        (word & bit != 0).then(|| (self.before[bucket / 64] + (word & (bit - 1)).count_ones()) as usize)
    }
}

/// Share of a text's words and pairs of words that are not among the `known`.
pub(crate) fn novelty(known: &[u8], features: &Features) -> f32 {
    let new = features.grams.iter().filter(|&&gram| known[gram as usize / 8] >> (gram % 8) & 1 == 0).count();
    new as f32 / features.grams.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_in_the_order_of_their_buckets() {
        let mut bytes = vec![0_u8; BUCKETS / 8];
        let taught = [0, 7, 8, 63, 64, 1000, BUCKETS - 1];
        taught.iter().for_each(|bucket| bytes[bucket / 8] |= 1 << (bucket % 8));
        let rows = Rows::of(&bytes);
        assert_eq!(rows.count, taught.len());
        for (row, &bucket) in taught.iter().enumerate() {
            assert_eq!(rows.of_bucket(bucket), Some(row));
        }
        assert_eq!(rows.of_bucket(62), None);
        assert_eq!(rows.of_bucket(65), None);
    }
}
