//! The request half of a stream: collects or passes on, and says when to judge. Knows messages and their order,
//! neither the judge nor the network; `stream.rs` drives it.

use crate::budget::Share;
use crate::judge::{Blind, Fault, Go};
use crate::modes::{BodyMode, Modes, Plan};
use crate::pb::envoy::service::ext_proc::v3::{HttpBody, ProcessingResponse};
use crate::replies::{self, Edits, Side};
use bytes::{Bytes, BytesMut};
use http::HeaderName;

/// Memory set aside at once for a body whose length was announced.
const RESERVE_BYTES: usize = 1 << 20;

/// What a message leads to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Say these, in this order; possibly nothing.
    Say(Vec<ProcessingResponse>),
    /// Judge, then call [`RequestHalf::judged`].
    Judge(Ask),
    /// Refuse the request.
    Refuse(Fault),
    /// The message came after the end.
    Ignore,
    /// The message cannot come here.
    Invalid(&'static str),
}

/// What the judge is given.
#[derive(Debug)]
pub(crate) enum Ask {
    /// The whole body.
    Whole(Bytes),
    /// No body, for this reason.
    Blind(Blind),
}

/// Where the verdict goes.
#[derive(Debug)]
enum Place {
    /// Into the reply to the headers; with `ends` nothing follows.
    Head { ends: bool },
    /// Into replies to the headers, the body and the trailers.
    All { body: Bytes, trailers: bool },
    /// Into the reply to the body.
    Body { ends: bool, whole: bool },
}

#[derive(Debug)]
enum State {
    /// No headers yet.
    Start,
    /// Holds headers and body back.
    Collect,
    /// Headers are answered, the body decides.
    Await,
    /// The judge is at it.
    Judging(Place),
    /// Passes on what comes.
    Pass,
    /// Over: ended, refused, or answered by Envoy itself.
    Done,
}

/// What is known once the headers are here.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) mode: BodyMode,
    pub(crate) plan: Plan,
    /// Modes to ask Envoy for.
    pub(crate) better: Option<Modes>,
    /// Headers to remove.
    pub(crate) strip: Vec<HeaderName>,
    /// Longest body in bytes.
    pub(crate) limit: usize,
    /// The announced length.
    pub(crate) length: Option<usize>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RequestHalf {
    state: State,
    start: Start,
    held: Held,
}

impl RequestHalf {
    pub(crate) fn new(share: Share) -> Self {
        let start = Start {
            mode: BodyMode::None,
            plan: Plan::Bodiless,
            better: None,
            strip: Vec::new(),
            limit: 0,
            length: None,
        };
        Self { state: State::Start, start, held: Held { first: Bytes::new(), all: BytesMut::new(), share } }
    }

    pub(crate) fn has_started(&self) -> bool {
        !matches!(self.state, State::Start)
    }

    /// Whether nothing more is said about the request.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether a body is waited for.
    pub(crate) fn waits_for_body(&self) -> bool {
        matches!(self.state, State::Collect | State::Await)
    }

    /// Whether a message about the request can only be a duplicate.
    pub(crate) fn has_ended(&self) -> bool {
        match &self.state {
            State::Judging(Place::Head { ends } | Place::Body { ends, .. }) => *ends,
            State::Judging(Place::All { .. }) | State::Done => true,
            _ => false,
        }
    }

    /// Headers of a request that nobody judges.
    pub(crate) fn unjudged(
        &mut self,
        mode: BodyMode,
        better: Option<Modes>,
        ends: bool,
        strip: &[HeaderName],
    ) -> Step {
        self.start.mode = mode;
        self.state = if ends { State::Done } else { State::Pass };
        Step::Say(vec![replies::headers(Side::Request, Edits::strip(strip), better)])
    }

    /// Headers of a request with a judge.
    pub(crate) fn head(&mut self, start: Start) -> Step {
        self.start = start;
        let start = &mut self.start;
        let (ends, ask) = match start.plan {
            Plan::Bodiless => (true, Ask::Whole(Bytes::new())),
            Plan::AtHead(why) => (false, Ask::Blind(why)),
            Plan::Hold | Plan::AtBody if start.length.is_some_and(|length| length > start.limit) => {
                return Step::Refuse(Fault::TooLarge(start.limit));
            }
            Plan::Hold => {
                self.state = State::Collect;
                return Step::Say(Vec::new());
            }
            Plan::AtBody => {
                self.state = State::Await;
                let edits = Edits::strip(&std::mem::take(&mut start.strip));
                return Step::Say(vec![replies::headers(Side::Request, edits, start.better.take())]);
            }
        };
        self.state = State::Judging(Place::Head { ends });
        Step::Judge(ask)
    }

    /// A piece of the body.
    pub(crate) fn body(&mut self, piece: HttpBody) -> Step {
        let HttpBody { body, end_of_stream: ends } = piece;
        match self.state {
            State::Start => Step::Invalid("a request's body before its headers"),
            State::Done | State::Judging(_) => Step::Ignore,
            State::Pass => Step::Say(self.pass(body, ends)),
            State::Collect => match self.hold(body) {
                Err(fault) => Step::Refuse(fault),
                Ok(()) if ends => self.collected(false),
                Ok(()) => Step::Say(Vec::new()),
            },
            State::Await => match self.hold(body) {
                Err(fault) => Step::Refuse(fault),
                Ok(()) => self.arrived(ends),
            },
        }
    }

