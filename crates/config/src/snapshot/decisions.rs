//! A policy by decisions, checked: signals by index, conditions as trees, decisions in the order in which they are taken.
//!
//! Pure data. What a signal says of a prompt is the router's to find out; which decision follows is `policy`'s.

use std::sync::Arc;

/// Signals, and what is decided by them.
#[derive(Debug, Clone, PartialEq)]
pub struct Decisions {
    /// In the order of the file; 1 to 256, each with a name of its own.
    pub signals: Vec<Signal>,
    /// In the order of the file; 1 to 256. The names are the policy's labels.
    pub decide: Vec<Decide>,
    /// What comes first among those that apply.
    pub order: Order,
    /// Indices of `decide`, the highest priority first.
    pub by_priority: Vec<usize>,
}

impl Decisions {
    /// Whether there are prompts to which none applies, as far as conditions tell by themselves.
    #[must_use]
    pub fn may_be_none(&self) -> bool {
        !self.decide.iter().any(|decide| decide.when == Condition::All(Vec::new()))
    }
}

/// Something that a prompt shows, or does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Its name.
    pub name: Arc<str>,
    /// What is looked for.
    pub kind: SignalKind,
}

/// See [`Signal::kind`]. Thresholds are confidences, 0 to 1, from which a signal applies.
#[derive(Debug, Clone, PartialEq)]
pub enum SignalKind {
    /// The prompt's domain is one of these.
    Domain {
        /// Indices of the built-in classifier's labels.
        labels: Vec<usize>,
        /// Of the likeliest domain; below it the prompt counts as `other`.
        threshold: f32,
    },
    /// Words or phrases of the last user turn.
    Keywords {
        /// At least one.
        words: Vec<String>,
        /// How many must be found.
        matching: Matching,
        /// Whether case counts.
        case_sensitive: bool,
    },
    /// A regular expression; whether it is one is known when it is built.
    Regex(String),
    /// The prompt resembles these.
    Examples {
        /// At least one.
        texts: Vec<String>,
        /// Of the similarity.
        threshold: f32,
    },
    /// The prompt attacks in one of these ways.
    Safety {
        /// Indices of the built-in classifier's labels.
        labels: Vec<usize>,
        /// Of their probabilities' sum.
        threshold: f32,
    },
    /// The prompt holds personal data or a secret.
    Pii {
        /// Of its probability.
        threshold: f32,
    },
}

impl SignalKind {
    /// Which question answers it.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Keywords { .. } | Self::Regex(_) => Family::Rules,
            Self::Domain { .. } => Family::Domain,
            Self::Safety { .. } => Family::Safety,
            Self::Pii { .. } => Family::Pii,
            Self::Examples { .. } => Family::Examples,
        }
    }
}

/// Signals that one question answers together; the cheaper one is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Keywords and regular expressions: a pass over the text.
    Rules,
    /// The built-in `domain`.
    Domain,
    /// The built-in `safety`.
    Safety,
    /// The detector of personal data.
    Pii,
    /// Similarity to examples, for which the encoder is always wanted.
    Examples,
}

/// How many of a signal's keywords must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching {
    /// One at least.
    Any,
    /// Each of them.
    All,
    /// Not a single one.
    None,
}

/// What comes first among decisions that apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The higher priority, then the higher confidence, then the name.
    Priority,
    /// The higher confidence, then the higher priority, then the name.
    Confidence,
}

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Decide {
    /// The label.
    pub name: Arc<str>,
    /// The higher, the earlier.
    pub priority: i64,
    /// When it applies.
    pub when: Condition,
}

/// A condition on signals. It nests eight deep at most.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// The signal of this index applies.
    Signal(usize),
    /// All of these hold; of none, always.
    All(Vec<Self>),
    /// One of these holds; not empty.
    Any(Vec<Self>),
    /// This does not hold.
    Not(Box<Self>),
}

impl Condition {
    /// Calls `see` with the index of each signal that it asks for.
    pub fn each_signal(&self, see: &mut impl FnMut(usize)) {
        match self {
            Self::Signal(signal) => see(*signal),
            Self::All(children) | Self::Any(children) => {
                children.iter().for_each(|child| child.each_signal(see));
            }
            Self::Not(child) => child.each_signal(see),
        }
    }
}
