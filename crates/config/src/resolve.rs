//! From the file's structs to the [`Snapshot`]: names to indices, ranges checked.
//!
//! The order matters: policy names first (models must not clash with them), then models, declared and
//! implied by v1, then the policies that name them. Stops at the first fault. Called by `load_str`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Location;

use crate::auto;
use crate::classifiers::Within;
use crate::error::Fault;
use crate::ext_proc::ext_proc;
use crate::file::{AdminSpec, EncoderSpec, File, LimitsSpec, LogSpec, RetrySpec};
use crate::guard::guard;
use crate::leaf::{KIB, Leaf, Listen, MIB, Size};
use crate::models::Models;
use crate::nearest::hint;
use crate::picking;
use crate::policies;
use crate::raw::{Raw, Reader};
use crate::snapshot::{Admin, Encoder, Limits, Log, LogFile, Model, PolicyIndex, Retry, Shutdown, Snapshot};

/// What clients of ours and of vLLM Semantic Router call the default policy.
const AUTO_NAMES: [&str; 3] = ["auto", "MoM", "vllm-sr/auto"];

/// Below this the HTTP server has no room to parse a request head.
const MIN_HEADER_BYTES: usize = 8 * KIB;
const MAX_HEADER_BYTES: usize = 16 * MIB;
/// What a header map can hold at most.
const MAX_HEADER_FIELDS: u64 = 32_000;
const MAX_BODY: usize = 1024 * MIB;
/// Upper bound of everything that is counted: a larger number is a slip, not a limit.
const MAX_COUNT: u64 = 10_000_000;
const MAX_ATTEMPTS: u64 = 100;
const MAX_ENCODER_THREADS: u64 = 1024;
/// More could not be done within any sensible deadline.
const MAX_ENCODER_QUEUE: u64 = 100_000;

pub(crate) fn resolve(
    file: &File,
    env: &dyn Fn(&str) -> Option<String>,
    folder: &Path,
) -> Result<Snapshot, Fault> {
    if file.models.is_empty() && file.policies.is_empty() {
        return Err(Fault::new(
            Location::UNKNOWN,
            "no model to send a request to: list them under `models:`, each with a `name` and \
             `endpoints`, or give a v1 file with `policies:` and their `llms:`",
        ));
    }
    let mut reader = Reader::new(env, folder);
    let names = policies::names(&mut reader, &file.policies)?;
    let mut models = Models::declared(&mut reader, &file.models, &names)?;
    let adopted = models.adopt_v1(&mut reader, &file.policies)?;
    let embeddings = auto::embeddings(&mut reader, &file.embeddings)?;
    let within = Within { models: &models, embeddings: &embeddings };
    let policies = policies::resolve(&mut reader, &file.policies, &names, within, &adopted)?;

    let taken = |name: &str| {
        let listed = |model: &Model| model.listed && *model.name == *name;
        names.iter().any(|policy| policy == name) || models.list.iter().any(listed)
    };
    let auto_names = auto_names(&mut reader, file.auto_names.as_deref(), taken)?;

    Ok(Snapshot {
        auto_names,
        listen: listen(&mut reader, file)?,
        admin: file.admin.as_ref().map(|spec| admin(&mut reader, spec)).transpose()?,
        default_policy: default_policy(&mut reader, file.default_policy.as_ref(), &names)?,
        guard: file.guard.as_ref().map(|spec| guard(&mut reader, spec)).transpose()?,
        limits: limits(&mut reader, &file.limits)?,
        retry: retry(&mut reader, &file.retry)?,
        encoder: encoder(&mut reader, &file.encoder)?,
        shutdown: Shutdown {
            delay: reader.get(&file.shutdown.delay)?,
            grace: reader.get(&file.shutdown.grace)?,
        },
        log: log(&mut reader, &file.log)?,
        embeddings,
        replicas: file.replicas.as_ref().map(|spec| picking::replicas(&mut reader, spec)).transpose()?,
        ext_proc: file.ext_proc.as_ref().map(|spec| ext_proc(&mut reader, spec)).transpose()?,
        models: models.list,
        policies,
        warnings: reader.warnings,
    })
}

/// Those that are free; `taken` tells whether a policy or a model has a name.
fn auto_names(
    reader: &mut Reader<'_>,
    written: Option<&[Raw<String>]>,
    taken: impl Fn(&str) -> bool,
) -> Result<Vec<Arc<str>>, Fault> {
    let names = match written {
        None => AUTO_NAMES.map(str::to_owned).to_vec(),
        Some(written) => written.iter().map(|raw| reader.get(raw)).collect::<Result<_, _>>()?,
    };
    Ok(names.into_iter().filter(|name| !taken(name)).map(Arc::from).collect())
}

fn listen(reader: &mut Reader<'_>, file: &File) -> Result<Option<SocketAddr>, Fault> {
    let Listen(address) = reader.get(&file.listen)?;
    match (address, &file.ext_proc) {
        (None, None) => Err(file
            .listen
            .fault("no door is left open for requests: with `listen: off`, `ext_proc` is needed")),
        _ => Ok(address),
    }
}

