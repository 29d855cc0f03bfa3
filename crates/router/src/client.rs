//! The pooled HTTP client that everything outbound goes through: models and KServe classifiers.
//!
//! Connections are kept and reused, `TCP_NODELAY` is set (an SSE event must not wait for an ACK), TLS is
//! rustls. No redirect is followed and no proxy variable is read: upstreams come from the config only.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use smallvec::SmallVec;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use waypost_wire::Segments;

/// An idle upstream connection is closed after this; engines close theirs after 5 to 75 seconds.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Idle connections kept per upstream host.
const POOL_MAX_IDLE_PER_HOST: usize = 512;

/// See the module.
pub type Client = HyperClient<HttpsConnector<HttpConnector>, Outgoing>;

/// A client whose connections must be up within `connect_timeout`.
#[must_use]
pub fn build(connect_timeout: Duration) -> Client {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    http.set_connect_timeout(Some(connect_timeout));
    let builder = hyper_rustls::HttpsConnectorBuilder::new();
    // The machine's own roots first, so that private authorities work; a container without any gets
    // the public ones.
    let builder = match builder.with_native_roots() {
        Ok(builder) => builder,
        Err(_) => hyper_rustls::HttpsConnectorBuilder::new().with_webpki_roots(),
    };
    let https = builder.https_or_http().enable_http1().wrap_connector(http);
    HyperClient::builder(TokioExecutor::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(https)
}

/// A request body in pieces of the client's own buffer.
#[derive(Debug)]
pub struct Outgoing {
    /// In reverse, so that the next one is popped.
    pieces: SmallVec<[Bytes; 5]>,
    left: u64,
}

impl From<Segments> for Outgoing {
    fn from(segments: Segments) -> Self {
        let left = segments.len() as u64;
        let mut pieces: SmallVec<_> = segments.into_pieces().collect();
        pieces.reverse();
        Self { pieces, left }
    }
}

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        Self { left: bytes.len() as u64, pieces: smallvec::smallvec![bytes] }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.pop().map(|piece| {
            self.left -= piece.len() as u64;
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
