//! The body transformer: another picker named the workers in headers, and Dynamo's frontend reads them in the body.
//!
//! The judge that merges them in, for requests that name a worker; all others pass unseen. It knows no model and no
//! endpoint, and leaves the picker's headers as they are. Called by the streams; the binary serves it on its own.

mod named;
mod outcome;

use crate::judge::{Blind, Case, End, Fault, Go, Head, Judge, Refusal, Verdict};
use crate::refusing::{self, refusal};
use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};
use named::Named;
pub use outcome::{Outcome, Outcomes};
use std::sync::Arc;
use waypost_door::body;
use waypost_door::outfit::pinned;
use waypost_wire::{ApiError, Code, members};

/// What becomes of a request whose worker cannot be put into its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It goes on as it came: the frontend chooses another worker, or refuses it.
    Pass,
    /// It is answered with an error.
    Refuse,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Transforming {
    body_limit: usize,
    on_error: OnError,
    outcomes: Arc<Outcomes>,
}

impl Transforming {
    /// Takes bodies of up to `body_limit` bytes, also when unpacked.
    #[must_use]
    pub fn new(body_limit: usize, on_error: OnError) -> Self {
        Self { body_limit, on_error, outcomes: Arc::default() }
    }

    /// What it counts.
    #[must_use]
    pub fn outcomes(&self) -> Arc<Outcomes> {
        Arc::clone(&self.outcomes)
    }
}

impl Judge for Transforming {
    type Case = Transform;

    fn open(&self, head: Head) -> Option<Transform> {
        let Some(named) = named::named(&head.headers) else {
            self.outcomes.count(Outcome::NoWorker);
            return None;
        };
        Some(Transform { to: self.clone(), named, headers: head.headers })
    }

    fn steers(&self, _: &HeaderName) -> bool {
        false
    }

    fn picks(&self) -> bool {
        false
    }
}

/// A request that names a worker.
#[derive(Debug)]
pub struct Transform {
    to: Transforming,
    named: Result<Named, ApiError>,
    headers: HeaderMap,
}

impl Transform {
    /// The body with the workers in it.
    fn dressed(&self, named: &Named, raw: Bytes) -> Result<Go, ApiError> {
        let (body, unpacked) = body::unpacked(&self.headers, raw, self.to.body_limit)?;
        let change = pinned((named.worker, None), named.prefill.map(|id| (id, None)), false);
        let edited = members::edit(&body, &[change]).map_err(|e| {
            ApiError::new(Code::InvalidJson, format!("The request body is not valid JSON: {e}."))
        })?;
        Ok(Go {
            body: Some(edited.into_pieces().collect()),
            remove: unpacked.then_some(CONTENT_ENCODING).into_iter().collect(),
            ..Go::default()
        })
    }

    fn unpinned(&self, outcome: Outcome, error: &ApiError) -> Verdict {
        self.to.outcomes.count(outcome);
        tracing::debug!(outcome = outcome.as_str(), "a request's worker is not put into its body");
        match self.to.on_error {
            OnError::Pass => Verdict::Go(Go::default()),
            OnError::Refuse => Verdict::No(refusal(error, None, Vec::new(), false)),
        }
    }

    fn pass(&self, outcome: Outcome) -> Verdict {
        self.to.outcomes.count(outcome);
        Verdict::Go(Go::default())
    }
}

impl Case for Transform {
    fn needs_body(&self) -> bool {
        self.named.is_ok()
    }

    fn body_limit(&self) -> usize {
        self.to.body_limit
    }

    async fn decide(&mut self, body: Bytes) -> Verdict {
        if body.is_empty() {
            return self.pass(Outcome::NoBody);
        }
        let named = match &self.named {
            Ok(named) => named,
            Err(error) => return self.unpinned(Outcome::BadWorker, error),
        };
        match self.dressed(named, body) {
            Ok(go) => {
                self.to.outcomes.count(named.outcome());
                Verdict::Go(go)
            }
            Err(error) => self.unpinned(Outcome::BadBody, &error),
        }
    }

    async fn decide_blind(&mut self, why: Blind) -> Verdict {
        let error = match (why, &self.named) {
            (Blind::Upgrade, _) => return self.pass(Outcome::NoBody),
            (_, Err(error)) => return self.unpinned(Outcome::BadWorker, error),
            (Blind::Partial, _) => {
                ApiError::new(Code::RequestTooLarge, "The request body is larger than Envoy's buffer.")
            }
            (Blind::Mode | Blind::NotNeeded, _) => {
                refusing::unseen(Code::Internal, "the worker cannot be put into it")
            }
        };
        self.unpinned(Outcome::Unseen, &error)
    }

    fn fault(&mut self, fault: Fault) -> Refusal {
        self.to.outcomes.count(Outcome::Faulty);
        refusal(&refusing::fault(fault), None, Vec::new(), false)
    }

    fn response_head(&mut self, _: u16, _: &HeaderMap, _: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    fn response_data(&mut self, _: &[u8]) {}

    fn response_end(&mut self, _: End) {}
}

#[cfg(test)]
mod tests;
