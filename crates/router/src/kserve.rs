//! Asks a classifier that speaks KServe v2 over HTTP, such as Triton.
//!
//! The answer has a deadline and a size limit; whatever goes wrong is told with v1's status and words, so that the brain
//! can take the policy's default or say no. Called by `classifying`.

use crate::client;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use std::time::Duration;
use waypost_wire::{ApiError, Code, kserve};

/// Connect timeout to a KServe server; the policy's own deadline covers the rest.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest KServe answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Most of a KServe error body repeated to the client, in characters.
const MAX_ECHO_CHARS: usize = 300;

/// The scores of `text`, within `timeout`.
///
/// # Errors
/// When the server is late, down or talks nonsense.
pub async fn ask(url: &str, text: &str, timeout: Duration) -> Result<kserve::Scores, ApiError> {
    match tokio::time::timeout(timeout, post(url, text)).await {
        Ok(scores) => scores,
        Err(_) => {
            let message = format!("Triton server did not answer within {} ms", timeout.as_millis());
            Err(ApiError::new(Code::ClassifierUnavailable, message))
        }
    }
}

async fn post(url: &str, text: &str) -> Result<kserve::Scores, ApiError> {
    let body = Bytes::from(kserve::request_body(text));
    let request = http::Request::post(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .map_err(|e| ApiError::new(Code::Internal, format!("The classifier URL cannot be used: {e}")))?;
    let unreachable = |_| ApiError::new(Code::ClassifierUnavailable, "Triton server is unreachable");
    let answer = client::local(CONNECT_TIMEOUT).request(request).await.map_err(unreachable)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|_| {
        ApiError::new(Code::ClassifierInvalid, "Invalid Triton response: the body broke off or is too large")
    })?;
    let body = body.to_bytes();
    if !status.is_success() {
        let text: String = String::from_utf8_lossy(&body).chars().take(MAX_ECHO_CHARS).collect();
        // A redirect or an informational status would make no sense to the client.
        let status = if status.as_u16() >= 400 { status.as_u16() } else { 502 };
        return Err(ApiError::new(Code::ClassifierFailed(status), format!("Triton service error: {text}")));
    }
    kserve::read_scores(&body).map_err(|message| ApiError::new(Code::ClassifierInvalid, message))
}
