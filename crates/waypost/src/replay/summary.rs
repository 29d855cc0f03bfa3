//! What would change: models, cost, expected quality, and how many decisions.
//!
//! Holds sums only; `costs` knows what they are in dollars. Called by `replay`.

use super::costs::Costs;
use crate::counter::Counter;
use crate::logged::Recorded;
use crate::table::{Table, or_dash, percent, usd};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use waypost_config::Snapshot;
use waypost_router::Decision;

/// Changes that a person is shown.
const CHANGES_SHOWN: usize = 8;
/// Stands for a request that no model could take.
const NOBODY: &str = "(none)";

/// See the module.
#[derive(Debug)]
pub(super) struct Summary {
    policy: Option<String>,
    decided: u64,
    moved: u64,
    without_request: u64,
    with_request: bool,
    left: BTreeMap<&'static str, u64>,
    compared: u64,
    same: u64,
    midway: u64,
    first_unlike: Option<(String, &'static str)>,
    before: Counter,
    after: Counter,
    changes: Counter,
    costs: Costs,
    quality: Pair,
}

/// A number before and after, over the requests for which both are known.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pair {
    pub(super) known: u64,
    pub(super) before: f64,
    pub(super) after: f64,
}

impl Pair {
    pub(super) fn add(&mut self, both: Option<(f64, f64)>) {
        if let Some((before, after)) = both {
            self.known += 1;
            self.before += before;
            self.after += after;
        }
    }
}

impl Summary {
    pub(super) fn new(snapshot: &Snapshot, policy: Option<&str>) -> Self {
        Self {
            policy: policy.map(str::to_owned),
            decided: 0,
            moved: 0,
            without_request: 0,
            with_request: false,
            left: BTreeMap::new(),
            compared: 0,
            same: 0,
            midway: 0,
            first_unlike: None,
            before: Counter::default(),
            after: Counter::default(),
            changes: Counter::default(),
            costs: Costs::new(snapshot),
            quality: Pair::default(),
        }
    }

    /// A line that was not decided again.
    pub(super) fn left(&mut self, reason: &'static str, with_request: bool) {
        match with_request {
            true => *self.left.entry(reason).or_default() += 1,
            false => self.without_request += 1,
        }
        self.with_request |= with_request;
    }

    pub(super) fn any_line(&self) -> bool {
        self.with_request || self.without_request > 0
    }

    pub(super) fn any_request(&self) -> bool {
        self.with_request
    }

    /// A line that was; `unlike` names the first field that differs.
    pub(super) fn add(
        &mut self,
        recorded: &Recorded,
        decision: &Decision,
        unlike: Option<&'static str>,
        midway: bool,
    ) {
        self.with_request = true;
        self.decided += 1;
        match (midway, unlike) {
            (true, _) => self.midway += 1,
            (false, None) => (self.compared, self.same) = (self.compared + 1, self.same + 1),
            (false, Some(field)) => {
                self.compared += 1;
                self.first_unlike.get_or_insert_with(|| (recorded.id.clone(), field));
            }
        }
        let from = recorded.first().map_or(NOBODY, |model| &**model);
        let to = decision.plan.first().map_or(NOBODY, |first| &*first.model);
        self.before.add(from, 1.0);
        self.after.add(to, 1.0);
        if from != to {
            self.moved += 1;
            self.changes.add(&format!("{from} -> {to}"), 1.0);
        }
        self.costs.add(recorded, decision, from, to);
        let of =
            |name: &str| decision.candidates.iter().find(|c| *c.model == *name).map(|c| f64::from(c.quality));
        let then = recorded.candidates.iter().find(|c| *c.model == *from).map(|c| f64::from(c.quality));
        // One judge for both, where it knows the model of then.
        self.quality.add(of(from).or(then).zip(of(to)));
    }

    /// That decisions differ, and where first.
    pub(super) fn unlike(&self) -> Option<String> {
        let (id, field) = self.first_unlike.as_ref()?;
        Some(format!(
            "{} of {} decisions are not the same; the first is {id}, by its `{field}`",
            self.compared - self.same,
            self.compared
        ))
    }

