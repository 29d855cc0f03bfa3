//! `/metrics` for commands that have no HTTP door: one page over HTTP/1.1, and nothing else.
//!
//! Bounded in connections and in time. Called by `body-transformer`.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections at once; whoever comes then is turned away.
const MAX_CONNECTIONS: usize = 64;
/// A connection gets so long, and so does the head of its request.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// When accepting fails (no file descriptors left), the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves what `text` gives, for as long as this is polled.
pub(crate) async fn serve(
    listener: TcpListener,
    text: impl Fn() -> Result<String, String> + Clone + Send + 'static,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    let text = text.clone();
                    let service = service_fn(move |request| {
                        let answer = answer(&request, &text);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(CONNECTION_TIME)
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(async move { drop(timeout(CONNECTION_TIME, connection).await) });
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn answer(request: &Request<Incoming>, text: &impl Fn() -> Result<String, String>) -> Response<Full<Bytes>> {
    let (status, body) = match (request.uri().path(), text()) {
        ("/metrics", Ok(text)) => (StatusCode::OK, text),
        ("/metrics", Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error),
        _ => (StatusCode::NOT_FOUND, "there is /metrics only\n".to_owned()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
