//! OpenAI's endpoints, and what each of them requires of a request.
//!
//! The paths are those of OpenAI's API and of v1. It looks at a request and changes nothing. Called on the way of a request.

use waypost_router::Ask;
use waypost_wire::{ApiError, Code, RequestView};

/// A client names a policy in this header.
pub(crate) const POLICY_HEADER: &str = "x-waypost-policy";

/// An OpenAI endpoint that is forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    path: &'static str,
    api: Api,
}

/// What an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    /// A conversation.
    Chat,
    /// A text or a conversation.
    Text,
    /// Anything, but a model must be named: vectors and scores of different models do not mix.
    Fixed,
}

impl Route {
    /// The endpoint at `path`, if it is one of them.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let (path, api) = match path {
            "/v1/chat/completions" => ("/v1/chat/completions", Api::Chat),
            // v1's second path.
            "/completions" => ("/completions", Api::Text),
            "/v1/completions" => ("/v1/completions", Api::Text),
            "/v1/responses" => ("/v1/responses", Api::Text),
            "/v1/embeddings" => ("/v1/embeddings", Api::Fixed),
            "/v1/rerank" => ("/v1/rerank", Api::Fixed),
            _ => return None,
        };
        Some(Self { path, api })
    }

    /// Its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.path
    }

    /// Whether a model answers a prompt here, which a guard may refuse. Vectors and scores answer nobody.
    #[must_use]
    pub fn answers(self) -> bool {
        self.api != Api::Fixed
    }

    /// Whether a request has what the endpoint itself requires.
    ///
    /// # Errors
    /// 400, naming what is missing.
    pub fn check(self, view: &RequestView<'_>, ask: &Ask) -> Result<(), ApiError> {
        if self.api == Api::Chat {
            need_messages(view)?;
        }
        if self.api == Api::Fixed && matches!(ask, Ask::Classify(_)) {
            let message =
                "This endpoint needs the name of a model: vectors and scores of different models do not mix.";
            return Err(ApiError::new(Code::InvalidValue, message).param("model"));
        }
        Ok(())
    }
}

/// The policy that a request's headers name.
///
/// # Errors
/// 400, when it is not plain text.
pub fn policy_header(headers: &http::HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(POLICY_HEADER) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| {
        ApiError::new(Code::InvalidValue, format!("The header {POLICY_HEADER} must be plain text."))
            .param(POLICY_HEADER)
    })
}

/// What a chat requires: a message at least.
///
/// # Errors
/// 400, naming `messages`.
pub fn need_messages(view: &RequestView<'_>) -> Result<(), ApiError> {
    if !view.messages.as_ref().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    let what = if view.messages.is_some() { "must not be empty" } else { "is required" };
    Err(ApiError::new(Code::MissingParameter, format!("'messages' {what}.")).param("messages"))
}
