//! Replicas and the choice among them: from the file's form to the checked one.
//!
//! Refuses what could not work (events of an engine whose tokens nobody can tell, a split without prefill endpoints)
//! instead of letting it do nothing in silence. Called by `models`.

use std::path::Path;
use std::sync::Arc;

use crate::error::Fault;
use crate::file::{
    AffinitySpec, BusySpec, DisaggregationSpec, HealthSpec, KvSpec, MetricsSpec, PickOption, PickSpec,
    QueueSpec, ReplicasSpec,
};
use crate::leaf::{Form, MIB, PrefixSource};
use crate::nearest::hint;
use crate::raw::{Raw, Reader};
use crate::resolve::{at_least_zero, fraction, number, positive, size};
use crate::snapshot::{
    Affinity, Busy, Connector, Disaggregation, Endpoint, Health, KvCost, MetricSpecs, Metrics, MetricsForm,
    Picking, Prefixes, Queue, Replicas, Role, Scorer, Strategy,
};

/// Engines use 16 to a few hundred; the hash takes more.
const BLOCK_SIZE: std::ops::RangeInclusive<u64> = 1..=8192;
const INDEX_BYTES: std::ops::RangeInclusive<usize> = MIB..=(64 * 1024 * MIB);
/// Largest number of anything counted here.
const MAX_COUNT: u64 = 1_000_000_000;
const MAX_WAITING: u64 = 1_000_000;
const MAX_PRIORITIES: usize = 64;

/// How one of `endpoints` is picked.
pub(crate) fn picking(
    reader: &mut Reader<'_>,
    option: Option<&PickOption>,
    endpoints: &[Endpoint],
) -> Result<Picking, Fault> {
    match option {
        None => Ok(Picking::default()),
        Some(PickOption::Named(name)) => {
            let strategy = reader.get(name)?;
            own(reader, &PickSpec::default(), strategy, endpoints)
        }
        Some(PickOption::Own(spec)) => {
            let strategy = reader.get(&spec.strategy)?;
            own(reader, spec, strategy, endpoints)
        }
    }
}

fn own(
    reader: &mut Reader<'_>,
    spec: &PickSpec,
    strategy: Strategy,
    endpoints: &[Endpoint],
) -> Result<Picking, Fault> {
    let tokenizer: Option<Arc<Path>> = match &spec.tokenizer {
        Some(raw) => Some(reader.folder.join(reader.get(raw)?).into()),
        None => None,
    };
    let scorers = match &spec.scorers {
        Some(pairs) => scorers(reader, &pairs.0)?,
        None => Scorer::LLM_D.to_vec(),
    };
    let disaggregation = spec.disaggregation.as_ref();
    let disaggregation = disaggregation.map(|d| disaggregated(reader, d, endpoints)).transpose()?;
    // Its frontends do the hand-over, and only when they are told both ids.
    let by_dynamo = disaggregation.is_some_and(|d| d.connector == Connector::Dynamo);
    let picking = Picking {
        strategy,
        kv: kv(reader, &spec.kv)?,
        scorers: if strategy == Strategy::Scorers { scorers } else { Vec::new() },
        affinity: spec.affinity.as_ref().map(|a| affinity(reader, a)).transpose()?,
        block_size: number(reader, &spec.block_size, BLOCK_SIZE)? as u32,
        prefixes: prefixes(reader, spec, endpoints)?,
        tokenizer,
        predicted: reader.get(&spec.predicted)?,
        index_bytes: size(reader, &spec.index_memory, INDEX_BYTES)?,
        metrics: spec.metrics.as_ref().map(|m| metrics(reader, m)).transpose()?,
        health: spec.health.as_ref().map(|h| health(reader, h)).transpose()?,
        busy: busy(reader, &spec.busy)?,
        queue: spec.queue.as_ref().map(|q| queue(reader, q)).transpose()?,
        disaggregation,
        dynamo: reader.get(&spec.dynamo)? || by_dynamo,
        trust_clients: reader.get(&spec.trust_clients)?,
        lease: positive(reader, &spec.lease)?,
        session_header: header(reader, &spec.session_header)?,
        session_tokens: reader.get(&spec.session_tokens)?,
    };
    advise(reader, spec, &picking, endpoints);
    Ok(picking)
}

/// What loads, but does less than it seems to.
fn advise(reader: &mut Reader<'_>, spec: &PickSpec, picking: &Picking, endpoints: &[Endpoint]) {
    let at = spec.strategy.location();
    if picking.queue.is_some() && !picking.busy.is_bounded() {
        reader.warn(at, "`queue` without `busy`: no endpoint is ever too busy, so nothing ever waits");
    }
    let events = !matches!(picking.prefixes, Prefixes::Approximate { .. });
    if picking.reads_prompts() && events && picking.tokenizer.is_none() {
        reader.warn(
            at,
            "KV events without `tokenizer`: only prompts given as token ids can be found in the engines' caches; \
             all others are picked by load",
        );
    }
    if events && endpoints.iter().any(|e| e.events.is_none() && e.role != Role::Decode) {
        reader.warn(at, "some endpoints have no `kv_events`: nothing is known of what they hold");
    }
    if picking.dynamo && endpoints.iter().any(|e| e.instance.is_none()) {
        reader.warn(
            at,
            "`dynamo` without `instance`: Dynamo's own router chooses the worker behind those endpoints",
        );
    }
}

