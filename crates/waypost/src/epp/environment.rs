//! Dynamo's environment variables, of both generations: newer names go before older ones.
//!
//! They count where `DYN_EPP_MODE` or one of Dynamo's plugins asks for them, as in its own pickers; `DYN_SECURE_SERVING` and
//! the pool's name always do. The table is also the one in docs/migrating-from-epp.md. Used by `epp`.

use super::flags::Flags;
use super::pool::Open;
use super::write::{Events, Setup};
use super::{Fault, flags};
use waypost_config::literal;

/// Block sizes that Dynamo takes: powers of two from here to there.
const BLOCK_SIZES: std::ops::RangeInclusive<u64> = 16..=8192;
const EVENT_PORT: u16 = 5557;
/// Endpoints that Dynamo's picker names behind the first.
const FALLBACKS: u64 = 3;
/// Its mode without a Dynamo runtime.
const STANDALONE: &str = "standalone";

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Names of one setting, the newest first, and what it comes to here.
pub(super) const VARIABLES: &[(&[&str], &str)] = &[
    (&["DYN_EPP_MODE"], "`standalone` or `dynamo`: `strategy: kv`, and these variables count"),
    (&["DYN_EPP_INFERENCE_POOL_NAME"], "as `--pool-name`"),
    (&["DYN_SECURE_SERVING"], "as `--secure-serving`"),
    (&["DYN_MODEL_NAME", "DYNAMO_MODEL"], "as `--model-name`"),
    (
        &["DYN_KV_CACHE_BLOCK_SIZE", "DYNAMO_KV_BLOCK_SIZE"],
        "`block_size`: a power of two from 16 to 8192; needed in standalone mode and for the first plugins",
    ),
    (&["DYN_ROUTER_MODE"], "`strategy`: kv, round-robin, random, power-of-two, least-loaded"),
    (&["DYNAMO_USE_KV_ROUTING"], "false: `strategy: least-load`"),
    (&["DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT"], "`kv.overlap_credit`"),
    (
        &[
            "DYN_ROUTER_PREFILL_LOAD_SCALE",
            "DYN_ROUTER_KV_OVERLAP_SCORE_WEIGHT",
            "DYNAMO_OVERLAP_SCORE_WEIGHT",
        ],
        "`kv.prefill_load_scale`; below zero the default",
    ),
    (&["DYN_ROUTER_TEMPERATURE", "DYNAMO_ROUTER_TEMPERATURE"], "`kv.temperature`; below zero the default"),
    (
        &["DYN_ROUTER_USE_KV_EVENTS", "DYN_USE_KV_EVENTS", "DYNAMO_USE_KV_EVENTS"],
        "false: `prefixes: approximate`",
    ),
    (&["DYN_EPP_KV_EVENT_PORT"], "port of each endpoint's KV events [5557 in standalone mode, else none]"),
    (&["DYN_EPP_KV_EVENT_REPLAY_PORT"], "port where lost ones are asked for"),
    (&["DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD", "DYNAMO_BUSY_THRESHOLD"], "`busy.kv_share`; below zero none"),
    (&["DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD"], "`busy.prefill_tokens`"),
    (
        &["DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC"],
        "the same as a share of `DYN_EPP_MAX_NUM_BATCHED_TOKENS`",
    ),
    (&["DYN_EPP_MAX_NUM_BATCHED_TOKENS"], "for the share above"),
    (&["DYN_EPP_MAX_INFLIGHT_REQUESTS"], "`limits.requests_in_flight`"),
    (&["DYN_EPP_EMIT_FALLBACKS"], "true: three further endpoints are named"),
    (&["DYN_ROUTER_REPLICA_SYNC", "DYNAMO_ROUTER_REPLICA_SYNC"], "true: asks for `--redis`"),
    (&["DYN_EPP_TOKENIZER_PROTOCOL"], "`vllm-render`; not needed: tokens are made in this process"),
    (&["DYN_EPP_TOKENIZER_SERVICE_URL"], "not needed: tokens are made in this process, `--tokenizer`"),
    (&["DYN_ENFORCE_DISAGG"], "none: a request that cannot be split is served whole"),
];

/// A variable that is set.
struct Set {
    name: &'static str,
    value: String,
}

impl Set {
    fn fault(&self, kind: &str) -> Fault {
        Fault::new(format!("{}: `{}` is not {kind}", self.name, self.value))
    }

