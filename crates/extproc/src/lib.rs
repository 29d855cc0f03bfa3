//! The Envoy door: speaks `envoy.service.ext_proc.v3.ExternalProcessor` with an Envoy, body mode by body mode,
//! and asks a [`Judge`] what becomes of each request.
//!
//! What speaks the protocol knows no model, prompt or endpoint; the judges are [`Deciding`], on the router, and [`Transforming`], for those
//! who keep another picker. The binary runs [`Door::serve`] with one of them; the judge in `examples/echo.rs` is the smallest one.

mod attentive;
mod attributes;
mod budget;
mod deciding;
mod driven;
mod grpc;
mod health;
mod judge;
mod modes;
mod options;
pub mod pb;
mod refusing;
mod replies;
mod request;
mod response;
mod server;
mod stream;
mod tls;
mod transform;

pub use budget::Counts;
pub use deciding::{Deciding, Request};
pub use health::Health;
pub use judge::{Blind, Case, End, Fault, Go, Head, Judge, Refusal, Verdict};
pub use modes::{BodyMode, Modes};
pub use options::{Closing, Options};
pub use server::{Door, serve_health};
pub use tls::{Certificate, TlsError};
pub use transform::{OnError, Outcome, Outcomes, Transform, Transforming};