    pub(super) fn json(&self, unread: usize) -> Value {
        let names = self.before.names().chain(self.after.names()).collect::<std::collections::BTreeSet<_>>();
        let models: serde_json::Map<String, Value> = names
            .into_iter()
            .map(|name| {
                let (cost_before, cost_after) = self.costs.of(name);
                let counts = json!({
                    "before": self.before.of(name) as u64, "after": self.after.of(name) as u64,
                    "cost_usd_before": cost_before, "cost_usd_after": cost_after,
                });
                (name.to_owned(), counts)
            })
            .collect();
        let changes: Vec<Value> = self
            .changes
            .largest()
            .iter()
            .filter_map(|(change, count)| {
                let (from, to) = change.split_once(" -> ")?;
                Some(json!({"from": from, "to": to, "requests": *count as u64}))
            })
            .collect();
        let mut whole = json!({
            "policy": self.policy,
            "decided": self.decided,
            "other_model": self.moved,
            "without_request": self.without_request,
            "left_out": self.left,
            "unread": unread,
            "models": models,
            "changes": changes,
            "cost_usd": self.costs.json(),
            "quality": {
                "before": mean(self.quality.before, self.quality.known),
                "after": mean(self.quality.after, self.quality.known),
                "requests": self.quality.known,
            },
        });
        if self.policy.is_none() {
            whole["same"] = json!({
                "same": self.same, "compared": self.compared, "conversations_begun_before_the_log": self.midway,
                "first_difference": self.first_unlike.as_ref().map(|(id, field)| json!({"id": id, "field": field})),
            });
        }
        whole
    }

    pub(super) fn text(&self, log: &str) -> String {
        // Writing to a string cannot fail.
        let mut out = String::new();
        let by =
            self.policy.as_ref().map_or_else(String::new, |policy| format!(", all by the policy {policy}"));
        let _ = writeln!(out, "{} of {log} decided again{by}", requests(self.decided));
        if self.without_request > 0 {
            let _ = writeln!(
                out,
                "  {} of the log hold no request and are left out",
                lines(self.without_request)
            );
        }
        for (reason, count) in &self.left {
            let _ = writeln!(out, "  {} left out: {reason}", requests(*count));
        }
        if self.policy.is_none() {
            let _ = writeln!(out, "{} of {} decisions are the same", self.same, self.compared);
            if self.midway > 0 {
                let _ = writeln!(
                    out,
                    "  {} not compared: their conversations began before the log",
                    requests(self.midway)
                );
            }
            if let Some((id, field)) = &self.first_unlike {
                let _ = writeln!(out, "  the first that is not: {id}, by its `{field}`");
            }
        }
        let share = self.moved as f64 / (self.decided as f64).max(1.0);
        let _ = writeln!(out, "{} would go to another model ({})\n", requests(self.moved), percent(share));
        out.push_str(&self.models());
        out.push('\n');
        for (change, count) in self.changes.largest().iter().take(CHANGES_SHOWN) {
            let _ = writeln!(out, "  {change}  {count}");
        }
        out.push_str(&self.costs.text(self.decided));
        if let (Some(before), Some(after)) =
            (mean(self.quality.before, self.quality.known), mean(self.quality.after, self.quality.known))
        {
            let (known, all) = (self.quality.known, requests(self.decided));
            let _ = writeln!(out, "quality  {before:.3} -> {after:.3} expected, known of {known} of {all}");
        }
        out
    }

    fn models(&self) -> String {
        let mut table = Table::new(&["model", "before", "after", "cost before", "cost after"], 1);
        let mut names: Vec<&str> = self.before.names().chain(self.after.names()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (cost_before, cost_after) = self.costs.of(name);
            table.row(vec![
                name.to_owned(),
                self.before.of(name).to_string(),
                self.after.of(name).to_string(),
                or_dash(cost_before, usd),
                or_dash(cost_after, usd),
            ]);
        }
        table.shown()
    }
}

fn mean(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

pub(super) fn requests(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{count} lines") }
}
