//! What the body transformer counts: what became of each request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// One worker is in the body.
    Aggregated,
    /// Two are.
    Disaggregated,
    /// Two were wanted, but only one was named by an id: it alone is in the body.
    Unsplit,
    /// No header names a worker: it passed.
    NoWorker,
    /// There is no body to put it into: it passed.
    NoBody,
    /// What the header holds is no id.
    BadWorker,
    /// The body is no JSON object, or packed in a way that is not known.
    BadBody,
    /// Envoy does not show the body.
    Unseen,
    /// The body was too long, missing, or without room: refused.
    Faulty,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Aggregated,
        Self::Disaggregated,
        Self::Unsplit,
        Self::NoWorker,
        Self::NoBody,
        Self::BadWorker,
        Self::BadBody,
        Self::Unseen,
        Self::Faulty,
    ];

    /// Its word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aggregated => "aggregated",
            Self::Disaggregated => "disaggregated",
            Self::Unsplit => "unsplit",
            Self::NoWorker => "no_worker",
            Self::NoBody => "no_body",
            Self::BadWorker => "bad_worker",
            Self::BadBody => "bad_body",
            Self::Unseen => "unseen",
            Self::Faulty => "faulty",
        }
    }
}

/// How often each [`Outcome`] was seen.
#[derive(Debug, Default)]
pub struct Outcomes([AtomicU64; Outcome::ALL.len()]);

impl Outcomes {
    pub(super) fn count(&self, outcome: Outcome) {
        if let Some(count) = self.0.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// All of them.
    pub fn each(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().zip(&self.0).map(|(outcome, count)| (outcome, count.load(Relaxed)))
    }
}
