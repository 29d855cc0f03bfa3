//! One request to one endpoint of the model that is asked, and what it means for that endpoint's health.
//!
//! The answer has a deadline and a size limit. What the model said is not looked at here. Called by the asker.

use crate::brain::Brain;
use crate::hold::{retry_after, trouble};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use waypost_config::{Model, ModelIndex};
use waypost_picker::{Failure as Health, Pick};

/// Largest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const PATH: &str = "/v1/chat/completions";

/// Whom to ask, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) brain: &'a Brain,
    pub(super) model: ModelIndex,
    pub(super) deadline: Instant,
    /// All the time there was.
    pub(super) patience: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection.
    Connect,
    /// Not in time.
    Late,
    /// It broke off.
    Cut,
    /// It is longer than any route's name could need.
    TooLong,
    /// It said so; with its message, in lower case.
    Status(StatusCode, String),
}

impl Trouble {
    /// The word used in Decisions, as for attempts at models.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Connect => "connect_failed",
            Self::Late => "timeout",
            Self::Cut => "cut",
            Self::TooLong => "too_long",
            Self::Status(status, _) => match status.as_u16() {
                400 | 422 => "refused",
                other => trouble(other).unwrap_or("http_error"),
            },
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status, _) => Some(status.as_u16()),
            _ => None,
        }
    }
}

impl<'a> Line<'a> {
    pub(super) fn model(&self) -> &'a Model {
        &self.brain.snapshot().models[self.model]
    }

    /// Sends `body` to the endpoint picked; the body of a 2xx answer comes back.
    pub(super) async fn post(&self, pick: &Pick, body: Bytes) -> Result<Bytes, Trouble> {
        let begun = Instant::now();
        let timeouts = self.model().timeouts;
        let own = begun + timeouts.first_byte.min(timeouts.total);
        let mut pause = None;
        let result = match timeout_at(self.deadline.min(own), self.exchange(pick, body)).await {
            Err(_) => Err(Trouble::Late),
            Ok(Err(trouble)) => Err(trouble),
            Ok(Ok((status, _, bytes))) if status.is_success() => Ok(bytes),
            Ok(Ok((status, headers, bytes))) => {
                pause = retry_after(&headers);
                Err(Trouble::Status(status, String::from_utf8_lossy(&bytes).to_lowercase()))
            }
        };
        let broken = match &result {
            Err(Trouble::Connect | Trouble::Cut) => true,
            // A try that began when most of the time was gone says nothing about the endpoint.
            Err(Trouble::Late) => begun.elapsed() * 2 >= self.patience.min(own - begun),
            Err(Trouble::Status(status, _)) => trouble(status.as_u16()).is_some(),
            Err(Trouble::TooLong) | Ok(_) => false,
        };
        let endpoint = pick.booking.endpoint();
        if broken {
            let failure = pause.unwrap_or(Health::Broken);
            self.brain.pool(self.model).failed(pick.index, failure, self.brain.now());
        } else if endpoint.is_aside() && !matches!(result, Err(Trouble::Late)) {
            endpoint.succeeded();
        }
        result
    }

    async fn exchange(&self, pick: &Pick, body: Bytes) -> Result<(StatusCode, HeaderMap, Bytes), Trouble> {
        let key = &self.model().api_key;
        let mut request = Request::post(format!("{}{PATH}", pick.booking.endpoint().base()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(body.into())
            .map_err(|_| Trouble::Connect)?;
        if !key.is_empty()
            && let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", key.expose()))
        {
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let answer = self.brain.client(self.model).request(request).await;
        let answer = answer.map_err(|e| if e.is_connect() { Trouble::Connect } else { Trouble::Cut })?;
        let (head, incoming) = answer.into_parts();
        let body = Limited::new(incoming, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| if error.is::<LengthLimitError>() { Trouble::TooLong } else { Trouble::Cut })?;
        Ok((head.status, head.headers, body.to_bytes()))
    }
}
