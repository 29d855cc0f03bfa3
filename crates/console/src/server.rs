//! The listener: HTTP/1.1 with a cap on connections, on the time of each, and an orderly end.
//!
//! Nobody is kept alive for long: probes and scrapes reconnect cheaply. Called by the binary once; it is the last door to
//! close, so that the end of the others can be watched.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use waypost_door::accepted;

/// Connections at once; more are closed and counted.
const MAX_CONNECTIONS: usize = 256;
/// Bytes of a request's headers.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Number of a request's header fields.
const MAX_HEADER_FIELDS: usize = 100;
/// From the end of the last answer to the end of the next request's headers.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// After this a connection ends with its current answer.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// The last answer of a connection may take this long.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(10);
/// At the end of the process, this long.
const GOODBYE_TIME: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct Console<P> {
    listener: TcpListener,
    pages: P,
}

/// What is asked for; a clone for each request.
pub trait Pages: Clone + Send + Sync + 'static {
    /// The answer.
    fn answer(self, request: Request<Incoming>) -> impl Future<Output = Response<Bytes>> + Send;

    /// A connection was turned away, for this reason: to be counted.
    fn refused(&self, reason: &'static str);
}

impl<P: Pages> Console<P> {
    /// The admin door with these pages, on `listener`.
    #[must_use]
    pub fn new(listener: TcpListener, pages: P) -> Self {
        Self { listener, pages }
    }

    /// Its address.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, pages } = self;
        let (end, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                stream = accepted(&listener, || pages.refused("admin_accept_error")) => {
                    if connections.len() < MAX_CONNECTIONS {
                        connections.spawn(serve(stream, pages.clone(), ended.clone()));
                    } else {
                        pages.refused("admin_connections");
                    }
                }
                Some(_) = connections.join_next() => {}
                () = &mut stop => break,
            }
        }
        drop(listener);
        end.send_replace(true);
        let _ = timeout(GOODBYE_TIME, async { while connections.join_next().await.is_some() {} }).await;
        connections.shutdown().await;
    }
}

async fn serve(stream: TcpStream, pages: impl Pages, mut ended: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(request).await.map(Full::new)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADER_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // How a connection ends early (a client that resets it) is not worth a log line.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.wait_for(|ended| *ended) => {}
        () = sleep(CONNECTION_TIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER_TIME, connection).await;
}
