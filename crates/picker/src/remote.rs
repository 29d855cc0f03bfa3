//! Bookings between Waypost processes: what others tell, and what this one reports.
//!
//! Plain values without a wire form; the feeds carry them. Nothing here waits.

use std::fmt::Debug;
use std::sync::Arc;

/// What another process did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// It booked a request; the same number again replaces the first.
    Add {
        /// The process.
        replica: Arc<str>,
        /// The booking's number there.
        id: u64,
        /// Id of the endpoint.
        endpoint: Arc<str>,
        /// Chain hashes of the prompt's blocks; may be empty.
        chain: Box<[u64]>,
        /// Blocks besides those.
        blocks: u32,
        /// Prompt tokens to compute.
        prefill_tokens: u32,
    },
    /// Its first token came.
    PrefillDone {
        /// The process.
        replica: Arc<str>,
        /// The booking's number there.
        id: u64,
    },
    /// It is over.
    Free {
        /// The process.
        replica: Arc<str>,
        /// The booking's number there.
        id: u64,
    },
}

/// A booking of this process, to be told to others.
#[derive(Debug, Clone, Copy)]
pub struct Booked<'a> {
    /// Its number in this process and pool.
    pub id: u64,
    /// Id of the endpoint.
    pub endpoint: &'a Arc<str>,
    /// Chain hashes of the prompt's blocks.
    pub chain: &'a [u64],
    /// Blocks besides those.
    pub blocks: u32,
    /// Prompt tokens to compute.
    pub prefill_tokens: u32,
}

/// Is told of this process's bookings. Called for every request, so it must be cheap and never wait.
pub trait Reporter: Debug + Send + Sync {
    /// A request was booked, or moved to another endpoint.
    fn booked(&self, booked: &Booked<'_>);
    /// Its first token came.
    fn prefill_done(&self, id: u64);
    /// It is over.
    fn freed(&self, id: u64);
}
