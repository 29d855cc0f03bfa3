//! Tier 0's head: features to one logit per output, and how much of a text it has never seen the like of.
//!
//! N-gram weights are int8 rows read in place; a row exists only for buckets that training touched. Called by `model`;
//! `train` makes the tensors it reads.

use bytes::Bytes;

use crate::error::Error;
use crate::features::{BUCKETS, DENSE, Features, GRAMS};
use crate::model_file::ModelFile;

/// Row number of a bucket that training never touched.
pub(crate) const UNSEEN: u16 = u16::MAX;

/// The trained weights of tier 0.
#[derive(Debug)]
pub(crate) struct LinearHead {
    outputs: usize,
    /// Bucket to row.
    rows: Vec<u16>,
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
        let mut rows = vec![UNSEEN; BUCKETS];
        for (row, &bucket) in taught.iter().enumerate() {
            rows[usize::from(bucket)] = row as u16;
        }
        if taught.len() >= usize::from(UNSEEN) {
            return Err(Error::model(name, "more n-gram rows than there can be"));
        }
        Ok(Self {
            outputs,
            rows,
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
            let row = usize::from(self.rows[bucket as usize]);
            if row == usize::from(UNSEEN) {
                continue;
            }
            for (count, &weight) in counts.iter_mut().zip(&self.ngrams[row * self.outputs..][..self.outputs]) {
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
