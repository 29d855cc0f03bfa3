//! Training: labelled texts in, a classifier file out.
//!
//! [`Prepared`] holds what both tiers see of the texts; [`train`] fits the heads on some of them; [`fit_gates`] learns from
//! others when to believe which tier. Deterministic for a seed. Never reads a file: callers bring the texts. Called by
//! the built-in trainer (`training/`) and by `waypost train`.

mod dense;
mod gates;
mod linear;
mod metrics;
pub mod outcomes;
mod random;
mod sgd;
mod write;

pub use dense::DenseOptions;
pub use gates::{GateOptions, fit_gates};
pub use linear::Options;
pub use metrics::{Confusion, Metrics, Outcome};
pub use random::Random;
pub use sgd::Target;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::calibrate::{argmax, softmax};
use crate::encoder::{Branch, Encoding, Session};
use crate::encoder_head::Projection;
use crate::engine::Base;
use crate::error::Error;
use crate::features::{Features, Scratch};
use crate::gates::Gates;

/// What both tiers see of some texts, computed once and trained on many times.
#[derive(Debug)]
pub struct Prepared {
    features: Vec<Features>,
    /// As many as features, or none for a model without tier 1.
    encodings: Vec<Encoding>,
}

impl Prepared {
    /// Reads all texts; with a branch, encodes them too, on `threads` threads. `progress` is told how many are done.
    ///
    /// # Errors
    /// Only if the encoder's kernels fail.
    pub fn new(
        base: &Base,
        texts: &[&str],
        branch: Option<Branch>,
        threads: usize,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Self, Error> {
        let mut scratch = Scratch::default();
        let features = texts.iter().map(|text| {
            let mut out = Features::default();
            base.featuriser().run(text, &mut scratch, &mut out);
            out
        });
        let features = features.collect();
        let encodings = match branch {
            Some(branch) => encode(base, texts, branch, threads, progress)?,
            None => Vec::new(),
        };
        Ok(Self { features, encodings })
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }
}

/// Encodes every text; the result does not depend on the number of threads.
fn encode(
    base: &Base,
    texts: &[&str],
    branch: Branch,
    threads: usize,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Encoding>, Error> {
    let share = texts.len().div_ceil(threads.max(1)).max(1);
    let done = AtomicUsize::new(0);
    let work = |part: &[&str]| -> Result<Vec<Encoding>, Error> {
        let mut session = Session::new(base.encoder().clone())?;
        let each = |text: &&str| {
            let encoding = session.encode(text, branch);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            encoding
        };
        part.iter().map(each).collect()
    };
    let parts = std::thread::scope(|scope| {
        let started: Vec<_> = texts.chunks(share).map(|part| scope.spawn(|| work(part))).collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Error::Kernel("a thread panicked".into()))))
            .collect::<Result<Vec<_>, Error>>()
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// What is to be learnt and how.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Number of labels.
    pub labels: usize,
    /// Whether difficulty is learnt beside them.
    pub measures: bool,
    /// Tier 0.
    pub linear: Options,
    /// Tier 1.
    pub dense: DenseOptions,
    /// Whether tier 1 teaches tier 0: then these texts, which need no label, are learnt from too, each with this weight.
    pub taught: Option<(Vec<usize>, f32)>,
}

/// Trained heads, not yet a file.
#[derive(Debug)]
pub struct Trained {
    pub(crate) linear: linear::Weights,
    pub(crate) dense: Option<(Branch, Projection)>,
}

/// Trains both tiers on the texts at `chosen`. `progress` is told the tier (0 or 1) and its finished passes.
pub fn train(
    data: &Prepared,
    targets: &[Target],
    chosen: &[usize],
    recipe: &Recipe,
    progress: &(dyn Fn(u8, usize) + Sync),
) -> Trained {
    let outputs = (recipe.labels, recipe.measures);
    let encoded = data.encodings.first().map(Encoding::branch);
    let dense = |branch| {
        let passed = |n| progress(1, n);
        (branch, dense::train(&data.encodings, targets, chosen, outputs, &recipe.dense, passed))
    };
    let linear = |targets: &[Target], chosen: &[usize]| {
        linear::train(&data.features, targets, chosen, outputs, &recipe.linear, |n| progress(0, n))
    };
    if let (Some(branch), Some((extra, weight))) = (encoded, &recipe.taught) {
        let dense = dense(branch);
        let (targets, chosen) = teach(data, &dense.1, targets, chosen, (extra, *weight), recipe.labels);
        return Trained { linear: linear(&targets, &chosen), dense: Some(dense) };
    }
    std::thread::scope(|scope| {
        let dense = encoded.map(|branch| scope.spawn(move || dense(branch)));
        let linear = linear(targets, chosen);
        // A panic of that thread would be a defect; the model then has tier 0 only, and its card says so.
        Trained { linear, dense: dense.and_then(|thread| thread.join().ok()) }
    })
}

/// The targets with tier 1's word on the chosen and the extra texts, and the list of both.
fn teach(
    data: &Prepared,
    dense: &Projection,
    targets: &[Target],
    chosen: &[usize],
    (extra, weight): (&[usize], f32),
    labels: usize,
) -> (Vec<Target>, Vec<usize>) {
    let mut targets = targets.to_vec();
    let all: Vec<usize> = chosen.iter().chain(extra).copied().collect();
    for &at in &all {
        targets[at].taught = softmax(&dense.logits(&data.encodings[at])[..labels], 1.0);
    }
    extra.iter().for_each(|&at| targets[at].weight = weight);
    (targets, all)
}

impl Trained {
    /// What both tiers say of the text at `at`: raw scores, and the share of its n-grams that are new.
    pub(crate) fn scores(&self, data: &Prepared, at: usize) -> gates::Scores {
        gates::Scores {
            ngram: self.linear.logits(&data.features[at]),
            encoder: self.dense.as_ref().map(|(_, dense)| dense.logits(&data.encodings[at])),
            novelty: self.linear.novelty(&data.features[at]),
        }
    }

    /// The outcome for each text at `chosen` that has a label, as the cascade would answer under `gates`.
    pub fn outcomes(
        &self,
        data: &Prepared,
        targets: &[Target],
        chosen: &[usize],
        gates: &Gates,
    ) -> Vec<Outcome> {
        let outcome = |&at: &usize| {
            let label = targets[at].label? as usize;
            let (probabilities, escalated) = self.scores(data, at).cascade(self.linear.labels, gates);
            Some(Outcome { probabilities, label, escalated })
        };
        chosen.iter().filter_map(outcome).collect()
    }

    /// The label the cascade gives the text at `at` under `gates`.
    pub fn label(&self, data: &Prepared, at: usize, gates: &Gates) -> usize {
        argmax(&self.scores(data, at).cascade(self.linear.labels, gates).0)
    }

    /// The classifier file. `notes` are kept as metadata.
    pub fn to_file(
        &self,
        base: &Base,
        name: &str,
        labels: &[&str],
        gates: &Gates,
        notes: &[(&str, String)],
    ) -> Vec<u8> {
        write::file(self, base.encoder().fingerprint(), name, labels, gates, notes)
    }
}
