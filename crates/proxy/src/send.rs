//! Steps 7 and 9: send the request, and recover while the client has not seen a byte.
//!
//! A failed attempt goes to the next endpoint, then to the next model, within the retry budget. What
//! counts as failed: no connection, no answer in time, a cut before or inside a whole answer, and 429,
//! 502, 503, 504. Called on the way of a request.

use crate::{handover, headers};
use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, StatusCode, Uri, header, response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use waypost_config::{Model, Timeouts};
use waypost_door::outfit::{self, Outfit};
use waypost_door::{Candidate, Candidates, Ticket};
use waypost_picker::{Endpoint, Failure};
use waypost_policy::Plan;
use waypost_router::client;
use waypost_router::{Attempt, Brain, Held, Outgoing, Place, Placing, Wish, millis, retry_after, trouble};
use waypost_wire::{ApiError, Code, RequestView, Segments};

/// A whole JSON answer up to this size is held back until it is complete, so that a cut can still be
/// recovered from; a larger one is relayed as it comes.
const WHOLE_MAX_BYTES: usize = 1 << 20;
/// Before an endpoint is tried again for the same request: this long, plus as much again at random.
const AGAIN_WAIT: Duration = Duration::from_millis(50);

/// What is to be sent, whoever it is sent to.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) brain: &'a Brain,
    pub(crate) plan: &'a Plan,
    pub(crate) path: &'a PathAndQuery,
    /// As the client sent them.
    pub(crate) asked: &'a HeaderMap,
    /// As they go out.
    pub(crate) headers: HeaderMap,
    /// Those that go out to models which trust their clients only.
    pub(crate) steering: HeaderMap,
    pub(crate) body: &'a Bytes,
    pub(crate) view: &'a RequestView<'a>,
    /// What models that take any name are asked for.
    pub(crate) name: Option<&'a str>,
}

/// An answer that has begun.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: response::Parts,
    pub(crate) body: ReplyBody,
    pub(crate) held: Held,
    pub(crate) timeouts: Timeouts,
}

/// Its body: all of it, or its first bytes and the rest to come.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    Whole(Bytes),
    Rest { first: Bytes, rest: Incoming, is_sse: bool },
}

/// Why an attempt failed.
enum Trouble {
    Connect(String),
    Timeout,
    Cut,
    /// The upstream said so itself; kept, in case nothing better comes.
    Status(Box<Reply>, &'static str),
}

impl Trouble {
    fn word(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect_failed",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::Status(_, word) => word,
        }
    }
}

/// Sends, and recovers as far as it may.
pub(crate) async fn send(job: &Job<'_>, ticket: &mut Ticket) -> Result<Reply, ApiError> {
    let brain = job.brain;
    brain.budget().deposit(brain.now());
    let wish = Wish::default();
    let placing =
        Placing { view: job.view, body: job.body, headers: job.asked, only: None, wish, name: job.name };
    let mut candidates = Candidates::new(brain, job.plan, placing);
    let mut last: Option<Trouble> = None;
    for _ in 0..brain.snapshot().retry.max_attempts.max(1) {
        // Asked first: the next endpoint may have to be waited for.
        if last.is_some() && !brain.budget().withdraw(brain.now()) {
            ticket.gateway().metrics().retries_denied.inc();
            break;
        }
        let Some(candidate) = candidates.next(&mut ticket.decision).await else { break };
        if let Some(trouble) = &last
            && !may_retry(trouble, &candidate, ticket).await
        {
            break;
        }
        let (position, model, index) = (candidate.position, candidate.model, candidate.place.held.index());
        match attempt(job, candidate, ticket).await {
            Ok(reply) => {
                ticket.answered_by(brain, model, reply.held.endpoint().id(), position);
                return Ok(reply);
            }
            Err(trouble) => {
                let failure = match &trouble {
                    Trouble::Status(reply, _) => retry_after(&reply.head.headers),
                    _ => None,
                };
                brain.pool(model).failed(index, failure.unwrap_or(Failure::Broken), brain.now());
                if let Trouble::Status(reply, _) = &trouble {
                    ticket.answered_by(brain, model, reply.held.endpoint().id(), position);
                }
                last = Some(trouble);
            }
        }
    }
    let Some(trouble) = last else {
        let why = ticket.decision.no_place;
        let word = why.map_or("held", |why| why.as_str());
        ticket.gateway().metrics().refused.with_label_values(&[word]).inc();
        return Err(candidates.refusal(why));
    };
    give_up(trouble)
}

