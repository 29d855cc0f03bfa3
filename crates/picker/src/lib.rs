//! Which replica gets the request: least load among the healthy, booked in the same step.
//!
//! Pure: no network and no clock; time comes in as milliseconds. It also keeps what endpoints have
//! taught us (failures, `Retry-After`) and the retry budget. Called by the proxy through the router.

mod approximate;
mod budget;
mod endpoint;
pub mod hash;
mod index;
mod pool;

pub use approximate::{Approximate, ApproximateStats, Policy as ApproximatePolicy};
pub use budget::RetryBudget;
pub use endpoint::{Endpoint, Failure};
pub use index::{Block, Held, PrefixIndex, Stats as IndexStats, Stored, Tier, Worker};
pub use pool::{Booking, Pick, Pool};

/// Milliseconds since some fixed moment; monotonic.
pub type Millis = u64;
