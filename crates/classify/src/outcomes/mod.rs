//! What a prompt can be expected to bring from each model: quality, tokens, latency, learnt from past outcomes.
//!
//! An [`OutcomeModel`] is the file of a folder that `waypost train --outcomes` wrote. It starts from each model's mean and
//! moves away from it only as far as rows it was not taught showed to be worth it. Pure arithmetic: the same prompt gets
//! the same bits. Knows neither prices nor rules; whoever decides brings those. Called by the router and the command line.

pub(crate) mod blend;
pub(crate) mod file;
pub(crate) mod linear;
pub(crate) mod neighbours;
mod signals;
mod stem;
pub(crate) mod table;
pub(crate) mod terms;

pub use blend::{Blend, Part, Parts};
pub use signals::Signals;
pub use stem::stem;

pub(crate) use linear::Linear;
pub(crate) use neighbours::Neighbours;
pub(crate) use signals::Traits;
pub(crate) use table::Table;
pub(crate) use terms::TermHead;

use std::sync::Arc;

use crate::encoder::{Branch, Encoding};
use crate::engine::{Engine, Reading};
use crate::prompt::Prompt;

/// Name of the file in a folder of learnt outcomes.
pub const OUTCOMES_FILE: &str = "outcomes.safetensors";
/// Format of the file; changes whenever layout or arithmetic do.
pub(crate) const FORMAT: &str = "waypost-outcomes-v1";
/// Most models of one file.
pub const MAX_MODELS: usize = 64;
/// How far below the best single model others stay where it is not certain that they should ever lead.
const HAIR: f32 = 1e-4;
/// The layers of the encoder whose output is compared and weighed.
pub(crate) const BRANCH: Branch = Branch::Sentence;

/// What is expected of one model for one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Quality, 0 to 1: the probability of a right answer where outcomes were right or wrong.
    pub quality: f32,
    /// Completion tokens, where the outcomes told.
    pub tokens: Option<f32>,
    /// Milliseconds until the answer was complete, where the outcomes told.
    pub latency_ms: Option<f32>,
}

/// A quantity that some outcomes tell beside quality: a mean per model and how prompts move it.
#[derive(Debug)]
pub(crate) struct Amount {
    /// NaN for a model of which nothing is known.
    pub(crate) means: Vec<f32>,
    /// Relative to the mean.
    pub(crate) table: Table,
}

/// Learnt outcomes. Share it by reference; it has no state.
#[derive(Debug)]
pub struct OutcomeModel {
    models: Vec<Arc<str>>,
    means: Vec<f32>,
    table: Table,
    cues: Option<Linear>,
    terms: Option<TermHead>,
    encoder: Option<Linear>,
    neighbours: Option<Neighbours>,
    parts: Parts,
    tokens: Option<Amount>,
    latency: Option<Amount>,
    advice: String,
    sample: Vec<f32>,
}

impl OutcomeModel {
    /// The models' names, in the order of [`OutcomeModel::expect`].
    pub fn models(&self) -> &[Arc<str>] {
        &self.models
    }

    /// Index of the model with the best mean, the first on ties.
    pub fn best_single(&self) -> usize {
        crate::calibrate::argmax(&self.means)
    }

    /// Which top layers of the encoder sharpen the expectation; `None` if none does.
    pub fn branch(&self) -> Option<Branch> {
        self.parts.asks_encoder().then_some(BRANCH)
    }

    /// How far the expectations may move away from the means.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether prompts are told apart at all; if not, every prompt gets the means.
    pub fn tells_prompts_apart(&self) -> bool {
        self.parts.tier0.moves() || self.parts.tier1.moves()
    }

    /// What was expected of each model for some of the prompts it was learnt from, by parts that were not taught them; in the
    /// order of [`OutcomeModel::models`].
    pub fn sample(&self) -> impl Iterator<Item = &[f32]> {
        self.sample.chunks_exact(self.models.len())
    }

    /// What the training run found, in words.
    pub fn advice(&self) -> &str {
        &self.advice
    }

    /// What tier 0 sees of a prompt, in one pass. What it is about is told from its [`stem`].
    pub fn signals(&self, engine: &Engine, prompt: &Prompt<'_>) -> Signals {
        let about = Prompt { focus: stem(prompt.focus), context: prompt.context };
        engine.read(&about, |reading| self.signals_of(Traits::of(engine, &reading), prompt, &reading))
    }

