//! The listener: connections with or without TLS, HTTP/2, the two gRPC services on it, and an orderly end.
//!
//! Own loop on hyper instead of tonic's transport, which brings a web framework and hides the limits. Called by
//! the binary once for the door and once for health's own port.

use crate::attentive::Attentively;
use crate::budget::{Counts, Share};
use crate::driven::{Driven, Open};
use crate::grpc::{self, Messages};
use crate::health::Health;
use crate::judge::Judge;
use crate::options::{Closing, MESSAGE_OVERHEAD_BYTES, Options};
use crate::stream::{Exchange, Shared};
use crate::tls::{Certificate, TlsError};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use waypost_door::accepted;

/// Connections at once; an Envoy opens one per worker thread.
const MAX_CONNECTIONS: usize = 4_096;
/// Streams on one connection. Envoy waits when there are more, so the limit of the whole door comes first.
const CONNECTION_STREAMS: u32 = 16_384;
/// Bytes of one stream that may be under way and not yet read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of all streams of a connection that may be: streams that pause must not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Requests that a burst of aborts may reset before they are read. hyper's default of 20 is made against strangers
/// and would end the connection, and with it all requests of an Envoy.
const PENDING_RESETS: usize = 16_384;
/// Length of all headers of one gRPC call in bytes.
const CALL_HEADER_BYTES: u32 = 64 << 10;
/// A connection that is silent this long is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Time for a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A client without streams that was told the end gets this long to say goodbye.
const LINGER: Duration = Duration::from_secs(1);
const HEALTH_PATH: &str = "/grpc.health.v1.Health/";

/// The Envoy door in front of a judge.
#[derive(Debug)]
pub struct Door<J> {
    shared: Arc<Shared<J>>,
    health: Health,
    closing: Arc<AtomicBool>,
}

impl<J: Judge> Door<J> {
    /// A door that is not open yet.
    #[must_use]
    pub fn new(judge: J, options: Options, health: Health) -> Self {
        let shared =
            Arc::new(Shared { judge, options, counts: Arc::default(), told_of_mode: AtomicBool::default() });
        Self { shared, health, closing: Arc::default() }
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }

    /// Serves until `stop` resolves and the streams have ended or their grace is over. The health service is
    /// there, too. Without `certificate` in plaintext.
    ///
    /// # Errors
    /// When the certificate cannot be served.
    pub async fn serve(
        self,
        listener: TcpListener,
        certificate: Option<&Certificate>,
        stop: impl Future<Output = Closing>,
    ) -> Result<(), TlsError> {
        let tls = certificate.map(Certificate::acceptor).transpose()?;
        let (end, ended) = watch::channel(false);
        let services = Services {
            door: Streams { shared: Arc::clone(&self.shared), closing: Arc::clone(&self.closing) },
            health: self.health.service(),
        };
        let counts = self.counts();
        let mut connections = JoinSet::new();
        let drain = async {
            let closing = stop.await;
            self.health.set_ready(false);
            sleep(closing.delay).await;
            closing
        };
        let mut drain = std::pin::pin!(drain);
        let refused = || {
            counts.connections_refused.fetch_add(1, Relaxed);
        };
        let closing = loop {
            tokio::select! {
                stream = accepted(&listener, refused) => {
                    if connections.len() >= MAX_CONNECTIONS {
                        refused();
                        continue;
                    }
                    let (services, ended) = (services.clone(), ended.clone());
                    connections.spawn(connection(stream, tls.clone(), services, ended, Arc::clone(&counts)));
                }
                Some(_) = connections.join_next() => {}
                closing = &mut drain => break closing,
            }
        };
        self.closing.store(true, Relaxed);
        drop(listener);
        end.send_replace(true);
        tracing::info!(streams = counts.streams_open.load(Relaxed), "the Envoy door closes");
        let _ = timeout(closing.grace, goodbye(&mut connections, &counts)).await;
        connections.shutdown().await;
        Ok(())
    }
}