fn admin(reader: &mut Reader<'_>, spec: &AdminSpec) -> Result<Admin, Fault> {
    Ok(Admin { listen: reader.get(&spec.listen)? })
}

fn default_policy(
    reader: &mut Reader<'_>,
    wanted: Option<&Raw<String>>,
    names: &[String],
) -> Result<Option<PolicyIndex>, Fault> {
    let Some(raw) = wanted else {
        return Ok((!names.is_empty()).then_some(0));
    };
    let name = reader.get(raw)?;
    match names.iter().position(|known| *known == name) {
        Some(index) => Ok(Some(index)),
        None => {
            let hint = hint(&name, names.iter().map(String::as_str));
            Err(raw.fault(format!("`default_policy` names no policy of this file{hint}")))
        }
    }
}

fn limits(reader: &mut Reader<'_>, spec: &LimitsSpec) -> Result<Limits, Fault> {
    let count = 1..=MAX_COUNT;
    Ok(Limits {
        body_bytes: size(reader, &spec.body, 1..=MAX_BODY)?,
        header_bytes: size(reader, &spec.header_bytes, MIN_HEADER_BYTES..=MAX_HEADER_BYTES)?,
        header_fields: number(reader, &spec.header_fields, 1..=MAX_HEADER_FIELDS)? as usize,
        connections: number(reader, &spec.connections, count.clone())? as usize,
        requests_in_flight: number(reader, &spec.requests_in_flight, count.clone())? as usize,
        header_timeout: positive(reader, &spec.header_timeout)?,
        body_timeout: positive(reader, &spec.body_timeout)?,
        keepalive_timeout: positive(reader, &spec.keepalive_timeout)?,
        write_timeout: positive(reader, &spec.write_timeout)?,
        decisions_kept: number(reader, &spec.decisions_kept, count)? as usize,
    })
}

fn retry(reader: &mut Reader<'_>, spec: &RetrySpec) -> Result<Retry, Fault> {
    Ok(Retry {
        budget_ratio: fraction(reader, &spec.budget)?,
        budget_min_per_second: at_least_zero(reader, &spec.min_per_second)? as f32,
        max_attempts: number(reader, &spec.max_attempts, 1..=MAX_ATTEMPTS)? as u32,
    })
}

fn log(reader: &mut Reader<'_>, spec: &LogSpec) -> Result<Log, Fault> {
    let file = match &spec.file {
        Some(file) => Some(LogFile {
            path: reader.folder.join(reader.get(&file.path)?).into(),
            prompts: reader.get(&file.prompts)?,
        }),
        None => None,
    };
    Ok(Log { decisions: reader.get(&spec.decisions)?, file })
}

fn encoder(reader: &mut Reader<'_>, spec: &EncoderSpec) -> Result<Encoder, Fault> {
    let threads = spec.threads.as_ref().map(|raw| number(reader, raw, 0..=MAX_ENCODER_THREADS));
    Ok(Encoder {
        threads: threads.transpose()?.map(|threads| threads as usize),
        queue: number(reader, &spec.queue, 1..=MAX_ENCODER_QUEUE)? as usize,
        deadline: positive(reader, &spec.deadline)?,
    })
}

/// A duration above zero: a timeout of zero would fail every request.
pub(crate) fn positive(reader: &mut Reader<'_>, raw: &Raw<Duration>) -> Result<Duration, Fault> {
    match reader.get(raw)? {
        Duration::ZERO => Err(raw.wrong("must be longer than zero")),
        duration => Ok(duration),
    }
}

/// A share, 0 to 1.
pub(crate) fn fraction(reader: &mut Reader<'_>, raw: &Raw<f64>) -> Result<f32, Fault> {
    match reader.get(raw)? {
        share if (0.0..=1.0).contains(&share) => Ok(share as f32),
        _ => Err(raw.wrong("must be between 0 and 1")),
    }
}

/// A price or a rate.
pub(crate) fn at_least_zero(reader: &mut Reader<'_>, raw: &Raw<f64>) -> Result<f64, Fault> {
    match reader.get(raw)? {
        number if number >= 0.0 => Ok(number),
        _ => Err(raw.wrong("must not be negative")),
    }
}

/// A count within bounds.
pub(crate) fn number(
    reader: &mut Reader<'_>,
    raw: &Raw<u64>,
    range: RangeInclusive<u64>,
) -> Result<u64, Fault> {
    within(reader, raw, range)
}

/// A number of bytes within bounds.
pub(crate) fn size(
    reader: &mut Reader<'_>,
    raw: &Raw<Size>,
    range: RangeInclusive<usize>,
) -> Result<usize, Fault> {
    let range = Size(*range.start())..=Size(*range.end());
    within(reader, raw, range).map(|Size(bytes)| bytes)
}

fn within<T: Leaf + PartialOrd>(
    reader: &mut Reader<'_>,
    raw: &Raw<T>,
    range: RangeInclusive<T>,
) -> Result<T, Fault> {
    let value = reader.get(raw)?;
    if range.contains(&value) {
        return Ok(value);
    }
    let bound = |value: &T| value.to_json().to_string().replace('"', "");
    let (low, high) = (bound(range.start()), bound(range.end()));
    Err(raw.wrong(&format!("must be between {low} and {high}")))
}