    fn signals_of(&self, traits: Traits, prompt: &Prompt<'_>, reading: &Reading<'_>) -> Signals {
        let terms = self.terms.as_ref().map_or_else(Vec::new, |head| {
            let mut said = head.of(&terms::terms(prompt.focus));
            if let Some((_, weight)) = reading.context {
                let earlier = head.of(&terms::terms(prompt.context));
                said.iter_mut().zip(earlier).for_each(|(s, c)| *s += weight * (c - *s));
            }
            said
        });
        Signals { traits, terms }
    }

    /// What to expect of each model, in the order of [`OutcomeModel::models`]. An `encoding` of the [`stem`] of the
    /// same prompt's focus sharpens it where it is of [`OutcomeModel::branch`]; one of another branch is as good as none.
    pub fn expect(&self, signals: &Signals, encoding: Option<&Encoding>) -> Vec<Expected> {
        let quality = self.quality(signals, encoding);
        let tokens = self.tokens.as_ref().map(|amount| amount.of(&signals.traits));
        let latency = self.latency.as_ref().map(|amount| amount.of(&signals.traits));
        let known = |values: &Option<Vec<f32>>, at: usize| {
            values.as_ref().and_then(|values| values.get(at).copied()).filter(|value| value.is_finite())
        };
        let expected = |(at, quality): (usize, f32)| Expected {
            quality,
            tokens: known(&tokens, at),
            latency_ms: known(&latency, at),
        };
        quality.into_iter().enumerate().map(expected).collect()
    }

    fn quality(&self, signals: &Signals, encoding: Option<&Encoding>) -> Vec<f32> {
        let mut quality = self.means.clone();
        if signals.traits.contentless {
            return quality;
        }
        let encoding = encoding.filter(|encoding| Some(encoding.branch()) == self.branch());
        let blend = if encoding.is_some() { &self.parts.tier1 } else { &self.parts.tier0 };
        let mut add = |part: Part, moves: &dyn Fn() -> Vec<f32>| {
            let weight = blend.weight(part);
            if weight > 0.0 {
                quality.iter_mut().zip(moves()).for_each(|(quality, by)| *quality += weight * by);
            }
        };
        let traits = &signals.traits;
        add(Part::Table, &|| self.table.of(traits));
        if let Some(linear) = &self.cues {
            add(Part::Cues, &|| linear.of(&traits.inputs().0));
        }
        if self.terms.is_some() {
            add(Part::Terms, &|| signals.terms.clone());
        }
        if let Some(encoding) = encoding {
            if let Some(neighbours) = &self.neighbours {
                add(Part::Neighbours, &|| neighbours.of(encoding.values()));
            }
            if let Some(linear) = &self.encoder {
                add(Part::Encoder, &|| linear.of(&traits.inputs_with(encoding).0));
            }
        }
        keep_in_range(&mut quality, blend, self.best_single());
        quality
    }
}

/// Brings expectations into range, and behind the `best` single model where no other may lead.
pub(crate) fn keep_in_range(quality: &mut [f32], blend: &Blend, best: usize) {
    into_range(quality);
    if !blend.others_may_lead {
        let most = quality[best] - HAIR;
        (0..quality.len()).filter(|&at| at != best).for_each(|at| quality[at] = quality[at].min(most));
    }
}

/// Moves all qualities together, so that what routing compares, their differences, lasts; then cuts what is still outside.
fn into_range(quality: &mut [f32]) {
    let highest = quality.iter().copied().fold(0.0, f32::max);
    let lowest = quality.iter().copied().fold(1.0, f32::min);
    let shift = if highest > 1.0 { 1.0 - highest } else { (-lowest).max(0.0) };
    quality.iter_mut().for_each(|quality| *quality = (*quality + shift).clamp(0.0, 1.0));
}

impl Amount {
    /// The amount expected of each model; never below nothing.
    fn of(&self, traits: &Traits) -> Vec<f32> {
        let moves = self.table.of(traits);
        self.means.iter().zip(moves).map(|(mean, by)| mean * (1.0 + by).max(0.0)).collect()
    }
}
