//! The guard, checked.

/// Prompts that attack the model are refused before anything is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// Labels of the built-in `safety`, at least one.
    pub refuse: Vec<&'static str>,
    /// Share of harmless prompts that may be refused.
    pub false_alarms: f32,
    /// Whether requests that name a model are checked.
    pub explicit_models: bool,
    /// Whether a request is refused whose prompt was not checked.
    pub refuse_unchecked: bool,
}
