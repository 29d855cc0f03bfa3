//! What tier 0 sees of a prompt that expectations rest on: what it is about, what is wanted, how hard it is.
//!
//! Pure data, made in one pass of the featuriser. Called by `outcomes` and by its training.

use crate::encoder::Encoding;
use crate::engine::{Engine, Reading};
use crate::features::CUES_FROM;
use crate::prompt::Builtin;

/// What the built-in classifiers of tier 0 say of a prompt, and its cues.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Traits {
    /// A probability for each of [`Builtin::Domain`]'s labels.
    pub(crate) domain: Vec<f32>,
    /// A probability for each of [`Builtin::Task`]'s labels.
    pub(crate) task: Vec<f32>,
    /// A probability for each of [`Builtin::Complexity`]'s labels.
    pub(crate) complexity: Vec<f32>,
    /// 0 to 1.
    pub(crate) difficulty: f32,
    /// Lexicons and shape.
    pub(crate) cues: Vec<f32>,
    /// The prompt says nothing, so nothing can be told from it.
    pub(crate) contentless: bool,
}

impl Traits {
    pub(crate) fn of(engine: &Engine, reading: &Reading<'_>) -> Self {
        let judge = |builtin| engine.builtin(builtin).judge(reading);
        let complexity = judge(Builtin::Complexity);
        Self {
            domain: judge(Builtin::Domain).probabilities,
            task: judge(Builtin::Task).probabilities,
            complexity: complexity.probabilities,
            difficulty: complexity.difficulty.unwrap_or_default(),
            cues: reading.focus.dense[CUES_FROM..].to_vec(),
            contentless: reading.focus.contentless && reading.context.is_none(),
        }
    }

    /// Of a prompt in no domain, for tests.
    #[cfg(test)]
    pub(crate) fn blank() -> Self {
        let zeros = |builtin: Builtin| vec![0.0; builtin.labels().len()];
        Self {
            domain: zeros(Builtin::Domain),
            task: zeros(Builtin::Task),
            complexity: zeros(Builtin::Complexity),
            difficulty: 0.0,
            cues: vec![0.0; crate::features::DENSE - CUES_FROM],
            contentless: false,
        }
    }

    /// The classifiers' word, in one row.
    fn labels(&self) -> impl Iterator<Item = f32> + '_ {
        let probabilities = self.domain.iter().chain(&self.task).chain(&self.complexity);
        probabilities.copied().chain([self.difficulty])
    }

    /// Inputs of the linear part of tier 0: labels, then cues; and how many labels there are.
    pub(crate) fn inputs(&self) -> (Vec<f32>, usize) {
        let labels: Vec<f32> = self.labels().collect();
        let count = labels.len();
        ([labels, self.cues.clone()].concat(), count)
    }

    /// Inputs of the linear part of tier 1: labels, then the encoder's output; and how many labels there are.
    pub(crate) fn inputs_with(&self, encoding: &Encoding) -> (Vec<f32>, usize) {
        let labels: Vec<f32> = self.labels().collect();
        let count = labels.len();
        ([&labels, encoding.values()].concat(), count)
    }
}

/// What a prompt looks like to an [`OutcomeModel`](super::OutcomeModel); made by [`signals`](super::OutcomeModel::signals).
#[derive(Debug, Clone, PartialEq)]
pub struct Signals {
    pub(crate) traits: Traits,
    /// What the terms say, one number per model; empty where none are weighed.
    pub(crate) terms: Vec<f32>,
}
