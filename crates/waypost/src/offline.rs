//! A brain for commands that decide without a gateway: patient, because nobody waits for an answer.
//!
//! What is decided in this process is given the time it takes; servers keep their deadline. Called by `decide` and `replay`.

use crate::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use waypost_classify::Engine;
use waypost_config::{AutoSource, Classifier, PolicyIndex, Snapshot};
use waypost_router::{Brain, Loaded};

/// How long the encoder may take, its queue included.
const PATIENCE: Duration = Duration::from_secs(600);

/// What brains are made of.
#[derive(Debug)]
pub(crate) struct Offline {
    snapshot: Snapshot,
    engine: Arc<Engine>,
}

impl Offline {
    /// Reads a configuration; its warnings are `waypost check`'s to tell.
    pub(crate) fn open(file: &Path) -> Result<Self, Error> {
        let mut snapshot = waypost_config::load_file(file)?;
        crate::feeding::discover(&mut snapshot)?;
        snapshot.encoder.deadline = PATIENCE;
        for policy in snapshot.policies.iter_mut().filter(|policy| is_here(&policy.classifier)) {
            policy.classify_timeout = PATIENCE;
        }
        Ok(Self { snapshot, engine: Arc::new(Engine::embedded()?) })
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// A brain that remembers no conversation; `like` lends what is loaded already.
    pub(crate) fn brain(&self, like: Option<&Brain>) -> Result<Brain, Error> {
        let loaded = Loaded::load(Arc::clone(&self.engine), &self.snapshot, like)?;
        Ok(Brain::new(self.snapshot.clone(), loaded, None))
    }

    /// The policy of that name.
    pub(crate) fn policy(&self, name: &str) -> Result<PolicyIndex, Error> {
        self.snapshot.policy(name).ok_or_else(|| {
            let known: Vec<&str> = self.snapshot.policies.iter().map(|policy| &*policy.name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::Usage(format!("no policy '{name}' in this configuration; it has {known}"))
        })
    }
}

/// Whether a classifier runs in this process.
fn is_here(classifier: &Classifier) -> bool {
    match classifier {
        Classifier::Kserve { .. } | Classifier::Intent(_) => false,
        Classifier::Auto(auto) => matches!(auto.source, AutoSource::Outcomes { .. }),
        _ => true,
    }
}
