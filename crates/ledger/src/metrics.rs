//! Every metric Waypost exposes, in one place: v1's eleven names unchanged, Waypost's own beside them.
//!
//! Label values come from the configuration or from fixed words, so the number of series is bounded.
//! The text form is Prometheus 0.0.4, as v1 has it. Called by the doors; read at `/metrics`.

use prometheus::{
    CounterVec, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, TextEncoder,
};

/// Buckets for what takes microseconds to milliseconds, in seconds.
const FAST_BUCKETS: [f64; 12] =
    [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 2.5e-2, 0.1, 0.5];
/// Buckets for time to first token, in seconds.
const TTFT_BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Buckets around the encoder's milliseconds and its deadline, in seconds.
const ENCODER_BUCKETS: [f64; 12] =
    [0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.05, 0.1, 0.25];

/// See the module. Fields are named after their metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// v1: requests that reached the proxy handler.
    pub num_requests: IntCounter,
    /// v1: by `policy`.
    pub requests_per_policy: IntCounterVec,
    /// v1: by `model`, whose value is the label (the model's name where there is no label).
    pub requests_per_model: IntCounterVec,
    /// v1: by `routing_policy`: `manual` or `triton`.
    pub routing_policy_usage: IntCounterVec,
    /// v1: until response headers (stream) or the full body.
    pub request_latency_seconds: Histogram,
    /// v1: successful classifications.
    pub model_selection_time_seconds: Histogram,
    /// v1: by `llm`, time to upstream headers.
    pub llm_response_time_seconds: HistogramVec,
    /// v1: request latency without selection and model.
    pub proxy_overhead_latency_seconds: Histogram,
    /// v1: by `llm_name` and `category` (`prompt`, `completion`, `total`).
    pub llm_token_usage: IntCounterVec,
    /// v1: answers with 2xx.
    pub request_success_total: IntCounter,
    /// v1: by `error_type`: `4xx`, `5xx`, `other`, `system`.
    pub request_failure_total: IntCounterVec,

    /// By `model`, `policy`, `outcome`.
    pub requests: IntCounterVec,
    /// By `model`: first byte of the answer's body, from the request's arrival.
    pub ttft_seconds: HistogramVec,
    /// By `model`, `endpoint`, `result`.
    pub upstream_attempts: IntCounterVec,
    /// By `model` and `reading`: how prompts were read before a replica was picked.
    pub prompts_read: IntCounterVec,
    /// By `model` and `reason`: prompts that the decode endpoint had to read after all.
    pub prefill_fallbacks: IntCounterVec,
    /// By `classifier`, whose value is the tier that answered.
    pub classifier_seconds: HistogramVec,
    /// By `classifier`, `because`, `outcome`: every time tier 0 wanted the encoder.
    pub encoder: IntCounterVec,
    /// From the question to the encoder's answer, waiting included; only where it answered.
    pub encoder_seconds: Histogram,
    /// Prompts that wait for the encoder.
    pub encoder_queue_depth: IntGauge,
    /// By `policy`, `label`, `tier`.
    pub classifications: IntCounterVec,
    /// By `outcome`, `label`: prompts that the guard was to check.
    pub guard: IntCounterVec,
    /// By `policy`, `outcome`: what came of wanting a model's word on the intent.
    pub intent: IntCounterVec,
    /// By `policy`, `extra`: what a server refused, after which it is not asked for it again.
    pub intent_refused: IntCounterVec,
    /// By `policy`, `reason`: every time something other than the label's model was taken.
    pub fallbacks: IntCounterVec,
    /// Retries made, by `reason`.
    pub retries: IntCounterVec,
    /// Retries not made, because the budget was spent.
    pub retries_denied: IntCounter,
    /// By `model`, `kind` (`prompt`, `completion`, `cached`).
    pub tokens: IntCounterVec,
    /// By `model`.
    pub cost_usd: CounterVec,
    /// Requests in flight.
    pub in_flight: IntGauge,
    /// Open client connections.
    pub connections: IntGauge,
    /// Requests or connections refused, by `reason`.
    pub refused: IntCounterVec,
    /// Streams that broke after their first byte, by `model` and `cause`.
    pub broken_streams: IntCounterVec,
    /// Clients that left before their answer was complete.
    pub client_gone: IntCounter,
    /// Log lines thrown away because standard error took them too slowly.
    pub log_lines_dropped: IntGauge,
    /// Lines of the decision file that were lost.
    pub decision_lines_dropped: IntGauge,
    /// By `policy`, `shadow` and `outcome` (`agrees`, `differs`, `failed`, `late`, `busy`).
    pub shadows: IntCounterVec,
    /// Conversations that are remembered.
    pub conversations: IntGauge,
    /// By `result`: `applied` or `refused`.
    pub config_reloads: IntCounterVec,
    /// Unix time of the last applied configuration, in seconds.
    pub config_applied: Gauge,
}

