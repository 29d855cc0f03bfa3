//! Which replica gets the request: chosen by load, by what its cache holds and by its health, booked in the same step.
//!
//! Pure: no network and no clock; time comes in as milliseconds. It also keeps what endpoints have taught us (failures,
//! `Retry-After`), the index of their caches, the queue of requests that wait for room, and the retry budget. Called
//! by the proxy through the router; fed by the feeds.

mod affinity;
mod approximate;
mod ask;
mod book;
mod booking;
mod budget;
mod choice;
mod cost;
mod endpoint;
pub mod hash;
mod index;
mod observed;
mod pair;
mod pick;
mod pool;
mod predicted;
mod prefixes;
mod preview;
mod queue;
mod ranking;
mod reading;
mod recency;
mod remote;
mod saturation;
mod scorers;
mod sessions;
mod survey;
mod sync;
#[cfg(test)]
mod testing;
mod trie;
mod ttft;

pub use ask::{Ask, NoPick, Threshold, Want, WhyNot};
pub use book::Load;
pub use booking::{Booking, Pick};
pub use budget::RetryBudget;
pub use choice::{Choice, Considered, Scored};
pub use endpoint::{Endpoint, Failure};
pub use index::{Block, Held, PrefixIndex, Stats as IndexStats, Stored, Tier, Worker};
pub use observed::{Adapters, KvState, Observed};
pub use pair::{Pair, WhyPair};
pub use pool::{Pool, PoolStats};
pub use queue::{Full, Queue};
pub use remote::{BookingEvent, Reporter};

/// Milliseconds since some fixed moment; monotonic.
pub type Millis = u64;
