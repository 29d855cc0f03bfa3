//! What is kept about requests after they are gone: metrics and the decision log.
//!
//! It never decides anything and never sees a prompt. Keys and budgets will live here too. Called by
//! the doors when a request settles, and by `/metrics` and `/v1/decisions`.

mod log;
mod metrics;

pub use log::DecisionLog;
pub use metrics::Metrics;
