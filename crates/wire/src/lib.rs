//! Bytes on the wire, without I/O and without async.
//!
//! A *view* of an OpenAI request over its raw bytes, surgical edits of those bytes, an SSE reader, token
//! usage, the OpenAI error shape and KServe v2 messages. Nothing here opens a socket, reads a clock or
//! re-serialises a client's body. Called by the router, both doors and the simulated engine.

pub mod error;
pub mod json;
pub mod kserve;
pub mod labels;
mod media;
pub mod members;
pub mod rawstr;
pub mod splice;
pub mod sse;
pub mod usage;
pub mod view;

pub use error::{ApiError, Code};
pub use media::media_hash;
pub use rawstr::RawStr;
pub use splice::Segments;
pub use sse::SseReader;
pub use usage::Usage;
pub use view::{Content, Message, Needs, NimRouter, Part, RequestView, Role, Strategy};
