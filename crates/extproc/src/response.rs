//! The response half of a stream: shows the case what streams by and lets it pass at once, whatever has become
//! of the request. Never holds a response back and never changes its body.

use crate::attributes;
use crate::judge::{Case, End};
use crate::modes::{BodyMode, Modes};
use crate::pb::envoy::config::core::v3::HeaderMap as WireHeaders;
use crate::pb::envoy::service::ext_proc::v3::{HttpBody, HttpHeaders, ProcessingResponse};
use crate::replies::{self, Edits, Side};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Body,
    Done,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ResponseHalf {
    state: State,
    /// As Envoy is configured.
    configured: BodyMode,
    /// As it was asked to send.
    mode: BodyMode,
    any_data: bool,
}

/// What a message leads to: replies, or a word on why it cannot come here. `None`: it came after the end.
pub(crate) type Said = Result<Option<Vec<ProcessingResponse>>, &'static str>;

impl ResponseHalf {
    pub(crate) fn new(mode: BodyMode) -> Self {
        Self { state: State::Start, configured: mode, mode, any_data: false }
    }

    /// Envoy was asked for another mode; it may not follow.
    pub(crate) fn ask_for(&mut self, better: Option<Modes>) {
        self.mode = better.map_or(self.mode, |modes| modes.response);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Nothing more comes.
    pub(crate) fn close(&mut self) {
        self.state = State::Done;
    }

    pub(crate) fn head<C: Case>(
        &mut self,
        wire: HttpHeaders,
        served: Option<&str>,
        case: &mut Option<C>,
    ) -> Said {
        match self.state {
            State::Start => {}
            State::Body => return Err("a response's headers twice"),
            State::Done => return Ok(None),
        }
        self.state = State::Body;
        let edits = set(case, wire.headers, served);
        if wire.end_of_stream {
            self.end(End::Complete, case);
        } else if self.mode == BodyMode::None {
            // Envoy ends the stream when it has our reply. The state stays: a body would be answered.
            settle(End::Unseen, case);
        }
        Ok(Some(vec![replies::headers(Side::Response, edits, None)]))
    }

    pub(crate) fn body<C: Case>(&mut self, piece: HttpBody, case: &mut Option<C>) -> Said {
        match self.state {
            State::Start => return Err("a response's body before its headers"),
            State::Done => return Ok(None),
            State::Body => self.any_data = true,
        }
        let HttpBody { body, end_of_stream: ends } = piece;
        if let Some(case) = case
            && !body.is_empty()
        {
            case.response_data(&body);
        }
        if ends {
            self.end(End::Complete, case);
        }
        Ok(Some(replies::echo(Side::Response, self.mode, body, ends)))
    }

    pub(crate) fn trailers<C: Case>(&mut self, case: &mut Option<C>) -> Said {
        match self.state {
            State::Start => return Err("a response's trailers before its headers"),
            State::Done => return Ok(None),
            State::Body => {}
        }
        self.end(End::Complete, case);
        Ok(Some(vec![replies::trailers(Side::Response)]))
    }

    /// The stream is over. A response that is not complete leaves its case to its drop, unless Envoy is not
    /// configured to show bodies and did not follow when asked.
    pub(crate) fn finish<C: Case>(&mut self, case: &mut Option<C>) {
        if self.state == State::Body && self.configured == BodyMode::None && !self.any_data {
            self.end(End::Unseen, case);
        }
    }

    fn end<C: Case>(&mut self, end: End, case: &mut Option<C>) {
        self.state = State::Done;
        settle(end, case);
    }
}

fn set<C: Case>(case: &mut Option<C>, headers: Option<WireHeaders>, served: Option<&str>) -> Edits {
    let Some(case) = case else { return Edits::default() };
    let (status, headers) = attributes::response(headers);
    Edits::set(case.response_head(status, &headers, served))
}

fn settle<C: Case>(end: End, case: &mut Option<C>) {
    if let Some(mut case) = case.take() {
        case.response_end(end);
    }
}
