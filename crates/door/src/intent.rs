//! Counts what asking a model for an intent took: outcomes, refusals, attempts, tokens and their cost.
//!
//! Label values come from the configuration or from fixed words. Called by the ticket when a request settles.

use crate::gateway::Gateway;
use waypost_router::IntentRecord;

impl Gateway {
    /// `failure` is the Decision's `classifier_error`.
    pub(crate) fn note_intent(&self, policy: &str, asked: &IntentRecord, failure: Option<&str>) {
        let metrics = &self.metrics;
        let outcome = match failure {
            Some(failure) => failure.strip_prefix("intent_").unwrap_or(failure),
            None if asked.cached => "cached",
            None if asked.shared => "shared",
            None => "answered",
        };
        metrics.intent.with_label_values(&[policy, outcome]).inc();
        for extra in &asked.refused {
            metrics.intent_refused.with_label_values(&[policy, extra]).inc();
        }
        for attempt in &asked.tries {
            let labels = [&*attempt.model, &*attempt.endpoint, attempt.result];
            metrics.upstream_attempts.with_label_values(&labels).inc();
        }
        let tokens = [("prompt", asked.prompt_tokens), ("completion", asked.completion_tokens)];
        for (kind, count) in tokens.into_iter().filter(|(_, count)| *count > 0) {
            metrics.tokens.with_label_values(&[&*asked.model, kind]).inc_by(count);
        }
        if let Some(cost) = asked.cost_usd {
            metrics.cost_usd.with_label_values(&[&*asked.model]).inc_by(cost);
        }
    }
}
