//! The pooled HTTP client that everything outbound goes through: models and KServe classifiers.
//!
//! Connections are kept and reused, `TCP_NODELAY` is set (an SSE event must not wait for an ACK), TLS is
//! rustls. No redirect is followed and no proxy variable is read: upstreams come from the config only.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;
use waypost_wire::Segments;

/// An idle upstream connection is closed after this; engines close theirs after 5 to 75 seconds.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Idle connections kept per upstream host.
const POOL_MAX_IDLE_PER_HOST: usize = 512;

/// See the module.
pub type Client = HyperClient<HttpsConnector<HttpConnector>, Outgoing>;

/// Most bytes of an answer held for a client that does not read, per connection.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Different connect timeouts for which a thread keeps a client.
const MAX_CLIENTS_PER_THREAD: usize = 64;

thread_local! {
    static CLIENTS: RefCell<HashMap<Duration, Client>> = RefCell::default();
}

/// The calling thread's client for this connect timeout.
///
/// Each thread has its own connections: a request, its connection to the client and its connection to
/// the upstream then live on one thread, and no wake-up crosses cores.
#[must_use]
pub fn local(connect_timeout: Duration) -> Client {
    CLIENTS.with_borrow_mut(|clients| {
        if clients.len() >= MAX_CLIENTS_PER_THREAD && !clients.contains_key(&connect_timeout) {
            // Only many reloads with ever new timeouts lead here; open requests keep their connections.
            clients.clear();
        }
        clients.entry(connect_timeout).or_insert_with(|| build(connect_timeout)).clone()
    })
}

/// A client whose connections must be up within `connect_timeout`.
#[must_use]
pub fn build(connect_timeout: Duration) -> Client {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    http.set_connect_timeout(Some(connect_timeout));
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls_config())
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    HyperClient::builder(TokioExecutor::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
        .http1_max_buf_size(READ_BUFFER_BYTES)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(https)
}

/// The innermost error says what happened ("Connection refused"); the outer ones only where.
#[must_use]
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Read once: a bundle of authorities is parsed in milliseconds, which v1 spent on every request.
pub(crate) fn tls_config() -> ClientConfig {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        // The machine's own roots first, so that private authorities work; a container without any
        // gets the public ones.
        match ClientConfig::builder().with_native_roots() {
            Ok(builder) => builder.with_no_client_auth(),
            Err(_) => ClientConfig::builder().with_webpki_roots().with_no_client_auth(),
        }
    });
    config.clone()
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
