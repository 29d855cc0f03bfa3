//! Trains linear heads: multinomial logistic regression by AdaGrad over the features inference uses.
//!
//! Deterministic: one thread, one seed, a fixed order of additions; the same examples give the same bytes. Never reads a
//! file: callers bring the examples. Called by the built-in trainer and, for users' own data, by `waypost train`.

use std::collections::BTreeMap;

use crate::calibrate::{Scored, sigmoid, softmax};
use crate::error::Error;
use crate::features::{BUCKETS, DENSE, Features, Featuriser, Scratch};
use crate::head::{FORMAT, has_difficulty};
use crate::model_file::{self, Tensor};
use crate::prompt::Head;

/// A labelled text.
#[derive(Debug, Clone)]
pub struct Example {
    /// The prompt.
    pub text: String,
    /// The right label, if known.
    pub label: Option<usize>,
    /// How hard it is, 0 to 1, if known.
    pub difficulty: Option<f32>,
    /// Where it comes from; whole groups are held out in validation and weighed against each other.
    pub group: String,
}

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
    /// A group's weight grows as its size to this power: 1 keeps proportions, 0 makes groups equal.
    pub group_power: f32,
    /// Factor on groups whose name starts with `own:`, which are written by hand to be typical.
    pub own_boost: f32,
    /// Seed of order and dropout.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            epochs: 10,
            rate_sparse: 0.05,
            rate_dense: 0.05,
            l2: 1e-4,
            dropout: 0.5,
            smoothing: 0.05,
            group_power: 0.5,
            own_boost: 24.0,
            seed: 2026,
        }
    }
}

/// The featuriser, for training.
#[derive(Debug)]
pub struct Trainer {
    featuriser: Featuriser,
    head: Head,
    outputs: usize,
}

/// Examples turned into features once, to be trained on many times.
#[derive(Debug)]
pub struct Prepared {
    /// The examples, in the order given.
    pub examples: Vec<Example>,
    features: Vec<Features>,
}

/// Heaviest example relative to the mean, so that one rare group cannot throw the weights about.
const MAX_WEIGHT: f32 = 8.0;
/// Keeps AdaGrad's first step finite.
const EPSILON: f32 = 1e-3;

impl Trainer {
    /// A trainer for `head` over a vocabulary and a static table.
    ///
    /// # Errors
    /// If either file is damaged.
    pub fn new(head: Head, vocab: &'static [u8], table: &'static [u8]) -> Result<Self, Error> {
        let outputs = head.labels().len() + usize::from(has_difficulty(head));
        Ok(Self { featuriser: Featuriser::open(vocab, table)?, head, outputs })
    }

    /// Computes the features of all examples.
    pub fn prepare(&self, examples: Vec<Example>) -> Prepared {
        let mut scratch = Scratch::default();
        let features = examples
            .iter()
            .map(|example| {
                let mut out = Features::default();
                self.featuriser.run(&example.text, &mut scratch, &mut out);
                out
            })
            .collect();
        Prepared { examples, features }
    }

    /// Trains on the examples at `chosen`.
    pub fn train(&self, data: &Prepared, chosen: &[usize], options: &Options) -> Weights {
        let labels = self.head.labels().len();
        let importance = importance(data, chosen, options);
        let known = known_labels(data, chosen, labels);
        let mut weights = Weights::new(self.head, self.outputs);
        let mut squares = Weights::new(self.head, self.outputs);
        let mut random = Random(options.seed);
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        let mut kept = Vec::new();
        for epoch in 0..options.epochs {
            random.shuffle(&mut order);
            let decay = 1.0 - epoch as f32 / options.epochs as f32;
            for &at in &order {
                let (example, features) = (&data.examples[chosen[at]], &data.features[chosen[at]]);
                kept.clear();
                kept.extend(features.sparse.iter().filter(|_| random.unit() >= options.dropout));
                let value = 1.0 / (kept.len().max(1) as f32).sqrt();
                let scores = weights.scores(&kept, value, &features.dense);
                let gradient = gradient(&scores, example, &known, importance[at], options.smoothing);
                weights.step(&mut squares, &kept, value, &features.dense, &gradient, options, decay);
            }
        }
        weights
    }

