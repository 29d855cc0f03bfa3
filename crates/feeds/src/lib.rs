//! What is heard about the endpoints from outside: KV events, metrics, health, who they are, and what other replicas booked.
//!
//! Feeds write into the picker's endpoints, index and bookings and count what they heard; none of them decides anything or
//! touches a request. Started by the waypost binary.

#[cfg(feature = "net")]
mod client;
#[cfg(feature = "net")]
pub mod discovery;
pub mod events;
#[cfg(feature = "net")]
pub mod health;
#[cfg(feature = "net")]
pub mod replicas;
#[cfg(feature = "net")]
mod schedule;
#[cfg(feature = "net")]
pub mod scrape;

#[cfg(feature = "net")]
pub use client::Client;
