//! The one error type of this crate.
//!
//! Everything that can go wrong here goes wrong while a model file is read, checked or trained; classification itself
//! cannot fail.

/// Why a model could not be loaded, written or trained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model file is truncated, altered, or not what its place requires.
    #[error("model file {file} is damaged or does not fit: {reason}")]
    Model {
        /// Which file, as the user knows it.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Training data cannot be used.
    #[error("training data: {0}")]
    Data(String),
    /// A rule or an example cannot be used.
    #[error("{0}")]
    Policy(String),
    /// The encoder's kernels refused to run.
    #[error("encoder: {0}")]
    Kernel(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file concerned.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn model(file: &str, reason: impl Into<String>) -> Self {
        Self::Model { file: file.to_owned(), reason: reason.into() }
    }
}
