//! How much a model is to think, and how it is told.
//!
//! Pure data; doors put it into requests.

use std::sync::Arc;

use serde::Serialize;

/// How much a model is to think before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Not at all.
    Off,
    /// As much as it does by itself.
    On,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

impl Effort {
    pub(crate) const ALL: [Self; 5] = [Self::Off, Self::On, Self::Low, Self::Medium, Self::High];

    /// The word in the configuration and in Decisions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The word for models that know low, medium and high; `None` for those that are told nothing.
    #[must_use]
    pub fn level(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::On => Some(Self::Medium.as_str()),
            level => Some(level.as_str()),
        }
    }
}

/// Where a request says how much its model is to think. Names hold letters, digits, `_`, `-` and `.` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reasoning {
    /// A switch of the chat template.
    ChatTemplate(Arc<str>),
    /// An effort for the chat template.
    ChatTemplateEffort(Arc<str>),
    /// An effort as a member of the request.
    Effort(Arc<str>),
}