    fn parsed<T: std::str::FromStr>(&self, kind: &str) -> Result<T, Fault> {
        self.value.trim().parse().map_err(|_| self.fault(kind))
    }

    fn number(&self) -> Result<f64, Fault> {
        let number: f64 = self.parsed("a number")?;
        if number.is_finite() { Ok(number) } else { Err(self.fault("a number")) }
    }

    fn truth(&self) -> Result<bool, Fault> {
        truth(self.name, &self.value)
    }
}

/// Go's and Rust's words.
pub(super) fn truth(name: &str, word: &str) -> Result<bool, Fault> {
    flags::truth(word.trim()).ok_or_else(|| Fault::new(format!("{name}: `{word}` is not true or false")))
}

/// What is set of a setting, by its newest name.
fn set(env: Env<'_>, newest: &str) -> Option<Set> {
    let (names, _) = VARIABLES.iter().find(|(names, _)| names.first() == Some(&newest))?;
    names.iter().find_map(|name| Some(Set { name, value: env(name)? }))
}

/// Takes the variables over, where they count.
pub(super) fn apply(
    env: Env<'_>,
    given: &Flags,
    mut open: Open,
    setup: &mut Setup,
    notes: &mut Vec<String>,
) -> Result<Open, Fault> {
    let mode = set(env, "DYN_EPP_MODE");
    let standalone = mode.as_ref().is_some_and(|mode| mode.value == STANDALONE);
    if let Some(mode) = &mode {
        if !standalone && mode.value != "dynamo" {
            return Err(mode.fault("standalone or dynamo"));
        }
        // A configuration's own choice stays.
        if given.value("config-file").or(given.value("config-text")).is_none() {
            let pick = setup.pick();
            (pick.strategy, pick.scorers) = ("kv", Default::default());
            open.dynamo = !standalone;
        }
    }
    if mode.is_none() && !open.dynamo {
        return Ok(open);
    }
    names(env, standalone, open.first_dynamo, setup)?;
    choice(env, setup)?;
    events(env, standalone, setup, &mut open)?;
    busy(env, setup, &mut open)?;
    if let Some(most) = set(env, "DYN_EPP_MAX_INFLIGHT_REQUESTS") {
        setup.limits.requests_in_flight = Some(most.parsed("a number of requests")?);
    }
    if let Some(fallbacks) = set(env, "DYN_EPP_EMIT_FALLBACKS")
        && fallbacks.truth()?
    {
        setup.ext_proc.fallbacks = FALLBACKS;
    }
    remarks(env, setup, notes)?;
    Ok(open)
}

/// The model, and the block size where it has to be told.
fn names(env: Env<'_>, standalone: bool, first: bool, setup: &mut Setup) -> Result<(), Fault> {
    let needed = |name: &str, why: &str| Fault::new(format!("{name} must be set {why}"));
    let why = if standalone { "in standalone mode" } else { "for Dynamo's plugins of the first generation" };
    match set(env, "DYN_MODEL_NAME") {
        Some(model) => {
            setup.pool().model.get_or_insert_with(|| literal(&model.value));
        }
        None if standalone && setup.pool().model.is_none() => return Err(needed("DYN_MODEL_NAME", why)),
        None => {}
    }
    let Some(size) = set(env, "DYN_KV_CACHE_BLOCK_SIZE") else {
        let name = if standalone { "DYN_KV_CACHE_BLOCK_SIZE" } else { "DYNAMO_KV_BLOCK_SIZE" };
        return if standalone || first { Err(needed(name, why)) } else { Ok(()) };
    };
    let kind = "a power of two from 16 to 8192";
    let tokens: u64 = size.parsed(kind)?;
    if !BLOCK_SIZES.contains(&tokens) || !tokens.is_power_of_two() {
        return Err(size.fault(kind));
    }
    setup.pick().block_size = Some(tokens);
    Ok(())
}