/// Builds metrics and registers them; a name that clashes is a defect caught by the unit test.
struct Builder(Registry);

impl Builder {
    fn add<C: prometheus::core::Collector + Clone + 'static>(
        &mut self,
        made: Result<C, prometheus::Error>,
    ) -> Result<C, prometheus::Error> {
        let collector = made?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help))
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help))
    }

    fn histogram(&mut self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help)))
    }

    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &[label]))
    }
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// When two metrics share a name, which the unit test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let mut b = Builder(Registry::new());
        Ok(Self {
            num_requests: b.counter("num_requests", "Requests that reached the proxy handler")?,
            requests_per_policy: b.counters("requests_per_policy", "Requests per policy", &["policy"])?,
            requests_per_model: b.counters("requests_per_model", "Requests per label", &["model"])?,
            routing_policy_usage: b.counters(
                "routing_policy_usage",
                "Requests per routing strategy",
                &["routing_policy"],
            )?,
            request_latency_seconds: b
                .histogram("request_latency_seconds", "Until response headers (stream) or full body")?,
            model_selection_time_seconds: b
                .histogram("model_selection_time_seconds", "Time to choose a model by classification")?,
            llm_response_time_seconds: b.histograms(
                "llm_response_time_seconds",
                "Time to the model's response headers",
                "llm",
                prometheus::DEFAULT_BUCKETS,
            )?,
            proxy_overhead_latency_seconds: b
                .histogram("proxy_overhead_latency_seconds", "Latency without selection and model")?,
            llm_token_usage: b.counters("llm_token_usage", "Tokens per label", &["llm_name", "category"])?,
            request_success_total: b.counter("request_success_total", "Answers with 2xx")?,
            request_failure_total: b.counters(
                "request_failure_total",
                "Failures by type",
                &["error_type"],
            )?,
            requests: b.counters(
                "waypost_requests_total",
                "Settled requests",
                &["model", "policy", "outcome"],
            )?,
            ttft_seconds: b.histograms(
                "waypost_ttft_seconds",
                "From the request's arrival to the first byte of the answer's body",
                "model",
                &TTFT_BUCKETS,
            )?,
            upstream_attempts: b.counters(
                "waypost_upstream_attempts_total",
                "Attempts at endpoints by result",
                &["model", "endpoint", "result"],
            )?,
            prompts_read: b.counters(
                "waypost_prompts_read_total",
                "Prompts read before a replica was picked: exact, approximate, or why not",
                &["model", "reading"],
            )?,
            prefill_fallbacks: b.counters(
                "waypost_prefill_fallbacks_total",
                "Prefills that failed, so that the decode endpoint read the prompt",
                &["model", "reason"],
            )?,
            classifier_seconds: b.histograms(
                "waypost_classifier_seconds",
                "Time to classify a prompt",
                "classifier",
                &FAST_BUCKETS,
            )?,
            encoder: b.counters(
                "waypost_encoder_total",
                "Prompts for which tier 0 wanted the encoder, by reason and by what came of it",
                &["classifier", "because", "outcome"],
            )?,
            encoder_seconds: {
                let opts = HistogramOpts::new("waypost_encoder_seconds", "Time to the encoder's answer");
                b.add(Histogram::with_opts(opts.buckets(ENCODER_BUCKETS.to_vec())))?
            },
            encoder_queue_depth: b
                .gauge("waypost_encoder_queue_depth", "Prompts that wait for the encoder")?,
            classifications: b.counters(
                "waypost_classifications_total",
                "Prompts by label and the tier that answered",
                &["policy", "label", "tier"],
            )?,
            guard: b.counters(
                "waypost_guard_total",
                "Prompts that the guard was to check, by outcome and what they were read as",
                &["outcome", "label"],
            )?,
            intent: b.counters(
                "waypost_intent_total",
                "Conversations whose intent was wanted from a model, by outcome",
                &["policy", "outcome"],
            )?,
            intent_refused: b.counters(
                "waypost_intent_refused_total",
                "Extras of a question that a server refused",
                &["policy", "extra"],
            )?,
            fallbacks: b.counters(
                "waypost_fallbacks_total",
                "Requests not answered by the model their label is mapped to, by reason",
                &["policy", "reason"],
            )?,
            retries: b.counters(
                "waypost_retries_total",
                "Attempts after the first, by reason",
                &["reason"],
            )?,
            retries_denied: b
                .counter("waypost_retries_denied_total", "Retries not made because the budget was spent")?,
            tokens: b.counters("waypost_tokens_total", "Tokens reported by models", &["model", "kind"])?,
            cost_usd: {
                let opts = Opts::new("waypost_cost_usd_total", "Cost in US dollars, by configured prices");
                b.add(CounterVec::new(opts, &["model"]))?
            },
            in_flight: b.gauge("waypost_requests_in_flight", "Requests in flight")?,
            connections: b.gauge("waypost_connections_open", "Open client connections")?,
            refused: b.counters("waypost_refused_total", "Requests or connections refused", &["reason"])?,
            broken_streams: b.counters(
                "waypost_broken_streams_total",
                "Answers that broke after their first byte",
                &["model", "cause"],
            )?,
            client_gone: b
                .counter("waypost_client_gone_total", "Clients that left before their answer was complete")?,
            log_lines_dropped: b.gauge(
                "waypost_log_lines_dropped",
                "Log lines thrown away because standard error took them too slowly",
            )?,
            decision_lines_dropped: b.gauge(
                "waypost_decision_file_lines_dropped",
                "Lines of the decision file lost to a full queue or disk",
            )?,
            shadows: b.counters(
                "waypost_shadow_decisions_total",
                "Decisions of policies in shadow, held against what was done",
                &["policy", "shadow", "outcome"],
            )?,
            conversations: b.gauge("waypost_conversations", "Conversations that are remembered")?,
            config_reloads: b.counters("waypost_config_reloads_total", "Reloads by result", &["result"])?,
            config_applied: b.add(Gauge::new(
                "waypost_config_applied_timestamp_seconds",
                "Unix time of the last applied configuration",
            ))?,
            registry: b.0,
        })
    }

    /// All metrics in the Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_names_come_out_unchanged() {
        let metrics = Metrics::new().unwrap();
        metrics.num_requests.inc();
        metrics.requests_per_policy.with_label_values(&["p"]).inc();
        metrics.requests_per_model.with_label_values(&["Open QA"]).inc();
        metrics.routing_policy_usage.with_label_values(&["triton"]).inc();
        metrics.llm_response_time_seconds.with_label_values(&["Open QA"]).observe(0.1);
        metrics.llm_token_usage.with_label_values(&["Open QA", "total"]).inc();
        metrics.request_failure_total.with_label_values(&["4xx"]).inc();
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        for line in [
            "num_requests 1",
            "requests_per_policy{policy=\"p\"} 1",
            "requests_per_model{model=\"Open QA\"} 1",
            "routing_policy_usage{routing_policy=\"triton\"} 1",
            "request_latency_seconds_bucket{le=\"0.005\"} 0",
            "model_selection_time_seconds_count 0",
            "llm_response_time_seconds_count{llm=\"Open QA\"} 1",
            "proxy_overhead_latency_seconds_count 0",
            "llm_token_usage{category=\"total\",llm_name=\"Open QA\"} 1",
            "request_success_total 0",
            "request_failure_total{error_type=\"4xx\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
    }
}
