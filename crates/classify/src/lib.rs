//! Prompt to label, with calibrated probabilities, in process and in microseconds.
//!
//! Hashed n-grams and a static token-embedding table feed linear heads; both travel inside the binary. Never touches the
//! network and, outside training, never a file. The router calls [`Classifier::classify`].

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
