//! Tier 1: a six-layer MiniLM, int8, in pure Rust.
//!
//! The lower layers are a shared trunk; the upper ones come in two versions: `prompt`, fine-tuned by us for the built-in
//! classifiers, and `sentence`, as published, whose embeddings serve users' own labels. Knows nothing of queues or
//! deadlines: the router runs a [`Session`] on each of its encoder threads.

mod layer;
mod session;
mod weights;

pub use session::{Session, excerpt};
pub use weights::Encoder;

/// Width of the hidden state.
pub(crate) const HIDDEN: usize = 384;
/// Attention heads.
pub(crate) const HEADS: usize = 12;
/// Width of the feed-forward layer.
pub(crate) const FEED_FORWARD: usize = 1536;
/// Layers that both branches share.
pub(crate) const TRUNK_LAYERS: usize = 2;
/// Layers of a branch.
pub(crate) const BRANCH_LAYERS: usize = 4;
/// Layers whose means the `sentence` branch gives, the last ones.
pub(crate) const POOLED_LAYERS: usize = 3;
/// Longest input in tokens, `[CLS]` and `[SEP]` included. Of a longer text both ends are read.
pub const MAX_TOKENS: usize = 96;

/// Which upper layers, and how their output is pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Branch {
    /// Fine-tuned for the built-in classifiers; the mean of the last layer over tokens.
    Prompt,
    /// As published; the means of the last three layers over tokens, one after the other.
    Sentence,
}

impl Branch {
    /// The name in model files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Sentence => "sentence",
        }
    }

    /// The branch of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Prompt, Self::Sentence].into_iter().find(|branch| branch.name() == name)
    }

    /// Length of the pooled output.
    pub fn width(self) -> usize {
        match self {
            Self::Prompt => HIDDEN,
            Self::Sentence => POOLED_LAYERS * HIDDEN,
        }
    }
}

/// The encoder's pooled output for one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    branch: Branch,
    values: Vec<f32>,
}

impl Encoding {
    pub(crate) fn new(branch: Branch, values: Vec<f32>) -> Self {
        Self { branch, values }
    }

    /// Which upper layers made it.
    pub fn branch(&self) -> Branch {
        self.branch
    }

    /// The pooled output, [`Branch::width`] numbers.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The sentence embedding proper: the last layer's mean, scaled to length 1.
    pub fn embedding(&self) -> Vec<f32> {
        let last = &self.values[self.values.len() - HIDDEN..];
        let norm = last.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        last.iter().map(|v| v / norm).collect()
    }
}
