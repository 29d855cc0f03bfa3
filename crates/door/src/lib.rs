//! What every door shares: admission, the record of a request, candidates, what an endpoint needs to see.
//!
//! A door speaks a protocol; what it does with a request in between is the same behind each of them. Nothing here opens a
//! socket. Called by `proxy`, `extproc`, `console` and the binary.

mod accept;
mod admit;
pub mod body;
mod candidates;
mod explain;
mod gateway;
pub mod incoming;
mod intent;
mod kept;
mod models;
pub mod outfit;
pub mod pages;
mod route;
mod shadow;
mod ticket;
mod watch;

pub use accept::accepted;
pub use admit::{Place, RETRY_AFTER_SHED_S, admit};
pub use candidates::{Candidate, Candidates};
pub use explain::{family, signals};
pub use gateway::{Also, Gateway, LogLinesDropped};
pub use models::models;
pub use route::{Route, need_messages, policy_header};
pub use ticket::Ticket;
pub use watch::Watch;
