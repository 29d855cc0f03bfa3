//! What the door can be told. Plain values with defaults; the binary fills them from its configuration.

use crate::modes::{BodyMode, Modes};
use std::time::Duration;

/// What a message may hold beside a body of full length.
pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest request body in bytes; a case may allow less.
    pub body_limit: usize,
    /// Bytes of request bodies that all streams together may hold.
    pub held_bytes: usize,
    /// Streams that may be open at once.
    pub streams: usize,
    /// Body modes of an Envoy that does not tell them (before 1.34).
    pub modes: Modes,
    /// Envoy is configured with `allow_mode_override`: where its modes hide a body, others are asked for. When
    /// it is not, requests would pass undecided.
    pub mode_override: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_limit: 20 << 20,
            held_bytes: 1 << 30,
            streams: 16_384,
            modes: Modes { request: BodyMode::FullDuplex, response: BodyMode::FullDuplex },
            mode_override: false,
        }
    }
}

/// How the door closes.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    /// Serving goes on for so long, while health says NOT_SERVING.
    pub delay: Duration,
    /// Then new streams are refused, and running ones have so long to end.
    pub grace: Duration,
}