    /// Raw label scores of the examples at `chosen` that have a label, each of weight 1.
    pub fn score(&self, weights: &Weights, data: &Prepared, chosen: &[usize]) -> Vec<Scored> {
        let labels = self.head.labels().len();
        let scored = chosen.iter().filter_map(|&at| {
            let features = &data.features[at];
            let logits = weights.scores(&features.sparse, features.sparse_value(), &features.dense);
            Some(Scored { logits: logits[..labels].to_vec(), label: data.examples[at].label?, weight: 1.0 })
        });
        scored.collect()
    }

    /// Predicted and true difficulty of the examples at `chosen` that state one.
    pub fn difficulties(&self, weights: &Weights, data: &Prepared, chosen: &[usize]) -> Vec<(f32, f32)> {
        let pairs = chosen.iter().filter_map(|&at| {
            let features = &data.features[at];
            let logits = weights.scores(&features.sparse, features.sparse_value(), &features.dense);
            Some((sigmoid(*logits.get(self.head.labels().len())?), data.examples[at].difficulty?))
        });
        pairs.collect()
    }
}

/// Weight of each chosen example: labels count alike, groups within a label by `group_power`.
fn importance(data: &Prepared, chosen: &[usize], options: &Options) -> Vec<f32> {
    let key = |at: usize| (data.examples[at].label, data.examples[at].group.as_str());
    let mut sizes: BTreeMap<(Option<usize>, &str), f32> = BTreeMap::new();
    for &at in chosen {
        *sizes.entry(key(at)).or_default() += 1.0;
    }
    let mass = |group: &str, size: f32| {
        size.powf(options.group_power) * if group.starts_with("own:") { options.own_boost } else { 1.0 }
    };
    let mut totals: BTreeMap<Option<usize>, f32> = BTreeMap::new();
    for (&(label, group), &size) in &sizes {
        *totals.entry(label).or_default() += mass(group, size);
    }
    let mean = chosen.len() as f32 / totals.len().max(1) as f32;
    let weight = |&at: &usize| {
        let (label, group) = key(at);
        let size = sizes[&(label, group)];
        (mass(group, size) / size / totals[&label] * mean).min(MAX_WEIGHT)
    };
    chosen.iter().map(weight).collect()
}

/// Labels that occur; smoothing gives mass to no other.
fn known_labels(data: &Prepared, chosen: &[usize], labels: usize) -> Vec<bool> {
    let mut known = vec![false; labels];
    for label in chosen.iter().filter_map(|&at| data.examples[at].label) {
        known[label] = true;
    }
    known
}

/// Gradient of the loss with respect to the scores.
fn gradient(scores: &[f32], example: &Example, known: &[bool], importance: f32, smoothing: f32) -> Vec<f32> {
    let labels = known.len();
    let mut out = vec![0.0; scores.len()];
    if let Some(label) = example.label {
        let spread = smoothing / known.iter().filter(|k| **k).count().max(1) as f32;
        for (index, p) in softmax(&scores[..labels], 1.0).into_iter().enumerate() {
            let right = if index == label { 1.0 - smoothing } else { 0.0 };
            let target = right + if known[index] { spread } else { 0.0 };
            out[index] = (p - target) * importance;
        }
    }
    if let (Some(out), Some(difficulty)) = (out.get_mut(labels), example.difficulty) {
        *out = sigmoid(scores[labels]) - difficulty;
    }
    out
}

/// Trained weights, not yet quantised.
#[derive(Debug)]
pub struct Weights {
    head: Head,
    outputs: usize,
    ngrams: Vec<f32>,
    dense: Vec<f32>,
    bias: Vec<f32>,
}

impl Weights {
    fn new(head: Head, outputs: usize) -> Self {
        let zeros = |rows: usize| vec![0.0; rows * outputs];
        Self { head, outputs, ngrams: zeros(BUCKETS), dense: zeros(DENSE), bias: zeros(1) }
    }

