//! What a configuration needs beside itself before the first request: classifiers and tokenizers.
//!
//! Loading may fail, and what an earlier configuration loaded is kept where it has not changed. Called at start, at reload
//! and by the tools that decide offline.

use crate::brain::Brain;
use crate::classifying::Classifiers;
use crate::error::Error;
use crate::reading::Tokenizers;
use std::sync::Arc;
use waypost_classify::Engine;
use waypost_config::Snapshot;

/// See the module.
#[derive(Debug)]
pub struct Loaded {
    /// Everything that can label a prompt.
    pub classifiers: Classifiers,
    /// The tokenizers of pools whose choice looks at prompts.
    pub tokenizers: Tokenizers,
}

impl Loaded {
    /// Loads what `snapshot` needs.
    ///
    /// # Errors
    /// Naming what cannot be used.
    pub fn load(engine: Arc<Engine>, snapshot: &Snapshot, previous: Option<&Brain>) -> Result<Self, Error> {
        Ok(Self {
            classifiers: Classifiers::load(engine, snapshot, previous.map(Brain::classifiers))?,
            tokenizers: Tokenizers::load(snapshot, previous.map(Brain::tokenizers))?,
        })
    }
}
