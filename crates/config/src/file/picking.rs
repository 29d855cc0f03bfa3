//! How replicas, and the choice among them, are written.
//!
//! Doc comments here are what users read, as in `file`. Nothing is checked beyond shape; `picking` does that.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::classifier::{Numbers, Routes};
use super::name_or::{Details, NameOr};
use crate::leaf::{BaseUrl, Form, PrefixSource, Size};
use crate::raw::Raw;
use crate::snapshot::{APPROXIMATE_TTL, Affinity, Connector, KvCost, Picking, Role, Secret, Strategy};

const METRICS_PATH: &str = "/metrics";
/// Four times as long as llm-d's: own bookings cover the time between two reads.
const METRICS_INTERVAL: Duration = Duration::from_millis(200);
const METRICS_STALE: Duration = Duration::from_secs(2);
const HEALTH_PATH: &str = "/health";
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
const HEALTH_FAILURES: u64 = 3;
const QUEUE_REQUESTS: u64 = 256;
const QUEUE_DEADLINE: Duration = Duration::from_secs(5);
const PRIORITY_HEADER: &str = "x-waypost-priority";
const FAIRNESS_HEADER: &str = "x-waypost-caller";
/// Tokens; below it the hand-over costs more than it saves.
const MIN_UNCACHED_TOKENS: u64 = 256;
const PREFILL_TIMEOUT: Duration = Duration::from_secs(60);
const CHANNEL: &str = "waypost";