fn kv(reader: &mut Reader<'_>, spec: &KvSpec) -> Result<KvCost, Fault> {
    Ok(KvCost {
        overlap_credit: at_least_zero(reader, &spec.overlap_credit)?,
        credit_decay: at_least_zero(reader, &spec.credit_decay)?,
        prefill_load_scale: at_least_zero(reader, &spec.prefill_load_scale)?,
        decode_request_weight: at_least_zero(reader, &spec.decode_request_weight)?,
        host_weight: at_least_zero(reader, &spec.host_weight)?,
        disk_weight: at_least_zero(reader, &spec.disk_weight)?,
        temperature: at_least_zero(reader, &spec.temperature)?,
    })
}

fn scorers(reader: &mut Reader<'_>, pairs: &[(Raw<String>, Raw<f64>)]) -> Result<Vec<(Scorer, f64)>, Fault> {
    let mut scorers: Vec<(Scorer, f64)> = Vec::new();
    for (name, weight) in pairs {
        let wanted = reader.get(name)?;
        let Some((_, scorer)) = Scorer::NAMES.iter().find(|(known, _)| *known == wanted) else {
            let hint = hint(&wanted, Scorer::NAMES.iter().map(|(known, _)| *known));
            return Err(name.fault(format!("no scorer is called{}{hint}", name.quoted())));
        };
        if scorers.iter().any(|(known, _)| known == scorer) {
            return Err(name.fault("this scorer is listed twice"));
        }
        scorers.push((*scorer, at_least_zero(reader, weight)?));
    }
    Ok(scorers)
}

fn affinity(reader: &mut Reader<'_>, spec: &AffinitySpec) -> Result<Affinity, Fault> {
    let prefill_tokens_per_second = at_least_zero(reader, &spec.prefill_tokens_per_second)?;
    if prefill_tokens_per_second == 0.0 {
        return Err(spec.prefill_tokens_per_second.wrong("must be above 0"));
    }
    Ok(Affinity {
        threshold: f64::from(fraction(reader, &spec.threshold)?),
        max_ttft_penalty: reader.get(&spec.max_ttft_penalty)?,
        prefill_tokens_per_second,
        exploration: f64::from(fraction(reader, &spec.exploration)?),
    })
}

fn prefixes(reader: &mut Reader<'_>, spec: &PickSpec, endpoints: &[Endpoint]) -> Result<Prefixes, Fault> {
    let told = endpoints.iter().any(|endpoint| endpoint.events.is_some());
    let source = reader.opt(spec.prefixes.as_ref())?;
    if let (Some(PrefixSource::Events | PrefixSource::Dynamo), Some(raw), false) =
        (source, &spec.prefixes, told)
    {
        return Err(raw.fault("no endpoint of this model has `kv_events`, the address they are published at"));
    }
    Ok(match source.unwrap_or(if told { PrefixSource::Events } else { PrefixSource::Approximate }) {
        PrefixSource::Events => Prefixes::Events,
        PrefixSource::Dynamo => Prefixes::Dynamo,
        PrefixSource::Approximate => Prefixes::Approximate { ttl: positive(reader, &spec.ttl)? },
    })
}

fn metrics(reader: &mut Reader<'_>, spec: &MetricsSpec) -> Result<Metrics, Fault> {
    let form = reader.get(&spec.engine)?;
    let form = match (form, &spec.names) {
        (Form::Custom, Some(names)) => MetricsForm::Custom(metric_names(reader, &names.0)?),
        (Form::Custom, None) => return Err(spec.engine.fault("`custom` needs `names`")),
        (_, Some(names)) => {
            let at = names.0.first().map_or(&spec.path, |(name, _)| name);
            return Err(at.fault("`names` are for `engine: custom` only"));
        }
        (Form::Vllm, None) => MetricsForm::Vllm,
        (Form::Sglang, None) => MetricsForm::Sglang,
        (Form::TrtLlm, None) => MetricsForm::TrtLlm,
        (Form::Triton, None) => MetricsForm::Triton,
    };
    Ok(Metrics {
        form,
        path: path(reader, &spec.path)?,
        interval: positive(reader, &spec.interval)?,
        stale_after: positive(reader, &spec.stale_after)?,
    })
}

fn metric_names(reader: &mut Reader<'_>, names: &[(Raw<String>, Raw<String>)]) -> Result<MetricSpecs, Fault> {
    let mut specs = MetricSpecs::default();
    for (key, value) in names {
        let wanted = reader.get(key)?;
        let slot = match wanted.as_str() {
            "waiting" => &mut specs.waiting,
            "running" => &mut specs.running,
            "kv_usage" => &mut specs.kv_usage,
            "total_blocks" => &mut specs.total_blocks,
            _ => {
                let hint = hint(&wanted, ["waiting", "running", "kv_usage", "total_blocks"]);
                return Err(key.fault(format!("no figure is called{}{hint}", key.quoted())));
            }
        };
        *slot = Some(reader.get(value)?.into());
    }
    Ok(specs)
}

