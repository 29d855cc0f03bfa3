//! One request behind the Envoy door, from its verdict to the end of its response.
//!
//! The record and the booked load go along: both end with the response, or when this is dropped because the exchange broke
//! off. The way to the verdict is in `way.rs`. Driven by a stream.

use super::llm_d;
use super::way;
use crate::judge::{Blind, Case, End, Fault, Go, Head, Refusal, Verdict};
use crate::refusing::{self, refusal, whole};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::json;
use std::sync::Arc;
use waypost_config::{ExtProc, ModelIndex};
use waypost_door::{Candidate, Gateway, Route, Ticket, Watch};
use waypost_picker::Failure;
use waypost_router::{Attempt, Brain, Held, Others, Outcome, Place, millis, retry_after, trouble};
use waypost_wire::ApiError;

/// What became of an endpoint that Envoy gave up on for the next one; it does not say why, nor how long it took.
const PASSED_OVER: &str = "passed_over";

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// An answer of a model.
    Model(Route),
    /// The list of models: answered here.
    Models,
    /// Something else, which a pool may still have to answer.
    Other,
}

/// See the module.
#[derive(Debug)]
pub struct Request {
    pub(super) gateway: Arc<Gateway>,
    /// One brain for the whole way: a reload in between must not mix two configurations.
    pub(super) brain: Arc<Brain>,
    pub(super) settings: Arc<ExtProc>,
    pub(super) kind: Kind,
    pub(super) head: Head,
    /// Only for what a model answers.
    pub(super) ticket: Option<Ticket>,
    pub(super) booked: Option<Booked>,
    watch: Option<Watch>,
}

/// Where the request was sent.
#[derive(Debug)]
pub(super) struct Booked {
    pub(super) model: ModelIndex,
    pub(super) held: Held,
    /// Ends with the first byte of the answer.
    pub(super) prefill: Option<Held>,
    /// Where Envoy was told to try next, in this order; positions in the pool.
    pub(super) fallbacks: Vec<usize>,
    /// Position of its model in the plan.
    pub(super) position: usize,
    /// Milliseconds after arrival at which the verdict was given.
    pub(super) sent_ms: f64,
}

impl Request {
    pub(super) fn new(gateway: &Arc<Gateway>, settings: Arc<ExtProc>, kind: Kind, head: Head) -> Self {
        let ticket = match kind {
            Kind::Model(route) => Some(Ticket::new(gateway, route.path(), &head.headers)),
            Kind::Models | Kind::Other => None,
        };
        let (gateway, brain) = (Arc::clone(gateway), gateway.brain());
        Self { gateway, brain, settings, kind, head, ticket, booked: None, watch: None }
    }

    /// Waypost's own no: recorded, and in the form that was asked for.
    fn refuse(&mut self, error: &ApiError) -> Refusal {
        let mut ticket = self.ticket.take();
        let why = ticket.as_ref().and_then(|ticket| ticket.decision.no_place);
        let headers = ticket.as_mut().map(|ticket| ticket.refused(error)).unwrap_or_default();
        self.booked = None;
        refusal(error, why, headers, self.settings.gaie_errors)
    }

    /// It goes there; the load stays booked until the response is over.
    pub(super) fn book(&mut self, candidate: Candidate) {
        let Candidate { position, model, place: Place { held, prefill, others }, .. } = candidate;
        let Others { fallbacks, .. } = others;
        let ticket = self.ticket.as_mut();
        let sent_ms = ticket.map_or(0.0, |ticket| {
            ticket.sent();
            // Also for those who do not wait for the answer.
            ticket.decision.model = Some(Arc::clone(&self.brain.snapshot().models[model].name));
            ticket.decision.endpoint = Some(Arc::clone(held.endpoint().id()));
            millis(ticket.arrived().elapsed())
        });
        self.booked = Some(Booked { model, held, prefill, fallbacks, position, sent_ms });
    }

    fn verdict(&mut self, result: Result<Go, ApiError>) -> Verdict {
        match result {
            Ok(go) => Verdict::Go(go),
            Err(error) => Verdict::No(self.refuse(&error)),
        }
    }

    fn models(&self) -> Refusal {
        let list = json!({"object": "list", "data": waypost_door::models(&self.brain)});
        whole(200, "application/json", list.to_string(), "waypost_models")
    }

