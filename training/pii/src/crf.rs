//! Fits the linear-chain conditional random field by stochastic gradient with AdaGrad steps.
//!
//! Works on the runs of candidates that detection decodes, with the detector's own features; deterministic for a seed.

use std::collections::HashMap;

use crate::example::Example;
use crate::pii::features::{self, MAX_FEATURES, Manner};
use crate::pii::label::{LABELS, OUTSIDE, TAGGED, begin, inside, may_follow};
use crate::pii::lexicon::Lexicon;
use crate::pii::prepare;
use crate::pii::weights::ROW;
use crate::rng::Rng;

/// A feature must occur this often.
const MIN_COUNT: u32 = 2;
const EPOCHS: usize = 8;
const RATE: f32 = 0.15;
const DECAY: f32 = 2e-5;
/// Percent of tokens whose word is hidden in training, so that unknown words are practised.
const HIDDEN: usize = 15;

/// What was learned.
#[derive(Debug)]
pub(crate) struct Learned {
    /// Weights of each feature.
    pub(crate) rows: HashMap<u64, [f32; ROW]>,
    /// From label to label.
    pub(crate) transitions: [[f32; LABELS]; LABELS],
}

struct RunOf {
    features: Vec<Vec<u32>>,
    labels: Vec<usize>,
}

/// Fits to `examples`.
pub(crate) fn fit(examples: &[Example], lexicon: &Lexicon, seed: u64) -> Learned {
    let mut rng = Rng::new(seed);
    let mut counts: HashMap<u64, u32> = HashMap::new();
    let mut raw: Vec<(Vec<Vec<u64>>, Vec<usize>)> = Vec::new();
    for example in examples {
        runs(example, lexicon, &mut rng, &mut raw);
    }
    for feature in raw.iter().flat_map(|run| run.0.iter().flatten()) {
        *counts.entry(*feature).or_default() += 1;
    }
    let mut kept: Vec<u64> = counts.into_iter().filter(|(_, n)| *n >= MIN_COUNT).map(|(f, _)| f).collect();
    kept.sort_unstable();
    let index: HashMap<u64, u32> = kept.iter().enumerate().map(|(at, f)| (*f, at as u32)).collect();
    let runs: Vec<RunOf> = raw
        .into_iter()
        .map(|(features, labels)| RunOf {
            features: features
                .iter()
                .map(|f| f.iter().filter_map(|f| index.get(f).copied()).collect())
                .collect(),
            labels,
        })
        .collect();
    let mut model = Model {
        rows: vec![[0.0; ROW]; kept.len()],
        squares: vec![[1e-6; ROW]; kept.len()],
        transitions: [[0.0; LABELS]; LABELS],
        transition_squares: [[1e-6; LABELS]; LABELS],
    };
    let mut order: Vec<usize> = (0..runs.len()).collect();
    for epoch in 0..EPOCHS {
        rng.shuffle(&mut order);
        let loss: f64 = order.iter().map(|&at| f64::from(model.step(&runs[at]))).sum();
        println!(
            "  epoch {epoch}: loss {:.4} a run, {} features, {} runs",
            loss / runs.len() as f64,
            kept.len(),
            runs.len()
        );
    }
    Learned { rows: kept.into_iter().zip(model.rows).collect(), transitions: model.transitions }
}

/// The candidate runs of an example with features and true labels.
fn runs(example: &Example, lexicon: &Lexicon, rng: &mut Rng, out: &mut Vec<(Vec<Vec<u64>>, Vec<usize>)>) {
    let prepared = prepare(&example.text, lexicon, crate::pii::MIN_CONFIDENCE, crate::pii::MAX_SPANS);
    let tokens = &prepared.tokens;
    let mut wanted = Vec::new();
    let manner = Manner::of(tokens);
    features::candidates(tokens, &prepared.taken, manner, &mut wanted);
    let hidden: Vec<Option<u64>> = tokens.iter().map(|_| rng.chance(HIDDEN).then(|| rng.next())).collect();
    let mut previous: Option<usize> = None;
    let mut run: (Vec<Vec<u64>>, Vec<usize>) = Default::default();
    for at in 0..tokens.len() {
        if !wanted[at] {
            if !run.1.is_empty() {
                out.push(std::mem::take(&mut run));
            }
            previous = None;
            continue;
        }
        let range = tokens[at].range();
        let gold = example.gold.iter().position(|g| g.0 < range.end && range.start < g.1);
        let kind = gold.and_then(|g| TAGGED.iter().position(|k| *k == example.gold[g].2));
        run.1.push(match kind {
            None => OUTSIDE,
            Some(kind) if previous == gold => inside(kind),
            Some(kind) => begin(kind),
        });
        previous = gold.filter(|_| kind.is_some());
        let mut found = [0; MAX_FEATURES];
        let count = features::extract(&example.text, tokens, at, manner, |index| hidden[index], &mut found);
        run.0.push(found[..count].to_vec());
    }
    if !run.1.is_empty() {
        out.push(run);
    }
}

