//! The file as the user writes it: one set of structs for parsing, JSON schema and docs table.
//!
//! Doc comments here are what users read in editors and in `docs/configuration.md`. Nothing is
//! checked beyond shape; `resolve` does that.

mod admin;
mod auto;
mod classifier;
mod decisions;
mod ext_proc;
mod guard;
mod intent;
mod name_or;
mod picking;
mod reasoning;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::Fault;
use crate::leaf::{BaseUrl, Capability, CompatV1, FullUrl, KIB, Listen, MIB, Size};
use crate::raw::Raw;
use crate::snapshot::Secret;
use crate::substitute::mask;

pub(crate) use admin::AdminSpec;
pub(crate) use auto::{AutoSpec, EmbeddingSpec, LogFileSpec, SplitSpec, StickyOption, StickySpec};
pub(crate) use classifier::{
    ClassifierSpec, Examples, KserveSpec, Numbers, Pairs, Routes, RuleSpec, SafetySpec,
};
pub(crate) use decisions::{DecisionsSpec, OfSpec, SignalSpec, WhenSpec};
pub(crate) use ext_proc::ExtProcSpec;
pub(crate) use guard::GuardSpec;
pub(crate) use intent::IntentSpec;
pub(crate) use picking::{
    AffinitySpec, BusySpec, DisaggregationSpec, EndpointOption, EndpointSpec, HealthSpec, KvSpec,
    MetricsSpec, PickOption, PickSpec, QueueSpec, ReplicasSpec,
};
pub(crate) use reasoning::{Efforts, ReasoningSpec};

/// v1's port, on every address.
const LISTEN: Listen = Listen(Some(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8084)));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(300);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(900);
/// Generous beside a local Triton (tens of milliseconds), short beside any answer.
const CLASSIFY_TIMEOUT: Duration = Duration::from_secs(1);
/// Off, as in v1.
const CONFIDENCE_FLOOR: f64 = 0.0;
const BODY: Size = Size(10 * MIB);
const HEADER_BYTES: Size = Size(64 * KIB);
const HEADER_FIELDS: u64 = 100;
const CONNECTIONS: u64 = 20_000;
const REQUESTS_IN_FLIGHT: u64 = 10_000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(75);
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const DECISIONS_KEPT: u64 = 4096;
const RETRY_BUDGET: f64 = 0.2;
const RETRY_MIN_PER_SECOND: f64 = 10.0;
const MAX_ATTEMPTS: u64 = 4;
/// Prompts.
const ENCODER_QUEUE: u64 = 64;
/// Eight prompts of ordinary length, and little beside the answer that follows.
const ENCODER_DEADLINE: Duration = Duration::from_millis(50);
/// Enough only where nothing routes to a pod that is going away; Kubernetes users set a few seconds.
const SHUTDOWN_DELAY: Duration = Duration::ZERO;
const SHUTDOWN_GRACE: Duration = Duration::from_secs(120);
const LOG_DECISIONS: bool = true;
/// Maps and lists within one another; twice as many as the deepest `when` needs, and few enough for any thread's stack.
const MAX_DEPTH: usize = 32;

