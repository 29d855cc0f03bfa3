//! Step 8: bytes forwarded as they come, usage read on the side, stalls noticed.
//!
//! Whatever is ready goes out in one piece. Of a stream of events only whole events go out, so that a
//! break can always be followed by a well-formed error event. Dropping the relay (the client left)
//! drops the upstream's answer, which cancels it. Polled by hyper as the body of the answer.

use crate::answer::{self, Answer};
use crate::send::{Reply, ReplyBody};
use bytes::{Bytes, BytesMut};
use http::response;
use hyper::body::{Body, Incoming};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use waypost_door::{Ticket, Watch};
use waypost_router::{Held, Outcome};
use waypost_wire::{ApiError, Code, Usage};

/// What is ready is put together up to this size before it is written.
const COALESCE_BYTES: usize = 64 * 1024;
/// An unfinished event larger than this is forwarded in pieces after all.
const HELD_MAX_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Relay {
    first: Option<Bytes>,
    rest: Incoming,
    events: Option<Events>,
    /// The next poll ends the body this way.
    ending: Option<Ending>,
    ticket: Ticket,
    is_error: bool,
    held: Option<Held>,
    idle: Duration,
    all: Instant,
    timer: Pin<Box<Sleep>>,
    heard: Instant,
}

/// A stream of events on its way.
#[derive(Debug)]
struct Events {
    watch: Watch,
    /// Begins the next event.
    held: BytesMut,
    /// Part of an unfinished event has gone out.
    torn: bool,
}

