//! What all requests of one engine share: its options, models, batch, cache, faults and counters.
//!
//! It answers nothing itself. `server` makes one per engine; every endpoint reads it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Error;
use crate::batch::Batch;
use crate::cache::PrefixCache;
use crate::faults::Faults;
use crate::metrics::Meters;
use crate::options::{MODEL_PREFIX, Options};
use crate::record::Recorder;
use crate::stats::Board;
use crate::text::hash;

/// Under this name all models are counted that only `any_model` lets in, so that callers cannot make up labels.
const ANY_MODEL_LABEL: &str = "sim-any";

/// The shared parts of an engine.
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) batch: Batch,
    pub(crate) cache: PrefixCache,
    pub(crate) faults: Faults,
    pub(crate) board: Arc<Board>,
    pub(crate) recorder: Recorder,
    models: HashMap<String, Arc<Meters>>,
    any: Arc<Meters>,
}

/// A model as one request sees it.
pub(crate) struct Served {
    /// The name the answer gives, always with the prefix.
    pub(crate) name: String,
    pub(crate) meters: Arc<Meters>,
    /// Tells models apart in hashes.
    pub(crate) seed: u64,
}

impl Core {
    pub(crate) fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let core = Core {
            batch: Batch::new(options.max_running, options.max_waiting),
            cache: PrefixCache::new(options.cache_blocks),
            faults: Faults::new(options.seed),
            board: Arc::default(),
            recorder: Recorder::default(),
            models: options.models.iter().map(|name| (name.clone(), Arc::default())).collect(),
            any: Arc::default(),
            options,
        };
        for fault in &core.options.faults {
            core.faults.add(fault.clone())?;
        }
        Ok(core)
    }

    /// The model of this name, if it is served.
    pub(crate) fn model(&self, asked: &str) -> Option<Served> {
        let known = self.models.get(asked);
        let meters = known.or(self.options.any_model.then_some(&self.any))?;
        let name =
            if asked.starts_with(MODEL_PREFIX) { asked.to_owned() } else { format!("{MODEL_PREFIX}{asked}") };
        Some(Served { seed: hash(self.options.seed, name.as_bytes()), name, meters: Arc::clone(meters) })
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let mut models: Vec<(&str, &Meters)> =
            self.models.iter().map(|(name, meters)| (name.as_str(), &**meters)).collect();
        models.sort_unstable_by_key(|(name, _)| *name);
        if self.options.any_model && !self.models.contains_key(ANY_MODEL_LABEL) {
            models.push((ANY_MODEL_LABEL, &self.any));
        }
        crate::metrics::render(&models, self.cache.capacity())
    }
}
