//! Answers that Envoy gives for us: errors in OpenAI's shape or the endpoint picker's, and whole pages.
//!
//! Called where a request is not sent on.

use crate::judge::{Fault, Refusal};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use waypost_door::body;
use waypost_router::NoPlace;
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

/// An error, with what else its answer tells; `why` is what the picker said, if it was asked.
pub(crate) fn refusal(
    error: &ApiError,
    why: Option<NoPlace>,
    told: Vec<(HeaderName, HeaderValue)>,
    gaie: bool,
) -> Refusal {
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
    if let Some(reason) = dropped(error.code, why) {
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

/// The error where Envoy keeps the body to itself, and what does not work for that.
pub(crate) fn unseen(code: Code, so: &str) -> ApiError {
    let message = format!(
        "Envoy does not show the request's body in this processing mode, so {so}: \
         set request_body_mode to BUFFERED or FULL_DUPLEX_STREAMED."
    );
    ApiError::new(code, message)
}

fn gaie_code(error: &ApiError) -> &'static str {
    match error.status() {
        403 => "Forbidden",
        404 => "NotFound",
        412 => "PreconditionFailed",
        429 => "ResourceExhausted",
        400..500 => "BadRequest",
        503 => "ServiceUnavailable",
        _ => "Internal",
    }
}

fn dropped(code: Code, why: Option<NoPlace>) -> Option<&'static str> {
    match code {
        Code::Saturated if why == Some(NoPlace::QueueDeadline) => Some("rejected-ttl-expired"),
        Code::Saturated | Code::Overloaded | Code::UpstreamRateLimited => Some("rejected-saturated"),
        Code::NoEndpoint => Some("rejected-no-endpoints"),
        Code::Draining => Some("rejected-shutting-down"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_in_llm_ds_words_why_and_in_gaies_what() {
        let said = |code, why| {
            let error = ApiError::new(code, "no");
            let refusal = refusal(&error, why, Vec::new(), true);
            let reason = refusal.headers.iter().find(|(name, _)| *name == DROPPED_REASON);
            let reason = reason.map(|(_, value)| value.to_str().unwrap().to_owned());
            (refusal.status, String::from_utf8(refusal.body.to_vec()).unwrap(), reason.unwrap_or_default())
        };
        let cases = [
            (Code::Saturated, None, 429, "ResourceExhausted", "rejected-saturated"),
            (Code::Saturated, Some(NoPlace::Shed), 429, "ResourceExhausted", "rejected-saturated"),
            (Code::Saturated, Some(NoPlace::QueueDeadline), 429, "ResourceExhausted", "rejected-ttl-expired"),
            (Code::UpstreamRateLimited, None, 429, "ResourceExhausted", "rejected-saturated"),
            (Code::NoEndpoint, None, 503, "ServiceUnavailable", "rejected-no-endpoints"),
            (Code::Draining, None, 503, "ServiceUnavailable", "rejected-shutting-down"),
            (Code::NotCached, None, 412, "PreconditionFailed", ""),
            (Code::InvalidJson, None, 400, "BadRequest", ""),
            (Code::RequestTooLarge, None, 413, "BadRequest", ""),
            (Code::ModelNotFound, None, 404, "NotFound", ""),
            (Code::Internal, None, 500, "Internal", ""),
        ];
        for (code, why, status, word, reason) in cases {
            let text = format!("inference error: {word} - no");
            assert_eq!(said(code, why), (status, text, reason.to_owned()));
        }
    }
}
