//! What became of the requests of one policy, arm or model, and what a shadow would have done with them.
//!
//! Sums, counts and bounded samples. Part of `report`.

use super::stats::{Difference, Moments, Samples};
use crate::counter::Counter;
use crate::logged::{Recorded, Shadowed};
use serde_json::{Value, json};

/// Labels and models told of.
const TOP: usize = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arm {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) fallbacks: u64,
    pub(super) labels: Counter,
    pub(super) models: Counter,
    pub(super) cost: Moments,
    pub(super) total: Moments,
    total_samples: Samples,
    ttft_samples: Samples,
}

impl Arm {
    pub(super) fn add(&mut self, recorded: &Recorded) {
        self.requests += 1;
        self.errors += u64::from(recorded.failed());
        self.fallbacks += u64::from(recorded.fallback.is_some());
        if let Some(label) = &recorded.label {
            self.labels.add(label, 1.0);
        }
        if let Some(model) = &recorded.model {
            self.models.add(model, 1.0);
        }
        if let Some(cost) = recorded.cost_usd {
            self.cost.add(cost);
        }
        // How long it took to fail, or until the client had enough, says nothing about a model.
        if recorded.outcome.as_deref() == Some("completed") && recorded.status < 400 {
            self.total.add(recorded.total_ms);
            self.total_samples.add(recorded.total_ms);
            if let Some(ttft) = recorded.ttft_ms {
                self.ttft_samples.add(ttft);
            }
        }
    }

    pub(super) fn error_rate(&self) -> f64 {
        self.errors as f64 / (self.requests as f64).max(1.0)
    }

    /// p50 and p95.
    pub(super) fn total_ms(&self) -> [Option<f64>; 2] {
        self.total_samples.percentiles([0.5, 0.95])
    }

    /// p50 and p95.
    pub(super) fn ttft_ms(&self) -> [Option<f64>; 2] {
        self.ttft_samples.percentiles([0.5, 0.95])
    }

    pub(super) fn json(&self) -> Value {
        let ([total_p50, total_p95], [ttft_p50, ttft_p95]) = (self.total_ms(), self.ttft_ms());
        json!({
            "requests": self.requests,
            "errors": self.errors,
            "error_rate": self.error_rate(),
            "fallbacks": self.fallbacks,
            "labels": top(&self.labels),
            "models": top(&self.models),
            "cost_usd": {"sum": self.cost.sum(), "mean": self.cost.known_mean(), "requests": self.cost.n},
            "total_ms": {"mean": self.total.known_mean(), "p50": total_p50, "p95": total_p95},
            "ttft_ms": {"p50": ttft_p50, "p95": ttft_p95},
        })
    }
}

/// How one arm differs from another.
#[derive(Debug)]
pub(super) struct Versus {
    pub(super) cost: Option<Difference>,
    pub(super) total: Option<Difference>,
    pub(super) errors: Option<Difference>,
}

impl Versus {
    pub(super) fn of(arm: &Arm, base: &Arm) -> Self {
        Self {
            cost: Difference::of_means(&arm.cost, &base.cost),
            total: Difference::of_means(&arm.total, &base.total),
            errors: Difference::of_shares((arm.errors, arm.requests), (base.errors, base.requests)),
        }
    }
}

/// A policy in shadow of another.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    pub(super) requests: u64,
    /// It did not decide.
    pub(super) absent: u64,
    /// Of those that it decided.
    pub(super) agrees: u64,
    pub(super) labels: Counter,
    pub(super) models: Counter,
    /// Expected of the shadow, over the requests for which it and the cost that came about are known.
    pub(super) cost: Moments,
    pub(super) cost_taken: Moments,
}

impl Shadow {
    pub(super) fn add(&mut self, recorded: &Recorded, shadowed: &Shadowed) {
        let decided = shadowed.model.is_some() && shadowed.error.is_none();
        // Two that both came to nothing agree about nothing.
        let agrees = decided && shadowed.agrees;
        self.requests += 1;
        self.agrees += u64::from(agrees);
        self.absent += u64::from(!decided);
        if let Some(label) = &shadowed.label {
            self.labels.add(label, 1.0);
        }
        if let Some(model) = &shadowed.model {
            self.models.add(model, 1.0);
        }
        // Where it agrees, its cost is the one that came about.
        let cost = if agrees { recorded.cost_usd } else { shadowed.cost_usd };
        if let Some((cost, taken)) = cost.zip(recorded.cost_usd) {
            self.cost.add(cost);
            self.cost_taken.add(taken);
        }
    }

    /// Of the requests it decided.
    pub(super) fn agreement(&self) -> Option<f64> {
        let decided = self.requests - self.absent;
        (decided > 0).then(|| self.agrees as f64 / decided as f64)
    }

    pub(super) fn json(&self, policy: &str, shadow: &str) -> Value {
        json!({
            "policy": policy,
            "shadow": shadow,
            "requests": self.requests,
            "undecided": self.absent,
            "agreement": self.agreement(),
            "labels": top(&self.labels),
            "models": top(&self.models),
            "cost_usd": {"shadow": self.cost.sum(), "taken": self.cost_taken.sum(), "requests": self.cost.n},
        })
    }
}

/// The most frequent names, with their counts.
pub(super) fn top(counter: &Counter) -> Value {
    counter.largest().iter().take(TOP).map(|(name, n)| json!({"name": name, "requests": *n as u64})).collect()
}

/// The same for a person.
pub(super) fn shown(counter: &Counter) -> String {
    let all = counter.largest();
    let named: Vec<String> = all.iter().take(TOP).map(|(name, n)| format!("{name} {n}")).collect();
    let more = if all.len() > TOP { format!(", {} more", all.len() - TOP) } else { String::new() };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shadowed(model: Option<&str>, error: Option<&str>) -> Shadowed {
        let agreeing = json!({"policy": "p", "model": model, "error": error, "agrees": true, "label": null, "cost_usd": null});
        serde_json::from_value(agreeing).unwrap()
    }

    #[test]
    fn only_what_was_decided_can_agree() {
        let (mut shadow, recorded) =
            (Shadow::default(), Recorded { cost_usd: Some(1.0), ..Recorded::default() });
        for _ in 0..5 {
            shadow.add(&recorded, &shadowed(Some("m"), Some("timeout")));
        }
        shadow.add(&recorded, &shadowed(None, None));
        assert_eq!(shadow.agreement(), None);
        (0..2).for_each(|_| shadow.add(&recorded, &shadowed(Some("m"), None)));
        assert_eq!((shadow.requests, shadow.absent, shadow.agrees), (8, 6, 2));
        assert_eq!((shadow.agreement(), shadow.cost.sum()), (Some(1.0), 2.0));
    }
}
