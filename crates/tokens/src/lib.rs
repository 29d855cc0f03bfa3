//! A request to the token ids that its engine will see, in process and without I/O after the load.
//!
//! [`Tokenizer`] renders the chat template and encodes as vLLM does, and keeps the ids of text it has seen.
//! [`estimate`] stands in where an endpoint has no tokenizer. Never picks an endpoint and never talks to
//! one. Called by the router.

mod cache;
mod cuts;
mod engine;
mod error;
mod estimate;
mod given;
mod load;
mod probes;
mod python;
mod request;
mod template;
mod tokenizer;

pub use cache::{CacheStats, DEFAULT_CACHE_BYTES};
pub use engine::Engine;
pub use error::Error;
pub use estimate::{BYTES_PER_PSEUDO_TOKEN, estimate};
pub use given::given_ids;
pub use load::{MAX_CONFIG_FILE_BYTES, MAX_TOKENIZER_FILE_BYTES};
pub use template::MAX_TEXT_BYTES;
pub use tokenizer::{Encoded, MAX_BODY_BYTES, Stats, Tokenizer};
