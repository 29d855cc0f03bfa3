//! A text with its true spans.
//!
//! Comes from the generator or from the public rows; read by training and evaluation.

use crate::pii::Kind;

/// A text with its true spans.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    /// The text.
    pub(crate) text: String,
    /// Start, end (bytes) and kind of each span, sorted.
    pub(crate) gold: Vec<(usize, usize, Kind)>,
    /// Template it came from: held out as a whole.
    pub(crate) group: String,
}

impl Example {
    /// Whether its template is held out for measurement: one in five.
    pub(crate) fn is_held_out(&self) -> bool {
        crate::hash::bytes(2026, self.group.as_bytes()).is_multiple_of(5)
    }
}
