//! What tier 0 sees of a prompt that expectations rest on: what it is about, what is wanted, how hard it is.
//!
//! Pure data, made in one pass of the featuriser. Called by `outcomes` and by its training.

use crate::engine::{Engine, Reading};
use crate::prompt::Builtin;

/// What the built-in classifiers of tier 0 say of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Traits {
    /// A probability for each of [`Builtin::Domain`]'s labels.
    pub(crate) domain: Vec<f32>,
    /// A probability for each of [`Builtin::Task`]'s labels.
    pub(crate) task: Vec<f32>,
    /// 0 to 1.
    pub(crate) difficulty: f32,
    /// The prompt says nothing, so nothing can be told from it.
    pub(crate) contentless: bool,
}

impl Traits {
    pub(crate) fn of(engine: &Engine, reading: &Reading<'_>) -> Self {
        let judge = |builtin| engine.builtin(builtin).judge(reading);
        Self {
            domain: judge(Builtin::Domain).probabilities,
            task: judge(Builtin::Task).probabilities,
            difficulty: judge(Builtin::Complexity).difficulty.unwrap_or_default(),
            contentless: reading.focus.contentless && reading.context.is_none(),
        }
    }
}

/// What a prompt looks like to an [`OutcomeModel`](super::OutcomeModel); made by [`signals`](super::OutcomeModel::signals).
#[derive(Debug, Clone, PartialEq)]
pub struct Signals {
    pub(crate) traits: Traits,
    /// What the n-gram head says, one number per model; empty without one.
    pub(crate) linear: Vec<f32>,
}

impl Signals {
    /// A probability for each of [`Builtin::Domain`]'s labels.
    pub fn domain(&self) -> &[f32] {
        &self.traits.domain
    }

    /// A probability for each of [`Builtin::Task`]'s labels.
    pub fn task(&self) -> &[f32] {
        &self.traits.task
    }

    /// How hard the prompt is, 0 to 1.
    pub fn difficulty(&self) -> f32 {
        self.traits.difficulty
    }
}