/// Strategy and its knobs.
fn choice(env: Env<'_>, setup: &mut Setup) -> Result<(), Fault> {
    let pick = setup.pick();
    if let Some(routing) = set(env, "DYNAMO_USE_KV_ROUTING")
        && !routing.truth()?
    {
        pick.strategy = "least-load";
    }
    if let Some(mode) = set(env, "DYN_ROUTER_MODE") {
        pick.strategy = match mode.value.as_str() {
            "kv" => "kv",
            "round-robin" => "round-robin",
            "random" => "random",
            "power-of-two" => "power-of-two",
            "least-loaded" => "least-load",
            _ => return Err(mode.fault("kv, round-robin, random, power-of-two or least-loaded")),
        };
    }
    // Below zero is Dynamo's word for its default.
    let knob = |name| match set(env, name) {
        Some(set) => Ok::<_, Fault>(Some(set.number()?).filter(|number| *number >= 0.0)),
        None => Ok(None),
    };
    if pick.strategy == "kv" {
        pick.kv.overlap_credit = knob("DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT")?;
        pick.kv.prefill_load_scale = knob("DYN_ROUTER_PREFILL_LOAD_SCALE")?;
        pick.kv.temperature = knob("DYN_ROUTER_TEMPERATURE")?;
    }
    Ok(())
}

/// In standalone mode engines publish at a known port; in the other, at none that is known here.
fn events(env: Env<'_>, standalone: bool, setup: &mut Setup, open: &mut Open) -> Result<(), Fault> {
    let wanted = match set(env, "DYN_ROUTER_USE_KV_EVENTS") {
        Some(set) => set.truth()?,
        None => true,
    };
    let port = |name| set(env, name).map(|set| set.parsed::<u16>("a port")).transpose();
    let given = port("DYN_EPP_KV_EVENT_PORT")?;
    if !wanted {
        // Also those that the plugins asked for.
        open.events = None;
    }
    match given.or(standalone.then_some(EVENT_PORT)).filter(|_| wanted && setup.pick().strategy == "kv") {
        Some(port_of_events) => {
            let replay = port("DYN_EPP_KV_EVENT_REPLAY_PORT")?;
            open.events = Some(Events::Each { port: port_of_events, replay });
        }
        None if open.events.is_none() => setup.pick().prefixes = Some("approximate"),
        None => {}
    }
    Ok(())
}

fn busy(env: Env<'_>, setup: &mut Setup, open: &mut Open) -> Result<(), Fault> {
    let busy = &mut setup.pick().busy;
    if let Some(share) = set(env, "DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD") {
        match share.number()? {
            number if number > 1.0 => return Err(share.fault("a share from 0 to 1")),
            number if number >= 0.0 => {
                busy.kv_share = Some(number);
                // The share is the engines' own figure.
                open.metrics.get_or_insert_default();
            }
            _ => {}
        }
    }
    if let Some(tokens) = set(env, "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD") {
        busy.prefill_tokens = Some(tokens.parsed("a number of tokens")?);
    }
    if let Some(share) = set(env, "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC") {
        let Some(batch) = set(env, "DYN_EPP_MAX_NUM_BATCHED_TOKENS") else {
            return Err(Fault::new(format!("{} needs DYN_EPP_MAX_NUM_BATCHED_TOKENS", share.name)));
        };
        let tokens = share.number()? * batch.parsed::<u64>("a number of tokens")? as f64;
        if tokens < 1.0 {
            return Err(share.fault("a share that leaves a token"));
        }
        busy.prefill_tokens.get_or_insert(tokens as u64);
    }
    Ok(())
}

/// What is accepted, and has another way here.
fn remarks(env: Env<'_>, setup: &Setup, notes: &mut Vec<String>) -> Result<(), Fault> {
    if let Some(protocol) = set(env, "DYN_EPP_TOKENIZER_PROTOCOL")
        && protocol.value != "vllm-render"
    {
        return Err(protocol.fault("vllm-render"));
    }
    if let Some(url) = set(env, "DYN_EPP_TOKENIZER_SERVICE_URL") {
        notes.push(format!("{} is not needed: tokens are made in this process (--tokenizer)", url.name));
    }
    if let Some(sync) = set(env, "DYN_ROUTER_REPLICA_SYNC")
        && sync.truth()?
        && setup.replicas.is_none()
    {
        notes.push(format!(
            "{}: replicas tell each other what they have booked through a Redis or Valkey, --redis URL; without it each counts \
             its own",
            sync.name
        ));
    }
    if let Some(enforce) = set(env, "DYN_ENFORCE_DISAGG")
        && enforce.truth()?
    {
        notes.push(format!(
            "{} has no meaning here: a request that cannot be split is served whole",
            enforce.name
        ));
    }
    Ok(())
}
