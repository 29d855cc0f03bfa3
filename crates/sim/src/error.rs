//! The one error type of this crate: why an engine could not start or a fault could not be understood.
//!
//! Errors that a *client* of the engine sees are HTTP responses in OpenAI's shape; those are made in `reply`.

use std::net::SocketAddr;

/// Why the simulated engine could not do what its owner asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address could not be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A model name without the `sim-` prefix, which could pass for a real model.
    #[error("model name {0:?} must begin with \"sim-\", so that nobody takes it for a real model")]
    ModelName(String),
    /// No model, or more than the limit.
    #[error("between 1 and {max} models can be served, not {got}")]
    ModelCount {
        /// How many were given.
        got: usize,
        /// How many are allowed.
        max: usize,
    },
    /// An address for KV events that cannot be used.
    #[error("{url}: {why}")]
    Address {
        /// The address asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A number outside its range.
    #[error("option {name} must be {wanted}")]
    Option {
        /// The field of [`crate::Options`].
        name: &'static str,
        /// The range that is allowed.
        wanted: &'static str,
    },
    /// A fault that is not understood, or does nothing.
    #[error("fault {spec:?}: {why}")]
    Fault {
        /// What was written.
        spec: String,
        /// What is wrong with it.
        why: String,
    },
    /// More faults than are kept at once.
    #[error("at most {max} faults are kept at once")]
    TooManyFaults {
        /// The limit.
        max: usize,
    },
}
