//! Counters per model and their text in Prometheus' format, under the names vLLM uses.
//!
//! Every number is an atomic, so that requests never wait for a scrape. Names and label sets are vLLM's V1 engine's.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::cache::BLOCK_TOKENS;

/// Upper bounds of the time-to-first-token buckets in seconds, as in vLLM.
const TTFT_BOUNDS_S: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];

/// A number that goes up and down with the things that hold it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicI64>);

/// Keeps its gauge up by some amount until dropped.
#[derive(Debug)]
pub(crate) struct Held(Gauge, i64);

impl Gauge {
    pub(crate) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }

    /// Up by one until the answer is dropped.
    pub(crate) fn hold(&self) -> Held {
        self.hold_many(1)
    }

    pub(crate) fn hold_many(&self, many: u32) -> Held {
        let many = i64::from(many);
        self.0.fetch_add(many, Relaxed);
        Held(self.clone(), many)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.0).0.fetch_sub(self.1, Relaxed);
    }
}

/// How a request ended, vLLM's `finished_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The answer came to its end.
    Stop,
    /// `max_tokens` cut it off.
    Length,
    /// The client went away, or a fault ended it.
    Abort,
}

impl Finish {
    const ALL: [Finish; 3] = [Finish::Stop, Finish::Length, Finish::Abort];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Abort => "abort",
        }
    }
}

/// Everything counted for one model.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    /// Blocks held by running requests.
    pub(crate) blocks: Gauge,
    prompt_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    cache_queries: AtomicU64,
    cache_hits: AtomicU64,
    finished: [AtomicU64; 3],
    ttft_buckets: [AtomicU64; TTFT_BOUNDS_S.len()],
    ttft_count: AtomicU64,
    ttft_sum_us: AtomicU64,
}

impl Meters {
    /// A prompt was looked up in the prefix cache; both in tokens.
    pub(crate) fn cached(&self, queried: u32, hit: u32) {
        self.cache_queries.fetch_add(queried.into(), Relaxed);
        self.cache_hits.fetch_add(hit.into(), Relaxed);
    }

    /// A prompt was read to its end; `waited` since the request came.
    pub(crate) fn first_token(&self, prompt_tokens: u32, waited: Duration) {
        self.prompt_tokens.fetch_add(prompt_tokens.into(), Relaxed);
        let seconds = waited.as_secs_f64();
        if let Some(bucket) = TTFT_BOUNDS_S.iter().position(|bound| seconds <= *bound) {
            self.ttft_buckets[bucket].fetch_add(1, Relaxed);
        }
        self.ttft_count.fetch_add(1, Relaxed);
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.ttft_sum_us.fetch_add(micros, Relaxed);
    }

    pub(crate) fn generated(&self, tokens: u32) {
        self.generated_tokens.fetch_add(tokens.into(), Relaxed);
    }

    pub(crate) fn finished(&self, how: Finish) {
        self.finished[how as usize].fetch_add(1, Relaxed);
    }
}

/// The text of `/metrics` for these models and this size of the cache.
pub(crate) fn render(models: &[(&str, &Meters)], cache_blocks: usize) -> String {
    let mut page = Page { text: String::with_capacity(4096 * models.len()), models };
    page.family("num_requests_running", "gauge", "Requests in the running batch.", |m| {
        m.running.get() as f64
    });
    page.family("num_requests_waiting", "gauge", "Requests in the queue.", |m| m.waiting.get() as f64);
    page.family(
        "kv_cache_usage_perc",
        "gauge",
        "Share of cache blocks held by running requests, 0 to 1.",
        |m| (m.blocks.get() as f64 / cache_blocks as f64).min(1.0),
    );
    page.family("prompt_tokens_total", "counter", "Prompt tokens read.", |m| {
        m.prompt_tokens.load(Relaxed) as f64
    });
    page.family("generation_tokens_total", "counter", "Tokens written.", |m| {
        m.generated_tokens.load(Relaxed) as f64
    });
    page.family(
        "prefix_cache_queries_total",
        "counter",
        "Prompt tokens looked up in the prefix cache.",
        |m| m.cache_queries.load(Relaxed) as f64,
    );
    page.family("prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.", |m| {
        m.cache_hits.load(Relaxed) as f64
    });
    page.finished();
    page.ttft();
    page.head("cache_config_info", "gauge", "Block size and size of the cache.");
    let _ = writeln!(
        page.text,
        "vllm:cache_config_info{{block_size=\"{BLOCK_TOKENS}\",num_gpu_blocks=\"{cache_blocks}\",engine=\"0\"}} 1"
    );
    page.text
}