/// Waypost's configuration file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// Address and port of the HTTP door; `off` shuts it.
    pub(crate) listen: Raw<Listen>,
    /// Models that requests can be sent to.
    pub(crate) models: Vec<ModelSpec>,
    /// How prompts are sent to models. Each policy is also a virtual model under its own name.
    pub(crate) policies: Vec<PolicySpec>,
    /// The policy behind `model: "auto"` and the like; without it, the first policy of the file.
    pub(crate) default_policy: Option<Raw<String>>,
    /// Names that stand for it, the first of them listed; absent: `auto`, `MoM` and `vllm-sr/auto`. A model or policy of such a name goes first.
    pub(crate) auto_names: Option<Vec<Raw<String>>>,
    /// Where texts and images become vectors, for policies that need them.
    pub(crate) embeddings: Vec<EmbeddingSpec>,
    /// Other Waypost processes in front of the same endpoints.
    pub(crate) replicas: Option<ReplicasSpec>,
    /// The admin door: metrics, health, decisions, and classification of texts; absent, it is shut.
    pub(crate) admin: Option<AdminSpec>,
    /// The Envoy door: answers Envoy's external processing filter; absent, it is shut.
    pub(crate) ext_proc: Option<ExtProcSpec>,
    /// Prompts that attack the model are refused before anything is decided; absent, none is.
    pub(crate) guard: Option<GuardSpec>,
    /// Bounds on what clients may send.
    pub(crate) limits: LimitsSpec,
    /// When a failed attempt may be repeated elsewhere.
    pub(crate) retry: RetrySpec,
    /// Tier 1 of the built-in and trained classifiers: asked only where tier 0 is not sure.
    pub(crate) encoder: EncoderSpec,
    /// How the process ends.
    pub(crate) shutdown: ShutdownSpec,
    /// What is written to the log.
    pub(crate) log: LogSpec,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: Raw::Default(LISTEN),
            models: Vec::new(),
            policies: Vec::new(),
            default_policy: None,
            auto_names: None,
            embeddings: Vec::new(),
            replicas: None,
            admin: None,
            ext_proc: None,
            guard: None,
            limits: LimitsSpec::default(),
            retry: RetrySpec::default(),
            encoder: EncoderSpec::default(),
            shutdown: ShutdownSpec::default(),
            log: LogSpec::default(),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelSpec {
    /// The name clients and policies use.
    pub(crate) name: Raw<String>,
    /// The `model` value sent upstream; without it, `name`.
    pub(crate) model: Option<Raw<String>>,
    /// Where it runs: `http(s)://host:port`, with or without `/v1` at the end, or a map that says more.
    #[serde(default)]
    pub(crate) endpoints: Vec<EndpointOption>,
    /// One endpoint; short for `endpoints` with a single entry.
    pub(crate) endpoint: Option<EndpointOption>,
    /// Or a file with endpoints in llm-d's form, relative to the folder of this file; read again when it changes.
    pub(crate) endpoints_file: Option<Raw<String>>,
    /// The model of this file of which it is a LoRA adapter, and whose endpoints serve it; listed before it.
    pub(crate) adapter_of: Option<Raw<String>>,
    /// It takes requests for every name that no other model or policy of this file has, and leaves `model` in the body as
    /// it is; names other than its own are taken for LoRA adapters of it. At most one model may.
    pub(crate) any_name: Option<Raw<bool>>,
    /// How one of several endpoints is picked: the name of a strategy, or a map.
    pub(crate) pick: Option<PickOption>,
    /// Sent as bearer token; empty or absent sends none.
    pub(crate) api_key: Option<Raw<Secret>>,
    /// US dollars per million tokens.
    pub(crate) price: Option<PriceSpec>,
    /// Longest prompt plus answer, in tokens; absent means unknown.
    pub(crate) context_length: Option<Raw<u64>>,
    /// What it takes besides text; absent means everything.
    pub(crate) accepts: Option<Vec<Raw<Capability>>>,
    /// How it is told how much to think, for policies with `reasoning`; absent, it is not told.
    pub(crate) reasoning: Option<ReasoningSpec>,
    /// How long each phase of a request may take.
    #[serde(default)]
    pub(crate) timeouts: TimeoutsSpec,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceSpec {
    /// Per million prompt tokens.
    pub(crate) input: Raw<f64>,
    /// Per million completion tokens.
    pub(crate) output: Raw<f64>,
    /// Per million prompt tokens read from the prompt cache; absent means a quarter of `input`.
    pub(crate) cached_input: Option<Raw<f64>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TimeoutsSpec {
    /// TCP and TLS connect.
    pub(crate) connect: Raw<Duration>,
    /// From the request sent to the first byte of the answer's body.
    pub(crate) first_byte: Raw<Duration>,
    /// Longest silence between two pieces of a streamed answer.
    pub(crate) idle: Raw<Duration>,
    /// The whole request.
    pub(crate) total: Raw<Duration>,
}

impl Default for TimeoutsSpec {
    fn default() -> Self {
        Self {
            connect: Raw::Default(CONNECT_TIMEOUT),
            first_byte: Raw::Default(FIRST_BYTE_TIMEOUT),
            idle: Raw::Default(IDLE_TIMEOUT),
            total: Raw::Default(TOTAL_TIMEOUT),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicySpec {
    /// The name clients use, also as a virtual model.
    pub(crate) name: Raw<String>,
    /// What labels the prompt: a built-in classifier by name, or one of your own by one of the keys below.
    pub(crate) classifier: Option<ClassifierSpec>,
    /// Looked at before the classifier, in order; the first that applies decides.
    #[serde(default)]
    pub(crate) rules: Vec<RuleSpec>,
    /// Label to model.
    pub(crate) routes: Option<Routes>,
    /// Model taken when no label wins: low confidence, classifier late or down, label without a route.
    pub(crate) default: Option<Raw<String>>,
    /// Label to how much its model is to think: `off`, `on`, `low`, `medium` or `high`. What a client asks for itself counts.
    pub(crate) reasoning: Option<Efforts>,
    /// Below this confidence (0 to 1) `default` is taken; 0 switches it off.
    #[serde(default = "confidence_floor")]
    pub(crate) confidence_floor: Raw<f64>,
    /// Models tried in order when the chosen one fails.
    #[serde(default)]
    pub(crate) fallbacks: Vec<Raw<String>>,
    /// `v1` restores v1's rule to classify the last message only.
    pub(crate) compat: Option<Raw<CompatV1>>,
    /// How long classification may take before `default` is taken.
    #[serde(default = "classify_timeout")]
    pub(crate) classify_timeout: Raw<Duration>,
    /// Whether conversations keep their model: `conversation`, or a map with the details.
    pub(crate) sticky: Option<StickyOption>,
    /// Policies that decide too, without effect; what they would have done stands in the decision.
    #[serde(default)]
    pub(crate) shadow: Vec<Raw<String>>,
    /// Instead of a classifier: other policies that share the traffic.
    pub(crate) split: Option<SplitSpec>,
    /// v1 form: inference address of a KServe v2 classifier. Absent: the built-in one with these labels.
    pub(crate) url: Option<Raw<FullUrl>>,
    /// v1 form: one model per label, instead of `classifier` and `routes`.
    pub(crate) llms: Option<Vec<LlmSpec>>,
}

fn confidence_floor() -> Raw<f64> {
    Raw::Default(CONFIDENCE_FLOOR)
}

fn classify_timeout() -> Raw<Duration> {
    Raw::Default(CLASSIFY_TIMEOUT)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LlmSpec {
    /// The classifier's label.
    pub(crate) name: Raw<String>,
    /// Where the model runs, with or without `/v1` at the end.
    pub(crate) api_base: Raw<BaseUrl>,
    /// Sent as bearer token; empty or absent sends none.
    pub(crate) api_key: Option<Raw<Secret>>,
    /// The `model` value sent upstream.
    pub(crate) model: Raw<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSpec {
    /// Request body, decompressed.
    pub(crate) body: Raw<Size>,
    /// Request headers together.
    pub(crate) header_bytes: Raw<Size>,
    /// Number of request header fields.
    pub(crate) header_fields: Raw<u64>,
    /// Open client connections.
    pub(crate) connections: Raw<u64>,
    /// Requests in flight; more are answered 503 at once.
    pub(crate) requests_in_flight: Raw<u64>,
    /// From the first byte of a request to the end of its headers.
    pub(crate) header_timeout: Raw<Duration>,
    /// From the end of the headers to the end of the body.
    pub(crate) body_timeout: Raw<Duration>,
    /// A kept-alive connection without a request is closed after this.
    pub(crate) keepalive_timeout: Raw<Duration>,
    /// A client that takes no byte of its answer for this long is cut off.
    pub(crate) write_timeout: Raw<Duration>,
    /// Decisions kept in memory for `GET /v1/decisions/{id}`.
    pub(crate) decisions_kept: Raw<u64>,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            body: Raw::Default(BODY),
            header_bytes: Raw::Default(HEADER_BYTES),
            header_fields: Raw::Default(HEADER_FIELDS),
            connections: Raw::Default(CONNECTIONS),
            requests_in_flight: Raw::Default(REQUESTS_IN_FLIGHT),
            header_timeout: Raw::Default(HEADER_TIMEOUT),
            body_timeout: Raw::Default(BODY_TIMEOUT),
            keepalive_timeout: Raw::Default(KEEPALIVE_TIMEOUT),
            write_timeout: Raw::Default(WRITE_TIMEOUT),
            decisions_kept: Raw::Default(DECISIONS_KEPT),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetrySpec {
    /// Retries allowed as a share of requests, 0 to 1.
    pub(crate) budget: Raw<f64>,
    /// Retries always allowed, per second.
    pub(crate) min_per_second: Raw<f64>,
    /// Attempts for one request, the first included.
    pub(crate) max_attempts: Raw<u64>,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            budget: Raw::Default(RETRY_BUDGET),
            min_per_second: Raw::Default(RETRY_MIN_PER_SECOND),
            max_attempts: Raw::Default(MAX_ATTEMPTS),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EncoderSpec {
    /// Threads that run it; absent means half the cores, at least 1; 0 switches it off.
    pub(crate) threads: Option<Raw<u64>>,
    /// Prompts that may wait for it; with more, or more than can be done in time, tier 0's answer stands.
    pub(crate) queue: Raw<u64>,
    /// How long a prompt waits for it; later, tier 0's answer stands.
    pub(crate) deadline: Raw<Duration>,
}

impl Default for EncoderSpec {
    fn default() -> Self {
        Self { threads: None, queue: Raw::Default(ENCODER_QUEUE), deadline: Raw::Default(ENCODER_DEADLINE) }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ShutdownSpec {
    /// After SIGTERM: still serving, but not ready, for this long.
    pub(crate) delay: Raw<Duration>,
    /// Then open requests may finish for this long.
    pub(crate) grace: Raw<Duration>,
}

impl Default for ShutdownSpec {
    fn default() -> Self {
        Self { delay: Raw::Default(SHUTDOWN_DELAY), grace: Raw::Default(SHUTDOWN_GRACE) }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSpec {
    /// One structured line per decision, without prompt or answer.
    pub(crate) decisions: Raw<bool>,
    /// Whole decisions, for `waypost report` and `waypost replay`; takes a restart to change.
    pub(crate) file: Option<LogFileSpec>,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { decisions: Raw::Default(LOG_DECISIONS), file: None }
    }
}

/// Text to structs; references stay unexpanded.
pub(crate) fn parse(text: &str) -> Result<File, Fault> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    let budget = serde_saphyr::budget! { max_depth: MAX_DEPTH };
    Ok(serde_saphyr::from_str_with_options(&mask(text), serde_saphyr::options! { budget: budget })?)
}
