//! Whether two Decisions about a request decide the same, field by field, in the form in which they are written.
//!
//! How the request went afterwards is no matter. Called by `replay`.

use serde_json::Value;

/// What a Decision decides, and by what.
const FIELDS: [&str; 15] = [
    "policy",
    "split",
    "label",
    "confidence",
    "probabilities",
    "difficulty",
    "dimensions",
    "pii",
    "tier",
    "rule",
    "escalated_because",
    "candidates",
    "conversation",
    "plan",
    "unfit",
];
/// Probabilities of a server that was not asked again.
const OF_SERVERS: &str = "probabilities";
/// Its key goes by the client's, too, which is not written down.
const OF_MEMORY: &str = "conversation";

fn without_key(conversation: &Value) -> Value {
    let mut rest = conversation.clone();
    rest.as_object_mut().map(|rest| rest.remove("key"));
    rest
}

/// The first field in which they differ.
pub(super) fn difference(old: &Value, new: &Value) -> Option<&'static str> {
    let asked_again = new.get(OF_SERVERS).is_some();
    let compared = |field: &&&str| **field != OF_SERVERS || asked_again || old["tier"] != new["tier"];
    let unlike = |field: &&&str| match (old.get(**field), new.get(**field)) {
        (Some(old), Some(new)) if **field == OF_MEMORY => without_key(old) != without_key(new),
        (old, new) => old != new,
    };
    FIELDS.iter().filter(compared).find(unlike).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named_and_what_came_after_is_no_matter() {
        let old = json!({"id": "a", "label": "x", "confidence": 0.1234, "probabilities": {"x": 0.1234}, "tier": "kserve",
            "plan": [{"model": "m", "reason": "label"}], "total_ms": 7.0});
        let mut new = old.clone();
        new["total_ms"] = json!(0.0);
        assert_eq!(difference(&old, &new), None);
        new["confidence"] = json!(0.1235);
        new["plan"][0]["model"] = json!("n");
        assert_eq!(difference(&old, &new), Some("confidence"));
        let mut repeated = old.clone();
        repeated.as_object_mut().unwrap().remove("probabilities");
        assert_eq!(
            difference(&old, &repeated),
            None,
            "a server's probabilities are not in the repeated answer"
        );
        repeated["tier"] = json!("rule");
        assert_eq!(difference(&old, &repeated), Some("probabilities"));
        let of = |key: &str, turn: &str| json!({"conversation": {"key": key, "turn": turn}});
        assert_eq!(difference(&of("a", "next"), &of("b", "next")), None, "a client's key is not known again");
        assert_eq!(difference(&of("a", "next"), &of("a", "first")), Some("conversation"));
        assert_eq!(difference(&of("a", "next"), &json!({})), Some("conversation"));
        assert_eq!(difference(&json!({"split": "s"}), &json!({})), Some("split"));
    }
}
