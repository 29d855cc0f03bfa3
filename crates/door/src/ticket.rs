//! Step 10, prepared from the start: the record that goes along with a request and settles it.
//!
//! A ticket settles exactly once: when the answer is complete, when it broke, or when it is dropped
//! because the client left. Then the decision is logged and counted, and the request's place is free.

use crate::admit::Place;
use crate::explain;
use crate::gateway::Gateway;
use crate::kept::{self, Kept};
use crate::shadow::{self, Shadows};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use waypost_config::{Effort, ModelIndex, Price};
use waypost_router::{Attempt, Brain, Decision, Latency, Outcome, Tier, Via, millis, round};
use waypost_wire::{ApiError, Usage};

/// Stands for "no policy" and "no model" in metric labels.
const NONE: &str = "-";

/// See the module.
#[derive(Debug)]
pub struct Ticket {
    gateway: Arc<Gateway>,
    sequence: u64,
    arrived: Instant,
    /// What is known so far; taken when the request settles.
    pub decision: Decision,
    price: Option<Price>,
    latency: Option<Arc<Latency>>,
    shadows: Option<Shadows>,
    kept: Option<Kept>,
    logged: bool,
    /// When the latest attempt began, in milliseconds after arrival.
    sent_ms: f64,
    /// When the upstream's last byte was here, and the events it had come in, where it streamed.
    streamed: Option<(f64, u64)>,
    settled: bool,
    /// The client wants to be told more.
    debug: bool,
    // Held for its drop.
    place: Option<Place>,
}

impl Ticket {
    /// For a request at `path` that has just arrived; counted.
    #[must_use]
    pub fn new(gateway: &Arc<Gateway>, path: &'static str, headers: &HeaderMap) -> Self {
        gateway.metrics.num_requests.inc();
        let sequence = gateway.log.next_sequence();
        let decision = Decision {
            id: gateway.log.id(sequence),
            at_unix_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
            path,
            ..Decision::default()
        };
        Self {
            gateway: Arc::clone(gateway),
            sequence,
            arrived: Instant::now(),
            decision,
            price: None,
            latency: None,
            shadows: None,
            kept: None,
            logged: gateway.brain().snapshot().log.decisions,
            sent_ms: 0.0,
            streamed: None,
            settled: false,
            place: None,
            debug: explain::wants_debug(headers),
        }
    }

    /// What the client is told of the decision so far; its status has to be known.
    pub fn told(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        explain::explain(&self.decision, self.debug)
    }

    /// Keeps the request's place until it settles.
    pub fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Keeps the request for the decision file, where that is to hold requests.
    pub fn keep(&mut self, headers: &HeaderMap, body: &Bytes) {
        if self.gateway.keeps_prompts() {
            self.kept = Some(Kept::new(headers, body));
        }
    }

    /// Sets the shadows of the policy that decided to work.
    pub fn follow(&mut self, brain: &Arc<Brain>, body: &Bytes, headers: &HeaderMap) {
        let policy = self.decision.policy.as_deref().and_then(|name| brain.snapshot().policy(name));
        self.shadows = policy.and_then(|policy| shadow::start(brain, policy, body, headers, &self.decision));
    }

    /// What all requests share.
    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// When the request was here.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Milliseconds since arrival.
    fn elapsed_ms(&self) -> f64 {
        millis(self.arrived.elapsed())
    }

    /// An attempt begins.
    pub fn sent(&mut self) {
        self.sent_ms = self.elapsed_ms();
    }

    /// The upstream's headers are here.
    pub fn upstream_answers(&mut self) {
        self.decision.upstream_headers_ms = Some(self.elapsed_ms());
    }

    /// It was tried there: counted, and told in the Decision.
    pub fn tried(&mut self, attempt: Attempt) {
        let labels = [&*attempt.model, &*attempt.endpoint, attempt.result];
        self.gateway.metrics.upstream_attempts.with_label_values(&labels).inc();
        self.decision.attempts.push(attempt);
    }

    /// The model and endpoint that answered; `position` is the model's in the plan.
    pub fn answered_by(&mut self, brain: &Brain, model: ModelIndex, endpoint: &Arc<str>, position: usize) {
        brain.answered_by(&self.decision, model);
        self.latency = Some(Arc::clone(brain.latency(model)));
        let model = &brain.snapshot().models[model];
        self.decision.model = Some(Arc::clone(&model.name));
        self.decision.endpoint = Some(Arc::clone(endpoint));
        self.price = model.price;
        self.decision.fallback = Brain::fallback_at(&self.decision, position);
    }

    /// The answer's head is ready, with this HTTP status: counts what v1 counts at this point.
    pub fn head(&mut self, status: u16) {
        self.decision.status = status;
        let (metrics, decision) = (&self.gateway.metrics, &self.decision);
        let total = self.elapsed_ms();
        metrics.request_latency_seconds.observe(total / 1e3);
        if let Some(back) = decision.upstream_headers_ms {
            let llm = (back - self.sent_ms).max(0.0);
            let overhead = (total - decision.classify_ms - llm).max(0.0);
            metrics.proxy_overhead_latency_seconds.observe(overhead / 1e3);
            metrics.llm_response_time_seconds.with_label_values(&[self.v1_label()]).observe(llm / 1e3);
        }
    }

