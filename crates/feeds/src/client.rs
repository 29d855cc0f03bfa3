//! The HTTP client of the feeds: small GET requests to engines, over kept connections.
//!
//! Never follows a redirect and reads no proxy variable: addresses come from the configuration only. Shared by the
//! scraper and the health checks.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as Pooled, Error, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use std::time::Duration;

/// An idle connection is closed after this; uvicorn, which most engines are served by, closes its own after 5 seconds.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept to an address: one for metrics, one for health.
const IDLE_PER_HOST: usize = 2;
/// Most bytes of an answer read ahead, per connection.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// See the module. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client(Pooled<HttpsConnector<HttpConnector>, Empty<Bytes>>);

/// A path below an endpoint's address that makes no URL with it.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` below an endpoint's address is no URL: {source}")]
pub struct PathError {
    path: String,
    source: http::uri::InvalidUri,
}

impl Client {
    /// A client without connections. It reads the machine's certificate authorities, which takes milliseconds.
    #[must_use]
    pub fn new() -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        // The machine's own roots first, so that private authorities work; a container without any gets the public ones.
        let tls = match ClientConfig::builder().with_native_roots() {
            Ok(builder) => builder.with_no_client_auth(),
            Err(_) => ClientConfig::builder().with_webpki_roots().with_no_client_auth(),
        };
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let pooled = Pooled::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(READ_AHEAD_BYTES)
            .pool_timer(TokioTimer::new())
            .build(https.wrap_connector(http));
        Self(pooled)
    }

    pub(crate) async fn get(&self, uri: &Uri) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        self.0.request(request).await
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// `path` below an endpoint's address.
pub(crate) fn below(base: &str, path: &str) -> Result<Uri, PathError> {
    let url = format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'));
    url.parse().map_err(|source| PathError { path: path.to_owned(), source })
}

/// Host and port, for logs: an address may hold a password.
pub(crate) fn place(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
