//! The plugins of endpoint pickers, by type: what each comes to here, or why it comes to nothing.
//!
//! The table is also the one in docs/migrating-from-epp.md. Scorers, filters and pickers count where a profile names them,
//! all others by being listed. Used by `epp`.

use super::Fault;
use super::flags::Flags;
use super::picker_config::{PickerConfig, Plugin};
use super::pool::Open;
use super::write::Setup;
use waypost_config::hint;

mod apply;
mod engines;

/// What a plugin is to the translation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    /// One of our scorers, by name; with the parameters that may only have one value.
    Scorer(&'static str, &'static [(&'static str, f64)]),
    /// The scorer over cached prefixes.
    Prefix,
    /// Producers of what is cached: told by events, and guessed.
    Precise,
    Approximate,
    /// The former with the scorer in one, as it was at first.
    PreciseScorer,
    /// "Sticky until saturated".
    Affinity,
    Session,
    /// Keeps endpoints of a role, which the pool's own roles do.
    Role,
    ByLabel,
    MaxScore,
    Random,
    /// Profile handlers.
    Single,
    Disaggregated,
    /// Decide whether a request is split.
    ByPrefix,
    Always,
    Tokens,
    MetricsSource,
    MetricsExtractor,
    Files,
    /// When an endpoint is full.
    Utilization,
    Concurrency,
    Conformance,
    /// Dynamo's choice; of its first generation, which has to be told the block size.
    Kv {
        first: bool,
    },
    /// Nothing has to be done for it.
    Quiet,
    /// Not built.
    Missing,
}

use Part::{
    Affinity, Always, Approximate, ByLabel, ByPrefix, Concurrency, Conformance, Disaggregated, Files, Kv,
    MaxScore, MetricsExtractor, MetricsSource, Missing, Precise, PreciseScorer, Prefix, Quiet, Random, Role,
    Scorer, Session, Single, Tokens, Utilization,
};

const KEEP: &str = "the endpoints' own roles do this";
const EVICTION: &str = "nothing is evicted in flight";
const ONE_ORDER: &str =
    "within a priority callers take turns, and each caller's requests go in the order of arrival";
const SLO: &str = "not built: use `token-load-scorer` and `prefix-cache-affinity-filter`";
const LABELS: &str = "not built: of an endpoint's labels the role is read; make a pool of each group";
const PARSER: &str = "paths of OpenAI's API are read; requests of others go to an endpoint by load";

/// Type, what it is here, and what stands in the docs.
pub(super) const PLUGINS: &[(&str, Part, &str)] = &[
    ("queue-scorer", Scorer("queue", &[]), "scorer `queue`"),
    ("running-requests-size-scorer", Scorer("running", &[]), "scorer `running`"),
    (
        "active-request-scorer",
        Scorer("active-requests", &[("idleThreshold", 0.0), ("maxBusyScore", 1.0)]),
        "scorer `active-requests`",
    ),
    ("kv-cache-utilization-scorer", Scorer("kv-utilization", &[]), "scorer `kv-utilization`"),
    ("prefix-cache-scorer", Prefix, "scorer `prefix`"),
    ("lora-affinity-scorer", Scorer("lora-affinity", &[]), "scorer `lora-affinity`"),
    (
        "token-load-scorer",
        Scorer("token-load", &[("queueThresholdTokens", 4_194_304.0)]),
        "scorer `token-load`",
    ),
    ("load-aware-scorer", Scorer("load-aware", &[("threshold", 128.0)]), "scorer `load-aware`"),
    (
        "session-affinity-scorer",
        Session,
        "scorer `session-affinity`; without an algorithm clients are given a token",
    ),
    ("prefix-cache-affinity-filter", Affinity, "`affinity`"),
    ("decode-filter", Role, KEEP),
    ("prefill-filter", Role, KEEP),
    ("by-label", ByLabel, "the endpoints' own roles do this; other labels are refused"),
    ("label-filter", ByLabel, "the endpoints' own roles do this; other labels are refused"),
    ("max-score-picker", MaxScore, "the strategy; `maxNumOfEndpoints` above 1 is `ext_proc.fallbacks`"),
    ("random-picker", Random, "`strategy: random`"),
    ("single-profile-handler", Single, "one profile"),
    ("disagg-profile-handler", Disaggregated, "`disaggregation`, for llm-d's sidecar or Dynamo"),
    ("pd-profile-handler", Disaggregated, "`disaggregation`, for llm-d's sidecar or Dynamo"),
    ("prefix-based-pd-decider", ByPrefix, "`disaggregation.min_uncached_tokens`"),
    ("always-disagg-pd-decider", Always, "`disaggregation.min_uncached_tokens: 0`"),
    ("approx-prefix-cache-producer", Approximate, "`prefixes: approximate`"),
    ("precise-prefix-cache-producer", Precise, "`prefixes: events`; needs `--tokenizer` and `--endpoints`"),
    ("precise-prefix-cache-scorer", PreciseScorer, "`prefixes: events` and the scorer `prefix`"),
    ("token-producer", Tokens, "tokens are made in this process: `--tokenizer`"),
    ("tokenizer", Tokens, "tokens are made in this process: `--tokenizer`"),
    ("inflight-load-producer", Quiet, "bookings are always kept"),
    ("metrics-data-source", MetricsSource, "`metrics`"),
    ("core-metrics-extractor", MetricsExtractor, "`metrics.engine`, or `names` from `engineConfigs`"),
    ("file-discovery", Files, "`endpoints_file`, always watched"),
    (
        "utilization-detector",
        Utilization,
        "with the gate flowControl: `busy.waiting` and `busy.kv_share`, per endpoint",
    ),
    (
        "concurrency-detector",
        Concurrency,
        "with the gate flowControl: `busy.requests`, `busy.prefill_tokens`",
    ),
    ("header-based-testing-filter", Conformance, "`ext_proc.conformance`"),
    ("destination-endpoint-served-verifier", Conformance, "`ext_proc.conformance`"),
    ("kv-aware-scorer", Kv { first: true }, "`strategy: kv`, and `dynamo: true` where endpoints have ids"),
    (
        "dynamo-inject-workerid",
        Kv { first: true },
        "`strategy: kv`, and `dynamo: true` where endpoints have ids",
    ),
    ("dynamo-cleanup", Kv { first: true }, "`strategy: kv`, and `dynamo: true` where endpoints have ids"),
    ("dyn-decode-scorer", Kv { first: false }, "`strategy: kv`, and `dynamo: true` where endpoints have ids"),
    (
        "dyn-prefill-scorer",
        Kv { first: false },
        "`strategy: kv`, and `dynamo: true` where endpoints have ids",
    ),
    ("disagg-headers-handler", Quiet, "headers for the sidecar are always set"),
    ("prefill-header-handler", Quiet, "headers for the sidecar are always set"),
    ("dp-rank-header-handler", Quiet, "`x-data-parallel-rank` is set for endpoints with ranks"),
    ("endpoint-notification-source", Quiet, "endpoints are followed by themselves"),
    ("k8s-notification-source", Quiet, "Kubernetes is not asked"),
    ("request-attribute-reporter", Quiet, "usage is read from every answer"),
    ("openai-parser", Quiet, PARSER),
    ("anthropic-parser", Quiet, PARSER),
    ("vllmhttp-parser", Quiet, PARSER),
    ("passthrough-parser", Quiet, PARSER),
    ("session-id-producer", Quiet, "the session's header is read where the scorer says so"),
    ("fcfs-ordering-policy", Quiet, ONE_ORDER),
    ("round-robin-fairness-policy", Quiet, ONE_ORDER),
    ("global-strict-fairness-policy", Quiet, ONE_ORDER),
    ("static-usage-limit-policy", Quiet, "the bounds of `busy` hold for every priority"),
    (
        "edf-ordering-policy",
        Missing,
        "not built: requests go in the order of arrival; use `fcfs-ordering-policy`",
    ),
    (
        "slo-deadline-ordering-policy",
        Missing,
        "not built: requests go in the order of arrival; use `fcfs-ordering-policy`",
    ),
    ("program-aware-fairness-policy", Missing, "not built: use `round-robin-fairness-policy`"),
    (
        "priority-holdback-policy",
        Missing,
        "not built: priorities go before each other, and those below zero are refused first",
    ),
    (
        "soft-reflective-ceiling-policy",
        Missing,
        "not built: priorities go before each other, and those below zero are refused first",
    ),
    ("sheddable-filter", Missing, EVICTION),
    ("priority-then-time-ordering", Missing, EVICTION),
    (
        "no-hit-lru-scorer",
        Missing,
        "not built: use `token-load-scorer`, which spreads prompts that no cache holds",
    ),
    ("context-length-aware", Missing, "not built: use `token-load-scorer`, which goes by prompt tokens"),
    ("latency-scorer", Missing, SLO),
    ("slo-headroom-tier-filter", Missing, SLO),
    ("latency-slo-admitter", Missing, SLO),
    ("predicted-latency-producer", Missing, SLO),
    ("probabilistic-admitter", Missing, "not built: use the gate flowControl"),
    ("weighted-random-picker", Missing, "not built: use `max-score-picker`; equals are taken at random"),
    (
        "session-affinity-filter",
        Missing,
        "not built as a filter: use `session-affinity-scorer` with a large weight",
    ),
    ("label-selector-filter", Missing, LABELS),
    ("by-label-selector", Missing, LABELS),
    ("endpoint-attribute-filter", Missing, LABELS),
    ("endpoint-attribute-scorer", Missing, LABELS),
    ("topology-affinity-filter", Missing, LABELS),
    ("topology-affinity-scorer", Missing, LABELS),
    ("header-label-affinity", Missing, LABELS),
    (
        "utilization-filter",
        Missing,
        "not built as a filter: use the gate flowControl with `utilization-detector`",
    ),
    ("encode-filter", Missing, "not built: endpoints that only encode get no requests"),
    ("always-disagg-multimodal-decider", Missing, "not built: endpoints that only encode get no requests"),
    ("mm-embeddings-cache-producer", Missing, "not built: images are told apart in the prefix itself"),
    ("mm-embeddings-cache-scorer", Missing, "not built: images are told apart in the prefix itself"),
    (
        "data-parallel-profile-handler",
        Missing,
        "not built: list each rank's address, and use `single-profile-handler`",
    ),
    ("header-profile-handler", Missing, "not built: a pool has one profile"),
    (
        "burst-prefix-cache-producer",
        Missing,
        "not needed: requests are booked with the choice; use `approx-prefix-cache-producer`",
    ),
    ("p2p-source-producer", Missing, "not built"),
    ("agent-identity", Missing, "not built: a session is what its header says"),
    ("models-data-source", Missing, "not built: a pool takes every model's name"),
    ("models-extractor", Missing, "not built: a pool takes every model's name"),
    ("vllmgrpc-parser", Missing, "not built: engines are asked over HTTP"),
    ("sglanghttp-parser", Missing, "not built: use OpenAI's paths"),
    ("vertexai-parser", Missing, "not built: use OpenAI's paths"),
];

/// Translates all plugins of a configuration.
pub(super) fn apply(
    config: &PickerConfig,
    flags: &Flags,
    setup: &mut Setup,
    notes: &mut Vec<String>,
) -> Result<Open, Fault> {
    let parts = config.plugins.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    apply::Translation { config, parts: &parts, flags, setup, notes, open: Open::default() }.all()
}

fn part(plugin: &Plugin) -> Result<Part, Fault> {
    let kind = plugin.kind.as_str();
    let fault = |message: String| Fault { line: plugin.line, message };
    match PLUGINS.iter().find(|(name, ..)| *name == kind) {
        None => {
            let hint = hint(kind, PLUGINS.iter().map(|(name, ..)| *name));
            Err(fault(format!("no plugin has the type `{kind}`{hint}")))
        }
        Some((_, Missing, instead)) => {
            Err(fault(format!("plugins of the type `{kind}` are known, but {instead}")))
        }
        Some((_, part, _)) => Ok(*part),
    }
}