    /// v1 labels its metrics with the class, not the model.
    fn v1_label(&self) -> &str {
        self.decision.label.as_deref().or(self.decision.model.as_deref()).unwrap_or(NONE)
    }

    /// Tokens as the model reported them.
    pub fn used(&mut self, usage: Usage) {
        self.decision.prompt_tokens = Some(usage.prompt_tokens);
        self.decision.completion_tokens = Some(usage.completion_tokens);
        self.decision.cached_tokens = usage.cached();
        self.decision.cost_usd =
            self.price.map(|price| price.cost_usd(usage.prompt_tokens, usage.completion_tokens));
        let metrics = &self.gateway.metrics;
        for (category, tokens) in [
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("total", usage.total()),
        ] {
            metrics.llm_token_usage.with_label_values(&[self.v1_label(), category]).inc_by(tokens);
        }
        let model = self.decision.model.as_deref().unwrap_or(NONE);
        metrics.tokens.with_label_values(&[model, "prompt"]).inc_by(usage.prompt_tokens);
        metrics.tokens.with_label_values(&[model, "completion"]).inc_by(usage.completion_tokens);
        if let Some(cached) = usage.cached() {
            metrics.tokens.with_label_values(&[model, "cached"]).inc_by(cached);
        }
        if let Some(cost) = self.decision.cost_usd {
            metrics.cost_usd.with_label_values(&[model]).inc_by(cost);
        }
    }

    /// The last byte of a stream is here; it came in so many events.
    pub fn streamed(&mut self, events: u64) {
        self.streamed = Some((self.elapsed_ms(), events));
    }

    /// How the prefill of the latest placement went, and how many milliseconds it took.
    pub fn prefilled(&mut self, result: &'static str, ms: f64) {
        let latest = self.decision.placements.last_mut();
        if let Some(prefill) = latest.and_then(|placement| placement.prefill.as_mut()) {
            (prefill.result, prefill.ms) = (Some(result), Some(ms));
        }
    }

    /// The first byte of the answer's body is here.
    pub fn first_byte(&mut self) {
        self.decision.ttft_ms = Some(self.elapsed_ms());
    }

    /// The answer is Waypost's own "no": counts its head, settles, and says what the client is told.
    pub fn refused(&mut self, error: &ApiError) -> Vec<(HeaderName, HeaderValue)> {
        self.decision.error = Some(error.code.as_str());
        self.head(error.status());
        let told = self.told().collect();
        self.settle(Outcome::Refused);
        told
    }

    /// Ends the request. Only the first call counts.
    pub fn settle(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.decision.total_ms = self.elapsed_ms();
        self.decision.outcome = Some(outcome);
        self.observe(outcome);
        self.count(outcome);
        let record = Record {
            gateway: Arc::clone(&self.gateway),
            sequence: self.sequence,
            decision: std::mem::take(&mut self.decision),
            kept: self.kept.take(),
            logged: self.logged,
        };
        match (self.shadows.take(), Handle::try_current()) {
            // The request's place is free: shadows must not keep anybody out. A shutdown waits for the record.
            (Some(shadows), Ok(runtime)) => {
                let waiting = Waiting::new(&self.gateway);
                drop(runtime.spawn(async move {
                    record.write_with(shadows).await;
                    drop(waiting);
                }));
            }
            _ => record.write(),
        }
        self.place = None;
    }

    /// Tells how long the model took, for those who choose by it.
    fn observe(&self, outcome: Outcome) {
        let decision = &self.decision;
        let (end_ms, events) = self.streamed.unwrap_or((decision.total_ms, 0));
        // A stream that does not tell its tokens has about one in each event.
        let tokens = decision.completion_tokens.or(Some(events).filter(|events| *events > 0));
        if outcome == Outcome::Completed
            && (200..300).contains(&decision.status)
            && let (Some(latency), Some(tokens)) = (&self.latency, tokens)
        {
            latency.observe(tokens, (end_ms - self.sent_ms).max(0.0));
        }
    }

    fn count(&self, outcome: Outcome) {
        let (metrics, decision) = (&self.gateway.metrics, &self.decision);
        match decision.status {
            _ if outcome == Outcome::ClientGone => {
                metrics.client_gone.inc();
                metrics.request_failure_total.with_label_values(&["other"]).inc();
            }
            _ if outcome == Outcome::Broken => {
                metrics.request_failure_total.with_label_values(&["system"]).inc();
            }
            200..300 => metrics.request_success_total.inc(),
            400..500 => metrics.request_failure_total.with_label_values(&["4xx"]).inc(),
            500..600 => metrics.request_failure_total.with_label_values(&["5xx"]).inc(),
            _ => metrics.request_failure_total.with_label_values(&["other"]).inc(),
        }
        self.count_readings();
        self.count_guard();
        let policy = decision.policy.as_deref().unwrap_or(NONE);
        let model = decision.model.as_deref().unwrap_or(NONE);
        metrics.requests.with_label_values(&[model, policy, outcome.as_str()]).inc();
        if let (Some(model), Some(ms)) = (&decision.model, decision.ttft_ms) {
            metrics.ttft_seconds.with_label_values(&[model]).observe(ms / 1e3);
        }
        if let Some(reason) = decision.fallback {
            metrics.fallbacks.with_label_values(&[policy, reason]).inc();
        }
        if decision.policy.is_some() {
            metrics.requests_per_policy.with_label_values(&[policy]).inc();
            metrics.requests_per_model.with_label_values(&[self.v1_label()]).inc();
            self.count_classification(policy);
        }
    }

