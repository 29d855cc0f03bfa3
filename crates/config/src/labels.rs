//! The label orders known by heart, and which of v1's two a set of names belongs to.
//!
//! Never guesses: a single unknown name makes a set custom. Used by `v1`, `classifiers` and the snapshot.

use waypost_wire::labels::{COMPLEXITY_LABELS, DOMAIN_LABELS, PII_LABELS, SAFETY_LABELS, TASK_LABELS};

/// A label order that is known by heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Task,
    Complexity,
    Domain,
    Safety,
    Pii,
}

impl Known {
    /// The orders v1 published. Files of its form are bound by these alone: a server of one's own may well have outputs
    /// called `math` and `other`, which are not the fourteen domains.
    pub(crate) const V1: [Self; 2] = [Self::Task, Self::Complexity];

    /// The order of v1 that all of `names` belong to.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        Self::V1.into_iter().find(|known| names.clone().all(|name| known.labels().contains(&name)))
    }

    pub(crate) fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Task => &TASK_LABELS,
            Self::Complexity => &COMPLEXITY_LABELS,
            Self::Domain => &DOMAIN_LABELS,
            Self::Safety => &SAFETY_LABELS,
            Self::Pii => &PII_LABELS,
        }
    }
}
