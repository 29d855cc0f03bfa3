//! Replies as the pieces of a body. The body in a reply is sent from where it lies.
//!
//! Small replies that are there together go out together.

use super::PREFIX_BYTES;
use crate::driven::Driven;
use crate::pb::envoy::service::ext_proc::v3::body_mutation::Mutation;
use crate::pb::envoy::service::ext_proc::v3::processing_response::Response as Kind;
use crate::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, ProcessingResponse, StreamedBodyResponse,
};
use crate::replies::OWN_PIECE_BYTES;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::{Body, Frame};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

/// Small replies gathered before they are sent.
const GATHERED_BYTES: usize = 16 << 10;

// Numbers of fields, as in `proto/`, from the outside in.
const REQUEST_BODY: u32 = 3;
const RESPONSE_BODY: u32 = 4;
const COMMON: u32 = 1;
const BODY_MUTATION: u32 = 3;
const STREAMED: u32 = 3;
const BODY: u32 = 1;
const END_OF_STREAM: u32 = 2;
/// Of a flag that is set, with its key.
const FLAG_BYTES: usize = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Replies {
    driven: Driven,
    gathered: BytesMut,
    /// The end of the last reply gathered.
    large: Option<Bytes>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// All is said but this.
    Ended(Status),
    Over,
}

impl Replies {
    pub(crate) fn new(driven: Driven) -> Self {
        Self { driven, gathered: BytesMut::new(), large: None, state: State::Open }
    }

    /// Gathers what is there to say. Pending when that is nothing, and more will come.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while matches!(self.state, State::Open)
            && self.large.is_none()
            && self.gathered.len() < GATHERED_BYTES
        {
            match Pin::new(&mut self.driven).poll_next(cx) {
                Poll::Ready(Some(Ok(reply))) => self.large = write(&reply, &mut self.gathered),
                Poll::Ready(Some(Err(status))) => self.state = State::Ended(status),
                Poll::Ready(None) => self.state = State::Ended(Status::ok("")),
                Poll::Pending if self.gathered.is_empty() => return Poll::Pending,
                // It will wake us.
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    }
}

impl Body for Replies {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.gathered.is_empty() && self.large.is_none() {
            std::task::ready!(self.gather(cx));
        }
        if !self.gathered.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.gathered).freeze()))));
        }
        if let Some(piece) = self.large.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Ended(status) => Poll::Ready(Some(Ok(Frame::trailers(trailers(&status))))),
            State::Open | State::Over => Poll::Ready(None),
        }
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails for metadata only, of which ours has none.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// Appends the reply, framed; but for the body that it ends with, if that is long.
fn write(reply: &ProcessingResponse, to: &mut BytesMut) -> Option<Bytes> {
    if let Some((direction, piece)) = long_body(reply) {
        head(direction, piece, to);
        return Some(piece.body.clone());
    }
    let length = reply.encoded_len();
    to.reserve(PREFIX_BYTES + length);
    prefix(length, to);
    // It fails where there is no room only, and the buffer grows.
    let _ = reply.encode(to);
    None
}

fn prefix(length: usize, to: &mut BytesMut) {
    to.put_u8(0);
    // A reply is never near four gigabytes.
    to.put_u32(length as u32);
}

/// A long piece of a body that is given back, with nothing else in the reply; and the number of the reply's field.
fn long_body(reply: &ProcessingResponse) -> Option<(u32, &StreamedBodyResponse)> {
    // All fields are named: one that is added has to be thought of here.
    let ProcessingResponse { dynamic_metadata: None, mode_override: None, response: Some(response) } = reply
    else {
        return None;
    };
    let (direction, BodyResponse { response: Some(common) }) = (match response {
        Kind::RequestBody(body) => (REQUEST_BODY, body),
        Kind::ResponseBody(body) => (RESPONSE_BODY, body),
        _ => return None,
    }) else {
        return None;
    };
    let CommonResponse {
        status: 0,
        header_mutation: None,
        clear_route_cache: false,
        body_mutation: Some(mutation),
    } = common
    else {
        return None;
    };
    let BodyMutation { mutation: Some(Mutation::StreamedResponse(piece)) } = mutation else { return None };
    let StreamedBodyResponse { body, end_of_stream: _ } = piece;
    (body.len() >= OWN_PIECE_BYTES).then_some((direction, piece))
}

/// Everything of such a reply that comes before the bytes of its body: the body's field is written last.
fn head(direction: u32, piece: &StreamedBodyResponse, to: &mut BytesMut) {
    let flag = if piece.end_of_stream { FLAG_BYTES } else { 0 };
    let nested = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    let streamed = flag + nested(piece.body.len());
    let mutation = nested(streamed);
    let common = nested(mutation);
    let body = nested(common);
    prefix(nested(body), to);
    let fields = [(direction, body), (COMMON, common), (BODY_MUTATION, mutation), (STREAMED, streamed)];
    for (field, length) in fields {
        encode_key(field, WireType::LengthDelimited, to);
        encode_varint(length as u64, to);
    }
    if piece.end_of_stream {
        encode_key(END_OF_STREAM, WireType::Varint, to);
        encode_varint(1, to);
    }
    encode_key(BODY, WireType::LengthDelimited, to);
    encode_varint(piece.body.len() as u64, to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replies::{self, Side};
    use bytes::Buf;

    fn sent(reply: &ProcessingResponse) -> (Vec<u8>, bool) {
        let mut bytes = BytesMut::new();
        let long = write(reply, &mut bytes);
        (bytes.iter().copied().chain(long.iter().flatten().copied()).collect(), long.is_some())
    }

    #[test]
    fn a_reply_reads_as_what_it_is_whether_its_body_is_sent_apart_or_not() {
        for side in [Side::Request, Side::Response] {
            for length in [0, 1, 127, 128, OWN_PIECE_BYTES - 1, OWN_PIECE_BYTES, 16_383, 16_384, 62_000] {
                for ends in [false, true] {
                    for reply in replies::chunks(side, vec![vec![5; length].into()], ends) {
                        let (bytes, apart) = sent(&reply);
                        assert_eq!(apart, length >= OWN_PIECE_BYTES);
                        let mut framed = &bytes[..];
                        assert_eq!((framed.get_u8(), framed.get_u32() as usize), (0, framed.len()));
                        assert_eq!(ProcessingResponse::decode(framed).unwrap(), reply, "{length} {ends}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_reply_that_says_more_is_sent_in_one() {
        let body = Bytes::from(vec![5; OWN_PIECE_BYTES]);
        let mut reply = replies::chunks(Side::Request, vec![body], true).next().unwrap();
        reply.dynamic_metadata = Some(Default::default());
        let (bytes, apart) = sent(&reply);
        assert!(!apart);
        assert_eq!(ProcessingResponse::decode(&bytes[PREFIX_BYTES..]).unwrap(), reply);
    }
}
