//! Tier 0's training: multinomial logistic regression by AdaGrad over the features inference uses.
//!
//! Deterministic: one thread, one seed, a fixed order of additions. Called by `train`.

use super::random::Random;
use super::sgd::{Target, accumulate, adagrad, gradient};
use crate::features::{BUCKETS, DENSE, Features, GRAMS};
use crate::head::novelty;

/// N-gram rows a classifier keeps.
const MAX_ROWS: usize = BUCKETS / 4 * 3;

/// What may be chosen about training.
#[derive(Debug, Clone)]
pub struct Options {
    /// Passes over the examples.
    pub epochs: usize,
    /// AdaGrad step for n-gram weights.
    pub rate_sparse: f32,
    /// AdaGrad step for dense weights.
    pub rate_dense: f32,
    /// Ridge penalty on every weight.
    pub l2: f32,
    /// Share of n-grams hidden at each visit, so that no single one is relied on.
    pub dropout: f32,
    /// Probability mass spread over the wrong labels.
    pub smoothing: f32,
    /// Seed of order and dropout.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            epochs: 30,
            rate_sparse: 0.15,
            rate_dense: 0.05,
            l2: 1e-4,
            dropout: 0.5,
            smoothing: 0.05,
            seed: 2026,
        }
    }
}

/// Trained weights, not yet quantised.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    pub(crate) labels: usize,
    pub(crate) outputs: usize,
    pub(crate) ngrams: Vec<f32>,
    pub(crate) dense: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// Buckets whose rows are kept.
    pub(crate) kept: Vec<bool>,
    /// One bit per slot of words and pairs that training saw.
    pub(crate) known: Vec<u8>,
}

/// Trains on the examples at `chosen`; `progress` is told of each pass.
pub(crate) fn train(
    features: &[Features],
    targets: &[Target],
    chosen: &[usize],
    (labels, measures): (usize, bool),
    options: &Options,
    mut progress: impl FnMut(usize),
) -> Weights {
    let mut weights = Weights::new(labels, labels + usize::from(measures));
    let mut squares = weights.clone();
    let mut random = Random(options.seed);
    let mut order = chosen.to_vec();
    let mut kept = Vec::new();
    let mut scores = Vec::new();
    for &at in chosen {
        features[at].sparse.iter().for_each(|&bucket| weights.kept[bucket as usize] = true);
        features[at].grams.iter().for_each(|&gram| weights.known[gram as usize / 8] |= 1 << (gram % 8));
    }
    for epoch in 0..options.epochs {
        random.shuffle(&mut order);
        let decay = 1.0 - epoch as f32 / options.epochs as f32;
        for &at in &order {
            let features = &features[at];
            kept.clear();
            kept.extend(features.sparse.iter().filter(|_| random.unit() >= options.dropout));
            let value = 1.0 / (kept.len().max(1) as f32).sqrt();
            weights.scores(&kept, value, &features.dense, &mut scores);
            gradient(&mut scores, &targets[at], labels, options.smoothing);
            weights.step(&mut squares, &kept, value, &features.dense, &scores, options, decay);
        }
        progress(epoch + 1);
    }
    weights.prune();
    weights
}

impl Weights {
    fn new(labels: usize, outputs: usize) -> Self {
        let zeros = |rows: usize| vec![0.0; rows * outputs];
        Self {
            labels,
            outputs,
            ngrams: zeros(BUCKETS),
            dense: zeros(DENSE),
            bias: zeros(1),
            kept: vec![false; BUCKETS],
            known: vec![0; GRAMS / 8],
        }
    }

    /// Drops the least rows: the last third decides little, and would be most of what a classifier weighs on disk.
    fn prune(&mut self) {
        let mut rows: Vec<(f32, usize)> = (0..BUCKETS)
            .filter(|&bucket| self.kept[bucket])
            .map(|bucket| (self.row(bucket).iter().map(|w| w * w).sum(), bucket))
            .collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, bucket) in rows.into_iter().skip(MAX_ROWS) {
            self.kept[bucket] = false;
            self.ngrams[bucket * self.outputs..][..self.outputs].fill(0.0);
        }
    }

    /// The weights of a bucket.
    pub(crate) fn row(&self, bucket: usize) -> &[f32] {
        &self.ngrams[bucket * self.outputs..][..self.outputs]
    }

    fn scores(&self, sparse: &[u32], value: f32, dense: &[f32], out: &mut Vec<f32>) {
        out.clone_from(&self.bias);
        for &bucket in sparse {
            accumulate(out, &self.ngrams[bucket as usize * self.outputs..], value);
        }
        for (row, &x) in self.dense.chunks_exact(self.outputs).zip(dense) {
            if x != 0.0 {
                accumulate(out, row, x);
            }
        }
    }

    /// Raw scores of a text with all its n-grams.
    pub(crate) fn logits(&self, features: &Features) -> Vec<f32> {
        let mut out = Vec::new();
        self.scores(&features.sparse, features.sparse_value(), &features.dense, &mut out);
        out
    }

    /// Share of a text's words and pairs of words that training never saw.
    pub(crate) fn novelty(&self, features: &Features) -> f32 {
        novelty(&self.known, features)
    }

    #[expect(clippy::too_many_arguments, reason = "the inner loop of training, called once")]
    fn step(
        &mut self,
        squares: &mut Self,
        sparse: &[u32],
        value: f32,
        dense: &[f32],
        gradient: &[f32],
        options: &Options,
        decay: f32,
    ) {
        let width = self.outputs;
        let (rate, dense_rate, l2) = (options.rate_sparse * decay, options.rate_dense * decay, options.l2);
        for &bucket in sparse {
            let at = bucket as usize * width..(bucket as usize + 1) * width;
            adagrad(&mut self.ngrams[at.clone()], &mut squares.ngrams[at], gradient, value, rate, l2);
        }
        let rows = self.dense.chunks_exact_mut(width).zip(squares.dense.chunks_exact_mut(width));
        for ((row, square), &x) in rows.zip(dense) {
            if x != 0.0 {
                adagrad(row, square, gradient, x, dense_rate, l2);
            }
        }
        adagrad(&mut self.bias, &mut squares.bias, gradient, 1.0, dense_rate, 0.0);
    }
}
