//! The body of a response as it goes to the connection, with the fault of this request applied to it.
//!
//! It never changes what the engine computed, only what arrives. A closed connection is an error to hyper, which then
//! drops it; dropping the body tells the ticket that the client left.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::fault::{Fault, MAX_FAULT_MS, Malformed};
use crate::generate::Generation;
use crate::io::Line;
use crate::stats::Ticket;

/// A silent connection is closed in the end.
const MAX_STALL: Duration = Duration::from_millis(MAX_FAULT_MS);
/// Time for the last bytes to leave before a connection is cut; a reset would take back what is still queued.
const CUT_GRACE: Duration = Duration::from_millis(5);

/// Where the bytes come from.
pub(crate) enum Source {
    /// One body, in two parts if a fault falls between them; `length` is announced.
    Whole { parts: [Option<Bytes>; 2], length: u64 },
    /// A stream of events.
    Events(Box<Generation>),
}

impl Source {
    pub(crate) fn whole(body: Bytes) -> Self {
        Source::Whole { length: body.len() as u64, parts: [Some(body), None] }
    }

    /// Splits a whole body into the halves that faults count as events.
    fn halved(self) -> Self {
        match self {
            Source::Whole { parts: [Some(mut body), None], length } => {
                let second = body.split_off(body.len() / 2);
                Source::Whole { parts: [Some(body), Some(second)], length }
            }
            other => other,
        }
    }
}

/// One reusable timer that is only set up when there is something to wait for.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

/// The body.
pub(crate) struct SimBody {
    source: Source,
    fault: Option<Box<Fault>>,
    ticket: Option<Ticket>,
    line: Line,
    timer: Timer,
    /// Events taken from the source.
    events: u64,
    /// When the silence or the grace before the cut ends.
    ending: Option<Instant>,
    /// What is left of an event that is written in pieces.
    rest: Bytes,
    /// Whether the next piece still has to wait for the flush of the one before.
    unflushed: bool,
}

impl SimBody {
    pub(crate) fn new(source: Source, fault: Option<Box<Fault>>, ticket: Option<Ticket>, line: Line) -> Self {
        let source = match &fault {
            Some(f) if f.stall.is_some() || f.cut.is_some() => source.halved(),
            Some(f) => match (f.malformed, source) {
                (Some(how), Source::Whole { parts, .. }) => {
                    Source::whole(spoil(how, &parts.into_iter().flatten().next().unwrap_or_default()))
                }
                (_, source) => source,
            },
            None => source,
        };
        SimBody {
            source,
            fault,
            ticket,
            line,
            timer: Timer::default(),
            events: 0,
            ending: None,
            rest: Bytes::new(),
            unflushed: false,
        }
    }

    /// Whether the fault ends the body here, and how: pending, or the error that closes the connection.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
        let fault = self.fault.as_deref()?;
        let reached = |at: Option<u64>| at.is_some_and(|at| self.events >= at);
        let (cut, stall) = (reached(fault.cut), reached(fault.stall));
        if !cut && !stall {
            return None;
        }
        let wait = if cut { CUT_GRACE } else { MAX_STALL };
        let ending = *self.ending.get_or_insert_with(|| Instant::now() + wait);
        if self.timer.poll_until(cx, ending).is_pending() {
            return Some(Poll::Pending);
        }
        if cut && fault.rst {
            self.line.reset_on_close();
        }
        if let Some(ticket) = &mut self.ticket {
            ticket.cut();
        }
        Some(Poll::Ready(io::Error::other("cut by a fault")))
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let event = match &mut self.source {
            Source::Whole { parts, .. } => parts.iter_mut().find_map(Option::take),
            Source::Events(generation) => ready!(generation.poll_event(cx, &mut self.timer)),
        };
        let more = match &self.source {
            Source::Whole { parts, .. } => parts.iter().any(Option::is_some),
            Source::Events(_) => event.is_some(),
        };
        if let Some(ticket) = &mut self.ticket {
            if event.is_some() {
                ticket.event();
            }
            if !more {
                ticket.finished();
            }
        }
        let Some(event) = event else {
            return Poll::Ready(None);
        };
        let spoilt = match (self.fault.as_deref(), &self.source) {
            (Some(f), Source::Events(_)) if self.events == f.after.unwrap_or(0) => f.malformed,
            _ => None,
        };
        self.events += 1;
        Poll::Ready(Some(spoilt.map_or(event.clone(), |how| spoil(how, &event))))
    }
}

/// Spoils an event or a whole body.
fn spoil(how: Malformed, good: &Bytes) -> Bytes {
    let mut bad = BytesMut::new();
    match how {
        Malformed::Json => {
            let end = good.trim_ascii_end().len();
            bad.extend_from_slice(&good[..end / 2]);
            // What separates events stays, so that only this one is lost.
            bad.extend_from_slice(&good[end..]);
        }
        Malformed::Garbage => bad.extend_from_slice(b"\x00\xff\xfe not an event \xc3(\n\n"),
    }
    bad.freeze()
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.unflushed {
            // hyper flushes when there is nothing to write for the moment.
            this.unflushed = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.rest.is_empty() {
            if let Some(end) = this.poll_fault(cx) {
                return end.map(|error| Some(Err(error)));
            }
            match ready!(this.poll_source(cx)) {
                Some(event) => this.rest = event,
                None => return Poll::Ready(None),
            }
        }
        let split = this.fault.as_deref().and_then(|f| f.split);
        let take = split.map_or(this.rest.len(), |size| size.min(this.rest.len()));
        let piece = this.rest.split_to(take);
        this.unflushed = split.is_some();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole { length, .. } => SizeHint::with_exact(*length),
            Source::Events(_) => SizeHint::default(),
        }
    }
}
