//! `/sim/...`: the engine's own controls over HTTP, for tests in other processes and for people with curl.
//!
//! Faults never strike these paths and no counter counts them. They need no key: the engine is a tool, not a service.

use http::{Method, StatusCode, request::Parts};
use serde_json::{Value, json};

use crate::Fault;
use crate::core::Core;
use crate::feed::StreamFault;
use crate::record::MAX_RECORDED;
use crate::reply::{ApiError, Reply, parse};

/// Answers a request to `/sim/...`.
pub(crate) fn answer(core: &Core, head: &Parts, body: &[u8]) -> Result<Reply, ApiError> {
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/sim/stats") => shown(&core.stats()),
        (&Method::GET, "/sim/faults") => shown(&core.faults.list()),
        (&Method::POST, "/sim/faults") => {
            for fault in read_faults(body)? {
                core.faults.add(fault).map_err(|e| ApiError::bad(None, e.to_string()))?;
            }
            shown(&core.faults.list())
        }
        (&Method::DELETE, "/sim/faults") => {
            core.faults.clear();
            shown(&core.faults.list())
        }
        (&Method::GET, "/sim/requests") if core.options.record => {
            shown(&core.recorder.last(last(head.uri.query())?))
        }
        (&Method::GET, "/sim/requests") => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "Requests are recorded only when the engine is started with recording on.",
        )),
        (&Method::POST, "/reset_prefix_cache") => {
            let mut reset = true;
            for rank in &core.ranks {
                reset &= rank.reset();
            }
            Ok(Reply::json(&json!({"reset": reset})))
        }
        (&Method::POST, "/sim/restart") => {
            core.ranks.iter().for_each(|rank| rank.restart());
            shown(&core.stats())
        }
        (&Method::POST, "/sim/events") => spoil(core, body),
        (&Method::GET, path) if path.starts_with("/sim/kv/") => {
            let names = path["/sim/kv/".len()..].split_once('/');
            if names.is_some_and(|(engine, request)| core.handoffs.release(engine, request)) {
                return Ok(Reply::json(&json!({"released": true})));
            }
            Err(ApiError::new(StatusCode::NOT_FOUND, "These blocks are not kept here."))
        }
        _ => Err(ApiError::new(StatusCode::NOT_FOUND, "There is no such control.")),
    }
}

/// A fault of the event stream.
fn spoil(core: &Core, body: &[u8]) -> Result<Reply, ApiError> {
    let fault: StreamFault = parse(body)?;
    fault.check().map_err(|why| ApiError::bad(None, why))?;
    let Some(feed) = core.ranks.get(fault.rank).and_then(|rank| rank.feed()) else {
        return Err(ApiError::bad(Some("rank"), "This rank publishes no events."));
    };
    feed.spoil(&fault);
    shown(&core.stats())
}

fn shown<T: serde::Serialize>(value: &T) -> Result<Reply, ApiError> {
    let value = serde_json::to_value(value)
        .map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(Reply::json(&value))
}

/// A fault as an object or as a string, or an array of either; all are checked before any is put in force.
fn read_faults(body: &[u8]) -> Result<Vec<Fault>, ApiError> {
    let list = match parse(body)? {
        Value::Array(list) => list,
        one => vec![one],
    };
    list.into_iter()
        .map(|one| match one {
            Value::String(spec) => spec.parse(),
            other => Fault::from_json(other),
        })
        .collect::<Result<_, _>>()
        .map_err(|e| ApiError::bad(None, e.to_string()))
}

/// The number in `last=N`; everything if it is absent.
fn last(query: Option<&str>) -> Result<usize, ApiError> {
    let pairs = query.unwrap_or_default().split('&');
    match pairs.filter_map(|pair| pair.strip_prefix("last=")).next() {
        Some(number) => number.parse().map_err(|_| ApiError::bad(Some("last"), "last must be a number.")),
        None => Ok(MAX_RECORDED),
    }
}

/// `GET /v1/models`.
pub(crate) fn models(core: &Core) -> Reply {
    let names = core.options.models.iter().chain(&core.options.lora);
    let data: Vec<Value> = names.filter_map(|name| model(core, name)).collect();
    Reply::json(&json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{name}` and the entries of the list; an adapter names the model it belongs to.
pub(crate) fn model(core: &Core, name: &str) -> Option<Value> {
    let mut entry = json!({"id": name, "object": "model", "created": 0, "owned_by": "waypost-sim"});
    if core.options.lora.iter().any(|adapter| adapter == name) {
        entry["parent"] = json!(core.options.models.first());
    } else if !core.options.models.iter().any(|model| model == name) {
        return None;
    }
    Some(entry)
}
