//! Answers that Envoy gives for us: errors in OpenAI's shape or the endpoint picker's, and whole pages.
//!
//! Called where a request is not sent on.

use crate::judge::{Fault, Refusal};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use waypost_door::body;
use waypost_wire::{ApiError, Code};

/// After this many seconds a client whose body found no room may try again.
const RETRY_AFTER_FULL_S: u64 = 1;

/// Why a request was dropped, in the words of llm-d's endpoint picker.
const DROPPED_REASON: HeaderName = HeaderName::from_static("x-llm-d-request-dropped-reason");

/// A whole answer; `details` stands in Envoy's access log.
pub(crate) fn whole(status: u16, kind: &'static str, body: impl Into<Bytes>, details: &str) -> Refusal {
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(kind))];
    Refusal { status, headers, body: body.into(), details: details.to_owned() }
}

/// An error, with what else its answer tells.
pub(crate) fn refusal(error: &ApiError, told: Vec<(HeaderName, HeaderValue)>, gaie: bool) -> Refusal {
    let details = format!("waypost_{}", error.code.as_str());
    let mut refusal = if gaie {
        // The Go endpoint picker's errors are plain text with a code in front.
        let text = format!("inference error: {} - {}", gaie_code(error), error.message);
        whole(error.status(), "text/plain", text, &details)
    } else {
        whole(error.status(), "application/json", error.to_json(), &details)
    };
    refusal.headers.extend(told);
    refusal.headers.extend(error.retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
    if let Some(reason) = dropped(error.code) {
        refusal.headers.push((DROPPED_REASON, HeaderValue::from_static(reason)));
    }
    refusal
}

/// What a client is told of what the door itself cannot let pass.
pub(crate) fn fault(fault: Fault) -> ApiError {
    match fault {
        Fault::TooLarge(limit) => body::too_large(limit),
        Fault::NoBody => {
            ApiError::new(Code::IncompleteBody, "The request ended without the body it announced.")
        }
        Fault::Full => {
            let message = "The request bodies held at the moment fill the memory set aside for them.";
            ApiError::new(Code::Overloaded, message).retry_after(RETRY_AFTER_FULL_S)
        }
    }
}

fn gaie_code(error: &ApiError) -> &'static str {
    match error.status() {
        400 | 403 | 404 | 413 | 415 => "BadRequest",
        429 => "ResourceExhausted",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Internal",
    }
}

fn dropped(code: Code) -> Option<&'static str> {
    match code {
        Code::Saturated | Code::Overloaded => Some("saturated"),
        Code::NoEndpoint | Code::UpstreamRateLimited => Some("no_endpoints"),
        Code::Draining => Some("shutting_down"),
        _ => None,
    }
}
