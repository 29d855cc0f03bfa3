//! Tier 0's head: features to one logit per output, and how much of a text it has never seen the like of.
//!
//! N-gram weights are int8 rows read in place; a row exists only for buckets that training touched. Called by `model`;
//! `train` makes the tensors it reads.

use bytes::Bytes;

use crate::error::Error;
use crate::features::{BUCKETS, DENSE, Features, GRAMS};
use crate::model_file::ModelFile;

/// Row number of a bucket that training never touched.
const UNSEEN: u16 = u16::MAX;
/// Most rows that are numbered; a head with more keeps a row for every bucket.
pub(crate) const MAX_NUMBERED_ROWS: usize = UNSEEN as usize;

/// The trained weights of tier 0.
#[derive(Debug)]
pub(crate) struct LinearHead {
    outputs: usize,
    /// Bucket to row; absent where every bucket has one.
    rows: Option<Vec<u16>>,
    /// One bit per slot of words and pairs that training saw.
    known: Bytes,
    ngrams: Bytes,
    ngram_scales: Vec<f32>,
    dense: Vec<f32>,
    bias: Vec<f32>,
}

impl LinearHead {
    /// Reads the head's tensors for `outputs` outputs.
    pub(crate) fn open(file: &ModelFile<'_>, name: &str, outputs: usize) -> Result<Self, Error> {
        let taught = file.u16s("ngram_buckets")?;
        let numbered = || {
            let mut rows = vec![UNSEEN; BUCKETS];
            for (row, &bucket) in taught.iter().enumerate() {
                rows[usize::from(bucket)] = row as u16;
            }
            rows
        };
        if taught.len() > MAX_NUMBERED_ROWS && taught.len() != BUCKETS {
            return Err(Error::model(name, format!("{} n-gram rows", taught.len())));
        }
        Ok(Self {
            outputs,
            rows: (taught.len() < BUCKETS).then(numbered),
            known: file.int8("known_grams", &[GRAMS / 8])?,
            ngrams: file.int8("ngrams", &[taught.len(), outputs])?,
            ngram_scales: file.floats("ngram_scales", &[outputs])?,
            dense: file.floats("dense", &[DENSE, outputs])?,
            bias: file.floats("bias", &[outputs])?,
        })
    }

    /// Raw scores of a text, and its novelty.
    pub(crate) fn logits(&self, features: &Features) -> (Vec<f32>, f32) {
        let mut counts = vec![0_i32; self.outputs];
        for &bucket in &features.sparse {
            let row = match &self.rows {
                Some(rows) if rows[bucket as usize] == UNSEEN => continue,
                Some(rows) => usize::from(rows[bucket as usize]),
                None => bucket as usize,
            };
            for (count, &weight) in counts.iter_mut().zip(&self.ngrams[row * self.outputs..][..self.outputs])
            {
                *count += i32::from(weight as i8);
            }
        }
        let value = features.sparse_value();
        let mut logits: Vec<f32> = counts
            .iter()
            .zip(&self.ngram_scales)
            .zip(&self.bias)
            .map(|((&count, scale), bias)| bias + count as f32 * scale * value)
            .collect();
        for (&x, row) in features.dense.iter().zip(self.dense.chunks_exact(self.outputs)) {
            for (logit, &weight) in logits.iter_mut().zip(row) {
                *logit += x * weight;
            }
        }
        (logits, novelty(&self.known, features))
    }
}

/// Share of a text's words and pairs of words that are not among the `known`.
pub(crate) fn novelty(known: &[u8], features: &Features) -> f32 {
    let new = features.grams.iter().filter(|&&gram| known[gram as usize / 8] >> (gram % 8) & 1 == 0).count();
    new as f32 / features.grams.len().max(1) as f32
}
