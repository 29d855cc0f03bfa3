//! Steps 7 and 9: send the request, and recover while the client has not seen a byte.
//!
//! A failed attempt goes to the next endpoint, then to the next model, within the retry budget. What
//! counts as failed: no connection, no answer in time, a cut before or inside a whole answer, and 429,
//! 502, 503, 504. Called on the way of a request.

use crate::candidates::{Candidate, Candidates};
use crate::headers;
use crate::ticket::Ticket;
use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, StatusCode, Uri, header, response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use waypost_config::Timeouts;
use waypost_picker::{Booking, Failure};
use waypost_policy::Plan;
use waypost_router::{Attempt, Brain, millis, retry_after};
use waypost_wire::{ApiError, Code, RequestView};

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
    pub(crate) headers: HeaderMap,
    pub(crate) body: &'a Bytes,
    pub(crate) view: &'a RequestView<'a>,
}

/// An answer that has begun.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: response::Parts,
    pub(crate) body: ReplyBody,
    pub(crate) booking: Booking,
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
    Status(Box<Reply>),
}

impl Trouble {
    fn word(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect_failed",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::Status(reply) => match reply.head.status.as_u16() {
                429 => "http_429",
                502 => "http_502",
                503 => "http_503",
                _ => "http_504",
            },
        }
    }
}

/// Sends, and recovers as far as it may.
pub(crate) async fn send(job: &Job<'_>, ticket: &mut Ticket) -> Result<Reply, ApiError> {
    let brain = job.brain;
    brain.budget().deposit(brain.now());
    let mut candidates = Candidates::new(brain, job.plan);
    let mut last: Option<Trouble> = None;
    for _ in 0..brain.snapshot().retry.max_attempts.max(1) {
        let Some(candidate) = candidates.next() else { break };
        if let Some(trouble) = &last
            && !may_retry(job, trouble, &candidate, ticket).await
        {
            break;
        }
        let (position, model, index) = (candidate.position, candidate.model, candidate.index);
        match attempt(job, candidate, ticket).await {
            Ok(reply) => {
                ticket.answered_by(brain, model, reply.booking.endpoint().base(), position);
                return Ok(reply);
            }
            Err(trouble) => {
                let failure = match &trouble {
                    Trouble::Status(reply) => retry_after(&reply.head.headers),
                    _ => None,
                };
                brain.pool(model).failed(index, failure.unwrap_or(Failure::Broken), brain.now());
                let endpoint = &brain.pool(model).endpoints()[index];
                ticket.gateway().note_health(&brain.snapshot().models[model].name, endpoint);
                if let Trouble::Status(reply) = &trouble {
                    ticket.answered_by(brain, model, reply.booking.endpoint().base(), position);
                }
                last = Some(trouble);
            }
        }
    }
    give_up(last, &candidates)
}

/// Whether one more attempt is allowed; waits a little before an endpoint is tried again.
async fn may_retry(job: &Job<'_>, last: &Trouble, next: &Candidate, ticket: &Ticket) -> bool {
    let limited =
        matches!(last, Trouble::Status(reply) if reply.head.status == StatusCode::TOO_MANY_REQUESTS);
    if next.again && limited {
        return false; // the client is told to wait; hammering helps nobody
    }
    let metrics = &ticket.gateway().metrics;
    if !job.brain.budget().withdraw(job.brain.now()) {
        metrics.retries_denied.inc();
        return false;
    }
    metrics.retries.with_label_values(&[last.word()]).inc();
    if next.again {
        tokio::time::sleep(AGAIN_WAIT.mul_f64(1.0 + fastrand::f64())).await;
    }
    true
}

/// The client's answer when every attempt failed.
fn give_up(last: Option<Trouble>, candidates: &Candidates<'_>) -> Result<Reply, ApiError> {
    Err(match last {
        Some(Trouble::Status(reply)) => return Ok(*reply),
        Some(Trouble::Connect(why)) => ApiError::new(
            Code::UpstreamUnreachable,
            format!("No endpoint of the chosen model could be reached: {why}."),
        ),
        Some(Trouble::Timeout) => {
            ApiError::new(Code::UpstreamTimeout, "The chosen model did not begin to answer in time.")
        }
        Some(Trouble::Cut) => {
            ApiError::new(Code::UpstreamFailed, "The chosen model broke off before its answer was complete.")
        }
        None => {
            let seconds = candidates.held_for_s();
            let message =
                format!("Every endpoint of the chosen model asked to be left alone for {seconds} s.");
            ApiError::new(Code::UpstreamRateLimited, message).retry_after(seconds)
        }
    })
}

/// One try: writes down how it went.
async fn attempt(job: &Job<'_>, candidate: Candidate, ticket: &mut Ticket) -> Result<Reply, Trouble> {
    let model = &job.brain.snapshot().models[candidate.model];
    let endpoint = candidate.booking.endpoint().clone();
    let begun = Instant::now();
    ticket.sent();
    let result = exchange(job, candidate, ticket).await;
    let (status, word) = match &result {
        Ok(reply) => (Some(reply.head.status.as_u16()), "ok"),
        Err(trouble @ Trouble::Status(reply)) => (Some(reply.head.status.as_u16()), trouble.word()),
        Err(trouble) => (None, trouble.word()),
    };
    let metrics = &ticket.gateway().metrics;
    metrics.upstream_attempts.with_label_values(&[&model.name, endpoint.base(), word]).inc();
    ticket.decision.attempts.push(Attempt {
        model: model.name.clone(),
        endpoint: endpoint.base().clone(),
        status,
        result: word,
        ms: millis(begun.elapsed()),
    });
    if result.is_ok() && endpoint.is_aside() {
        endpoint.succeeded();
        ticket.gateway().note_health(&model.name, &endpoint);
    }
    result
}

/// Request out, answer in, as far as the client's first byte.
async fn exchange(job: &Job<'_>, candidate: Candidate, ticket: &mut Ticket) -> Result<Reply, Trouble> {
    let model = &job.brain.snapshot().models[candidate.model];
    let timeouts = model.timeouts;
    let endpoint = candidate.booking.endpoint();
    let mut request = Request::new(job.view.rewrite(job.body, &model.upstream_id).into());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("{}{}", endpoint.base(), job.path)
        .parse::<Uri>()
        .map_err(|e| Trouble::Connect(format!("its URL cannot be used: {e}")))?;
    *request.headers_mut() = job.headers.clone();
    headers::authorize(request.headers_mut(), &model.api_key);

    let now = Instant::now();
    let all = Instant::from_std(ticket.arrived()) + timeouts.total;
    let first_byte = (now + timeouts.first_byte).min(all);
    let response = match timeout_at(first_byte, job.brain.client(candidate.model).request(request)).await {
        Err(_) => return Err(Trouble::Timeout),
        Ok(Err(e)) if e.is_connect() => return Err(Trouble::Connect(root_cause(&e))),
        Ok(Err(_)) => return Err(Trouble::Cut),
        Ok(Ok(response)) => response,
    };
    ticket.upstream_answers();
    let (mut head, incoming) = response.into_parts();
    headers::from_upstream(&mut head.headers);
    let body = begin_body(&head, incoming, first_byte, all, timeouts.idle, ticket).await?;
    let retryable = matches!(head.status.as_u16(), 429 | 502..=504);
    let reply = Reply { head, body, booking: candidate.booking, timeouts };
    if retryable { Err(Trouble::Status(Box::new(reply))) } else { Ok(reply) }
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

/// The innermost error says what happened ("Connection refused"); the outer ones only where.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
