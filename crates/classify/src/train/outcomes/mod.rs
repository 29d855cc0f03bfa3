//! Learning outcomes: what each model made of many prompts in, an outcomes file out.
//!
//! [`Read`] holds what both tiers see of the prompts, computed once. [`fit`] tries every part on folds it was not taught,
//! keeps those that are worth it, finds how far they may move the expectations, and fits them again on all chosen
//! prompts. Deterministic for a seed. Never reads a file. Called by `waypost train --outcomes`.

mod dense;
mod descent;
mod folds;
mod neighbours;
mod stack;
mod table;
mod terms;
mod write;

pub use stack::{Gain, Step};

use crate::calibrate::argmax;
use crate::encoder::Encoding;
use crate::engine::Engine;
use crate::error::Error;
use crate::outcomes::terms::terms;
use crate::outcomes::{BRANCH, Parts, Traits, stem};
use crate::prompt::Prompt;

/// What is known of some prompts. Rows are prompts, columns models; NaN stands for "not known".
#[derive(Debug, Clone)]
pub struct Outcomes {
    /// The models, in the order of columns.
    pub models: Vec<String>,
    /// Quality, 0 to 1, row after row.
    pub quality: Vec<f32>,
    /// Completion tokens, row after row; empty if no row tells.
    pub tokens: Vec<f32>,
    /// Milliseconds to the complete answer, row after row; empty if no row tells.
    pub latency_ms: Vec<f32>,
    /// One number per prompt: prompts of equal number are never taught and tested on at once.
    pub groups: Vec<u32>,
    /// One number per prompt, equal for those of one origin; empty if origins are not to be told apart.
    pub sources: Vec<u32>,
}

impl Outcomes {
    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The qualities of a prompt, one per model.
    pub fn row(&self, at: usize) -> &[f32] {
        &self.quality[at * self.models.len()..][..self.models.len()]
    }

    /// Each model's mean quality over the prompts at `chosen` that it was asked; NaN if none.
    pub fn means(&self, chosen: &[usize]) -> Vec<f32> {
        column_means(&self.quality, self.models.len(), chosen)
    }
}

/// Means over known values, column by column.
pub(crate) fn column_means(values: &[f32], columns: usize, chosen: &[usize]) -> Vec<f32> {
    let (mut sums, mut counts) = (vec![0.0_f64; columns], vec![0_usize; columns]);
    for &at in chosen {
        for (column, &value) in
            values[at * columns..][..columns].iter().enumerate().filter(|(_, v)| !v.is_nan())
        {
            sums[column] += f64::from(value);
            counts[column] += 1;
        }
    }
    sums.iter().zip(counts).map(|(sum, count)| (sum / count as f64) as f32).collect()
}

/// What both tiers see of some prompts.
#[derive(Debug)]
pub struct Read {
    pub(crate) traits: Vec<Traits>,
    pub(crate) terms: Vec<Vec<(u32, f32)>>,
    /// As many as prompts, or none without the encoder.
    pub(crate) encodings: Vec<Encoding>,
}

impl Read {
    /// Reads all prompts; with the encoder, encodes them too, on `threads` threads. `progress` is told how many are done.
    ///
    /// # Errors
    /// Only if the encoder's kernels fail.
    pub fn new(
        engine: &Engine,
        texts: &[&str],
        encoder: bool,
        threads: usize,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Self, Error> {
        let read = |text: &&str| {
            let about = Prompt { focus: stem(text), context: "" };
            engine.read(&about, |reading| Traits::of(engine, &reading))
        };
        let traits = texts.iter().map(read).collect();
        let terms = texts.iter().map(|text| terms(text)).collect();
        let stems: Vec<&str> = texts.iter().map(|text| stem(text)).collect();
        let encodings =
            if encoder { super::encode(engine, &stems, BRANCH, threads, progress)? } else { Vec::new() };
        Ok(Self { traits, terms, encodings })
    }

    /// What the encoder made of a prompt; `None` if it was not asked.
    pub fn encoding(&self, at: usize) -> Option<&Encoding> {
        self.encodings.get(at)
    }
}

/// What was learnt, with what it took.
#[derive(Debug)]
pub struct Fitted {
    /// The outcomes file.
    pub file: Vec<u8>,
    /// How much each part counts.
    pub parts: Parts,
    /// What each part added on rows it was not taught, in the order in which they were tried.
    pub steps: Vec<Step>,
    /// The gain over always taking the best single model, on rows not taught.
    pub gain: Gain,
    /// The same in words.
    pub advice: String,
}

/// Learns from the prompts at `chosen`, which rise. `progress` is told of each finished fold.
///
/// # Errors
/// If there are fewer than two models with outcomes among them.
pub fn fit(
    engine: &Engine,
    data: &Outcomes,
    read: &Read,
    chosen: &[usize],
    seed: u64,
    progress: &mut dyn FnMut(usize),
) -> Result<Fitted, Error> {
    let means = data.means(chosen);
    if let Some(at) = means.iter().position(|mean| mean.is_nan()) {
        return Err(Error::Data(format!(
            "model '{}' has no outcome among the rows to learn from",
            data.models[at]
        )));
    }
    let folds = folds::Folds::new(data, read, chosen, seed)?;
    let found = stack::choose(data, &folds.predict(progress));
    let advice = found.words(&data.models[argmax(&means)]);
    let fitted = folds.whole(&found.wanted());
    let file = write::file(engine, data, &fitted, (read, chosen), &found, &advice);
    Ok(Fitted { file, parts: found.parts, steps: found.steps, gain: found.gain, advice })
}

/// Number of folds whose end `fit` tells of.
pub const FOLDS: usize = folds::FOLDS;

#[cfg(test)]
mod tests;
