//! What requests cost, and what they would have: over those of which both are known.
//!
//! Before is what was logged, whatever is replayed. After are the tokens that were used, at the price of the model of
//! now. What auto policies expected is another thing, and never mixed with either. Called by `summary`.

use super::summary::{Pair, requests};
use crate::counter::Counter;
use crate::logged::Recorded;
use crate::table::usd;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use waypost_config::{Price, Snapshot};
use waypost_router::Decision;

/// See the module.
#[derive(Debug)]
pub(super) struct Costs {
    prices: BTreeMap<Arc<str>, Price>,
    /// By the models that requests were to go to first.
    before: Counter,
    after: Counter,
    known: Pair,
    /// Expected, of requests that are not among the known.
    expected: Pair,
}

impl Costs {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let priced = snapshot.models.iter().filter_map(|m| Some((Arc::clone(&m.name), m.price?)));
        Self {
            prices: priced.collect(),
            before: Counter::default(),
            after: Counter::default(),
            known: Pair::default(),
            expected: Pair::default(),
        }
    }

    /// A request that was to go to `from` first, and now would go to `to`.
    pub(super) fn add(&mut self, recorded: &Recorded, decision: &Decision, from: &str, to: &str) {
        let Some((before, after)) = recorded.cost_usd.zip(self.after(recorded, from, to)) else {
            return self.expected.add(expected(recorded, decision, from, to));
        };
        self.before.add(from, before);
        self.after.add(to, after);
        self.known.add(Some((before, after)));
    }

    /// US dollars of the tokens that were used. Where nothing changes, the model that stood in then does so again.
    fn after(&self, recorded: &Recorded, from: &str, to: &str) -> Option<f64> {
        let model = if from == to { recorded.model.as_deref()? } else { to };
        let price = self.prices.get(model)?;
        Some(price.cost_usd(recorded.prompt_tokens?, recorded.completion_tokens?))
    }

    /// US dollars before and after, of a model's requests; `None` where none of them is known.
    pub(super) fn of(&self, name: &str) -> (Option<f64>, Option<f64>) {
        (self.before.get(name), self.after.get(name))
    }

    pub(super) fn json(&self) -> Value {
        let of = |Pair { known, before, after }: &Pair| json!({"before": before, "after": after, "requests": known});
        let mut whole = of(&self.known);
        whole["expected_of_others"] = of(&self.expected);
        whole
    }

    /// For a person; empty where nothing is known.
    pub(super) fn text(&self, decided: u64) -> String {
        // Writing to a string cannot fail.
        let mut out = String::new();
        let Pair { known, before, after } = self.known;
        if known > 0 {
            let change = match before > 0.0 {
                true => format!(" ({:+.1} %)", (after / before - 1.0) * 100.0),
                false => String::new(),
            };
            let _ = write!(out, "cost     {} -> {}{change}, ", usd(before), usd(after));
            let _ = writeln!(out, "known of {known} of {}", requests(decided));
        }
        let Pair { known, before, after } = self.expected;
        if known > 0 {
            let others = if self.known.known > 0 { "the other " } else { "" };
            let (before, after) = (usd(before), usd(after));
            let _ = writeln!(
                out,
                "         expected, for {known} of {others}{}: {before} -> {after}",
                requests(decided - self.known.known)
            );
        }
        out
    }
}

/// US dollars that the auto policies of then and of now expected, if both were such.
fn expected(recorded: &Recorded, decision: &Decision, from: &str, to: &str) -> Option<(f64, f64)> {
    let before = recorded.candidates.iter().find(|c| *c.model == *from)?.cost_usd?;
    let after = decision.candidates.iter().find(|c| *c.model == *to)?.cost_usd?;
    Some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(small: f64) -> Costs {
        let config = format!(
            "models:\n  - {{name: small, endpoint: 'http://a', price: {{input: {small}, output: 0}}}}\n  - {{name: large, endpoint: 'http://a', price: {{input: 10, output: 0}}}}\n  - {{name: free, endpoint: 'http://a'}}"
        );
        Costs::new(&waypost_config::load_str(&config, "test", &|_| None).unwrap())
    }

    fn recorded(model: &str, tokens: Option<u64>, cost: Option<f64>) -> Recorded {
        Recorded {
            model: Some(model.into()),
            prompt_tokens: tokens,
            completion_tokens: tokens,
            cost_usd: cost,
            ..Recorded::default()
        }
    }

    fn found(costs: &Costs) -> (u64, f64, f64) {
        (costs.known.known, costs.known.before, costs.known.after)
    }

    #[test]
    fn before_is_what_was_logged_and_nothing_is_made_up() {
        let mut costs = costs(1.0);
        let now = Decision::default();
        costs.add(&recorded("large", Some(1_000_000), Some(7.0)), &now, "large", "small");
        assert_eq!(
            (found(&costs), costs.of("large"), costs.of("small")),
            ((1, 7.0, 1.0), (Some(7.0), None), (None, Some(1.0)))
        );
        // Unknown: what it cost, its tokens, the price of now.
        costs.add(&recorded("large", Some(1_000_000), None), &now, "large", "small");
        costs.add(&recorded("large", None, Some(3.0)), &now, "large", "small");
        costs.add(&recorded("large", Some(1_000_000), Some(3.0)), &now, "large", "free");
        assert_eq!(found(&costs), (1, 7.0, 1.0));
        assert_eq!(costs.text(4), "cost     $7.0000 -> $1.0000 (-85.7 %), known of 1 of 4 requests\n");
    }

    #[test]
    fn where_nothing_changes_the_model_that_answered_answers_again_at_its_price_of_now() {
        let mut costs = costs(2.0);
        costs.add(&recorded("large", Some(1_000_000), Some(10.0)), &Decision::default(), "small", "small");
        costs.add(&recorded("small", Some(1_000_000), Some(1.0)), &Decision::default(), "small", "small");
        assert_eq!(found(&costs), (2, 11.0, 12.0));
    }

    #[test]
    fn what_was_expected_is_told_apart_and_only_where_both_did() {
        let auto = |cost: f64| {
            let line = json!({"candidates": [{"model": "large", "quality": 1, "cost_usd": cost}]});
            serde_json::from_value::<Recorded>(line).unwrap()
        };
        let candidate = |model: &str, cost| waypost_router::Candidate {
            model: model.into(),
            quality: 0.5,
            cost_usd: Some(cost),
            latency_ms: None,
            observed: None,
        };
        let mut costs = costs(1.0);
        let now = Decision { candidates: vec![candidate("small", 0.25)], ..Decision::default() };
        costs.add(&auto(2.0), &now, "large", "small");
        costs.add(&recorded("large", None, None), &now, "large", "small");
        costs.add(&auto(2.0), &Decision::default(), "large", "small");
        assert_eq!(found(&costs), (0, 0.0, 0.0));
        assert_eq!(costs.text(3), "         expected, for 1 of 3 requests: $2.0000 -> $0.2500\n");
        assert_eq!(costs.json()["expected_of_others"], json!({"before": 2.0, "after": 0.25, "requests": 1}));
    }
}