/// Whether one more attempt makes sense; waits a little before an endpoint is tried again.
async fn may_retry(last: &Trouble, next: &Candidate, ticket: &Ticket) -> bool {
    let limited =
        matches!(last, Trouble::Status(reply, _) if reply.head.status == StatusCode::TOO_MANY_REQUESTS);
    if next.again && limited {
        return false; // the client is told to wait; hammering helps nobody
    }
    ticket.gateway().metrics().retries.with_label_values(&[last.word()]).inc();
    if next.again {
        tokio::time::sleep(AGAIN_WAIT.mul_f64(1.0 + fastrand::f64())).await;
    }
    true
}

/// The client's answer when every attempt failed.
fn give_up(last: Trouble) -> Result<Reply, ApiError> {
    Err(match last {
        Trouble::Status(reply, _) => return Ok(*reply),
        Trouble::Connect(why) => ApiError::new(
            Code::UpstreamUnreachable,
            format!("No endpoint of the chosen model could be reached: {why}."),
        ),
        Trouble::Timeout => {
            ApiError::new(Code::UpstreamTimeout, "The chosen model did not begin to answer in time.")
        }
        Trouble::Cut => {
            ApiError::new(Code::UpstreamFailed, "The chosen model broke off before its answer was complete.")
        }
    })
}

/// One try: writes down how it went.
async fn attempt(job: &Job<'_>, candidate: Candidate, ticket: &mut Ticket) -> Result<Reply, Trouble> {
    let model = &job.brain.snapshot().models[candidate.model];
    let endpoint = Arc::clone(candidate.place.held.endpoint());
    let begun = Instant::now();
    ticket.sent();
    let result = exchange(job, candidate, ticket).await;
    let (status, word) = match &result {
        Ok(reply) => (Some(reply.head.status.as_u16()), "ok"),
        Err(trouble @ Trouble::Status(reply, _)) => (Some(reply.head.status.as_u16()), trouble.word()),
        Err(trouble) => (None, trouble.word()),
    };
    ticket.tried(Attempt {
        model: model.name.clone(),
        endpoint: endpoint.id().clone(),
        status,
        result: word,
        ms: millis(begun.elapsed()),
    });
    if result.is_ok() && endpoint.is_failing() {
        endpoint.succeeded();
    }
    result
}

