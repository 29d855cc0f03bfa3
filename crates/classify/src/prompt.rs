//! What goes in and what comes out: the prompt, the two heads with their label orders, and the verdict.
//!
//! Pure data. The router builds a [`Prompt`]; `classifier` turns it into a [`Verdict`].

use waypost_wire::labels::{COMPLEXITY_LABELS, TASK_LABELS};

/// What is classified. Both texts are cut by the caller and plain UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// The last user turn.
    pub focus: &'a str,
    /// Earlier user turns and the system prompt; may be empty.
    pub context: &'a str,
}

/// Which question is asked about the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Head {
    /// What kind of work is wanted: twelve task types.
    Task,
    /// What makes the prompt hard: seven dimensions, and how hard it is.
    Complexity,
}

impl Head {
    /// The labels, in the order of [`Verdict::probabilities`].
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Task => &TASK_LABELS,
            Self::Complexity => &COMPLEXITY_LABELS,
        }
    }

    /// The head's name in configuration, logs and model files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Complexity => "complexity",
        }
    }

    /// The label given to a prompt without content.
    pub(crate) fn contentless(self) -> usize {
        match self {
            Self::Task => 11,
            Self::Complexity => 5,
        }
    }
}

/// The classifier's answer for one head.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Index into [`Head::labels`] of the most probable label.
    pub label: usize,
    /// Calibrated probability of that label, 0 to 1.
    pub confidence: f32,
    /// One probability per label, in label order; they sum to 1.
    pub probabilities: Vec<f32>,
    /// How hard the prompt is, 0 to 1. Complexity head only.
    pub difficulty: Option<f32>,
    /// Worked examples found in the prompt. Complexity head only.
    pub few_shots: Option<u32>,
    /// Explicit constraints on the answer found in the prompt. Complexity head only.
    pub constraints: Option<u32>,
}
