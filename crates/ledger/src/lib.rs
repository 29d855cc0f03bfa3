//! What is kept about requests after they are gone: metrics and the decision log.
//!
//! It never decides anything; prompts pass through it only where the decision file is told to hold them. Keys and budgets will live here too. Called by
//! the doors when a request settles, and by `/metrics` and `/v1/decisions`.

mod batch;
mod file;
mod log;
mod metrics;
mod page;

pub use file::DecisionFile;
pub use log::DecisionLog;
pub use metrics::Metrics;
pub use page::{Family, Kind, Page};
