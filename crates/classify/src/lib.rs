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
mod engine;
mod error;
pub mod examples;
mod features;
mod few_shots;
mod hash;
mod head;
mod model;
mod model_file;
mod noise;
pub mod pii;
mod prompt;
pub mod rules;
mod table;
pub mod train;
mod wordpiece;
mod words;

pub use calibrate::{Scored, calibration_error, fit_temperature};
pub use cascade::Cascade;
pub use engine::{Base, Engine, Reading};
pub use error::Error;
pub use model::{Alarm, FILE_NAME, Gates, Model};
pub use prompt::{Builtin, Doubt, Prompt, Tier, Verdict};
