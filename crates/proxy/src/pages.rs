//! The pages beside the way: health, config, metrics, models, decisions.
//!
//! v1's bodies where v1 had the page. Nothing here waits for anything. Called by the gateway.

use crate::answer::{self, Answer};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use waypost_door::Gateway;
use waypost_wire::{ApiError, Code};

/// 200 while this Waypost takes requests; 503 from the first moment of a shutdown.
pub(crate) fn ready(gateway: &Gateway) -> Response<Answer> {
    if gateway.is_ready() {
        live()
    } else {
        answer::json(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"DRAINING"}"#)
    }
}

/// 200 while the process answers at all.
pub(crate) fn live() -> Response<Answer> {
    answer::json(StatusCode::OK, r#"{"status":"OK"}"#)
}

/// The configuration, keys redacted.
pub(crate) fn config(gateway: &Gateway) -> Response<Answer> {
    answer::json(StatusCode::OK, gateway.brain().snapshot().public_json().to_string())
}

/// Prometheus text.
pub(crate) fn metrics(gateway: &Gateway) -> Response<Answer> {
    match gateway.metrics_text() {
        Ok(text) => {
            answer::typed(StatusCode::OK, HeaderValue::from_static("text/plain; version=0.0.4"), text)
        }
        Err(e) => {
            answer::error(&ApiError::new(Code::Internal, format!("The metrics cannot be written: {e}.")))
        }
    }
}

/// Real models and virtual ones, in OpenAI's shape.
pub(crate) fn models(gateway: &Gateway) -> Response<Answer> {
    answer::json(
        StatusCode::OK,
        json!({"object": "list", "data": waypost_door::models(&gateway.brain())}).to_string(),
    )
}

/// One of them. SDKs send the slash of `meta/llama` as `%2F`.
pub(crate) fn model(gateway: &Gateway, id: &str) -> Response<Answer> {
    let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
    match waypost_door::models(&gateway.brain()).into_iter().find(|entry| entry["id"] == *id) {
        Some(entry) => answer::json(StatusCode::OK, entry.to_string()),
        None => {
            let id: String = id.chars().take(128).collect();
            let message = format!("The model '{id}' does not exist here.");
            answer::error(&ApiError::new(Code::ModelNotFound, message).param("model"))
        }
    }
}

/// One decision, while it is kept.
pub(crate) fn decision(gateway: &Gateway, id: &str) -> Response<Answer> {
    let found = gateway.decision(id).and_then(|decision| serde_json::to_string(&*decision).ok());
    match found {
        Some(body) => answer::json(StatusCode::OK, body),
        None => {
            let kept = gateway.brain().snapshot().limits.decisions_kept;
            let message = format!(
                "No such decision. It appears when its request has ended; the latest {kept} of this process are kept."
            );
            answer::error(&ApiError::new(Code::DecisionNotFound, message))
        }
    }
}
