//! The checked, immutable result of loading a configuration: what every other crate reads.
//!
//! Names are resolved to indices, URLs are parsed, defaults are filled in. It never changes after
//! `load`; a reload builds a new one and swaps it whole. Called by the router, the proxy and the CLI.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

mod admin;
mod auto;
mod classifier;
mod decisions;
mod ext_proc;
mod guard;
mod limits;
mod names;
mod picking;
mod reasoning;

pub use admin::*;
pub use auto::*;
pub use classifier::*;
pub use decisions::*;
pub use ext_proc::*;
pub use guard::*;
pub use limits::*;
pub use picking::*;
pub use reasoning::*;

/// Index of a model in [`Snapshot::models`].
pub type ModelIndex = usize;
/// Index of a policy in [`Snapshot::policies`].
pub type PolicyIndex = usize;

/// Everything Waypost runs on, checked and resolved.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Address the HTTP door listens on, if it is open.
    pub listen: Option<SocketAddr>,
    /// The admin door, if it is open.
    pub admin: Option<Admin>,
    /// Every model a request can be sent to; those implied by a v1 `llms` entry included.
    pub models: Vec<Model>,
    /// Every policy, in the order of the file.
    pub policies: Vec<Policy>,
    /// The policy behind `model: "auto"`. The only policy, when there is just one.
    pub default_policy: Option<PolicyIndex>,
    /// Virtual models that stand for it; none of them is the name of a policy or a listed model.
    pub auto_names: Vec<Arc<str>>,
    /// Prompts that are refused, if any are.
    pub guard: Option<Guard>,
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// When a failed attempt may be repeated elsewhere.
    pub retry: Retry,
    /// How tier 1 of the cascade is run.
    pub encoder: Encoder,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What is written to the log for each request.
    pub log: Log,
    /// Where texts and images become vectors.
    pub embeddings: Vec<Embedding>,
    /// Other Waypost processes in front of the same endpoints.
    pub replicas: Option<Replicas>,
    /// The Envoy door, if it is open.
    pub ext_proc: Option<ExtProc>,
    /// What is odd but not wrong: shown by `waypost check`, logged at start and at reload.
    pub warnings: Vec<Warning>,
}

/// Something worth saying about a configuration that still loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// 1-based line in the file, where one can be named.
    pub line: Option<u64>,
    /// What was noticed and what happens because of it.
    pub message: String,
}

/// A model clients can be answered by.
#[derive(Debug, Clone)]
pub struct Model {
    /// The name clients and policies use.
    pub name: Arc<str>,
    /// The `model` value sent upstream.
    pub upstream_id: Arc<str>,
    /// Where it runs; at least one, or those of a file that may be empty for a while.
    pub endpoints: Vec<Endpoint>,
    /// More endpoints stand in this file, which is watched.
    pub endpoints_file: Option<Arc<Path>>,
    /// How one of them is picked.
    pub picking: Arc<Picking>,
    /// The model of which it is a LoRA adapter, and whose endpoints it shares.
    pub adapter_of: Option<ModelIndex>,
    /// It takes every name that nothing else has, and its endpoints are told the name that the client asked for.
    pub any_name: bool,
    /// Sent as `Authorization: Bearer …`; empty sends no header.
    pub api_key: Secret,
    /// Price, when known.
    pub price: Option<Price>,
    /// Longest prompt plus completion, in tokens, when known.
    pub context_length: Option<u32>,
    /// What a request to it may contain.
    pub accepts: Accepts,
    /// How it is told how much to think.
    pub reasoning: Option<Reasoning>,
    /// How long each phase of a request to it may take.
    pub timeouts: Timeouts,
    /// Whether `GET /v1/models` shows it and a client may name it. Always true today for Waypost's own
    /// schema; v1 `llms` entries are listed under their model id.
    pub listed: bool,
}

/// One replica of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port` plus an optional path prefix, without a trailing slash and without a final
    /// `/v1`: request paths such as `/v1/chat/completions` are appended to it.
    pub base: Arc<str>,
    /// Data-parallel rank behind that address, where it is one of several.
    pub rank: Option<u32>,
    /// What it does of a request.
    pub role: Role,
    /// Where it publishes its KV events.
    pub events: Option<EventSource>,
    /// Its instance in Dynamo: a full 64-bit number.
    pub instance: Option<u64>,
    /// Port of SGLang's bootstrap server, on prefill endpoints.
    pub bootstrap_port: Option<u16>,
}

impl Endpoint {
    /// An endpoint of which only the address is known.
    #[must_use]
    pub fn at(base: impl Into<Arc<str>>) -> Self {
        Self {
            base: base.into(),
            rank: None,
            role: Role::Both,
            events: None,
            instance: None,
            bootstrap_port: None,
        }
    }

    /// Its IP address and port, where it is written with one; a name says nothing of what it stands for.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let (scheme, rest) = self.base.split_once("://")?;
        let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
        let port = if scheme == "https" { 443 } else { 80 };
        let bare = || authority.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        authority.parse().ok().or_else(|| Some(SocketAddr::new(bare()?, port)))
    }

    /// Whether its address is this `ip:port`, or on this `ip`.
    #[must_use]
    pub fn is_at(&self, place: &str) -> bool {
        self.address().is_some_and(|own| {
            place.parse() == Ok(own) || place.trim_matches(['[', ']']).parse() == Ok(own.ip())
        })
    }

    /// What tells it apart within its pool: its address, behind it `@instance` and `#rank` where it has them. One of
    /// Dynamo's frontends stands before many instances.
    #[must_use]
    pub fn id(&self) -> Arc<str> {
        match (self.instance, self.rank) {
            (Some(instance), Some(rank)) => format!("{}@{instance}#{rank}", self.base).into(),
            (Some(instance), None) => format!("{}@{instance}", self.base).into(),
            (None, Some(rank)) => format!("{}#{rank}", self.base).into(),
            (None, None) => Arc::clone(&self.base),
        }
    }
}