impl Events {
    fn new() -> Self {
        Self { watch: Watch::of_events(), held: BytesMut::new(), torn: false }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Clean,
    Broken(&'static str),
    Over,
}

/// Turns an answer that has begun into the client's response.
pub(crate) fn respond(reply: Reply, mut ticket: Ticket) -> http::Response<Answer> {
    let Reply { head, body, held, timeouts, .. } = reply;
    let is_error = !head.status.is_success();
    let outcome = if is_error { Outcome::UpstreamError } else { Outcome::Completed };
    match body {
        ReplyBody::Whole(bytes) => {
            drop(held);
            if let Some(usage) = Usage::find(&bytes).filter(|_| !is_error) {
                ticket.used(usage);
            }
            let mut response = respond_with(head, Answer::whole(bytes));
            answer::head(&mut ticket, &mut response);
            ticket.settle(outcome);
            response
        }
        ReplyBody::Rest { first, rest, is_sse } => {
            let now = Instant::now();
            let all = Instant::from_std(ticket.arrived()) + timeouts.total;
            let mut response = respond_with(head, Answer::whole(Bytes::new()));
            answer::head(&mut ticket, &mut response);
            let relay = Relay {
                first: Some(first),
                rest,
                events: is_sse.then(Events::new),
                ending: None,
                ticket,
                is_error,
                held: Some(held),
                idle: timeouts.idle,
                all,
                timer: Box::pin(sleep_until((now + timeouts.idle).min(all))),
                heard: now,
            };
            response.map(|_| Answer::relay(relay))
        }
    }
}

fn respond_with(head: response::Parts, body: Answer) -> http::Response<Answer> {
    let mut response = http::Response::from_parts(head, body);
    *response.version_mut() = http::Version::HTTP_11;
    response
}

impl Relay {
    /// The next bytes for the client; `None` at the end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        let mut out = Out::default();
        if let Some(first) = self.first.take() {
            self.take_in(first, &mut out);
        }
        while self.ending.is_none() && out.len() < COALESCE_BYTES {
            match Pin::new(&mut self.rest).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    if let Ok(data) = frame.into_data() {
                        self.take_in(data, &mut out);
                    }
                }
                Poll::Ready(Some(Err(_))) => self.ending = Some(Ending::Broken("cut")),
                Poll::Ready(None) => {
                    self.ending = Some(Ending::Clean);
                    let events = self.events.as_ref().map_or(0, |events| events.watch.events());
                    self.ticket.streamed(events);
                }
                Poll::Pending if out.len() > 0 => break,
                Poll::Pending => ready!(self.poll_stall(cx)),
            }
        }
        if let Some(ending) = self.ending.take() {
            return Poll::Ready(self.end(ending, out));
        }
        Poll::Ready(Some(Ok(out.into_bytes())))
    }

    /// Pending while the upstream may still be silent; then the ending is set.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let silent_until = self.heard + self.idle;
            if now >= self.all {
                self.ending = Some(Ending::Broken("total_timeout"));
                return Poll::Ready(());
            }
            if now >= silent_until {
                self.ending = Some(Ending::Broken("stalled"));
                return Poll::Ready(());
            }
            // Bytes have come since the timer was set: it is moved only now, not at every byte.
            self.timer.as_mut().reset(silent_until.min(self.all));
        }
    }

    /// Looks at bytes and passes on what may go out.
    fn take_in(&mut self, data: Bytes, out: &mut Out) {
        let Some(events) = &mut self.events else {
            out.push(data);
            return;
        };
        let whole = events.watch.feed(&data);
        if whole > 0 {
            events.torn = false;
            if !events.held.is_empty() {
                out.push(events.held.split().freeze());
            }
            out.push(data.slice(..whole));
        }
        events.held.extend_from_slice(&data[whole..]);
        if events.held.len() > HELD_MAX_BYTES {
            events.torn = true;
            out.push(events.held.split().freeze());
        }
    }

    /// The last bytes, and how it ended.
    fn end(&mut self, ending: Ending, mut out: Out) -> Option<Result<Bytes, io::Error>> {
        if ending == Ending::Over {
            return None;
        }
        self.ending = Some(Ending::Over);
        self.held = None;
        let done = self.events.as_ref().is_some_and(|events| events.watch.done());
        if let Some(usage) = self.events.as_ref().and_then(|events| events.watch.usage()) {
            self.ticket.used(usage);
        }
        let Ending::Broken(cause) = ending else {
            if let Some(events) = &mut self.events {
                // A last event without its blank line.
                out.push(events.held.split().freeze());
            }
            self.ticket.settle(if self.is_error { Outcome::UpstreamError } else { Outcome::Completed });
            return (out.len() > 0).then(|| Ok(out.into_bytes()));
        };
        if done {
            // Everything had been said; how the connection ended does not matter.
            self.ticket.settle(Outcome::Completed);
            return (out.len() > 0).then(|| Ok(out.into_bytes()));
        }
        let error = broken(cause);
        let model = self.ticket.decision.model.as_deref().unwrap_or("-");
        self.ticket.gateway().metrics().broken_streams.with_label_values(&[model, cause]).inc();
        self.ticket.decision.error = Some(error.code.as_str());
        self.ticket.settle(Outcome::Broken);
        let Some(events) = &self.events else {
            // Without events there is no way to say it but to end the connection.
            return Some(Err(io::Error::other(error.message)));
        };
        if events.torn {
            out.push(Bytes::from_static(b"\n\n"));
        }
        out.push(error.to_sse().into());
        Some(Ok(out.into_bytes()))
    }
}

fn broken(cause: &str) -> ApiError {
    match cause {
        "stalled" => {
            ApiError::new(Code::UpstreamTimeout, "The model stopped sending in the middle of its answer.")
        }
        "total_timeout" => {
            ApiError::new(Code::UpstreamTimeout, "The answer took longer than the model's total timeout.")
        }
        _ => ApiError::new(Code::UpstreamFailed, "The model broke off in the middle of its answer."),
    }
}

/// Pieces on their way out: one is passed as it is, several become one.
#[derive(Debug, Default)]
struct Out {
    one: Bytes,
    many: BytesMut,
}

impl Out {
    fn len(&self) -> usize {
        self.one.len() + self.many.len()
    }

    fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        if self.len() == 0 {
            self.one = piece;
            return;
        }
        if self.many.is_empty() {
            self.many.reserve(self.one.len() + piece.len() + 1024);
            self.many.extend_from_slice(&std::mem::take(&mut self.one));
        }
        self.many.extend_from_slice(&piece);
    }

    fn into_bytes(self) -> Bytes {
        if self.many.is_empty() { self.one } else { self.many.freeze() }
    }
}
