//! A response before faults touch it, and errors in OpenAI's shape with their status decided in one place.
//!
//! No I/O. Endpoints return these; `routes` turns them into HTTP.

use bytes::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::body::Source;
use crate::generate::Generation;

/// A response without the headers that all responses share.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// Seconds for the `retry-after` header.
    pub(crate) retry_after: Option<u32>,
    pub(crate) source: Source,
}

impl Reply {
    pub(crate) fn json(value: &Value) -> Self {
        Reply::bytes(value.to_string().into(), "application/json")
    }

    pub(crate) fn bytes(body: Bytes, content_type: &'static str) -> Self {
        Reply { status: StatusCode::OK, content_type, retry_after: None, source: Source::whole(body) }
    }

    pub(crate) fn stream(generation: Generation) -> Self {
        Reply {
            status: StatusCode::OK,
            content_type: "text/event-stream; charset=utf-8",
            retry_after: None,
            source: Source::Events(Box::new(generation)),
        }
    }
}

/// What went wrong with one request.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) code: Option<&'static str>,
    pub(crate) param: Option<&'static str>,
    pub(crate) retry_after: Option<u32>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), code: None, param: None, retry_after: None }
    }

    /// The request itself is wrong; `param` names the field.
    pub(crate) fn bad(param: Option<&'static str>, message: impl Into<String>) -> Self {
        ApiError { param, ..ApiError::new(StatusCode::BAD_REQUEST, message) }
    }

    pub(crate) fn no_model(name: &str) -> Self {
        ApiError {
            code: Some("model_not_found"),
            param: Some("model"),
            ..ApiError::new(
                StatusCode::NOT_FOUND,
                format!("The model `{name}` does not exist on this simulated engine."),
            )
        }
    }

    pub(crate) fn queue_full() -> Self {
        ApiError {
            code: Some("queue_full"),
            ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The queue of this simulated engine is full.")
        }
    }

    /// The error a fault with `status` asks for.
    pub(crate) fn fault(status: u16, retry_after: Option<u32>, having: Option<&str>) -> Self {
        let message = match having {
            Some(key) => format!("This simulated engine does not take `{key}`."),
            None => "A fault was asked for on this simulated engine.".to_owned(),
        };
        ApiError {
            code: Some("simulated_fault"),
            retry_after,
            ..ApiError::new(
                // The range was checked when the fault was made.
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                message,
            )
        }
    }

    /// OpenAI's `type` for a status.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        let body = json!({"error": {
            "message": error.message,
            "type": error.kind(),
            "param": error.param,
            "code": error.code,
        }});
        Reply { status: error.status, retry_after: error.retry_after, ..Reply::json(&body) }
    }
}

/// Reads a JSON body; what does not fit is the client's mistake.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|e| ApiError::bad(None, format!("The request body is not understood: {e}.")))
}