    /// Envoy tried again elsewhere: the load is there now, and those before it in its list failed.
    fn note_served(&mut self, served: &str) {
        let Some(booked) = &mut self.booked else { return };
        let (pool, first) = (self.brain.pool(booked.model), booked.held.index());
        if !booked.held.moved_to(pool, served, self.brain.now()) {
            return;
        }
        // Somebody who is not in the list was not its turn: then only the first is known to have failed.
        let passed = booked.fallbacks.iter().position(|index| *index == booked.held.index()).unwrap_or(0);
        let model = Arc::clone(&self.brain.snapshot().models[booked.model].name);
        for index in std::iter::once(first).chain(booked.fallbacks.drain(..passed)) {
            pool.failed(index, Failure::Broken, self.brain.now());
            let (Some(ticket), Some(endpoint)) = (&mut self.ticket, pool.endpoints().get(index)) else {
                continue;
            };
            let endpoint = Arc::clone(endpoint.id());
            let (model, result, ms) = (Arc::clone(&model), PASSED_OVER, 0.0);
            ticket.tried(Attempt { model, endpoint, status: None, result, ms });
        }
    }

    /// What the endpoint's answer says about its health, and the word for it.
    fn note_health(&self, booked: &Booked, status: u16, headers: &HeaderMap) -> &'static str {
        let Some(word) = trouble(status) else {
            if booked.held.endpoint().is_failing() {
                booked.held.endpoint().succeeded();
            }
            return "ok";
        };
        // Of a 503 nobody can tell whether the engine or Envoy says when to come back.
        let failure = retry_after(headers).filter(|_| status == 429).unwrap_or(Failure::Broken);
        self.brain.pool(booked.model).failed(booked.held.index(), failure, self.brain.now());
        word
    }
}

impl Case for Request {
    fn needs_body(&self) -> bool {
        matches!(self.kind, Kind::Model(_))
    }

    fn body_limit(&self) -> usize {
        self.brain.snapshot().limits.body_bytes
    }

    async fn decide(&mut self, body: Bytes) -> Verdict {
        let result = match self.kind {
            Kind::Models => return Verdict::No(self.models()),
            Kind::Model(route) => way::decide(self, route, body).await,
            Kind::Other => way::any_endpoint(self).await,
        };
        self.verdict(result)
    }

    async fn decide_blind(&mut self, why: Blind) -> Verdict {
        let result = match (self.kind, why) {
            (Kind::Models, _) => return Verdict::No(self.models()),
            (Kind::Model(route), Blind::Mode | Blind::Partial) => way::decide_blind(self, route).await,
            _ => way::any_endpoint(self).await,
        };
        self.verdict(result)
    }

    fn fault(&mut self, fault: Fault) -> Refusal {
        self.refuse(&refusing::fault(fault))
    }

    fn response_head(
        &mut self,
        status: u16,
        headers: &HeaderMap,
        served: Option<&str>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        if let Some(served) = served {
            self.note_served(served);
        }
        let word = self.booked.as_ref().map(|booked| self.note_health(booked, status, headers));
        let mut set = llm_d::answered(self, served);
        let Some(ticket) = &mut self.ticket else { return set };
        ticket.upstream_answers();
        if let (Some(booked), Some(result)) = (&self.booked, word) {
            let model = Arc::clone(&self.brain.snapshot().models[booked.model].name);
            let endpoint = Arc::clone(booked.held.endpoint().id());
            let ms = millis(ticket.arrived().elapsed()) - booked.sent_ms;
            ticket.answered_by(&self.brain, booked.model, &endpoint, booked.position);
            ticket.tried(Attempt { model, endpoint, status: Some(status), result, ms });
        }
        ticket.head(status);
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let is = |what: &[u8]| kind.get(..what.len()).is_some_and(|start| start.eq_ignore_ascii_case(what));
        self.watch = match status {
            200..300 if is(b"text/event-stream") => Some(Watch::of_events()),
            200..300 if is(b"application/json") => Some(Watch::of_json()),
            _ => None,
        };
        set.extend(ticket.told());
        set
    }

    fn response_data(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if let Some(ticket) = self.ticket.as_mut().filter(|ticket| ticket.decision.ttft_ms.is_none()) {
            ticket.first_byte();
            if let Some(booked) = &mut self.booked {
                // The first bytes are here, so the prompt has been read.
                booked.held.prefill_done();
                booked.prefill = None;
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.feed(data);
        }
    }

    fn response_end(&mut self, end: End) {
        self.booked = None;
        let Some(mut ticket) = self.ticket.take() else { return };
        if let Some(watch) = self.watch.take() {
            if end == End::Complete && watch.events() > 0 {
                ticket.streamed(watch.events());
            }
            if let Some(usage) = watch.usage() {
                ticket.used(usage);
            }
        }
        let ok = (200..300).contains(&ticket.decision.status);
        ticket.settle(if ok { Outcome::Completed } else { Outcome::UpstreamError });
    }
}