/// A secret string whose `Debug` and serialised forms never show it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }
    /// The value itself, for the one place that puts it on the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// True when no secret is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Price in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Per million prompt tokens.
    pub input: f64,
    /// Per million completion tokens.
    pub output: f64,
    /// Per million prompt tokens that are read from the prompt cache.
    pub cached_input: f64,
}

impl Price {
    /// US dollars for this many tokens, none of the prompt's cached.
    #[must_use]
    pub fn cost_usd(&self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        (prompt_tokens as f64 * self.input + completion_tokens as f64 * self.output) / 1e6
    }
}

/// What a model takes besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// `image_url` parts.
    pub images: bool,
    /// `input_audio` parts.
    pub audio: bool,
    /// `tools` or `functions`.
    pub tools: bool,
    /// `response_format` of type `json_schema`.
    pub json_schema: bool,
}

/// How long each phase of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS connect.
    pub connect: Duration,
    /// From the request sent to the first byte of the answer's body.
    pub first_byte: Duration,
    /// Longest silence between two pieces of a streamed answer.
    pub idle: Duration,
    /// The whole request.
    pub total: Duration,
}

/// How prompts are sent to models.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The name clients use, also as a virtual model.
    pub name: Arc<str>,
    /// Looked at before the classifier, in order; their labels are all routed.
    pub rules: Vec<Rule>,
    /// What labels the prompt.
    pub classifier: Classifier,
    /// Label to model. Every label at most once.
    pub routes: Vec<Route>,
    /// Taken when no label wins: low confidence, classifier late or down, label without a route.
    pub default: Option<ModelIndex>,
    /// How much the model of a label is to think, where that is said.
    pub reasoning: Vec<(Arc<str>, Effort)>,
    /// Below this confidence (0 to 1) the default is taken; 0 switches it off.
    pub confidence_floor: f32,
    /// Tried in order when the chosen model fails.
    pub fallbacks: Vec<ModelIndex>,
    /// v1's rule: classify the last message only.
    pub compat_v1: bool,
    /// How long classification may take before the default is used.
    pub classify_timeout: Duration,
    /// Whether conversations keep their model.
    pub sticky: Option<Sticky>,
    /// Policies that decide too, without effect.
    pub shadow: Vec<PolicyIndex>,
}

/// One branch of a policy.
#[derive(Debug, Clone)]
pub struct Route {
    /// The classifier's label.
    pub label: Arc<str>,
    /// The model it is mapped to.
    pub model: ModelIndex,
}

/// Gives its label to every prompt in which a keyword or the regular expression is found. Has at least one of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// One of the policy's routes.
    pub label: Arc<str>,
    /// Words and phrases.
    pub keywords: Vec<String>,
    /// A regular expression; whether it is one is known when it is built.
    pub regex: Option<String>,
}

/// How the encoder, tier 1 of the cascade, is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    /// Threads; absent means half the cores, at least one; 0 switches tier 1 off.
    pub threads: Option<usize>,
    /// Prompts that may wait.
    pub queue: usize,
    /// How long a prompt waits before tier 0's answer stands.
    pub deadline: Duration,
}

/// When a failed attempt may be repeated on another endpoint or model.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Retries allowed as a share of requests (0.2 = 20 %).
    pub budget_ratio: f32,
    /// Retries always allowed, per second.
    pub budget_min_per_second: f32,
    /// Attempts for one request, the first included.
    pub max_attempts: u32,
}

/// How the process ends.
#[derive(Debug, Clone, Copy)]
pub struct Shutdown {
    /// After SIGTERM: still serving, but not ready, for this long.
    pub delay: Duration,
    /// Then open requests may finish for this long.
    pub grace: Duration,
}

/// What is written to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// One structured line per decision.
    pub decisions: bool,
    /// Whole decisions, for later.
    pub file: Option<LogFile>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_written_as_numbers() {
        let address = |base| Endpoint::at(base).address().map(|address| address.to_string());
        assert_eq!(address("http://10.0.0.1:8000").as_deref(), Some("10.0.0.1:8000"));
        assert_eq!(address("https://10.0.0.1/engine").as_deref(), Some("10.0.0.1:443"));
        assert_eq!(address("http://[2001:db8::1]:8000/x").as_deref(), Some("[2001:db8::1]:8000"));
        assert_eq!(address("http://[2001:db8::1]").as_deref(), Some("[2001:db8::1]:80"));
        assert_eq!([address("http://engine:8000"), address("http://localhost")], [None, None]);
        let endpoint = Endpoint::at("http://10.0.0.1:8000");
        assert!(endpoint.is_at("10.0.0.1:8000") && endpoint.is_at("10.0.0.1"));
        assert!(!endpoint.is_at("10.0.0.1:8001") && !endpoint.is_at("10.0.0.2") && !endpoint.is_at("engine"));
    }
}
