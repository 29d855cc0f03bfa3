//! What goes in and what comes out: the prompt, the built-in classifiers with their label orders, and the verdict.
//!
//! Pure data. The router builds a [`Prompt`]; a [`Model`](crate::Model) turns it into a [`Verdict`].

use waypost_wire::labels::{COMPLEXITY_LABELS, DOMAIN_LABELS, SAFETY_LABELS, TASK_LABELS};

/// What is classified. Both texts are cut by the caller and plain UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// The last user turn.
    pub focus: &'a str,
    /// Earlier user turns and the system prompt; may be empty.
    pub context: &'a str,
}

/// The classifiers that come with the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Builtin {
    /// What kind of work is wanted: twelve task types.
    Task,
    /// What makes the prompt hard: seven dimensions, and how hard it is.
    Complexity,
    /// What it is about: fourteen domains.
    Domain,
    /// Whether it attacks the model: jailbreak, direct injection, or neither.
    Safety,
}

impl Builtin {
    /// All of them, in the order they are documented.
    pub const ALL: [Self; 4] = [Self::Task, Self::Complexity, Self::Domain, Self::Safety];

    /// The labels, in the order of [`Verdict::probabilities`].
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Task => &TASK_LABELS,
            Self::Complexity => &COMPLEXITY_LABELS,
            Self::Domain => &DOMAIN_LABELS,
            Self::Safety => &SAFETY_LABELS,
        }
    }

    /// The name in configuration, logs and model files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Complexity => "complexity",
            Self::Domain => "domain",
            Self::Safety => "safety",
        }
    }

    /// The label given to a prompt without content; a domain or a threat cannot be named for lack of content.
    pub fn contentless(self) -> Option<usize> {
        match self {
            Self::Task => Some(11),
            Self::Complexity => Some(5),
            Self::Domain => Some(10),
            Self::Safety => Some(0),
        }
    }
}

/// Which part of the cascade a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Tier 0: n-grams and static embeddings, microseconds.
    Ngram,
    /// Tier 1: averaged with the encoder, milliseconds.
    Encoder,
}

impl Tier {
    /// The name in Decisions and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ngram => "ngram",
            Self::Encoder => "encoder",
        }
    }
}

/// Why tier 0 would rather have the encoder asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// Its calibrated confidence is below what this model was found to need.
    Unsure,
    /// Too many of the prompt's words and pairs of words were never seen in training.
    Unfamiliar,
    /// It is judged by its similarity to examples, which the encoder always tells better.
    Similarity,
    /// It is judged by past outcomes, which the encoder's output always sharpens.
    Outcome,
}

impl Doubt {
    /// The name in Decisions and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsure => "unsure",
            Self::Unfamiliar => "unfamiliar",
            Self::Similarity => "similarity",
            Self::Outcome => "outcome",
        }
    }
}

/// The answer of one classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Index of the most probable label.
    pub label: usize,
    /// Calibrated probability of that label, 0 to 1.
    pub confidence: f32,
    /// One probability per label, in label order; they sum to 1.
    pub probabilities: Vec<f32>,
    /// What the answer rests on.
    pub tier: Tier,
    /// Why the encoder should be (or was) asked; `None` where tier 0 is sure.
    pub doubt: Option<Doubt>,
    /// Share of the prompt's words and pairs never seen in training, 0 to 1: the out-of-distribution signal.
    pub novelty: f32,
    /// How hard the prompt is, 0 to 1. Complexity only.
    pub difficulty: Option<f32>,
    /// Worked examples found in the prompt. Complexity only.
    pub few_shots: Option<u32>,
    /// Explicit constraints on the answer found in the prompt. Complexity only.
    pub constraints: Option<u32>,
}