    fn count_guard(&self) {
        let Some(guarded) = &self.decision.guard else { return };
        let label = guarded.read.as_ref().map_or(NONE, |read| read.label);
        self.gateway.metrics.guard.with_label_values(&[guarded.outcome.as_str(), label]).inc();
        if let Some(escalation) = guarded.read.as_ref().and_then(|read| read.escalation.as_ref()) {
            self.gateway.note_escalation("safety", escalation);
        }
    }

    /// How the prompt was read for each model that was tried.
    fn count_readings(&self) {
        let mut seen: SmallVec<[&str; 2]> = SmallVec::new();
        for placement in &self.decision.placements {
            if let Some(reading) = placement.reading.filter(|_| !seen.contains(&&*placement.model)) {
                seen.push(&placement.model);
                let labels = [&*placement.model, reading.as_str()];
                self.gateway.metrics.prompts_read.with_label_values(&labels).inc();
            }
        }
    }

    fn count_classification(&self, policy: &str) {
        let (metrics, decision) = (&self.gateway.metrics, &self.decision);
        let tier = decision.tier.unwrap_or(Tier::None);
        let strategy =
            if tier == Tier::None && decision.via == Via::BodyObject { "manual" } else { "triton" };
        metrics.routing_policy_usage.with_label_values(&[strategy]).inc();
        if tier == Tier::None {
            return;
        }
        let label = match &decision.classifier_error {
            Some(_) => "(failed)",
            None => {
                metrics.model_selection_time_seconds.observe(decision.classify_ms / 1e3);
                decision.label.as_deref().unwrap_or(NONE)
            }
        };
        metrics.classifier_seconds.with_label_values(&[tier.as_str()]).observe(decision.classify_ms / 1e3);
        metrics.classifications.with_label_values(&[policy, label, tier.as_str()]).inc();
        if let (Some(classifier), Some(escalation)) = (&decision.classifier, &decision.escalation) {
            self.gateway.note_escalation(classifier, escalation);
        }
        if let Some(asked) = &decision.intent {
            self.gateway.note_intent(policy, asked, decision.classifier_error);
        }
    }
}

/// A record that waits for its shadows.
struct Waiting(Arc<Gateway>);

impl Waiting {
    fn new(gateway: &Arc<Gateway>) -> Self {
        gateway.records_waiting.fetch_add(1, Relaxed);
        Self(Arc::clone(gateway))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.records_waiting.fetch_sub(1, Relaxed);
    }
}

/// What is left of a request when it has ended.
struct Record {
    gateway: Arc<Gateway>,
    sequence: u64,
    decision: Decision,
    kept: Option<Kept>,
    logged: bool,
}

impl Record {
    async fn write_with(mut self, shadows: Shadows) {
        let policy = self.decision.policy.clone();
        self.decision.shadow = shadows.settle(&self.gateway, policy.as_deref().unwrap_or(NONE)).await;
        self.write();
    }

    fn write(self) {
        let decision = Arc::new(self.decision);
        if self.logged {
            write_log(&decision);
        }
        if let Some(file) = self.gateway.decision_file()
            && let Ok(line) = kept::line(&decision, self.kept.as_ref())
        {
            file.append(line);
        }
        self.gateway.log.put(self.sequence, decision);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(Outcome::ClientGone);
    }
}

/// The decision as one structured log line. Names and numbers only.
fn write_log(d: &Decision) {
    tracing::info!(
        target: "waypost::decision",
        id = %d.id,
        path = %d.path,
        via = d.via.as_str(),
        policy = d.policy.as_deref(),
        label = d.label.as_deref(),
        confidence = d.confidence.map(|c| round(f64::from(c))),
        tier = d.tier.map(Tier::as_str),
        rule = d.rule,
        reasoning = d.reasoning.map(Effort::as_str),
        guard = d.guard.as_ref().map(|guarded| guarded.outcome.as_str()),
        encoder = d.escalation.map(|e| e.asked.as_str()),
        model = d.model.as_deref(),
        endpoint = d.endpoint.as_deref(),
        classifier_error = d.classifier_error,
        fallback = d.fallback,
        attempts = d.attempts.len(),
        status = d.status,
        outcome = d.outcome.map(Outcome::as_str),
        error = d.error,
        stream = d.stream,
        classify_ms = d.classify_ms,
        ttft_ms = d.ttft_ms,
        total_ms = d.total_ms,
        prompt_tokens = d.prompt_tokens,
        completion_tokens = d.completion_tokens,
        cost_usd = d.cost_usd,
        "decision"
    );
}
