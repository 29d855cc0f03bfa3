//! The body of every answer: whole, or relayed as it comes.
//!
//! Also the one place where a response is told what its request's Decision says. Used by every page and by the way of a request.

use crate::conn::Busy;
use crate::relay::Relay;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use waypost_door::{Ticket, pages};
use waypost_wire::ApiError;

/// A response body.
#[derive(Debug)]
pub(crate) struct Answer {
    content: Content,
    /// Its connection is busy until the answer is out.
    busy: Option<Busy>,
}

#[derive(Debug)]
enum Content {
    /// Known in full; taken when sent.
    Whole(Bytes),
    /// Coming from an upstream.
    Relay(Box<Relay>),
}

impl Answer {
    /// A body that is known in full.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), busy: None }
    }

    /// A body that is still coming.
    pub(crate) fn relay(relay: Relay) -> Self {
        Self { content: Content::Relay(Box::new(relay)), busy: None }
    }

    /// Keeps the connection's phase until the answer is out.
    pub(crate) fn keep(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Relay(relay) => relay.poll(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Relay(_) => SizeHint::new(),
        }
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Answer> {
    pages::json(status, body).map(Answer::whole)
}

/// The head of a request's answer is ready: it explains itself, and is counted.
pub(crate) fn head(ticket: &mut Ticket, response: &mut Response<Answer>) {
    ticket.head(response.status().as_u16());
    tell(response, ticket.told());
}

/// Waypost's own "no": settles and answers.
pub(crate) fn refuse(mut ticket: Ticket, refusal: &ApiError) -> Response<Answer> {
    let mut response = pages::error(refusal).map(Answer::whole);
    tell(&mut response, ticket.refused(refusal));
    response
}

fn tell(response: &mut Response<Answer>, told: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
    for (name, value) in told {
        response.headers_mut().insert(name, value);
    }
}
