//! Every "no" of the management API, in vLLM Semantic Router's shape: `{"error": {code, message, timestamp}}`.
//!
//! A message may repeat what the client sent; it goes to the client only, never to a log.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use waypost_door::{RETRY_AFTER_SHED_S, pages};
use waypost_wire::{ApiError, Code};

/// See the module.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refusal {
    /// 400: something in the request cannot stand.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { status: 400, code: "INVALID_INPUT", message: message.into() }
    }

    /// 400: `model` names no policy.
    pub(crate) fn routing_model(message: impl Into<String>) -> Self {
        Self { status: 400, code: "INVALID_ROUTING_MODEL", message: message.into() }
    }

    /// 405.
    pub(crate) fn method() -> Self {
        Self { status: 405, code: "METHOD_NOT_ALLOWED", message: "This path takes POST.".to_owned() }
    }

    /// 503: as much is under way as may be.
    pub(crate) fn busy() -> Self {
        let message = "As many texts are being classified as may be at once; try again.";
        Self { status: 503, code: "OVERLOADED", message: message.to_owned() }
    }

    /// 500: a defect.
    pub(crate) fn broken() -> Self {
        Self {
            status: 500,
            code: "CLASSIFICATION_ERROR",
            message: "The classification broke off.".to_owned(),
        }
    }

    /// The reason under which it is counted, where it is not the client's doing.
    pub(crate) fn counted(&self) -> Option<&'static str> {
        match self.status {
            500 => Some("admin_broken"),
            503 => Some("admin_busy"),
            _ => None,
        }
    }

    /// As it is sent.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let seconds = jiff::Timestamp::now().as_second();
        let timestamp = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let body = json!({"error": {
            "code": self.code, "message": self.message, "timestamp": timestamp.to_string(),
        }});
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = pages::json(status, body.to_string());
        if self.status == 503 {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SHED_S));
        }
        response
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let code = match error.code {
            Code::RequestTooLarge => "REQUEST_BODY_TOO_LARGE",
            Code::RequestTimeout => "REQUEST_TIMEOUT",
            Code::Internal => "CLASSIFICATION_ERROR",
            _ => "INVALID_INPUT",
        };
        Self { status: error.status(), code, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_clients_doing_is_counted() {
        assert_eq!(Refusal::busy().counted(), Some("admin_busy"));
        assert_eq!(Refusal::broken().counted(), Some("admin_broken"));
        assert_eq!(Refusal::from(ApiError::new(Code::Internal, "")).counted(), Some("admin_broken"));
        assert_eq!(Refusal::input("").counted(), None);
    }
}
