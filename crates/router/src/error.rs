//! The one error type of this crate: why a configuration that reads well still cannot be used.
//!
//! What goes wrong with a request is an `ApiError`; this is what goes wrong before the first one.

use std::sync::Arc;

/// A policy's classifier or rules could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A trained folder cannot be read or is not one, the examples cannot be encoded, or a rule cannot be built.
    #[error("policy `{policy}`: {source}")]
    Classifier {
        /// The policy that names it.
        policy: Arc<str>,
        /// What is wrong, with the file's name.
        source: waypost_classify::Error,
    },
    /// A route has a label that the trained classifier does not know.
    #[error("policy `{policy}`, trained folder {folder}: {problem}")]
    Label {
        /// The policy whose route it is.
        policy: Arc<str>,
        /// The trained folder.
        folder: String,
        /// Which label, and which was probably meant.
        problem: String,
    },
    /// A model's tokenizer cannot be used.
    #[error("model `{model}`: {source}")]
    Tokenizer {
        /// The model that names it.
        model: Arc<str>,
        /// What is wrong, with the file's name.
        source: waypost_tokens::Error,
    },
    /// An auto policy's network or embeddings cannot be used, or know nothing of a model.
    #[error("policy `{policy}`: {problem}")]
    Auto {
        /// The policy that names them.
        policy: Arc<str>,
        /// What is wrong, with the file's or the model's name.
        problem: String,
    },
}
