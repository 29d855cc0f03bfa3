//! Prompt to label, with calibrated probabilities, in process and in microseconds.
//!
//! Tier 0, hashed n-grams and static embeddings under linear heads, always answers; tier 1, an int8 encoder, is asked where
//! tier 0 is in doubt. All models travel inside the binary. Never touches the network or a file. Start at [`Engine`].

mod alarm;
mod calibrate;
mod cascade;
mod constraints;
mod cues;
pub mod encoder;
mod encoder_head;
mod ends;
mod engine;
mod error;
pub mod examples;
mod features;
mod few_shots;
mod gates;
mod hash;
mod head;
mod model;
mod model_file;
mod noise;
pub mod outcomes;
pub mod pii;
mod prompt;
pub mod rules;
mod table;
pub mod train;
mod wide;
mod wordpiece;
mod words;

pub use cascade::Cascade;
pub use engine::{Base, Engine, Reading};
pub use error::Error;
pub use gates::{Alarm, Gates};
pub use model::{FILE_NAME, Model};
pub use outcomes::{Expected, OUTCOMES_FILE, OutcomeModel, Signals};
pub use prompt::{Builtin, Doubt, Prompt, Tier, Verdict};