    /// The trailers.
    pub(crate) fn trailers(&mut self) -> Step {
        match self.state {
            State::Start => Step::Invalid("a request's trailers before its headers"),
            State::Done | State::Judging(_) => Step::Ignore,
            State::Pass => {
                self.state = State::Done;
                Step::Say(vec![replies::trailers(Side::Request)])
            }
            State::Collect => self.collected(true),
            State::Await => Step::Refuse(Fault::NoBody),
        }
    }

    /// The request goes on as the judge says.
    pub(crate) fn judged(&mut self, mut go: Go) -> Vec<ProcessingResponse> {
        let State::Judging(place) = std::mem::replace(&mut self.state, State::Done) else {
            return Vec::new();
        };
        let edited = go.body.take();
        let mut edits = Edits::new(go, &self.start.strip);
        let side = Side::Request;
        match place {
            Place::Head { ends } => {
                self.state = if ends { State::Done } else { State::Pass };
                vec![replies::headers(side, edits, self.start.better.take())]
            }
            Place::All { body, trailers } => {
                let mut said = vec![replies::headers(side, edits, None)];
                said.extend(replies::chunks(side, edited.unwrap_or_else(|| vec![body]), !trailers));
                said.extend(trailers.then(|| replies::trailers(side)));
                said
            }
            Place::Body { ends, whole } => {
                self.state = if ends { State::Done } else { State::Pass };
                let replaced = edited.filter(|_| whole).map(|pieces| Bytes::from(pieces.concat()));
                // Elsewhere Envoy itself removes the length or has none.
                if let Some(body) = &replaced
                    && self.start.mode == BodyMode::Buffered
                    && self.start.length.is_some()
                {
                    edits.content_length(body.len());
                }
                vec![replies::body(side, edits, replaced)]
            }
        }
    }

    /// The request is answered: refused here, or by Envoy itself while there was no verdict. False when it had
    /// one before.
    pub(crate) fn answered(&mut self) -> bool {
        let open = matches!(self.state, State::Collect | State::Await | State::Judging(_));
        if open {
            self.state = State::Done;
            self.held.clear();
        }
        open
    }

    /// Nothing more comes of this request.
    pub(crate) fn close(&mut self) {
        self.state = State::Done;
        self.held.clear();
    }

    /// The replies of a verdict are out: the memory of the body is free.
    pub(crate) fn release(&mut self) {
        self.held.clear();
    }

    fn hold(&mut self, piece: Bytes) -> Result<(), Fault> {
        let limit = self.start.limit;
        if self.held.len().saturating_add(piece.len()) > limit {
            return Err(Fault::TooLarge(limit));
        }
        if !self.held.share.grow(piece.len()) {
            return Err(Fault::Full);
        }
        self.held.push(piece, self.start.length.unwrap_or(0).min(RESERVE_BYTES));
        Ok(())
    }

    fn collected(&mut self, trailers: bool) -> Step {
        let body = self.held.whole();
        self.state = State::Judging(Place::All { body: body.clone(), trailers });
        Step::Judge(Ask::Whole(body))
    }

    /// The one body message of a buffered mode: in BUFFERED it is whole even when trailers follow. In BUFFERED_PARTIAL that
    /// cannot be told from a body that was too long, unless its length was announced: Envoy also sends a whole body
    /// without its end when that has not been read yet.
    fn arrived(&mut self, ends: bool) -> Step {
        let body = self.held.whole();
        let announced = self.start.length == Some(body.len());
        let whole = ends || announced || self.start.mode == BodyMode::Buffered;
        self.state = State::Judging(Place::Body { ends, whole });
        Step::Judge(if whole { Ask::Whole(body) } else { Ask::Blind(Blind::Partial) })
    }

    fn pass(&mut self, body: Bytes, ends: bool) -> Vec<ProcessingResponse> {
        if ends {
            self.state = State::Done;
        }
        replies::echo(Side::Request, self.start.mode, body, ends)
    }
}

/// A body as it grows. One that comes in one piece is never copied; many small pieces do not each keep the
/// buffer alive in which they came.
#[derive(Debug)]
struct Held {
    first: Bytes,
    all: BytesMut,
    share: Share,
}

impl Held {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, piece: Bytes, expected: usize) {
        if piece.is_empty() {
            return;
        }
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            let first = std::mem::take(&mut self.first);
            self.all.reserve(expected.max(first.len() + piece.len()));
            self.all.extend_from_slice(&first);
        }
        self.all.extend_from_slice(&piece);
    }

    /// What came; the memory counts on until [`clear`](Self::clear).
    fn whole(&mut self) -> Bytes {
        let first = std::mem::take(&mut self.first);
        if self.all.is_empty() { first } else { std::mem::take(&mut self.all).freeze() }
    }

    fn clear(&mut self) {
        self.first = Bytes::new();
        self.all = BytesMut::new();
        self.share.clear();
    }
}
