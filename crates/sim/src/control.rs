//! `/sim/...`: the engine's own controls over HTTP, for tests in other processes and for people with curl.
//!
//! Faults never strike these paths and no counter counts them. They need no key: the engine is a tool, not a service.

use http::{Method, StatusCode, request::Parts};
use serde_json::{Value, json};

use crate::Fault;
use crate::core::Core;
use crate::record::MAX_RECORDED;
use crate::reply::{ApiError, Reply, parse};

/// Answers a request to `/sim/...`.
pub(crate) fn answer(core: &Core, head: &Parts, body: &[u8]) -> Result<Reply, ApiError> {
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/sim/stats") => shown(&core.board.stats()),
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
        _ => Err(ApiError::new(StatusCode::NOT_FOUND, "There is no such control.")),
    }
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
    let data: Vec<Value> = core.options.models.iter().map(|m| model(m)).collect();
    Reply::json(&json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{name}` and the entries of the list.
pub(crate) fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "waypost-sim"})
}