/// A replica: its address, or a map that says more.
#[derive(Debug)]
pub(crate) enum EndpointOption {
    Url(Raw<BaseUrl>),
    Own(Box<EndpointSpec>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointSpec {
    /// `http(s)://host:port`, with or without `/v1` at the end.
    pub(crate) url: Raw<BaseUrl>,
    /// `prefill`, `decode` or `both`; absent means both.
    pub(crate) role: Option<Raw<Role>>,
    /// Data-parallel ranks behind the address, each picked by itself; event and replay ports count up with the rank.
    pub(crate) ranks: Option<Raw<u64>>,
    /// The one rank that is meant, from 0, where each is listed by itself with addresses of its own.
    pub(crate) rank: Option<Raw<u64>>,
    /// Where its KV events are published: a ZMQ address such as `tcp://10.0.0.7:5557`; `tcp://*:5557` listens for an
    /// engine that connects, as vLLM does when it was given a concrete address.
    pub(crate) kv_events: Option<Raw<String>>,
    /// ZMQ address that missed events are asked of, the engine's `replay_endpoint`.
    pub(crate) kv_replay: Option<Raw<String>>,
    /// Topics that begin with this are read; absent means all.
    pub(crate) kv_topic: Option<Raw<String>>,
    /// Instance of the worker in Dynamo, a 64-bit number; workers behind one frontend have its `url` in common.
    pub(crate) instance: Option<Raw<u64>>,
    /// Port of SGLang's bootstrap server, on prefill endpoints; absent means 8998.
    pub(crate) bootstrap_port: Option<Raw<u64>>,
}

/// How a replica is picked. The name of a strategy, or a map.
#[derive(Debug)]
pub(crate) enum PickOption {
    Named(Raw<Strategy>),
    Own(Box<PickSpec>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PickSpec {
    /// `ttft`, `kv`, `scorers`, `least-load`, `power-of-two`, `round-robin` or `random`. `ttft` is the one for pools with
    /// prefixes that repeat.
    pub(crate) strategy: Raw<Strategy>,
    /// Parameters of `kv`.
    pub(crate) kv: KvSpec,
    /// For `scorers`: scorer to weight. `queue`, `running`, `active-requests`, `kv-utilization`, `prefix`, `lora-affinity`,
    /// `token-load`, `session-affinity`, `load-aware`. Absent: `queue: 2, kv-utilization: 2, prefix: 3`.
    pub(crate) scorers: Option<Numbers>,
    /// For `scorers`: stay where the prefix is cached until that endpoint is saturated.
    pub(crate) affinity: Option<AffinitySpec>,
    /// Tokens in a block of the engines' KV cache; must be what the engines use.
    pub(crate) block_size: Raw<u64>,
    /// Folder with the model's `tokenizer.json` and chat template, relative to the folder of this file. Absent: bytes stand
    /// in for tokens.
    pub(crate) tokenizer: Option<Raw<String>>,
    /// What is known of cached prefixes: `events` (of the engines), `approximate` (of our own choices) or `dynamo` (its event
    /// plane). Absent: `events` where an endpoint has `kv_events`, else `approximate`.
    pub(crate) prefixes: Option<Raw<PrefixSource>>,
    /// With `approximate`: a prefix is forgotten this long after its last use, unless the engine tells its capacity.
    pub(crate) ttl: Raw<Duration>,
    /// With events: a prompt just sent counts as cached where it went for this long, until the engine says so.
    pub(crate) predicted: Raw<Duration>,
    /// Most memory for the index of prefixes.
    pub(crate) index_memory: Raw<Size>,
    /// Metrics that are read from the engines.
    pub(crate) metrics: Option<MetricsSpec>,
    /// Active checks of health.
    pub(crate) health: Option<HealthSpec>,
    /// An endpoint above one of these is not picked.
    pub(crate) busy: BusySpec,
    /// Where requests wait while all endpoints are busy. Absent: they are refused at once.
    pub(crate) queue: Option<QueueSpec>,
    /// Long prompts are read by another endpoint than the one that answers.
    pub(crate) disaggregation: Option<DisaggregationSpec>,
    /// The endpoints are frontends of Dynamo that are told the worker: `nvext` in the body, and Dynamo's headers.
    pub(crate) dynamo: Raw<bool>,
    /// Clients may steer the engines themselves, by Dynamo's and llm-d's headers and by ids in `nvext`.
    pub(crate) trust_clients: Raw<bool>,
    /// Load booked by a request that never ended is dropped after this.
    pub(crate) lease: Raw<Duration>,
    /// Header that names a session, for `session-affinity`.
    pub(crate) session_header: Raw<String>,
    /// A client of the Envoy door that has no session yet is given one, in that header of the answer.
    pub(crate) session_tokens: Raw<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KvSpec {
    /// What a block cached in GPU memory saves, in blocks; may exceed 1.
    pub(crate) overlap_credit: Raw<f64>,
    /// How fast that fades on endpoints with more prefill waiting than the idlest.
    pub(crate) credit_decay: Raw<f64>,
    /// Weight of prefill against decode.
    pub(crate) prefill_load_scale: Raw<f64>,
    /// Blocks that each request in flight counts for.
    pub(crate) decode_request_weight: Raw<f64>,
    /// What a block in host memory saves.
    pub(crate) host_weight: Raw<f64>,
    /// What a block on disk saves.
    pub(crate) disk_weight: Raw<f64>,
    /// 0 takes the lowest cost; above, a lower cost is only likelier.
    pub(crate) temperature: Raw<f64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AffinitySpec {
    /// Share of the prompt that must be cached, 0 to 1.
    pub(crate) threshold: Raw<f64>,
    /// Longest wait more than at the idlest endpoint that is taken for it.
    pub(crate) max_ttft_penalty: Raw<Duration>,
    /// Prompt tokens that an endpoint reads in a second.
    pub(crate) prefill_tokens_per_second: Raw<f64>,
    /// Share of requests that ignore it, 0 to 1.
    pub(crate) exploration: Raw<f64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MetricsSpec {
    /// `vllm`, `sglang`, `trtllm`, `triton` or `custom`.
    pub(crate) engine: Raw<Form>,
    /// Path below the endpoint's address.
    pub(crate) path: Raw<String>,
    /// Time between two reads.
    pub(crate) interval: Raw<Duration>,
    /// Older figures are not used.
    pub(crate) stale_after: Raw<Duration>,
    /// With `custom`: `waiting`, `running`, `kv_usage`, `total_blocks`, each as `name` or `name{label=value}`.
    pub(crate) names: Option<Routes>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HealthSpec {
    /// Path below the endpoint's address.
    pub(crate) path: Raw<String>,
    /// Time between two checks.
    pub(crate) interval: Raw<Duration>,
    /// A later answer counts as none.
    pub(crate) timeout: Raw<Duration>,
    /// Failures in a row that put the endpoint aside.
    pub(crate) failures: Raw<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BusySpec {
    /// Share of KV blocks in use, 0 to 1; below zero there is no bound, as for Dynamo's `DYNAMO_BUSY_THRESHOLD`.
    pub(crate) kv_share: Option<Raw<f64>>,
    /// Prompt tokens that are being read.
    pub(crate) prefill_tokens: Option<Raw<u64>>,
    /// Requests in flight, as many as it may have.
    pub(crate) requests: Option<Raw<u64>>,
    /// Requests that wait in the engine.
    pub(crate) waiting: Option<Raw<u64>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct QueueSpec {
    /// Requests that may wait.
    pub(crate) requests: Raw<u64>,
    /// Longest wait.
    pub(crate) deadline: Raw<Duration>,
    /// Header with a request's priority: a number, or one of the names below. Several with commas between them: the first
    /// that is there counts.
    pub(crate) priority_header: Raw<String>,
    /// Name to priority. Higher goes first; below zero is refused first.
    pub(crate) priorities: Option<Numbers>,
    /// Header that tells callers apart, who take turns; several as above.
    pub(crate) fairness_header: Raw<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DisaggregationSpec {
    /// How the KV cache is handed over: `nixl` (vLLM), `sglang` or `dynamo`.
    pub(crate) connector: Raw<Connector>,
    /// Prompts with fewer tokens that are not cached where the answer is written are read there.
    pub(crate) min_uncached_tokens: Raw<u64>,
    /// Longest wait for the prefill; then the decode endpoint does it all.
    pub(crate) prefill_timeout: Raw<Duration>,
}

/// Several Waypost processes in front of the same endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplicasSpec {
    /// Redis or Valkey through which they tell one another what they have booked: `redis://host:6379`.
    pub(crate) redis: Raw<Secret>,
    /// Channel there.
    #[serde(default = "channel")]
    pub(crate) channel: Raw<String>,
}

impl Default for PickSpec {
    fn default() -> Self {
        let p = Picking::default();
        Self {
            strategy: Raw::Default(p.strategy),
            kv: KvSpec::default(),
            scorers: None,
            affinity: None,
            block_size: Raw::Default(u64::from(p.block_size)),
            tokenizer: None,
            prefixes: None,
            ttl: Raw::Default(APPROXIMATE_TTL),
            predicted: Raw::Default(p.predicted),
            index_memory: Raw::Default(Size(p.index_bytes)),
            metrics: None,
            health: None,
            busy: BusySpec::default(),
            queue: None,
            disaggregation: None,
            dynamo: Raw::Default(p.dynamo),
            trust_clients: Raw::Default(p.trust_clients),
            lease: Raw::Default(p.lease),
            session_header: Raw::Default(p.session_header.to_string()),
            session_tokens: Raw::Default(p.session_tokens),
        }
    }
}

impl Default for KvSpec {
    fn default() -> Self {
        let k = KvCost::default();
        Self {
            overlap_credit: Raw::Default(k.overlap_credit),
            credit_decay: Raw::Default(k.credit_decay),
            prefill_load_scale: Raw::Default(k.prefill_load_scale),
            decode_request_weight: Raw::Default(k.decode_request_weight),
            host_weight: Raw::Default(k.host_weight),
            disk_weight: Raw::Default(k.disk_weight),
            temperature: Raw::Default(k.temperature),
        }
    }
}

impl Default for AffinitySpec {
    fn default() -> Self {
        let a = Affinity::default();
        Self {
            threshold: Raw::Default(a.threshold),
            max_ttft_penalty: Raw::Default(a.max_ttft_penalty),
            prefill_tokens_per_second: Raw::Default(a.prefill_tokens_per_second),
            exploration: Raw::Default(a.exploration),
        }
    }
}

impl Default for MetricsSpec {
    fn default() -> Self {
        Self {
            engine: Raw::Default(Form::Vllm),
            path: Raw::Default(METRICS_PATH.to_owned()),
            interval: Raw::Default(METRICS_INTERVAL),
            stale_after: Raw::Default(METRICS_STALE),
            names: None,
        }
    }
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            path: Raw::Default(HEALTH_PATH.to_owned()),
            interval: Raw::Default(HEALTH_INTERVAL),
            timeout: Raw::Default(HEALTH_TIMEOUT),
            failures: Raw::Default(HEALTH_FAILURES),
        }
    }
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self {
            requests: Raw::Default(QUEUE_REQUESTS),
            deadline: Raw::Default(QUEUE_DEADLINE),
            priority_header: Raw::Default(PRIORITY_HEADER.to_owned()),
            priorities: None,
            fairness_header: Raw::Default(FAIRNESS_HEADER.to_owned()),
        }
    }
}

impl Default for DisaggregationSpec {
    fn default() -> Self {
        Self {
            connector: Raw::Default(Connector::Nixl),
            min_uncached_tokens: Raw::Default(MIN_UNCACHED_TOKENS),
            prefill_timeout: Raw::Default(PREFILL_TIMEOUT),
        }
    }
}

fn channel() -> Raw<String> {
    Raw::Default(CHANNEL.to_owned())
}

macro_rules! name_or_map {
    ($option:ident, $word:ident($leaf:ty), $spec:ident, $expected:literal) => {
        impl<'de> Deserialize<'de> for $option {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let Spanned { value, referenced, .. } = Spanned::<NameOr<$spec>>::deserialize(deserializer)?;
                Ok(match value {
                    NameOr::Name(word) => Self::$word(Raw::read(&word, referenced)),
                    NameOr::Map(spec) => Self::Own(spec),
                })
            }
        }

        impl Details for $spec {
            const EXPECTED: &str = $expected;
        }

        impl JsonSchema for $option {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($option).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "oneOf": [Raw::<$leaf>::json_schema(generator), $spec::json_schema(generator)] })
            }
        }
    };
}

name_or_map!(
    EndpointOption,
    Url(BaseUrl),
    EndpointSpec,
    "an address, or a map such as `{url: http://a:8000, role: decode}`,"
);
name_or_map!(
    PickOption,
    Named(Strategy),
    PickSpec,
    "the name of a strategy, or a map such as `{strategy: kv}`,"
);
