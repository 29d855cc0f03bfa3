//! The one error shape clients see: OpenAI's, with v1's `status` beside it.
//!
//! HTTP status, `type` and `code` are decided here and nowhere else. Called by everything that has to
//! say no to a client.

use serde::Serialize;

/// What went wrong, as clients can match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The body is not JSON.
    InvalidJson,
    /// A field has the wrong type.
    InvalidType,
    /// A field has a value that cannot stand.
    InvalidValue,
    /// A key stands twice.
    DuplicateKey,
    /// Something required is absent.
    MissingParameter,
    /// The body is not of a type Waypost reads.
    UnsupportedMediaType,
    /// The content encoding cannot be undone.
    UnsupportedEncoding,
    /// The body is larger than the limit.
    RequestTooLarge,
    /// The headers are larger than the limit.
    HeadersTooLarge,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The client stopped before the body was complete.
    IncompleteBody,
    /// No such model.
    ModelNotFound,
    /// No such policy.
    PolicyNotFound,
    /// No such decision, or no longer kept.
    DecisionNotFound,
    /// The prompt attacks the model.
    ContentPolicy,
    /// No model of the policy can take this request.
    NoCapableModel,
    /// An image that a policy has to look at cannot be read.
    InvalidImage,
    /// The classifier cannot be used and the policy has no default.
    ClassifierUnavailable,
    /// The classifier answered with an error; the status is its own.
    ClassifierFailed(u16),
    /// The classifier's answer cannot be read.
    ClassifierInvalid,
    /// The classifier chose a label the policy has no model for.
    LabelWithoutModel,
    /// The model's endpoint could not be reached.
    UpstreamUnreachable,
    /// The model's endpoint broke off or answered nonsense.
    UpstreamFailed,
    /// The model's endpoint was too slow.
    UpstreamTimeout,
    /// Every endpoint of the model asked for a pause.
    UpstreamRateLimited,
    /// Every endpoint of the model is busy.
    Saturated,
    /// The model has no endpoint that could answer.
    NoEndpoint,
    /// The client wants an answer only where its prompt is cached, and it is not.
    NotCached,
    /// Waypost has as many requests in flight as it may.
    Overloaded,
    /// Waypost is about to stop.
    Draining,
    /// A defect in Waypost.
    Internal,
}

impl Code {
    /// HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        use Code as C;
        match self {
            C::InvalidJson
            | C::InvalidType
            | C::InvalidValue
            | C::DuplicateKey
            | C::MissingParameter
            | C::IncompleteBody
            | C::InvalidImage
            | C::NoCapableModel => 400,
            C::ContentPolicy => 403,
            C::ModelNotFound | C::PolicyNotFound | C::DecisionNotFound => 404,
            C::RequestTimeout => 408,
            C::NotCached => 412,
            C::RequestTooLarge => 413,
            C::UpstreamRateLimited | C::Saturated => 429,
            C::UnsupportedMediaType | C::UnsupportedEncoding => 415,
            C::HeadersTooLarge => 431,
            C::ClassifierFailed(status) => status,
            C::ClassifierInvalid | C::Internal => 500,
            C::LabelWithoutModel | C::UpstreamFailed => 502,
            C::ClassifierUnavailable
            | C::UpstreamUnreachable
            | C::Overloaded
            | C::Draining
            | C::NoEndpoint => 503,
            C::UpstreamTimeout => 504,
        }
    }

    /// OpenAI's `type`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self.status() {
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// OpenAI's `code`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        use Code as C;
        match self {
            C::InvalidJson => "invalid_json",
            C::InvalidType => "invalid_type",
            C::InvalidValue => "invalid_value",
            C::DuplicateKey => "duplicate_key",
            C::MissingParameter => "missing_required_parameter",
            C::UnsupportedMediaType => "unsupported_media_type",
            C::UnsupportedEncoding => "unsupported_content_encoding",
            C::RequestTooLarge => "request_too_large",
            C::HeadersTooLarge => "headers_too_large",
            C::RequestTimeout => "request_timeout",
            C::IncompleteBody => "incomplete_body",
            C::ModelNotFound => "model_not_found",
            C::PolicyNotFound => "policy_not_found",
            C::DecisionNotFound => "decision_not_found",
            C::ContentPolicy => "content_policy_violation",
            C::NoCapableModel => "no_capable_model",
            C::InvalidImage => "invalid_image",
            C::ClassifierUnavailable => "classifier_unavailable",
            C::ClassifierFailed(_) => "classifier_error",
            C::ClassifierInvalid => "classifier_invalid_response",
            C::LabelWithoutModel => "label_without_model",
            C::UpstreamUnreachable => "upstream_unreachable",
            C::UpstreamFailed => "upstream_error",
            C::UpstreamTimeout => "upstream_timeout",
            C::UpstreamRateLimited => "upstream_rate_limited",
            C::Saturated => "saturated",
            C::NoEndpoint => "no_endpoint",
            C::NotCached => "not_cached",
            C::Overloaded => "overloaded",
            C::Draining => "draining",
            C::Internal => "internal_error",
        }
    }
}

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What went wrong.
    pub code: Code,
    /// For a person: what, where, and what to do.
    pub message: String,
    /// The request field it is about.
    pub param: Option<String>,
    /// Seconds after which a retry makes sense.
    pub retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
    status: u16,
}

impl ApiError {
    /// An error without a field or a retry hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, retry_after: None }
    }

    /// Names the request field it is about.
    #[must_use]
    pub fn param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// Says when a retry makes sense, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The JSON body: `{"error": {message, type, param, code, status}}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let error = Body {
            message: &self.message,
            kind: self.code.kind(),
            param: self.param.as_deref(),
            code: self.code.as_str(),
            status: self.status(),
        };
        // Strings and numbers always serialise.
        serde_json::to_string(&Envelope { error }).unwrap_or_default()
    }

    /// The error as the last event of a stream that has already begun.
    #[must_use]
    pub fn to_sse(&self) -> String {
        format!("data: {}\n\ndata: [DONE]\n\n", self.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_openais_with_v1s_status() {
        let error = ApiError::new(Code::PolicyNotFound, "Policy 'x\"y' not found").param("policy");
        let json: serde_json::Value = serde_json::from_str(&error.to_json()).unwrap();
        assert_eq!(json["error"]["message"], "Policy 'x\"y' not found");
        assert_eq!(json["error"]["type"], "not_found_error");
        assert_eq!(json["error"]["code"], "policy_not_found");
        assert_eq!(json["error"]["param"], "policy");
        assert_eq!(json["error"]["status"], 404);
    }
}
