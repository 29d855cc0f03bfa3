//! The HTTP door: an OpenAI-compatible gateway that takes the place of NVIDIA LLM Router v1.
//!
//! `way.rs` holds the whole way of a request, from top to bottom; every other file is one step of it
//! or one page beside it. Steps that another door has too are `door`'s, decisions the router's, bytes `wire`'s.
//! Called by the binary.

mod answer;
mod conn;
mod handover;
mod headers;
mod kserve;
mod paths;
mod recommend;
mod relay;
mod send;
mod server;
mod way;

pub use server::Server;
