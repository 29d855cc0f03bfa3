//! Step 1: accept. Connection caps, first-byte and header deadlines, HTTP/1.1 and HTTP/2 without TLS,
//! and an orderly end.
//!
//! Own loop on hyper, because a ready-made one installs no header timer and has no cap. Called by the
//! binary once; runs until it is told to stop and the last request is done.

use crate::answer::Answer;
use crate::conn::{Busy, Conn, Phase, late_headers, say};
use crate::paths;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use waypost_config::{Limits, Shutdown};
use waypost_door::{Gateway, RETRY_AFTER_SHED_S, accepted};
use waypost_wire::{ApiError, Code};

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams one HTTP/2 connection may have open.
const H2_MAX_STREAMS: u32 = 256;
/// An HTTP/2 connection that is silent this long is asked whether it lives.
const H2_PING_EVERY: Duration = Duration::from_secs(30);
/// Behind our own header limits, which answer in JSON, stand hyper's at this many times them.
const HARD_HEADER_FACTOR: usize = 2;
/// Accepted connections that may wait for their thread.
const HANDOVER_QUEUE: usize = 1024;
/// An HTTP/2 client that was told the end gets this long to say goodbye.
const LINGER: Duration = Duration::from_secs(1);
/// After the last request ended, connections get this long to flush and close.
const FLUSH_TIME: Duration = Duration::from_millis(500);

/// How far a shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Serving.
    Running,
    /// Connections end after their current request.
    Closing,
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    gateway: Arc<Gateway>,
    threads: usize,
}

impl Server {
    /// A server on `listener` that serves its connections on `threads` threads.
    #[must_use]
    pub fn new(listener: TcpListener, gateway: Arc<Gateway>, threads: usize) -> Self {
        Self { listener, gateway, threads: threads.max(1) }
    }

    /// Serves until `stop` resolves and the requests in flight are done, or the grace period is over.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub async fn run(self, stop: impl Future<Output = Shutdown>) -> io::Result<()> {
        let (stage, watcher) = watch::channel(Stage::Running);
        let threads: Vec<_> = (0..self.threads)
            .map(|i| Thread::start(i, &self.gateway, &watcher))
            .collect::<io::Result<_>>()?;
        let accepting = tokio::spawn(accept(self.listener, Arc::clone(&self.gateway), threads));
        let shutdown = stop.await;
        let closing = || {
            stage.send_replace(Stage::Closing);
        };
        self.gateway.wind_down(shutdown, closing).await;
        let flushed = Instant::now() + FLUSH_TIME;
        while self.gateway.metrics().connections.get() > 0 && Instant::now() < flushed {
            sleep(Duration::from_millis(5)).await;
        }
        accepting.abort();
        // The threads hold the gateway to the end, so nothing drops it.
        self.gateway.flush_decisions();
        let cut = self.gateway.requests_in_flight();
        tracing::info!(cut, "stopped");
        Ok(())
    }
}

/// A thread with its own event loop: a connection, its requests and their upstream connections stay on
/// it, so that no wake-up crosses cores. Measured against one shared pool of workers: 10 to 15 % less CPU
/// per request.
struct Thread {
    connections: mpsc::Sender<(std::net::TcpStream, OpenConnection)>,
    load: Arc<AtomicUsize>,
}

impl Thread {
    fn start(index: usize, gateway: &Arc<Gateway>, stage: &watch::Receiver<Stage>) -> io::Result<Self> {
        let (connections, mut queue) = mpsc::channel::<(std::net::TcpStream, OpenConnection)>(HANDOVER_QUEUE);
        let load = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (gateway, stage) = (Arc::clone(gateway), stage.clone());
        std::thread::Builder::new().name(format!("waypost-{index}")).spawn(move || {
            runtime.block_on(async move {
                while let Some((stream, open)) = queue.recv().await {
                    let (gateway, stage) = (Arc::clone(&gateway), stage.clone());
                    tokio::spawn(async move {
                        let _open = open;
                        let limits = gateway.brain().snapshot().limits;
                        // What ends a connection early (a client that resets it) is not worth a log line.
                        if let Ok(stream) = TcpStream::from_std(stream) {
                            let _ = serve(stream, gateway, limits, stage).await;
                        }
                    });
                }
            });
        })?;
        Ok(Self { connections, load })
    }
}

