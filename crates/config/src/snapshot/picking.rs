//! How a replica of a model is picked, and what is known of each: the checked form.
//!
//! Units are in the names or the docs. Read by the picker, the feeds, the router and the proxy.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Secret;

/// What an endpoint does of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Reads prompts and hands their KV cache over.
    Prefill,
    /// Writes answers; reads short prompts itself.
    Decode,
    /// Everything.
    #[default]
    Both,
}

impl Role {
    /// Its name in files, metrics and Decisions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Both => "both",
        }
    }
}

/// Where an engine publishes what is in its KV cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSource {
    /// ZMQ address: `tcp://host:port`.
    pub address: Arc<str>,
    /// Listen there instead of connecting: vLLM connects when it was given a concrete address.
    pub bind: bool,
    /// ZMQ address that missed batches can be asked of.
    pub replay: Option<Arc<str>>,
    /// Topics that are subscribed to begin with this; empty takes all.
    pub topic: Arc<str>,
}

/// How a pool's endpoint is chosen. The default is what needs to know nothing: the least busy one.
#[derive(Debug, Clone, PartialEq)]
pub struct Picking {
    /// See the variants.
    pub strategy: Strategy,
    /// For [`Strategy::Kv`].
    pub kv: KvCost,
    /// For [`Strategy::Scorers`]: at least one, with weights above zero.
    pub scorers: Vec<(Scorer, f64)>,
    /// For [`Strategy::Scorers`]: stay where the prefix is until that costs too much.
    pub affinity: Option<Affinity>,
    /// Tokens in a block of the engines' KV cache.
    pub block_size: u32,
    /// Folder with `tokenizer.json` and a chat template; without it bytes stand in for tokens.
    pub tokenizer: Option<Arc<Path>>,
    /// What the prefix index is filled from.
    pub prefixes: Prefixes,
    /// How long a prompt just sent counts as cached where it went, until the engine says so itself; zero switches it off.
    pub predicted: Duration,
    /// Most memory of the prefix index.
    pub index_bytes: usize,
    /// Metrics read from the engines.
    pub metrics: Option<Metrics>,
    /// Active checks of health.
    pub health: Option<Health>,
    /// When an endpoint is too busy to be picked.
    pub busy: Busy,
    /// Where requests wait while all endpoints are busy; absent: they are refused at once.
    pub queue: Option<Queue>,
    /// How prefill and decode are split.
    pub disaggregation: Option<Disaggregation>,
    /// Endpoints are frontends of Dynamo: bodies get `nvext`, requests its headers.
    pub dynamo: bool,
    /// Clients may steer the engines themselves, by Dynamo's and llm-d's headers and by `nvext`.
    pub trust_clients: bool,
    /// A booking that nobody released ends after this.
    pub lease: Duration,
    /// Header that names a session, for session affinity.
    pub session_header: Arc<str>,
    /// Whether the Envoy door gives a session to clients that have none.
    pub session_tokens: bool,
}

/// Tokens in a block where nothing is said: vLLM's default on GPUs.
pub(crate) const BLOCK_SIZE: u32 = 16;
/// llm-d's time for a speculative entry.
pub(crate) const PREDICTED: Duration = Duration::from_secs(2);
/// Some five million blocks.
pub(crate) const INDEX_BYTES: usize = 256 << 20;
/// Longer than the longest request (15 minutes, where nothing else is set): a booking this old has been lost.
pub(crate) const LEASE: Duration = Duration::from_secs(20 * 60);
pub(crate) const SESSION_HEADER: &str = "x-session-id";
/// Dynamo's.
pub(crate) const APPROXIMATE_TTL: Duration = Duration::from_secs(120);

impl Default for Picking {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            kv: KvCost::default(),
            scorers: Vec::new(),
            affinity: None,
            block_size: BLOCK_SIZE,
            tokenizer: None,
            prefixes: Prefixes::Approximate { ttl: APPROXIMATE_TTL },
            predicted: PREDICTED,
            index_bytes: INDEX_BYTES,
            metrics: None,
            health: None,
            busy: Busy::default(),
            queue: None,
            disaggregation: None,
            dynamo: false,
            trust_clients: false,
            lease: LEASE,
            session_header: SESSION_HEADER.into(),
            session_tokens: false,
        }
    }
}

