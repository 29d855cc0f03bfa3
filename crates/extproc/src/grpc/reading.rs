//! Messages out of the pieces in which a body comes. Of a message that has been handed out nothing is kept.
//!
//! The bytes of a body in a message are copied once, into memory of just their length.

use super::PREFIX_BYTES;
use crate::budget::Share;
use crate::pb::envoy::service::ext_proc::v3::ProcessingRequest;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use prost::Message;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use tonic::Status;

/// Pieces shorter than this are put together, so that many of them do not each take a place in the queue, and a buffer of the
/// connection is not kept for a few bytes.
const SMALL_BYTES: usize = 1 << 10;
/// A message that is longer takes its length of the memory set aside for bodies while it comes in; shorter ones are bound by the
/// number of streams.
const SHARED_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Messages<B = Incoming> {
    body: B,
    pieces: Pieces,
    /// Of the message that comes next, once known.
    length: Option<usize>,
    longest: usize,
    /// Of the memory for bodies, while a long message comes in.
    share: Share,
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Of a call's body; a message of more than `longest` bytes is an error, and one for which `share` has no room.
    pub(crate) fn new(body: B, longest: usize, share: Share) -> Self {
        Self { body, pieces: Pieces::default(), length: None, longest, share }
    }

    /// The next one; `None` when the other side has said all. Nothing is lost when this is dropped unfinished.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` for one that is too long, `RESOURCE_EXHAUSTED` for one that finds no room; what else can go wrong on
    /// the way.
    pub(crate) async fn message(&mut self) -> Result<Option<ProcessingRequest>, Status> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                // Trailers of a request say nothing.
                Some(Ok(frame)) => self.pieces.extend(frame.into_data().ok()),
                Some(Err(error)) => return Err(Status::internal(error.to_string())),
                None if self.pieces.has_remaining() || self.length.is_some() => {
                    return Err(Status::internal("the stream ended within a message"));
                }
                None => return Ok(None),
            }
        }
    }

    fn whole(&mut self) -> Result<Option<ProcessingRequest>, Status> {
        let length = match self.length {
            Some(length) => length,
            None if self.pieces.remaining() < PREFIX_BYTES => return Ok(None),
            None => {
                match self.pieces.get_u8() {
                    0 => {}
                    1 => return Err(Status::unimplemented("compressed messages are not served")),
                    _ => return Err(Status::internal("not a message of gRPC")),
                }
                let length = self.pieces.get_u32() as usize;
                if length > self.longest {
                    let longest = self.longest;
                    return Err(Status::out_of_range(format!(
                        "a message of {length} bytes; {longest} may be"
                    )));
                }
                if length > SHARED_BYTES && !self.share.grow(length) {
                    return Err(Status::resource_exhausted("no room for a message of this length"));
                }
                *self.length.insert(length)
            }
        };
        if self.pieces.remaining() < length {
            return Ok(None);
        }
        self.length = None;
        let message = ProcessingRequest::decode((&mut self.pieces).take(length));
        // Whoever keeps the body counts it.
        self.share.clear();
        message.map(Some).map_err(|error| Status::internal(format!("not a message of ext_proc: {error}")))
    }
}

/// Pieces of a body, read as one.
#[derive(Debug, Default)]
struct Pieces {
    large: VecDeque<Bytes>,
    /// Comes after those.
    small: BytesMut,
    length: usize,
}

impl Extend<Bytes> for Pieces {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, pieces: T) {
        for piece in pieces {
            self.length += piece.len();
            if piece.len() < SMALL_BYTES {
                self.small.extend_from_slice(&piece);
                continue;
            }
            if !self.small.is_empty() {
                self.large.push_back(std::mem::take(&mut self.small).freeze());
            }
            self.large.push_back(piece);
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.large.front().map_or(&self.small[..], |piece| &piece[..])
    }