/// Request out, answer in, as far as the client's first byte.
async fn exchange(job: &Job<'_>, candidate: Candidate, ticket: &mut Ticket) -> Result<Reply, Trouble> {
    let Candidate { model: index, place: Place { held, prefill, .. }, .. } = candidate;
    let endpoint = Arc::clone(held.endpoint());
    let model = &job.brain.snapshot().models[index];
    let timeouts = model.timeouts;
    let reasoning = ticket.decision.reasoning;
    let first = Outfit::new(model, &endpoint, prefill.as_ref().map(|reader| &**reader.endpoint()));
    let mut outfit = Outfit { reasoning, ..first };
    let plain = || Outfit { reasoning, ..Outfit::new(model, &endpoint, None) };
    let reader = prefill.as_ref().map(Held::index);
    let watch = match prefill {
        Some(reader) => handover::begin(job, index, reader, &mut outfit, ticket).await,
        None => None,
    };
    let now = Instant::now();
    let all = Instant::from_std(ticket.arrived()) + timeouts.total;
    let first_byte = (now + timeouts.first_byte).min(all);
    let answer = async |outfit: &Outfit| {
        let request = request(job, model, &endpoint, dressed(job, model, outfit)?, outfit);
        let request = request.ok_or_else(|| Trouble::Connect("its URL cannot be used".to_owned()))?;
        match timeout_at(first_byte, job.brain.client(index).request(request)).await {
            Err(_) => Err(Trouble::Timeout),
            Ok(Err(e)) if e.is_connect() => Err(Trouble::Connect(client::root_cause(&e))),
            Ok(Err(_)) => Err(Trouble::Cut),
            Ok(Ok(response)) => Ok(response),
        }
    };
    let response = match (watch, reader) {
        (Some(mut watch), Some(position)) => tokio::select! {
            response = answer(&outfit) => response,
            // Its sender is dropped without a word when the prefill is well: then only the answer counts.
            Ok(why) = &mut watch => {
                handover::failed(job, index, position, why, ticket);
                ticket.prefilled(why, millis(now.elapsed()));
                answer(&plain()).await
            }
        },
        _ => answer(&outfit).await,
    }?;
    ticket.upstream_answers();
    let (mut head, incoming) = response.into_parts();
    headers::from_upstream(&mut head.headers);
    let body = begin_body(&head, incoming, first_byte, all, timeouts.idle, ticket).await?;
    // The first bytes are here, so the prompt has been read.
    held.prefill_done();
    let word = trouble(head.status.as_u16());
    let reply = Reply { head, body, held, timeouts };
    match word {
        Some(word) => Err(Trouble::Status(Box::new(reply), word)),
        None => Ok(reply),
    }
}

/// The client's body with what this endpoint is told put in.
fn dressed(job: &Job<'_>, model: &Model, outfit: &Outfit) -> Result<Segments, Trouble> {
    outfit::dressed(job.view, job.body, (model, model.called(job.name)), outfit)
        .map_err(|e| Trouble::Connect(e.message))
}

/// A request to `endpoint`; `None` when its URL cannot be used.
pub(crate) fn request(
    job: &Job<'_>,
    model: &Model,
    endpoint: &Endpoint,
    body: Segments,
    outfit: &Outfit,
) -> Option<Request<Outgoing>> {
    let mut request = Request::new(body.into());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("{}{}", endpoint.base(), job.path).parse::<Uri>().ok()?;
    let headers = request.headers_mut();
    *headers = job.headers.clone();
    if model.picking.trust_clients {
        headers.extend(job.steering.clone());
    }
    headers.extend(outfit.headers.clone());
    headers::authorize(headers, &model.api_key);
    Some(request)
}

/// Reads a whole answer, or the first bytes of a stream.
async fn begin_body(
    head: &response::Parts,
    mut rest: Incoming,
    first_byte: Instant,
    all: Instant,
    idle: Duration,
    ticket: &mut Ticket,
) -> Result<ReplyBody, Trouble> {
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let is_sse = starts_with(kind, b"text/event-stream");
    let hold = head.status.as_u16() >= 400 || starts_with(kind, b"application/json");
    let mut deadline = first_byte;
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = match timeout_at(deadline, rest.frame()).await {
            Err(_) => return Err(Trouble::Timeout),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Trouble::Cut),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() {
            ticket.first_byte();
            first = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
        if !hold || more.len() > WHOLE_MAX_BYTES {
            let first = if more.is_empty() { first } else { more.freeze() };
            return Ok(ReplyBody::Rest { first, rest, is_sse });
        }
        // All of a declared length is here: asking for the end would cost one more round of the loop.
        if rest.is_end_stream() {
            break;
        }
        deadline = (Instant::now() + idle).min(all);
    }
    Ok(ReplyBody::Whole(if more.is_empty() { first } else { more.freeze() }))
}

fn starts_with(value: &[u8], prefix: &[u8]) -> bool {
    value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
