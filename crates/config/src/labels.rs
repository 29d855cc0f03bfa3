//! Which of the two known label orders a set of names belongs to.
//!
//! Never guesses: a single unknown name makes a set custom. Used by `v1` and `policies`.

pub use waypost_wire::labels::{COMPLEXITY_LABELS, TASK_LABELS};

/// A label order that is known by heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Task,
    Complexity,
}

impl Known {
    /// The order all of `names` belong to.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        [Self::Task, Self::Complexity]
            .into_iter()
            .find(|known| names.clone().all(|name| known.labels().contains(&name)))
    }

    pub(crate) fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Task => &TASK_LABELS,
            Self::Complexity => &COMPLEXITY_LABELS,
        }
    }
}
