//! Personal data in a prompt, as a label: `pii` where something identifies somebody or is a secret, else `none`.
//!
//! Kinds and counts are kept for the Decision, never a value. Called by `classifying`.

use crate::decision::{Probabilities, Tier};
use crate::prompt::PromptText;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;
use waypost_classify::pii::{Detector, FAINTEST, MIN_CONFIDENCE, strongest};

/// How many spans of each kind a prompt holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Personal(BTreeMap<&'static str, u32>);

impl Serialize for Personal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The label's index, the probabilities of `none` and `pii`, and what was found.
pub(crate) fn look(detector: &Detector, text: &PromptText) -> (usize, Vec<f32>, Personal) {
    let mut kinds = BTreeMap::new();
    let mut pii = 0.0_f32;
    for part in [&text.focus, &text.context] {
        let spans = detector.find_above(part, FAINTEST);
        for span in spans.iter().filter(|span| span.confidence >= MIN_CONFIDENCE) {
            *kinds.entry(span.kind.name()).or_default() += 1;
        }
        pii = pii.max(strongest(&spans));
    }
    (usize::from(pii >= MIN_CONFIDENCE), vec![1.0 - pii, pii], Personal(kinds))
}

/// The answer in the form of all classifiers.
pub(crate) fn classified(
    detector: &Detector,
    text: &PromptText,
    labels: &Arc<[Arc<str>]>,
) -> crate::classifying::Classified {
    let (label, values, found) = look(detector, text);
    crate::classifying::Classified {
        confidence: Some(values[label]),
        probabilities: Probabilities { labels: Arc::clone(labels), values },
        personal: Some(found),
        tier: Tier::Detector,
        ..crate::classifying::Classified::of(Some(Arc::clone(&labels[label])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(focus: &str, context: &str) -> PromptText {
        PromptText { focus: focus.to_owned(), context: context.to_owned() }
    }

    #[test]
    fn kinds_are_counted_and_values_are_not_kept() {
        let detector = Detector::embedded().unwrap();
        let text = prompt("mail jane.doe@example.org and bob@example.com", "card 4111 1111 1111 1111");
        let (label, values, found) = look(&detector, &text);
        assert_eq!((label, values.len()), (1, 2));
        assert_eq!(
            serde_json::to_value(&found).unwrap(),
            serde_json::json!({"CREDIT_CARD": 1, "EMAIL_ADDRESS": 2})
        );
        assert_eq!(look(&detector, &prompt("why does ice float", "")).0, 0);
    }
}
