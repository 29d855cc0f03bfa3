//! What is heard about the endpoints from outside: KV events, metrics, health, who they are, and what other
//! replicas booked.
//!
//! Every feed is one task that writes into the picker's endpoints and counts what it heard; none of them decides
//! anything. Started by the waypost binary.

mod client;
pub mod discovery;
pub mod events;
pub mod health;
mod pause;
pub mod replicas;
mod schedule;
pub mod scrape;

pub use client::Client;

/// Gives the milliseconds of now on the picker's clock.
pub type Clock = std::sync::Arc<dyn Fn() -> waypost_picker::Millis + Send + Sync>;
