//! What an engine tells of itself, and how old that is.
//!
//! Plain values, each replaced whole; the feeds write them, the choice reads them. A figure that an engine does not
//! give is `None`, never a zero.

use crate::Millis;
use std::sync::Arc;

/// One reading of an engine's metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Requests waiting in its queue.
    pub waiting: Option<u32>,
    /// Requests it computes.
    pub running: Option<u32>,
    /// Share of its KV cache in use, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Blocks its KV cache can hold.
    pub total_blocks: Option<u64>,
    /// Tokens in one of them.
    pub block_size: Option<u32>,
    /// Its LoRA adapters.
    pub adapters: Option<Adapters>,
    /// When it was read.
    pub at: Millis,
}

/// LoRA adapters of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adapters {
    /// How many it can hold at once.
    pub max: u32,
    /// Those in use.
    pub running: Vec<Arc<str>>,
    /// Those that requests wait for.
    pub waiting: Vec<Arc<str>>,
}

/// How far an endpoint's share of the prefix index can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum KvState {
    /// It has no event stream.
    #[default]
    Off,
    /// Its stream has not been heard yet.
    Waiting,
    /// Missed batches are being asked for.
    Replaying,
    /// Every batch has been heard since the state was known.
    Live,
    /// Batches are lost, so the index lacks blocks until the cache has turned over or is cleared.
    Gaps,
    /// Nothing is believed: the stream is silent, garbled or of another block size.
    Blind,
}

impl KvState {
    const ALL: [Self; 6] = [Self::Off, Self::Waiting, Self::Replaying, Self::Live, Self::Gaps, Self::Blind];

    /// Its name in metrics and Decisions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Waiting => "waiting",
            Self::Replaying => "replaying",
            Self::Live => "live",
            Self::Gaps => "gaps",
            Self::Blind => "blind",
        }
    }

    pub(crate) fn from_u8(value: u8) -> Self {
        Self::ALL.into_iter().find(|state| *state as u8 == value).unwrap_or_default()
    }
}
