//! The admin door: what people and probes ask a Waypost about itself, and vLLM Semantic Router's management API for
//! classification; never a request to a model of the client's.
//!
//! Plain HTTP/1.1 behind caps of its own, so that a flood of requests at another door does not hide the metrics. Of a text
//! that is sent here nothing is kept or logged. Called by the binary; a command without a gateway
//! brings pages of its own.

mod batch;
mod desk;
mod eval;
mod grounds;
mod input;
mod intent;
mod paths;
mod pii;
mod refusal;
mod routed;
mod security;
mod server;

pub use hyper::body::Incoming;
pub use paths::GatewayPages;
pub use server::{Console, Pages};