    fn advance(&mut self, mut count: usize) {
        self.length -= count;
        while let Some(first) = self.large.front_mut() {
            let of_it = count.min(first.len());
            first.advance(of_it);
            count -= of_it;
            if !first.is_empty() {
                return;
            }
            self.large.pop_front();
        }
        self.small.advance(count);
        if self.small.is_empty() {
            // Not to keep what it had room for.
            self.small = BytesMut::new();
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        let mut copy = BytesMut::with_capacity(count);
        copy.put(self.take(count));
        copy.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::service::ext_proc::v3::{HttpBody, processing_request::Request};
    use futures_util::FutureExt;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::task::{Context, Poll};
    use tonic::Code;

    const ROOM: usize = 200_000;

    /// A body that is there already.
    struct Said(VecDeque<Bytes>);

    impl Body for Said {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn framed(message: &ProcessingRequest) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((message.encoded_len() as u32).to_be_bytes());
        bytes.extend(message.encode_to_vec());
        bytes
    }

    fn body(length: usize) -> ProcessingRequest {
        let body = HttpBody { body: vec![7; length].into(), end_of_stream: true };
        ProcessingRequest { request: Some(Request::RequestBody(body)), ..Default::default() }
    }

    fn read(pieces: Vec<&[u8]>, longest: usize) -> (Vec<ProcessingRequest>, Option<Status>) {
        let pieces = pieces.into_iter().map(Bytes::copy_from_slice).collect();
        let share = Share::new(Arc::default(), ROOM);
        let mut messages = Messages::new(Said(pieces), longest, share);
        let mut all = Vec::new();
        loop {
            match messages.message().now_or_never().unwrap() {
                Ok(Some(message)) => all.push(message),
                Ok(None) => return (all, None),
                Err(status) => return (all, Some(status)),
            }
        }
    }

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let sent = [body(10), ProcessingRequest::default(), body(5_000), body(0), body(3)];
        let bytes: Vec<u8> = sent.iter().flat_map(framed).collect();
        for size in [1, 2, 4, 5, 6, 7, 100, 1023, 1024, 1025, 4096, bytes.len()] {
            let (all, error) = read(bytes.chunks(size).collect(), 10_000);
            assert!(error.is_none(), "{error:?}");
            assert_eq!(all, sent, "in pieces of {size}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (mut rest, mut pieces) = (&bytes[..], Vec::new());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(random.usize(0..=rest.len().min(3_000)));
                pieces.push(piece);
                rest = more;
            }
            assert_eq!(read(pieces, 10_000).0, sent);
        }
    }

    #[test]
    fn what_is_no_message_is_an_error_after_those_before_it() {
        let good = framed(&body(10));
        for (bad, code) in [
            (vec![1, 0, 0, 0, 0], Code::Unimplemented),
            (vec![0, 255, 255, 255, 255], Code::OutOfRange),
            (vec![0, 0, 0, 0, 3, 255, 255, 255], Code::Internal),
            (vec![0, 0, 0, 0, 9, 1], Code::Internal),
            (vec![0, 0], Code::Internal),
            (vec![2, 0, 0, 0, 0], Code::Internal),
        ] {
            let bytes = [good.clone(), bad].concat();
            let (all, error) = read(vec![&bytes], 1_000);
            assert_eq!((all.len(), error.map(|status| status.code())), (1, Some(code)), "{bytes:?}");
        }
        let (all, error) = read(vec![&framed(&body(2_000))], 1_000);
        assert_eq!((all.len(), error.map(|status| status.code())), (0, Some(Code::OutOfRange)));
    }

    #[test]
    fn long_messages_take_of_the_memory_for_bodies_until_they_are_read() {
        // One after the other they fit, since each gives back what it took.
        let bytes: Vec<u8> = (0..4).flat_map(|_| framed(&body(150_000))).collect();
        let (all, error) = read(bytes.chunks(20_000).collect(), usize::MAX);
        assert_eq!((all.len(), error.is_none()), (4, true));
        let (all, error) = read(vec![&framed(&body(ROOM))], usize::MAX);
        assert_eq!((all.len(), error.map(|status| status.code())), (0, Some(Code::ResourceExhausted)));
    }
}