impl Default for KvCost {
    fn default() -> Self {
        Self {
            overlap_credit: 1.0,
            credit_decay: 0.0,
            prefill_load_scale: 1.0,
            decode_request_weight: 0.0,
            host_weight: 0.75,
            disk_weight: 0.25,
            temperature: 0.0,
        }
    }
}

impl Picking {
    /// Whether the choice looks at prompts at all.
    #[must_use]
    pub fn reads_prompts(&self) -> bool {
        let scored =
            || self.scorers.iter().any(|(scorer, _)| matches!(scorer, Scorer::Prefix | Scorer::TokenLoad));
        let strategy = match self.strategy {
            Strategy::Ttft | Strategy::Kv => true,
            Strategy::Scorers => scored() || self.affinity.is_some(),
            _ => false,
        };
        strategy || self.disaggregation.is_some() || self.busy.prefill_tokens.is_some()
    }
}

/// A way to choose among endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Shortest estimated time to first token, from what is cached and what each endpoint has to read before.
    Ttft,
    /// Dynamo's cost: blocks to compute plus blocks in use, less what is cached.
    Kv,
    /// llm-d's weighted scorers.
    Scorers,
    /// Fewest requests in flight.
    #[default]
    LeastLoad,
    /// The less busy of two taken at random.
    PowerOfTwo,
    /// One after another.
    RoundRobin,
    /// Any.
    Random,
}

impl Strategy {
    /// All of them, by the name in files, metrics and Decisions.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("ttft", Self::Ttft),
        ("kv", Self::Kv),
        ("scorers", Self::Scorers),
        ("least-load", Self::LeastLoad),
        ("power-of-two", Self::PowerOfTwo),
        ("round-robin", Self::RoundRobin),
        ("random", Self::Random),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, strategy)| *strategy == self).map_or("", |(name, _)| name)
    }
}

/// Parameters of Dynamo's cost (its router's defaults).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KvCost {
    /// What a cached device block saves, in blocks; may exceed 1.
    pub overlap_credit: f64,
    /// How fast that credit fades on endpoints with more prefill waiting than the idlest one.
    pub credit_decay: f64,
    /// Weight of prefill against decode.
    pub prefill_load_scale: f64,
    /// Blocks that each request in flight counts for.
    pub decode_request_weight: f64,
    /// Share of `overlap_credit` for blocks in host memory.
    pub host_weight: f64,
    /// The same for blocks on disk.
    pub disk_weight: f64,
    /// 0 takes the lowest cost; above, likelier the lower.
    pub temperature: f64,
}

/// One of llm-d's scorers; each gives 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scorer {
    /// Shorter waiting queue.
    Queue,
    /// Fewer running requests, as the engine tells.
    Running,
    /// Fewer of our own requests in flight.
    ActiveRequests,
    /// Lower share of KV cache in use.
    KvUtilization,
    /// Longer cached prefix of this prompt.
    Prefix,
    /// The LoRA adapter is loaded.
    LoraAffinity,
    /// Fewer uncached prompt tokens in flight.
    TokenLoad,
    /// Where the session was before.
    SessionAffinity,
    /// Half of what is left of 128 waiting requests.
    LoadAware,
}

impl Scorer {
    /// Those that llm-d takes, with their weights, where none are given.
    pub const LLM_D: [(Self, f64); 3] = [(Self::Queue, 2.0), (Self::KvUtilization, 2.0), (Self::Prefix, 3.0)];

    /// All of them, by the name in files and Decisions.
    pub const NAMES: [(&'static str, Self); 9] = [
        ("queue", Self::Queue),
        ("running", Self::Running),
        ("active-requests", Self::ActiveRequests),
        ("kv-utilization", Self::KvUtilization),
        ("prefix", Self::Prefix),
        ("lora-affinity", Self::LoraAffinity),
        ("token-load", Self::TokenLoad),
        ("session-affinity", Self::SessionAffinity),
        ("load-aware", Self::LoadAware),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, scorer)| *scorer == self).map_or("", |(name, _)| name)
    }
}

/// llm-d's prefix-cache-affinity filter, "sticky until saturated".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affinity {
    /// Endpoints with at least this share of the prompt cached are kept, if there are any.
    pub threshold: f64,
    /// Unless their prefill backlog would cost this much more than the idlest endpoint's.
    pub max_ttft_penalty: Duration,
    /// Prompt tokens an endpoint reads in a second, to tell time from tokens.
    pub prefill_tokens_per_second: f64,
    /// Share of requests that ignore the filter, 0 to 1.
    pub exploration: f64,
}

