//! From an HTTP request to its response: recorded, struck by a fault perhaps, answered by its endpoint.
//!
//! `server` calls [`handle`] per request. An error means that the connection is to be closed without a response.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;

use crate::body::SimBody;
use crate::core::Core;
use crate::fault::Fault;
use crate::io::Line;
use crate::reply::{ApiError, Reply};
use crate::stats::Ticket;
use crate::{chat, completions, control, embeddings, rerank, responses};

/// Marks every response as simulated.
const MARK: &str = "x-sim";
/// Asks for a fault on one request, and tells on the response which one struck.
const FAULT_HEADER: &str = "x-sim-fault";
const WORK: [&str; 6] =
    ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/rerank"];
/// Paths of vLLM that control the engine.
const RESET: &str = "/reset_prefix_cache";
const PAGES: [&str; 4] = ["/v1/models", "/health", "/version", "/metrics"];

/// The connection ends here: a fault wants it, or the client went away.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without a response")]
pub(crate) struct HangUp;

/// Answers one request.
pub(crate) async fn handle(
    core: Arc<Core>,
    line: Line,
    request: Request<Incoming>,
) -> Result<Response<SimBody>, HangUp> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let body = Limited::new(body, core.options.max_body_bytes).collect();
    if path.starts_with("/sim/") || path == RESET {
        let reply = match received(body.await)? {
            Ok(body) => control::answer(&core, &head, &body),
            Err(error) => Err(error),
        };
        return Ok(response(reply, None, None, line));
    }
    let work = head.method == Method::POST && WORK.contains(&path);
    let mut ticket = work.then(|| core.board.ticket(path));
    let body = received(body.await)?;
    if core.options.record
        && let Ok(body) = &body
    {
        core.recorder.push(&head, body.clone());
    }
    if let Some(ticket) = &mut ticket {
        ticket.rank = match core.rank_for(&head.headers) {
            Ok(rank) => rank,
            Err(error) => return Ok(response(Err(error), None, None, line)),
        };
    }
    let fault = match fault_for(&core, &head, body.as_deref().unwrap_or_default()) {
        Ok(fault) => fault.map(Box::new),
        Err(error) => return Ok(response(Err(error), None, ticket, line)),
    };
    if let Some(fault) = &fault {
        core.board.fault();
        if let Some(ms) = fault.slow_headers {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        if fault.drop {
            if fault.rst {
                line.reset_on_close();
            }
            if let Some(ticket) = &mut ticket {
                ticket.cut();
            }
            return Err(HangUp);
        }
    }
    let say = fault.as_ref().and_then(|fault| fault.say.as_deref());
    let reply = match (body, fault.as_ref().and_then(|f| Some((f.status?, f)))) {
        (Err(error), _) => Err(error),
        (Ok(_), Some((status, fault))) => {
            Err(ApiError::fault(status, fault.retry_after, fault.having.as_deref()))
        }
        (Ok(body), None) => match &ticket {
            Some(ticket) => work_for(&core, ticket, path, &body, say).await,
            None => page(&core, &head),
        },
    };
    Ok(response(reply, fault, ticket, line))
}

/// The fault that strikes this request: its own header comes before the list.
fn fault_for(core: &Core, head: &Parts, body: &[u8]) -> Result<Option<Fault>, ApiError> {
    let Some(spec) = head.headers.get(FAULT_HEADER) else {
        return Ok(core.faults.strike(&head.method, head.uri.path(), body));
    };
    let wrong = |why: String| ApiError::bad(None, format!("{FAULT_HEADER}: {why}"));
    let fault: Fault = spec
        .to_str()
        .map_err(|e| wrong(e.to_string()))?
        .parse()
        .map_err(|e: crate::Error| wrong(e.to_string()))?;
    if fault.refuse.is_some() {
        return Err(wrong("refuse is a fault of the listener, not of a request".into()));
    }
    Ok(Some(fault))
}

/// The body; the outer error is a client that went away.
fn received(
    body: Result<http_body_util::Collected<Bytes>, Box<dyn StdError + Send + Sync>>,
) -> Result<Result<Bytes, ApiError>, HangUp> {
    match body {
        Ok(body) => Ok(Ok(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request body is larger than this simulated engine takes.",
        ))),
        Err(_) => Err(HangUp),
    }
}

async fn work_for(
    core: &Core,
    ticket: &Ticket,
    path: &str,
    body: &[u8],
    say: Option<&str>,
) -> Result<Reply, ApiError> {
    match path {
        "/v1/chat/completions" => chat::answer(core, ticket, body, say).await,
        "/v1/completions" => completions::answer(core, ticket, body).await,
        "/v1/responses" => responses::answer(core, ticket, body).await,
        "/v1/embeddings" => embeddings::answer(core, ticket, body).await,
        _ => rerank::answer(core, ticket, body).await,
    }
}

fn page(core: &Core, head: &Parts) -> Result<Reply, ApiError> {
    let path = head.uri.path();
    if head.method != Method::GET {
        return Err(misdirected(path));
    }
    match path {
        "/v1/models" => Ok(control::models(core)),
        "/health" => Ok(Reply::bytes(Bytes::new(), "text/plain; charset=utf-8")),
        "/version" => {
            let version = concat!("waypost-sim ", env!("CARGO_PKG_VERSION"));
            Ok(Reply::json(&json!({"version": version})))
        }
        "/metrics" => Ok(Reply::bytes(core.metrics().into(), "text/plain; version=0.0.4; charset=utf-8")),
        _ => match path.strip_prefix("/v1/models/") {
            Some(name) => {
                control::model(core, name).ok_or_else(|| ApiError::no_model(name)).map(|m| Reply::json(&m))
            }
            None => Err(misdirected(path)),
        },
    }
}

/// The path is unknown, or its method is.
fn misdirected(path: &str) -> ApiError {
    if WORK.contains(&path) || PAGES.contains(&path) {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "This path takes another method.")
    } else {
        ApiError::new(StatusCode::NOT_FOUND, "This simulated engine has no such path.")
    }
}

/// Adds the headers that all responses share, and the fault.
fn response(
    reply: Result<Reply, ApiError>,
    fault: Option<Box<Fault>>,
    ticket: Option<Ticket>,
    line: Line,
) -> Response<SimBody> {
    let reply = reply.unwrap_or_else(Reply::from);
    let struck = fault
        .as_ref()
        .and_then(|f| serde_json::to_string(f).ok())
        .and_then(|f| HeaderValue::from_str(&f).ok());
    let mut response = Response::new(SimBody::new(reply.source, fault, ticket, line));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(MARK, HeaderValue::from_static("1"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(struck) = struck {
        headers.insert(FAULT_HEADER, struck);
    }
    if let Some(seconds) = reply.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if reply.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
}
