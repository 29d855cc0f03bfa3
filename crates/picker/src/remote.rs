//! Bookings between Waypost processes: what each tells the others of its own.
//!
//! Plain values, carried by the feeds as they stand: another form is another version of the feeds' messages.
//! Nothing here waits.

use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::Arc;

/// What happened to a booking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BookingEvent {
    /// A request was booked, or moved to another endpoint: the same number again replaces the first.
    Add {
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
    PrefillDone,
    /// It is over.
    Free,
}

/// Is told of this process's bookings. Called for every request, so it must be cheap and never wait.
pub trait Reporter: Debug + Send + Sync {
    /// Something happened to the booking of this number, which is its own in this process and pool.
    fn report(&self, id: u64, event: BookingEvent);
}