/// Serves health alone, in plaintext, until `stop` resolves.
pub async fn serve_health(listener: TcpListener, health: Health, stop: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            stream = accepted(&listener, || ()) => {
                if connections.len() < MAX_CONNECTIONS {
                    let service = health.service();
                    connections.spawn(async move {
                        let service = service_fn(move |call| service.clone().call(call));
                        let _ = builder().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
            Some(_) = connections.join_next() => {}
            () = &mut stop => return,
        }
    }
}

/// Resolves when all connections are gone, or none has a stream for a while.
async fn goodbye(connections: &mut JoinSet<()>, counts: &Counts) {
    let mut idle_since = Instant::now();
    while !connections.is_empty() && idle_since.elapsed() < LINGER {
        tokio::select! {
            _ = connections.join_next() => {}
            () = sleep(Duration::from_millis(10)) => {}
        }
        if counts.streams_open.load(Relaxed) > 0 {
            idle_since = Instant::now();
        }
    }
}

fn builder() -> http2::Builder<Attentively> {
    let mut builder = http2::Builder::new(Attentively);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_concurrent_streams(CONNECTION_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_header_list_size(CALL_HEADER_BYTES);
    builder
}

async fn connection<J: Judge>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    services: Services<J>,
    ended: watch::Receiver<bool>,
    counts: Arc<Counts>,
) {
    // Without it a small reply may wait 40 ms for the other side's delayed ACK.
    let _ = stream.set_nodelay(true);
    let done = match tls {
        None => http(stream, services, ended).await,
        Some(tls) => match timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
            Ok(Ok(stream)) => http(stream, services, ended).await,
            _ => {
                counts.connections_refused.fetch_add(1, Relaxed);
                return;
            }
        },
    };
    if let Err(error) = done {
        tracing::debug!(%error, "an ext_proc connection ended");
    }
}

async fn http<J: Judge>(
    io: impl AsyncRead + AsyncWrite + Unpin,
    services: Services<J>,
    mut ended: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let service = service_fn(move |call| {
        let mut services = services.clone();
        async move { services.call(call).await }
    });
    let connection = builder().serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        _ = ended.wait_for(|ended| *ended) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// The two services of the door's port.
struct Services<J: Judge> {
    door: Streams<J>,
    health: crate::pb::grpc::health::v1::health_server::HealthServer<Health>,
}

impl<J: Judge> Clone for Services<J> {
    fn clone(&self) -> Self {
        Self { door: self.door.clone(), health: self.health.clone() }
    }
}

impl<J: Judge> Services<J> {
    async fn call(
        &mut self,
        call: http::Request<Incoming>,
    ) -> Result<http::Response<Body>, std::convert::Infallible> {
        if call.uri().path().starts_with(HEALTH_PATH) {
            self.health.call(call).await
        } else {
            Ok(self.door.open(call).unwrap_or_else(Status::into_http))
        }
    }
}

/// Opens streams.
struct Streams<J> {
    shared: Arc<Shared<J>>,
    closing: Arc<AtomicBool>,
}

impl<J> Clone for Streams<J> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), closing: Arc::clone(&self.closing) }
    }
}

impl<J: Judge> Streams<J> {
    fn open(&self, call: http::Request<Incoming>) -> Result<http::Response<Body>, Status> {
        grpc::check(&call)?;
        let counts = &self.shared.counts;
        let refuse = |why| {
            counts.streams_refused.fetch_add(1, Relaxed);
            Err(Status::unavailable(why))
        };
        if self.closing.load(Relaxed) {
            return refuse("closing");
        }
        let Some(open) = Open::new(counts, self.shared.options.streams) else {
            return refuse("as many streams as may be are open");
        };
        counts.streams.fetch_add(1, Relaxed);
        let longest = self.shared.options.body_limit + MESSAGE_OVERHEAD_BYTES;
        let shared = Arc::clone(&self.shared);
        let share = Share::new(Arc::clone(counts), shared.options.held_bytes);
        let input = Messages::new(call.into_body(), longest, share);
        Ok(grpc::answer(Driven::new(open, |output| Exchange::new(shared, input, output).run())))
    }
}