async fn accept(listener: TcpListener, gateway: Arc<Gateway>, threads: Vec<Thread>) {
    loop {
        let failed = || gateway.metrics().refused.with_label_values(&["accept_error"]).inc();
        let stream = accepted(&listener, failed).await;
        let Some(thread) = threads.iter().min_by_key(|thread| thread.load.load(Relaxed)) else { return };
        let open = OpenConnection::new(&gateway, &thread.load);
        if gateway.metrics().connections.get() > gateway.brain().snapshot().limits.connections as i64 {
            gateway.metrics().refused.with_label_values(&["connections"]).inc();
            let error = ApiError::new(Code::Overloaded, "Waypost has as many connections open as it may.");
            say(&stream, &error.retry_after(RETRY_AFTER_SHED_S));
            continue;
        }
        if let Ok(stream) = stream.into_std() {
            // A full queue means its thread is behind; waiting leaves new connections to the kernel's backlog.
            let _ = thread.connections.send((stream, open)).await;
        }
    }
}

/// Counts a connection while it is open.
struct OpenConnection {
    gateway: Arc<Gateway>,
    load: Arc<AtomicUsize>,
}

impl OpenConnection {
    fn new(gateway: &Arc<Gateway>, load: &Arc<AtomicUsize>) -> Self {
        gateway.metrics().connections.inc();
        load.fetch_add(1, Relaxed);
        Self { gateway: Arc::clone(gateway), load: Arc::clone(load) }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Relaxed);
        self.gateway.metrics().connections.dec();
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn serve(
    stream: TcpStream,
    gateway: Arc<Gateway>,
    limits: Limits,
    mut stage: watch::Receiver<Stage>,
) -> Result<(), Failure> {
    // Without it an SSE event may wait 40 ms for the client's delayed ACK of the headers.
    stream.set_nodelay(true)?;
    let since = Instant::now();
    let mut any_bytes = false;
    let preface = starts_with_preface(&stream, &mut any_bytes);
    let Ok(is_h2) = timeout_at(since + limits.header_timeout, preface).await else {
        if any_bytes {
            say(&stream, &late_headers(limits.header_timeout));
        }
        return Ok(());
    };
    let phase = Phase::new(since);
    let hard_header_bytes = (limits.header_bytes * HARD_HEADER_FACTOR).max(8192);
    let served = phase.clone();
    // Told to stop before it began: such a connection gets one answer, so that it is not left without.
    let closing = *stage.borrow() == Stage::Closing;
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = served.busy();
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(respond(gateway, request, busy).await) }
    });
    let ended = async {
        tokio::select! {
            _ = stage.wait_for(|stage| *stage == Stage::Closing), if !closing => {}
            () = phase.idle_for(limits.keepalive_timeout) => {}
        }
    };
    if is_h2? {
        let conn = Conn::new(stream, phase.clone(), since, None, limits.write_timeout);
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(H2_PING_EVERY)
            .max_concurrent_streams(H2_MAX_STREAMS)
            .max_header_list_size(u32::try_from(hard_header_bytes).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(conn), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            done = connection.as_mut() => return Ok(done?),
            () = ended => connection.as_mut().graceful_shutdown(),
        }
        // The client has been told; one that does not answer is not waited for, once its streams are done.
        let deaf = async {
            sleep(LINGER).await;
            phase.idle_for(LINGER).await;
        };
        return tokio::select! {
            done = connection => Ok(done?),
            () = deaf => Ok(()),
        };
    }
    let conn = Conn::new(stream, phase.clone(), since, Some(limits.header_timeout), limits.write_timeout);
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(hard_header_bytes)
        .max_headers(limits.header_fields * HARD_HEADER_FACTOR)
        .keep_alive(!closing)
        .serve_connection(TokioIo::new(conn), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return Ok(done?),
        () = ended => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn respond(gateway: Arc<Gateway>, request: Request<Incoming>, busy: Busy) -> Response<Answer> {
    let mut response = paths::handle(Arc::clone(&gateway), request).await;
    if !gateway.is_ready() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|answer| answer.keep(busy))
}

/// Whether the client speaks HTTP/2: told by its first bytes, which stay in the socket.
async fn starts_with_preface(stream: &TcpStream, any_bytes: &mut bool) -> io::Result<bool> {
    let mut start = [0; H2_PREFACE.len()];
    loop {
        let n = stream.peek(&mut start).await?;
        *any_bytes |= n > 0;
        if n == 0 || start[..n] != H2_PREFACE[..n] {
            return Ok(false);
        }
        if n == H2_PREFACE.len() {
            return Ok(true);
        }
        // Part of a preface (or of a method that begins like it): peek again when more may be there.
        sleep(Duration::from_millis(2)).await;
    }
}
