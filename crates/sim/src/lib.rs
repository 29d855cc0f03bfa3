//! A simulated LLM engine: the OpenAI API over HTTP/1.1, vLLM's metric names, a block cache with its events, a latency
//! model and faults on demand.
//!
//! It runs no model and never passes for one: model names begin with `sim-`, every answer says that it is
//! simulated, every response carries `x-sim: 1`, and models are owned by `waypost-sim`.
//! `waypost sim`, the load benchmarks and the tests of the other crates start it through [`Engine::start`].

mod answer;
mod batch;
mod body;
mod cache;
mod chat;
mod chunks;
mod completions;
mod control;
mod core;
mod embeddings;
mod error;
mod events;
mod fault;
mod faults;
mod feed;
mod generate;
mod handoff;
mod intent;
mod io;
mod metrics;
mod options;
mod plausible;
mod prompt;
mod rank;
mod record;
mod reply;
mod rerank;
mod responses;
mod routes;
mod server;
mod sockets;
mod stats;
mod text;

pub use error::Error;
pub use fault::{Fault, Malformed};
pub use faults::Faults;
pub use handoff::Handed;
pub use options::{EventsForm, MetricsForm, Options, Role, UsageForm};
pub use rank::RankStats;
pub use record::Recorded;
pub use server::Engine;
pub use stats::{Abort, Stats};
