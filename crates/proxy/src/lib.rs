//! The HTTP door: an OpenAI-compatible gateway that takes the place of NVIDIA LLM Router v1.
//!
//! `way.rs` holds the whole way of a request, from top to bottom; every other file is one step of it
//! or one page beside it. Decisions are the router's; bytes are `wire`'s. Called by the binary.

mod admit;
mod answer;
mod body;
mod candidates;
mod conn;
mod explain;
mod gateway;
mod handover;
mod headers;
mod intent;
mod kept;
mod kserve;
mod outfit;
mod pages;
mod paths;
mod recommend;
mod relay;
mod route;
mod send;
mod server;
mod shadow;
mod ticket;
mod watch;
mod way;

pub use gateway::{Also, Gateway, LogLinesDropped};
pub use route::{need_messages, policy_header};
pub use server::Server;
