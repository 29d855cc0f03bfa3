//! The guard as the user writes it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::leaf::{Attack, OnFailure};
use crate::raw::Raw;

/// One harmless prompt in a hundred.
const FALSE_ALARMS: f64 = 0.01;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GuardSpec {
    /// Labels of the built-in `safety` whose prompts are refused; absent: both.
    pub(crate) refuse: Option<Vec<Raw<Attack>>>,
    /// Share of harmless prompts that may be refused, 0.0005 to 0.2.
    pub(crate) false_alarms: Raw<f64>,
    /// Requests that name a model are checked, too; `false` lets them pass, as vLLM Semantic Router does.
    pub(crate) explicit_models: Raw<bool>,
    /// What happens to a request whose prompt could not be checked in time, or not be seen.
    pub(crate) on_failure: Raw<OnFailure>,
}

impl Default for GuardSpec {
    fn default() -> Self {
        Self {
            refuse: None,
            false_alarms: Raw::Default(FALSE_ALARMS),
            explicit_models: Raw::Default(true),
            on_failure: Raw::Default(OnFailure::Pass),
        }
    }
}
