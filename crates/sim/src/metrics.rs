//! Counters per model and rank and their text in Prometheus' format, under the names vLLM uses or another engine's.
//!
//! Every number is an atomic, so that requests never wait for a scrape. Names and label sets are vLLM's V1 engine's.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::options::{MetricsForm, Options};
use crate::stats::unix_us;

/// Upper bounds of the time-to-first-token buckets in seconds, as in vLLM.
const TTFT_BOUNDS_S: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];

/// A number that goes up and down with the things that hold it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicI64>);

/// Keeps its gauge up by one until dropped.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Gauge {
    pub(crate) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }

    /// Up by one until the answer is dropped.
    pub(crate) fn hold(&self) -> Held {
        self.0.fetch_add(1, Relaxed);
        Held(self.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.0).0.fetch_sub(1, Relaxed);
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

/// One model on one rank.
pub(crate) struct Series<'a> {
    pub(crate) model: &'a str,
    pub(crate) rank: usize,
    /// Whether the model is an adapter.
    pub(crate) lora: bool,
    /// Share of the rank's cache in use, 0 to 1.
    pub(crate) usage: f64,
    pub(crate) meters: &'a Meters,
}

/// The text of `/metrics` while it is written.
pub(crate) struct Page<'a> {
    text: String,
    series: &'a [Series<'a>],
    options: &'a Options,
}

impl<'a> Page<'a> {
    pub(crate) fn new(series: &'a [Series<'a>], options: &'a Options) -> Self {
        Page { text: String::with_capacity(4096 * series.len()), series, options }
    }

    pub(crate) fn render(mut self) -> String {
        let [running, waiting, usage] = match self.options.metrics {
            MetricsForm::Vllm => {
                ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]
            }
            MetricsForm::Sglang => ["sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage"],
            MetricsForm::Trtllm => {
                ["trtllm_num_requests_running", "trtllm_num_requests_waiting", "trtllm_kv_cache_utilization"]
            }
        };
        self.family(running, "gauge", "Requests in the running batch.", |s| s.meters.running.get() as f64);
        self.family(waiting, "gauge", "Requests in the queue.", |s| s.meters.waiting.get() as f64);
        self.family(usage, "gauge", "Share of cache blocks held by running requests, 0 to 1.", |s| s.usage);
        self.cache_size();
        if self.options.metrics == MetricsForm::Vllm {
            self.counters();
            self.finished();
            self.ttft();
            self.adapters();
        }
        self.text
    }

    fn counters(&mut self) {
        let count = |name: &AtomicU64| name.load(Relaxed) as f64;
        self.family("vllm:prompt_tokens_total", "counter", "Prompt tokens read.", |s| {
            count(&s.meters.prompt_tokens)
        });
        self.family("vllm:generation_tokens_total", "counter", "Tokens written.", |s| {
            count(&s.meters.generated_tokens)
        });
        let help = "Prompt tokens looked up in the prefix cache.";
        self.family("vllm:prefix_cache_queries_total", "counter", help, |s| count(&s.meters.cache_queries));
        let help = "Prompt tokens found in the prefix cache.";
        self.family("vllm:prefix_cache_hits_total", "counter", help, |s| count(&s.meters.cache_hits));
    }

    fn cache_size(&mut self) {
        let Options { metrics, block_size, cache_blocks, data_parallel, .. } = *self.options;
        let (name, size, count) = match metrics {
            MetricsForm::Vllm => ("vllm:cache_config_info", "block_size", "num_gpu_blocks"),
            MetricsForm::Sglang => ("sglang:cache_config_info", "page_size", "num_pages"),
            MetricsForm::Trtllm => {
                let sizes = [
                    ("trtllm_kv_cache_tokens_per_block", "Tokens in a block.", f64::from(block_size)),
                    ("trtllm_kv_cache_max_blocks", "Blocks of the cache.", cache_blocks as f64),
                ];
                for (name, help, value) in sizes {
                    self.family(name, "gauge", help, |_| value);
                }
                return;
            }
        };
        self.head(name, "gauge", "Block size and size of the cache.");
        for rank in 0..data_parallel {
            let _ = writeln!(
                self.text,
                "{name}{{{size}=\"{block_size}\",{count}=\"{cache_blocks}\",engine=\"{rank}\"}} 1"
            );
        }
    }

    /// Which adapters run and wait; the value is the time, so that readers can tell the latest.
    fn adapters(&mut self) {
        let adapters: Vec<&Series<'_>> = self.series.iter().filter(|s| s.lora).collect();
        if adapters.is_empty() {
            return;
        }
        let names = |gauge: fn(&Meters) -> &Gauge| {
            let mut names: Vec<&str> =
                adapters.iter().filter(|s| gauge(s.meters).get() > 0).map(|s| s.model).collect();
            names.dedup();
            escape(&names.join(","))
        };
        let (running, waiting) = (names(|m| &m.running), names(|m| &m.waiting));
        let (most, now) = (self.options.lora.len(), unix_us() as f64 / 1e6);
        let name = "vllm:lora_requests_info";
        self.head(name, "gauge", "Adapters of running and waiting requests, at this time.");
        let _ = writeln!(
            self.text,
            "{name}{{max_lora=\"{most}\",running_lora_adapters=\"{running}\",waiting_lora_adapters=\"{waiting}\"}} {now}"
        );
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}");
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, of: &Series<'_>, label: Option<(&str, &str)>, value: f64) {
        let (model, rank) = (escape(of.model), of.rank);
        let _ = write!(self.text, "{name}{{engine=\"{rank}\",model_name=\"{model}\"");
        if let Some((key, text)) = label {
            let _ = write!(self.text, ",{key}=\"{text}\"");
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, value: impl Fn(&Series<'_>) -> f64) {
        self.head(name, kind, help);
        let series = self.series;
        for one in series {
            self.sample(name, one, None, value(one));
        }
    }

    fn finished(&mut self) {
        let name = "vllm:request_success_total";
        self.head(name, "counter", "Requests by the way they ended.");
        let series = self.series;
        for one in series {
            for how in Finish::ALL {
                let count = one.meters.finished[how as usize].load(Relaxed) as f64;
                let label = Some(("finished_reason", how.name()));
                self.sample(name, one, label, count);
            }
        }
    }

    fn ttft(&mut self) {
        let name = "vllm:time_to_first_token_seconds";
        self.head(name, "histogram", "Time to first token.");
        let series = self.series;
        for one in series {
            let meters = one.meters;
            let mut below = 0;
            for (bound, bucket) in TTFT_BOUNDS_S.iter().zip(&meters.ttft_buckets) {
                below += bucket.load(Relaxed);
                let bound = bound.to_string();
                let label = Some(("le", bound.as_str()));
                self.sample(&format!("{name}_bucket"), one, label, below as f64);
            }
            // Read last and never below the buckets, so that a scrape amid requests stays monotonic.
            let count = meters.ttft_count.load(Relaxed).max(below) as f64;
            let sum = meters.ttft_sum_us.load(Relaxed) as f64 / 1e6;
            self.sample(&format!("{name}_bucket"), one, Some(("le", "+Inf")), count);
            self.sample(&format!("{name}_count"), one, None, count);
            self.sample(&format!("{name}_sum"), one, None, sum);
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
        let series = Series { model: "sim-\"odd\"", rank: 0, lora: false, usage: 0.0, meters: &meters };
        let text = Page::new(&[series], &Options::default()).render();
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
        let two = gauge.hold();
        assert_eq!(gauge.get(), 2);
        drop(one);
        drop(two);
        assert_eq!(gauge.get(), 0);
    }
}
