//! What an endpoint picker's flags, configuration and environment come to: the parts of a Waypost configuration that can
//! follow from them, and their text.
//!
//! Field names are the configuration's keys; what they mean stands in docs/configuration.md. Pure. Filled by the other
//! modules of `epp`.

use super::Fault;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use waypost_config::literal;

/// llm-d's header names, the older one behind; the first that is there counts.
const OBJECTIVE: &str = "x-llm-d-inference-objective, x-gateway-inference-objective";
const FAIRNESS: &str = "x-llm-d-inference-fairness-id, x-gateway-inference-fairness-id";

#[derive(Debug, Serialize)]
pub(super) struct Setup {
    listen: &'static str,
    pub(super) admin: Admin,
    pub(super) ext_proc: ExtProc,
    pub(super) models: [Model; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replicas: Option<Replicas>,
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub(super) limits: Limits,
    pub(super) shutdown: Shutdown,
}

#[derive(Debug, Serialize)]
pub(super) struct Admin {
    pub(super) listen: SocketAddr,
}

#[derive(Debug, Serialize)]
pub(super) struct ExtProc {
    pub(super) listen: SocketAddr,
    pub(super) health_listen: SocketAddr,
    pub(super) tls: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    gaie_errors: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) fallbacks: u64,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) scores: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) conformance: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    any_name: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoints_file: Option<String>,
    pub(super) pick: Pick,
}

#[derive(Debug, Serialize)]
pub(super) struct Endpoint {
    url: String,
    #[serde(skip)]
    address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_events: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_replay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_topic: Option<String>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Pick {
    pub(super) strategy: &'static str,
    #[serde(skip_serializing_if = "Kv::is_empty")]
    pub(super) kv: Kv,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) scorers: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) affinity: Option<Affinity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) block_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tokenizer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefixes: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) predicted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Busy::is_empty")]
    pub(super) busy: Busy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<Queue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disaggregation: Option<Disaggregation>,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) dynamo: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_header: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) session_tokens: bool,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Kv {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overlap_credit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefill_load_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Affinity {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_ttft_penalty: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefill_tokens_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exploration: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Metrics {
    pub(super) engine: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stale_after: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) names: BTreeMap<&'static str, String>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Busy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kv_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefill_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Queue {
    requests: u64,
    deadline: String,
    priority_header: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) priorities: BTreeMap<String, i32>,
    fairness_header: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Disaggregation {
    pub(super) connector: &'static str,
    pub(super) min_uncached_tokens: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Replicas {
    pub(super) redis: String,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_in_flight: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Shutdown {
    pub(super) delay: String,
}

/// Where engines publish their KV events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    /// Each at this port of its own, and lost ones can be asked for at the other.
    Each { port: u16, replay: Option<u16> },
    /// All of them connect to this port here, and name themselves in the topic.
    Here { port: u16 },
}

impl Setup {
    /// One pool of this name, whose ports are on `host`; everything else as an endpoint picker has it.
    pub(super) fn new(host: IpAddr, name: String) -> Self {
        Self {
            listen: "off",
            admin: Admin { listen: SocketAddr::new(host, 9090) },
            ext_proc: ExtProc {
                listen: SocketAddr::new(host, 9002),
                health_listen: SocketAddr::new(host, 9003),
                tls: "self_signed",
                certificate: None,
                key: None,
                gaie_errors: true,
                fallbacks: 0,
                scores: false,
                conformance: false,
            },
            models: [Model {
                name: literal(&name),
                model: None,
                any_name: true,
                endpoints: Vec::new(),
                endpoints_file: None,
                pick: Pick::default(),
            }],
            replicas: None,
            limits: Limits::default(),
            shutdown: Shutdown { delay: "30s".to_owned() },
        }
    }

    /// The only model.
    pub(super) fn pool(&mut self) -> &mut Model {
        let [pool] = &mut self.models;
        pool
    }

    /// How it is picked from.
    pub(super) fn pick(&mut self) -> &mut Pick {
        &mut self.pool().pick
    }

    /// Each endpoint gets its source of events.
    pub(super) fn listen_to(&mut self, events: Events) {
        for endpoint in &mut self.pool().endpoints {
            let at = |port| format!("tcp://{}", SocketAddr::new(endpoint.address.ip(), port));
            match events {
                Events::Each { port, replay } => {
                    (endpoint.kv_events, endpoint.kv_replay) = (Some(at(port)), replay.map(at));
                }
                Events::Here { port } => {
                    endpoint.kv_topic = Some(format!("kv@{}@", endpoint.address));
                    endpoint.kv_events = Some(format!("tcp://*:{port}"));
                }
            }
        }
    }

    /// The configuration's text.
    pub(super) fn text(&self) -> Result<String, Fault> {
        serde_saphyr::to_string(self).map_err(|error| Fault { line: 0, message: error.to_string() })
    }
}

impl Endpoint {
    /// Served over plain HTTP.
    pub(super) fn new(address: SocketAddr, role: Option<&'static str>, instance: Option<u64>) -> Self {
        let url = format!("http://{address}");
        Self { url, address, role, instance, kv_events: None, kv_replay: None, kv_topic: None }
    }
}

impl Default for Metrics {
    /// vLLM's, as endpoint pickers have it.
    fn default() -> Self {
        let engine = "vllm".to_owned();
        Self { engine, path: None, interval: None, stale_after: None, names: BTreeMap::new() }
    }
}

impl Queue {
    /// Names of objectives are priorities.
    pub(super) fn new(requests: u64, deadline: String) -> Self {
        let priorities = BTreeMap::new();
        Self { requests, deadline, priority_header: OBJECTIVE, priorities, fairness_header: FAIRNESS }
    }
}

impl Kv {
    fn is_empty(&self) -> bool {
        self.overlap_credit.is_none() && self.prefill_load_scale.is_none() && self.temperature.is_none()
    }
}

impl Busy {
    pub(super) fn is_empty(&self) -> bool {
        self.kv_share.is_none()
            && self.prefill_tokens.is_none()
            && self.requests.is_none()
            && self.waiting.is_none()
    }
}

impl Limits {
    fn is_empty(&self) -> bool {
        self.body.is_none() && self.requests_in_flight.is_none()
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
