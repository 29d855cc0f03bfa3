//! The engine as a server: listener, connections, and their ends, abrupt ones included.
//!
//! An accept loop of its own instead of a framework's, because faults need the socket: the listener closes and opens
//! again on demand, and connections can be reset. HTTP/1.1 only, without TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::core::Core;
use crate::faults::Gate;
use crate::io::{Io, Line};
use crate::metrics::Held;
use crate::routes::handle;
use crate::sockets;
use crate::{Error, Faults, Options, Recorded, Stats};

/// Connections at once; beyond that a new one is closed at once.
const MAX_CONNECTIONS: u64 = 65_536;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;
/// Pause after a failed accept or bind, so that a lack of descriptors does not become a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Open connections get this long before a hang-up, so that the answer to the request for it gets out.
const HANG_UP_GRACE: Duration = Duration::from_millis(10);

/// A running engine. Dropping it stops it.
pub struct Engine {
    addr: SocketAddr,
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// The tasks of the event streams.
    sockets: JoinSet<()>,
}

impl Engine {
    /// Starts an engine on this address; port 0 takes a free one.
    ///
    /// # Errors
    /// If an option is out of range or the address cannot be listened on.
    pub async fn start(addr: SocketAddr, options: Options) -> Result<Engine, Error> {
        options.check()?;
        let fail = |source| Error::Listen { addr, source };
        let listener = listen(addr).map_err(fail)?;
        let addr = listener.local_addr().map_err(fail)?;
        let (stop, stopped) = watch::channel(false);
        let sockets = sockets::open(&options, &stopped).await?;
        let core = Arc::new(Core::new(options, addr, &sockets)?);
        let acceptor =
            Acceptor { addr, core: Arc::clone(&core), listener: Some(listener), connections: JoinSet::new() };
        let task = tokio::spawn(acceptor.run(stopped));
        Ok(Engine { addr, core, stop, task, sockets: sockets.tasks })
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops at once, as a killed process would: no connection is ended in good order.
    /// When it returns, the port is free.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // It can only fail by being cancelled, and then it has stopped as well.
        let _ = (&mut self.task).await;
        while self.sockets.join_next().await.is_some() {}
    }

    /// The faults in force, to be changed at any time.
    pub fn faults(&self) -> &Faults {
        &self.core.faults
    }

    /// What came in so far and how it ended.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Where KV events are published, by rank; empty unless [`Options::kv_events`] is set.
    pub fn kv_events(&self) -> &[String] {
        &self.core.kv_events
    }

    /// Where KV events can be asked for again, by rank; empty unless [`Options::kv_replay`] is set.
    pub fn kv_replay(&self) -> &[String] {
        &self.core.kv_replay
    }

    /// The latest requests, oldest first; empty unless [`Options::record`] is set.
    pub fn requests(&self, last: usize) -> Vec<Recorded> {
        self.core.recorder.last(last)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Otherwise the port could not be taken again while old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

struct Acceptor {
    addr: SocketAddr,
    core: Arc<Core>,
    /// None while connections are refused.
    listener: Option<TcpListener>,
    connections: JoinSet<()>,
}

impl Acceptor {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut gate = self.core.faults.gate();
        loop {
            let wanted = *gate.borrow_and_update();
            self.follow(wanted);
            tokio::select! {
                _ = stopped.changed() => break,
                _ = gate.changed() => {}
                () = opening(wanted, self.listener.is_some()) => self.core.faults.open_if_due(),
                accepted = accept(self.listener.as_ref()) => match accepted {
                    Ok(stream) => self.serve(stream),
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                },
                Some(_) = self.connections.join_next() => {}
            }
        }
        drop(self.listener.take());
        self.connections.shutdown().await;
    }

    /// Opens or closes the listener as the gate wants it.
    fn follow(&mut self, wanted: Gate) {
        match wanted {
            Gate::Closed { .. } => self.listener = None,
            // Should another process have taken the port, it is tried again after a pause.
            Gate::Open if self.listener.is_none() => self.listener = listen(self.addr).ok(),
            Gate::Open => {}
        }
        self.core.faults.set_listening(self.listener.is_some());
    }

    fn serve(&mut self, stream: TcpStream) {
        let open = self.core.board.connection();
        if self.core.board.connections_open() > MAX_CONNECTIONS {
            return;
        }
        self.connections.spawn(connection(Arc::clone(&self.core), stream, open));
    }
}

/// Waits until a closed gate is to open, or a listener that could not be opened is to be tried again.
async fn opening(wanted: Gate, listening: bool) {
    match wanted {
        Gate::Closed { until: Some(until), .. } => tokio::time::sleep_until(until).await,
        Gate::Open if !listening => tokio::time::sleep_until(Instant::now() + RETRY_PAUSE).await,
        _ => std::future::pending().await,
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// One connection to its end. That end may be an error of the client or a fault; neither is of interest here.
async fn connection(core: Arc<Core>, stream: TcpStream, _open: Held) {
    // Tokens are small packets and must not wait for one another.
    let _ = stream.set_nodelay(true);
    let mut gate = core.faults.gate();
    let line = Line::default();
    let io = TokioIo::new(Io::new(stream, line.clone()));
    let service = service_fn(move |request| handle(Arc::clone(&core), line.clone(), request));
    let serving = http1::Builder::new().auto_date_header(false).serve_connection(io, service);
    let hung_up = async {
        let shut = |gate: &Gate| matches!(gate, Gate::Closed { hang_up: true, .. });
        let seen = gate.wait_for(shut).await.is_ok();
        if seen {
            tokio::time::sleep(HANG_UP_GRACE).await;
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        _ = serving => {}
        () = hung_up => {}
    }
}
