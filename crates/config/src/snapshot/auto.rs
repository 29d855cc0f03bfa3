//! The parts of a policy that choose by learned quality, keep conversations together and try things out.
//!
//! As checked and immutable as the rest of the snapshot, of which they are part.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{ModelIndex, PolicyIndex, Secret};

/// Index of an entry of `Snapshot::embeddings`.
pub type EmbeddingIndex = usize;

/// Chooses among models by what is expected of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Auto {
    /// The models to choose from, in the order of the file; at least two.
    pub contestants: Vec<Contestant>,
    /// Where expected quality comes from.
    pub source: AutoSource,
    /// How quality, cost and latency are weighed.
    pub rule: AutoRule,
}

/// A model that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contestant {
    /// Which model.
    pub model: ModelIndex,
    /// Its name in the outcomes or the network.
    pub known_as: Arc<str>,
}

/// What tells the expected quality of each model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoSource {
    /// A folder that `waypost train --outcomes` wrote.
    Outcomes {
        /// Where it is; relative to the working directory, or absolute.
        folder: Arc<Path>,
    },
    /// LLM Router v2's network.
    Network {
        /// The safetensors file; relative to the working directory, or absolute.
        file: Arc<Path>,
        /// What makes its input.
        embeddings: EmbeddingIndex,
    },
}

/// How an auto policy chooses. Quality is 0 to 1, costs are US dollars a request, latencies seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum AutoRule {
    /// The cheapest model at most this far below the best.
    Tolerance(f32),
    /// The highest quality less weighted cost and latency.
    Maximize {
        /// Quality that a US dollar is worth.
        cost: f64,
        /// Quality that a second is worth.
        latency: f64,
    },
    /// The best model that costs no more than this.
    Budget(f64),
    /// v2's rule. Both in step with the contestants.
    Thresholds {
        /// Quality from which a model qualifies.
        thresholds: Vec<f64>,
        /// Relative costs; absent, the likeliest qualified model is taken; infinite for a model without one.
        costs: Option<Vec<f64>>,
    },
}

/// Conversations keep their model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sticky {
    /// Share of the conversation's cost that leaving a warm cache may add.
    pub spend: f64,
    /// A conversation without a request for this long is forgotten.
    pub keep: Duration,
    /// Complaints move up to the next dearer model.
    pub complaints: bool,
}

/// Several policies share the traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// What keeps to one arm.
    pub by: SplitBy,
    /// Policies, none of them a split, with positive weights.
    pub arms: Vec<(PolicyIndex, f64)>,
}

/// What a request is assigned to an arm by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitBy {
    /// Its conversation.
    Conversation,
    /// Nothing: each request is drawn anew.
    Request,
    /// The value of a request header, lower case; without it, its conversation.
    Header(Arc<str>),
}

/// Where texts and images become vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// The name policies use.
    pub name: Arc<str>,
    /// What does it.
    pub kind: EmbeddingKind,
}

/// See [`Embedding`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbeddingKind {
    /// A CLIP model in a folder.
    Folder(Arc<Path>),
    /// A server with OpenAI's embeddings API.
    OpenAi {
        /// Used as written.
        url: Arc<str>,
        /// The `model` value sent.
        model: Arc<str>,
        /// Sent as bearer token; empty sends no header.
        api_key: Secret,
    },
    /// A Jina CLIP-as-service, over HTTP.
    Jina {
        /// Base address, without a trailing slash.
        base: Arc<str>,
    },
}

/// A file that decisions are appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Where it is; relative to the working directory, or absolute.
    pub path: Arc<Path>,
    /// Whether request bodies are written too.
    pub prompts: bool,
}