struct Page<'a> {
    text: String,
    models: &'a [(&'a str, &'a Meters)],
}

impl Page<'_> {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP vllm:{name} {help}");
        let _ = writeln!(self.text, "# TYPE vllm:{name} {kind}");
    }

    fn sample(&mut self, name: &str, model: &str, label: Option<(&str, &str)>, value: f64) {
        let model = escape(model);
        let _ = write!(self.text, "vllm:{name}{{engine=\"0\",model_name=\"{model}\"");
        if let Some((key, text)) = label {
            let _ = write!(self.text, ",{key}=\"{text}\"");
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, value: impl Fn(&Meters) -> f64) {
        self.head(name, kind, help);
        for (model, meters) in self.models {
            self.sample(name, model, None, value(meters));
        }
    }

    fn finished(&mut self) {
        let name = "request_success_total";
        self.head(name, "counter", "Requests by the way they ended.");
        for (model, meters) in self.models {
            for how in Finish::ALL {
                let count = meters.finished[how as usize].load(Relaxed) as f64;
                let label = Some(("finished_reason", how.name()));
                self.sample(name, model, label, count);
            }
        }
    }

    fn ttft(&mut self) {
        let name = "time_to_first_token_seconds";
        self.head(name, "histogram", "Time to first token.");
        for (model, meters) in self.models {
            let mut below = 0;
            for (bound, bucket) in TTFT_BOUNDS_S.iter().zip(&meters.ttft_buckets) {
                below += bucket.load(Relaxed);
                let bound = bound.to_string();
                let label = Some(("le", bound.as_str()));
                self.sample(&format!("{name}_bucket"), model, label, below as f64);
            }
            // Read last and never below the buckets, so that a scrape amid requests stays monotonic.
            let count = meters.ttft_count.load(Relaxed).max(below) as f64;
            let sum = meters.ttft_sum_us.load(Relaxed) as f64 / 1e6;
            self.sample(&format!("{name}_bucket"), model, Some(("le", "+Inf")), count);
            self.sample(&format!("{name}_count"), model, None, count);
            self.sample(&format!("{name}_sum"), model, None, sum);
        }
    }
}

/// A label value as Prometheus' text format wants it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_add_up_and_labels_are_escaped() {
        let meters = Meters::default();
        meters.first_token(10, Duration::from_millis(3));
        meters.first_token(5, Duration::from_secs(5000));
        let text = render(&[("sim-\"odd\"", &meters)], 16);
        let labels = r#"engine="0",model_name="sim-\"odd\"""#;
        let bucket = |le: &str| format!("vllm:time_to_first_token_seconds_bucket{{{labels},le=\"{le}\"}} ");
        assert!(text.contains(&(bucket("0.001") + "0\n")), "{text}");
        assert!(text.contains(&(bucket("0.005") + "1\n")));
        assert!(text.contains(&(bucket("2560") + "1\n")));
        assert!(text.contains(&(bucket("+Inf") + "2\n")));
        assert!(text.contains(&format!("vllm:prompt_tokens_total{{{labels}}} 15\n")));
    }

    #[test]
    fn a_gauge_follows_its_holders() {
        let gauge = Gauge::default();
        let one = gauge.hold();
        let many = gauge.hold_many(5);
        assert_eq!(gauge.get(), 6);
        drop(one);
        drop(many);
        assert_eq!(gauge.get(), 0);
    }
}
