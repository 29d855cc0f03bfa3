//! The label orders of the two published routers, and which order a set of names belongs to.
//!
//! Source: the heads of nvidia/prompt-task-and-complexity-classifier as the v1 ensembles publish
//! them. Never guesses: a single unknown name makes a set custom. Used by `v1` and `policies`.

/// Labels of the task classifier, in the order of its outputs.
pub const TASK_LABELS: [&str; 12] = [
    "Brainstorming",
    "Chatbot",
    "Classification",
    "Closed QA",
    "Code Generation",
    "Extraction",
    "Open QA",
    "Other",
    "Rewrite",
    "Summarization",
    "Text Generation",
    "Unknown",
];

/// Labels of the complexity classifier, in the order of its outputs.
pub const COMPLEXITY_LABELS: [&str; 7] = [
    "Creativity",
    "Reasoning",
    "Contextual-Knowledge",
    "Few-Shot",
    "Domain-Knowledge",
    "No-Label-Reason",
    "Constraint",
];

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
