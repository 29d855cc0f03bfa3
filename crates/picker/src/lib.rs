//! Which replica gets the request: least load among the healthy, booked in the same step.
//!
//! Pure: no network and no clock; time comes in as milliseconds. It also keeps what endpoints have
//! taught us (failures, `Retry-After`) and the retry budget. Called by the proxy through the router.

mod budget;
mod endpoint;
mod pool;

pub use budget::RetryBudget;
pub use endpoint::{Endpoint, Failure};
pub use pool::{Booking, Pick, Pool};

/// Milliseconds since some fixed moment; monotonic.
pub type Millis = u64;
