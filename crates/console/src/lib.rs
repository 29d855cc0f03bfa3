//! The admin door: what people and probes ask a Waypost about itself, never a request to a model.
//!
//! Plain HTTP/1.1 behind caps of its own, so that a flood of requests at another door does not hide the metrics. Called by
//! the binary.

mod paths;
mod server;

pub use server::Console;
