//! The listener: HTTP/1.1 with a cap on connections, on the time of each, and an orderly end.
//!
//! Nobody is kept alive for long: probes and scrapes reconnect cheaply. Called by the binary once; it is the last door to
//! close, so that the end of the others can be watched.

use crate::desk::Desk;
use crate::paths;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use waypost_door::{Gateway, accepted};

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
pub struct Console {
    listener: TcpListener,
    desk: Arc<Desk>,
}

impl Console {
    /// The admin door of `gateway`, on `listener`.
    ///
    /// # Errors
    /// When the detector of personal data in the binary is damaged.
    pub fn new(listener: TcpListener, gateway: Arc<Gateway>) -> Result<Self, waypost_classify::Error> {
        Ok(Self { listener, desk: Arc::new(Desk::new(gateway)?) })
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
        let Self { listener, desk } = self;
        let (end, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        let refused = |reason| desk.gateway.metrics().refused.with_label_values(&[reason]).inc();
        loop {
            tokio::select! {
                stream = accepted(&listener, || refused("admin_accept_error")) => {
                    if connections.len() < MAX_CONNECTIONS {
                        connections.spawn(serve(stream, Arc::clone(&desk), ended.clone()));
                    } else {
                        refused("admin_connections");
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

async fn serve(stream: TcpStream, desk: Arc<Desk>, mut ended: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(paths::handle(&desk, request).await.map(Full::<Bytes>::new)) }
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