    fn scores(&self, sparse: &[u32], value: f32, dense: &[f32]) -> Vec<f32> {
        let mut out = self.bias.clone();
        for &bucket in sparse {
            accumulate(&mut out, &self.ngrams[bucket as usize * self.outputs..], value);
        }
        for (row, &x) in self.dense.chunks_exact(self.outputs).zip(dense) {
            accumulate(&mut out, row, x);
        }
        out
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
            let at = bucket as usize * width;
            adagrad(
                &mut self.ngrams[at..at + width],
                &mut squares.ngrams[at..at + width],
                gradient,
                value,
                rate,
                l2,
            );
        }
        let rows = self.dense.chunks_exact_mut(width).zip(squares.dense.chunks_exact_mut(width));
        for ((row, square), &x) in rows.zip(dense) {
            if x != 0.0 {
                adagrad(row, square, gradient, x, dense_rate, l2);
            }
        }
        adagrad(&mut self.bias, &mut squares.bias, gradient, 1.0, dense_rate, 0.0);
    }

    /// The head file: n-grams quantised to int8 with one scale per output.
    pub fn to_file(&self, temperature: f32, notes: &[(&str, String)]) -> Vec<u8> {
        let mut scales = vec![f32::MIN_POSITIVE; self.outputs];
        for row in self.ngrams.chunks_exact(self.outputs) {
            for (scale, weight) in scales.iter_mut().zip(row) {
                *scale = scale.max(weight.abs() / 127.0);
            }
        }
        let quantised = |(at, weight): (usize, &f32)| (weight / scales[at % self.outputs]).round() as i8;
        let ngrams: Vec<i8> = self.ngrams.iter().enumerate().map(quantised).collect();
        let mut metadata: BTreeMap<String, String> = BTreeMap::from([
            ("format".into(), FORMAT.into()),
            ("head".into(), self.head.name().into()),
            ("labels".into(), self.head.labels().join("|")),
            ("temperature".into(), temperature.to_string()),
        ]);
        metadata.extend(notes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let tensors = [
            Tensor::floats("bias", &[self.outputs], &self.bias),
            Tensor::floats("dense", &[DENSE, self.outputs], &self.dense),
            Tensor::floats("ngram_scales", &[self.outputs], &scales),
            Tensor::int8("ngrams", &[BUCKETS, self.outputs], &ngrams),
        ];
        model_file::write(metadata, &tensors)
    }
}

fn accumulate(out: &mut [f32], row: &[f32], x: f32) {
    for (out, weight) in out.iter_mut().zip(row) {
        *out += x * weight;
    }
}

fn adagrad(row: &mut [f32], squares: &mut [f32], gradient: &[f32], x: f32, rate: f32, l2: f32) {
    for ((weight, square), g) in row.iter_mut().zip(squares).zip(gradient) {
        let g = g * x + l2 * *weight;
        *square += g * g;
        *weight -= rate * g / (square.sqrt() + EPSILON);
    }
}

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// Uniform in 0..n; 0 when n is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static VOCAB: &[u8] = include_bytes!("../../../models/vocab.txt");
    static TABLE: &[u8] = include_bytes!("../../../models/static.safetensors");

    fn tiny() -> Vec<Example> {
        let rows = [
            ("write a poem about rain", 10),
            ("fix this python function", 4),
            ("hello there, how are you", 1),
        ];
        let example = |(text, label): (&str, usize)| Example {
            text: text.into(),
            label: Some(label),
            difficulty: None,
            group: "t:t".into(),
        };
        rows.into_iter().map(example).collect()
    }

    #[test]
    fn the_same_examples_give_the_same_bytes() {
        let train = || {
            let trainer = Trainer::new(Head::Task, VOCAB, TABLE).unwrap();
            let data = trainer.prepare(tiny());
            trainer.train(&data, &[0, 1, 2], &Options::default()).to_file(1.0, &[])
        };
        assert!(train() == train());
    }

    #[test]
    fn what_was_taught_is_known() {
        let trainer = Trainer::new(Head::Task, VOCAB, TABLE).unwrap();
        let data = trainer.prepare(tiny());
        let options = Options { epochs: 30, ..Options::default() };
        let weights = trainer.train(&data, &[0, 1, 2], &options);
        for scored in trainer.score(&weights, &data, &[0, 1, 2]) {
            assert_eq!(crate::calibrate::argmax(&scored.logits), scored.label);
        }
    }
}
