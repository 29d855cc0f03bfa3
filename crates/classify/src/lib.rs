//! Prompt to label, with calibrated probabilities, in process and in microseconds.
//!
//! Hashed n-grams and a static token-embedding table feed linear heads; both travel inside the binary. Never touches the
//! network and, outside training, never a file. The router calls [`Classifier::classify`].

mod calibrate;
mod classifier;
mod constraints;
mod cues;
mod error;
mod features;
mod few_shots;
mod hash;
mod head;
mod model_file;
mod noise;
mod prompt;
mod table;
pub mod train;
mod wordpiece;
mod words;

pub use calibrate::{Scored, calibration_error, fit_temperature};
pub use classifier::Classifier;
pub use error::Error;
pub use prompt::{Head, Prompt, Verdict};