fn health(reader: &mut Reader<'_>, spec: &HealthSpec) -> Result<Health, Fault> {
    Ok(Health {
        path: path(reader, &spec.path)?,
        interval: positive(reader, &spec.interval)?,
        timeout: positive(reader, &spec.timeout)?,
        failures: number(reader, &spec.failures, 1..=1000)? as u32,
    })
}

fn busy(reader: &mut Reader<'_>, spec: &BusySpec) -> Result<Busy, Fault> {
    let kv_share = match &spec.kv_share {
        Some(raw) if reader.get(raw)? >= 0.0 => Some(fraction(reader, raw)?),
        _ => None,
    };
    let mut count =
        |raw: &Option<Raw<u64>>| raw.as_ref().map(|r| number(reader, r, 1..=MAX_COUNT)).transpose();
    Ok(Busy {
        kv_share: kv_share.map(f64::from),
        prefill_tokens: count(&spec.prefill_tokens)?,
        requests: count(&spec.requests)?.map(|n| n as u32),
        waiting: count(&spec.waiting)?.map(|n| n as u32),
    })
}

fn queue(reader: &mut Reader<'_>, spec: &QueueSpec) -> Result<Queue, Fault> {
    let mut priorities = Vec::new();
    for (name, raw) in spec.priorities.iter().flat_map(|pairs| &pairs.0) {
        let priority = reader.get(raw)?;
        if priority.fract() != 0.0 || priority.abs() > f64::from(i32::MAX) {
            return Err(raw.wrong("is not a whole number"));
        }
        if priorities.len() == MAX_PRIORITIES {
            return Err(name.fault(format!("more than {MAX_PRIORITIES} priorities")));
        }
        priorities.push((reader.get(name)?.into(), priority as i32));
    }
    Ok(Queue {
        requests: number(reader, &spec.requests, 1..=MAX_WAITING)? as usize,
        deadline: positive(reader, &spec.deadline)?,
        priority_headers: headers(reader, &spec.priority_header)?,
        priorities,
        fairness_headers: headers(reader, &spec.fairness_header)?,
    })
}

fn disaggregated(
    reader: &mut Reader<'_>,
    spec: &DisaggregationSpec,
    endpoints: &[Endpoint],
) -> Result<Disaggregation, Fault> {
    let connector = reader.get(&spec.connector)?;
    if !endpoints.is_empty() {
        if !endpoints.iter().any(|e| e.role == Role::Prefill) {
            let message = "`disaggregation` needs endpoints with `role: prefill`";
            return Err(spec.connector.fault(message));
        }
        if endpoints.iter().all(|e| e.role == Role::Prefill) {
            return Err(spec.connector.fault("every endpoint has `role: prefill`: none would write answers"));
        }
    }
    if connector == Connector::Dynamo && endpoints.iter().any(|e| e.instance.is_none()) {
        return Err(spec.connector.fault("with `dynamo` every endpoint needs its `instance`"));
    }
    Ok(Disaggregation {
        connector,
        min_uncached_tokens: number(reader, &spec.min_uncached_tokens, 0..=MAX_COUNT)? as u32,
        prefill_timeout: positive(reader, &spec.prefill_timeout)?,
    })
}

/// Other processes in front of the same endpoints.
pub(crate) fn replicas(reader: &mut Reader<'_>, spec: &ReplicasSpec) -> Result<Replicas, Fault> {
    let redis = reader.get(&spec.redis)?;
    let known = ["redis://", "rediss://"].iter().any(|scheme| redis.expose().starts_with(scheme));
    if !known {
        // Not quoted: it may hold a password.
        let fault = spec.redis.fault("`redis` is not an address such as `redis://host:6379`");
        return Err(Fault { secret: true, ..fault });
    }
    Ok(Replicas { redis, channel: reader.get(&spec.channel)?.into() })
}

/// A path below an endpoint's address.
fn path(reader: &mut Reader<'_>, raw: &Raw<String>) -> Result<Arc<str>, Fault> {
    let path = reader.get(raw)?;
    match path.parse::<http::uri::PathAndQuery>() {
        Ok(_) if path.starts_with('/') => Ok(path.into()),
        _ => Err(raw.wrong("is not a path such as `/metrics`")),
    }
}

/// A header's name, in lower case.
fn header(reader: &mut Reader<'_>, raw: &Raw<String>) -> Result<Arc<str>, Fault> {
    named(raw, &reader.get(raw)?)
}

/// The names of one or several.
fn headers(reader: &mut Reader<'_>, raw: &Raw<String>) -> Result<Vec<Arc<str>>, Fault> {
    reader.get(raw)?.split(',').map(|name| named(raw, name.trim())).collect()
}

fn named(raw: &Raw<String>, name: &str) -> Result<Arc<str>, Fault> {
    match name.to_ascii_lowercase().parse::<http::HeaderName>() {
        Ok(name) => Ok(name.as_str().into()),
        Err(_) => Err(raw.wrong("is not the name of a header")),
    }
}
