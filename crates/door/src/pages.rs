//! The pages beside the way: health, config, metrics, models, decisions; and how a whole answer is made of bytes.
//!
//! v1's bodies where v1 had the page. Nothing here waits for anything. Called by every door that speaks HTTP itself.

use crate::gateway::Gateway;
use crate::models;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use waypost_wire::{ApiError, Code};

/// The page at `path`, if it is one of those that every door has. Any method gets it.
#[must_use]
pub fn page(gateway: &Gateway, path: &str) -> Option<Response<Bytes>> {
    Some(match path {
        "/health" | "/health/ready" | "/readyz" => ready(gateway),
        "/health/live" | "/livez" => live(),
        "/config" => config(gateway),
        "/metrics" => figures(gateway.metrics_text()),
        "/v1/models" => list(gateway),
        _ => match path.strip_prefix("/v1/")?.split_once('/')? {
            ("decisions", id) if !id.contains('/') => decision(gateway, id),
            ("models", id) => model(gateway, id),
            _ => return None,
        },
    })
}

/// A JSON answer.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    typed(status, HeaderValue::from_static("application/json"), body)
}

fn typed(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// An error in OpenAI's shape.
#[must_use]
pub fn error(error: &ApiError) -> Response<Bytes> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, error.to_json());
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// 200 while this Waypost takes requests; 503 from the first moment of a shutdown.
fn ready(gateway: &Gateway) -> Response<Bytes> {
    if gateway.is_ready() {
        live()
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"DRAINING"}"#)
    }
}

/// 200 while the process answers at all.
fn live() -> Response<Bytes> {
    json(StatusCode::OK, r#"{"status":"OK"}"#)
}

/// The configuration, keys redacted.
fn config(gateway: &Gateway) -> Response<Bytes> {
    json(StatusCode::OK, gateway.brain().snapshot().public_json().to_string())
}

/// Prometheus text, or why there is none.
#[must_use]
pub fn figures(text: Result<impl Into<Bytes>, String>) -> Response<Bytes> {
    match text {
        Ok(text) => typed(StatusCode::OK, HeaderValue::from_static("text/plain; version=0.0.4"), text),
        Err(e) => error(&ApiError::new(Code::Internal, format!("The metrics cannot be written: {e}."))),
    }
}

/// Real models and virtual ones, in OpenAI's shape.
fn list(gateway: &Gateway) -> Response<Bytes> {
    json(StatusCode::OK, json!({"object": "list", "data": models::models(&gateway.brain())}).to_string())
}

/// One of them. SDKs send the slash of `meta/llama` as `%2F`.
fn model(gateway: &Gateway, id: &str) -> Response<Bytes> {
    let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
    match models::models(&gateway.brain()).into_iter().find(|entry| entry["id"] == *id) {
        Some(entry) => json(StatusCode::OK, entry.to_string()),
        None => {
            let id: String = id.chars().take(128).collect();
            let message = format!("The model '{id}' does not exist here.");
            error(&ApiError::new(Code::ModelNotFound, message).param("model"))
        }
    }
}

/// One decision, while it is kept.
fn decision(gateway: &Gateway, id: &str) -> Response<Bytes> {
    let found = gateway.decision(id).and_then(|decision| serde_json::to_string(&*decision).ok());
    match found {
        Some(body) => json(StatusCode::OK, body),
        None => {
            let kept = gateway.brain().snapshot().limits.decisions_kept;
            let message = format!(
                "No such decision. It appears when its request has ended; the latest {kept} of this process are kept."
            );
            error(&ApiError::new(Code::DecisionNotFound, message))
        }
    }
}