impl Default for Affinity {
    /// llm-d's.
    fn default() -> Self {
        Self {
            threshold: 0.8,
            max_ttft_penalty: Duration::from_secs(18),
            prefill_tokens_per_second: 15_928.0,
            exploration: 0.0,
        }
    }
}

/// What the prefix index is filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefixes {
    /// The engines' KV events.
    Events,
    /// Our own choices: a prompt counts as cached where it was sent, until what the engine says it can hold is full.
    Approximate {
        /// Where it does not say so: for this long after its last use.
        ttl: Duration,
    },
    /// Dynamo's event plane.
    Dynamo,
}

/// Metrics scraped from each endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Which names to read.
    pub form: MetricsForm,
    /// Path below the endpoint's address.
    pub path: Arc<str>,
    /// Time between two reads; each is moved by up to a tenth at random.
    pub interval: Duration,
    /// Figures older than this are not used.
    pub stale_after: Duration,
}

/// Names of the figures that are read.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsForm {
    /// vLLM's.
    Vllm,
    /// SGLang's.
    Sglang,
    /// TensorRT-LLM's `trtllm-serve`.
    TrtLlm,
    /// Triton with the TensorRT-LLM backend.
    Triton,
    /// Given one by one.
    Custom(MetricSpecs),
}

/// Each is `name` or `name{label=value,…}`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricSpecs {
    /// Requests waiting.
    pub waiting: Option<Arc<str>>,
    /// Requests running.
    pub running: Option<Arc<str>>,
    /// Share of KV cache in use, 0 to 1.
    pub kv_usage: Option<Arc<str>>,
    /// Blocks the KV cache can hold.
    pub total_blocks: Option<Arc<str>>,
}

/// Active checks of an endpoint's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Path below the endpoint's address; any 2xx is well.
    pub path: Arc<str>,
    /// Time between two checks.
    pub interval: Duration,
    /// An answer later than this counts as none.
    pub timeout: Duration,
    /// Failures in a row that put the endpoint aside.
    pub failures: u32,
}

/// Thresholds above which an endpoint is not picked, and for `requests` from which on. Absent: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Busy {
    /// Share of KV blocks in use, 0 to 1 (Dynamo's `DYNAMO_BUSY_THRESHOLD`).
    pub kv_share: Option<f64>,
    /// Prompt tokens being read.
    pub prefill_tokens: Option<u64>,
    /// Requests in flight: ours, and those told by other Waypost processes.
    pub requests: Option<u32>,
    /// Requests waiting in the engine.
    pub waiting: Option<u32>,
}

impl Busy {
    /// Whether anything is bounded.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.kv_share.is_some()
            || self.prefill_tokens.is_some()
            || self.requests.is_some()
            || self.waiting.is_some()
    }
}

/// Where requests wait while every endpoint is busy.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Requests that may wait; the next is refused.
    pub requests: usize,
    /// Longest wait.
    pub deadline: Duration,
    /// Headers with the request's priority: a number, or one of `priorities`. The first that is there counts.
    pub priority_headers: Vec<Arc<str>>,
    /// Names for priorities; higher goes first, below zero may be refused first.
    pub priorities: Vec<(Arc<str>, i32)>,
    /// Headers that tell callers apart, the first that is there; those without any are one caller.
    pub fairness_headers: Vec<Arc<str>>,
}

/// How a request is split between a prefill and a decode endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disaggregation {
    /// How the KV cache is handed over.
    pub connector: Connector,
    /// Prompts with fewer uncached tokens than this on the decode endpoint are read there.
    pub min_uncached_tokens: u32,
    /// Longest wait for the prefill.
    pub prefill_timeout: Duration,
}

/// A protocol between prefill and decode engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connector {
    /// vLLM: prefill first, its `kv_transfer_params` go to decode.
    Nixl,
    /// SGLang: both at once, meeting in a bootstrap room.
    Sglang,
    /// Dynamo: one request to its frontend, which is told both workers.
    Dynamo,
}

/// Where bookings are shared between several Waypost processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// `redis://` or `rediss://` address, which may hold a password.
    pub redis: Secret,
    /// Channel that all of them use.
    pub channel: Arc<str>,
}