struct Model {
    rows: Vec<[f32; ROW]>,
    squares: Vec<[f32; ROW]>,
    transitions: [[f32; LABELS]; LABELS],
    transition_squares: [[f32; LABELS]; LABELS],
}

fn log_sum(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let top = values.clone().fold(f32::NEG_INFINITY, f32::max);
    if top == f32::NEG_INFINITY { top } else { top + values.map(|v| (v - top).exp()).sum::<f32>().ln() }
}

impl Model {
    /// One gradient step on one run; returns its loss.
    fn step(&mut self, run: &RunOf) -> f32 {
        let length = run.labels.len();
        let scores: Vec<[f32; LABELS]> = run
            .features
            .iter()
            .map(|features| {
                let mut sum = [0.0; LABELS];
                for &feature in features {
                    for (sum, weight) in sum.iter_mut().zip(&self.rows[feature as usize]) {
                        *sum += weight;
                    }
                }
                sum
            })
            .collect();
        let edge = |previous: usize, label: usize| {
            if may_follow(previous, label) { self.transitions[previous][label] } else { f32::NEG_INFINITY }
        };
        let mut forward = vec![[0.0; LABELS]; length];
        for at in 0..length {
            for label in 0..LABELS {
                forward[at][label] = scores[at][label]
                    + if at == 0 {
                        edge(OUTSIDE, label)
                    } else {
                        log_sum((0..LABELS).map(|p| forward[at - 1][p] + edge(p, label)))
                    };
            }
        }
        let mut backward = vec![[0.0; LABELS]; length];
        for at in (0..length - 1).rev() {
            for label in 0..LABELS {
                backward[at][label] =
                    log_sum((0..LABELS).map(|n| edge(label, n) + scores[at + 1][n] + backward[at + 1][n]));
            }
        }
        let total = log_sum(forward[length - 1].iter().copied());
        let mut pairs = [[0.0_f32; LABELS]; LABELS];
        let mut gold = 0.0;
        for at in 0..length {
            let label = run.labels[at];
            let before = if at == 0 { OUTSIDE } else { run.labels[at - 1] };
            gold += scores[at][label] + self.transitions[before][label];
            for p in 0..LABELS {
                if at == 0 && p != OUTSIDE {
                    continue;
                }
                let from = if at == 0 { 0.0 } else { forward[at - 1][p] };
                for l in 0..LABELS {
                    if may_follow(p, l) {
                        let mass =
                            (from + self.transitions[p][l] + scores[at][l] + backward[at][l] - total).exp();
                        pairs[p][l] += mass;
                    }
                }
            }
            pairs[before][label] -= 1.0;
        }
        for at in 0..length {
            let mut gradient: [f32; LABELS] =
                std::array::from_fn(|label| (forward[at][label] + backward[at][label] - total).exp());
            gradient[run.labels[at]] -= 1.0;
            if gradient.iter().all(|g| g.abs() < 1e-3) {
                continue;
            }
            for &feature in &run.features[at] {
                let (row, squares) = (&mut self.rows[feature as usize], &mut self.squares[feature as usize]);
                for label in 0..LABELS {
                    let slope = gradient[label] + DECAY * row[label];
                    squares[label] += slope * slope;
                    row[label] -= RATE * slope / (squares[label].sqrt() + 0.3);
                }
            }
        }
        for (p, row) in pairs.iter().enumerate() {
            for (l, &slope) in row.iter().enumerate().filter(|(_, slope)| **slope != 0.0) {
                self.transition_squares[p][l] += slope * slope;
                self.transitions[p][l] -= RATE * slope / (self.transition_squares[p][l].sqrt() + 0.3);
            }
        }
        total - gold
    }
}
