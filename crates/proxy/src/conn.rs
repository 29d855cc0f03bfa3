//! One client connection as hyper sees it, with the deadline hyper does not have.
//!
//! hyper's own header timer also runs while a kept-alive connection is idle and ends it without a word.
//! Here the time from a request's first byte to the end of its headers is bounded and answered with a
//! 408, a client that stops taking its answer is cut off, and the server is told how long a connection
//! has been idle. A running request is left alone.

use http::StatusCode;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use waypost_wire::{ApiError, Code};

/// Where a connection is in its life; shared by the connection and the code that serves its requests.
#[derive(Debug, Clone)]
pub(crate) struct Phase(Arc<State>);

#[derive(Debug)]
struct State {
    opened: Instant,
    /// Requests being served: at most one for HTTP/1.1.
    busy: AtomicUsize,
    /// Milliseconds after `opened` at which the last request ended.
    idle_since: AtomicU64,
    /// Bytes of a request have come whose headers are not complete.
    in_head: AtomicBool,
}

impl Phase {
    /// A connection opened at `opened`.
    pub(crate) fn new(opened: Instant) -> Self {
        Self(Arc::new(State {
            opened,
            busy: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            in_head: AtomicBool::new(false),
        }))
    }

    /// A request's headers are complete; the guard lasts until its answer is out.
    pub(crate) fn busy(&self) -> Busy {
        self.0.in_head.store(false, Relaxed);
        self.0.busy.fetch_add(1, Relaxed);
        Busy(self.clone())
    }

    /// Resolves when the connection has been without a request for `keepalive`.
    pub(crate) async fn idle_for(&self, keepalive: Duration) {
        loop {
            let idle = self.0.busy.load(Relaxed) == 0 && !self.0.in_head.load(Relaxed);
            let now = Instant::now();
            let since = self.0.opened + Duration::from_millis(self.0.idle_since.load(Relaxed));
            let end = if idle { since + keepalive } else { now + keepalive };
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// A request is being served while this lives.
#[derive(Debug)]
pub(crate) struct Busy(Phase);

impl Drop for Busy {
    fn drop(&mut self) {
        let state = &*self.0.0;
        state.idle_since.store(state.opened.elapsed().as_millis() as u64, Relaxed);
        state.busy.fetch_sub(1, Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    phase: Phase,
    /// `None` for HTTP/2, whose frames hyper's pings watch over.
    header_timeout: Option<Duration>,
    /// End of the time for the headers that are under way; the first request's runs from the start.
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    any_bytes: bool,
    write_timeout: Duration,
    /// Runs while the client takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Conn {
    /// A fresh connection; its first request must be complete `header_timeout` after `since`.
    pub(crate) fn new(
        stream: TcpStream,
        phase: Phase,
        since: Instant,
        header_timeout: Option<Duration>,
        write_timeout: Duration,
    ) -> Self {
        let deadline = header_timeout.map(|timeout| since + timeout);
        Self {
            stream,
            phase,
            header_timeout,
            deadline,
            timer: None,
            any_bytes: false,
            write_timeout,
            stuck: None,
        }
    }

    /// Passes on how a write went, and ends one that goes nowhere for too long.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, went: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if went.is_ready() {
            self.stuck = None;
            return went;
        }
        let limit = self.write_timeout;
        let timer = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }

    /// Bytes have come: they begin a request, unless one is being served.
    fn note_bytes(&mut self) {
        self.any_bytes = true;
        let state = &*self.phase.0;
        let Some(timeout) = self.header_timeout else { return };
        if state.busy.load(Relaxed) > 0 {
            self.deadline = None;
        } else if !state.in_head.swap(true, Relaxed) && self.deadline.is_none() {
            self.deadline = Some(Instant::now() + timeout);
        }
    }

    /// Ends the connection when the headers took too long.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.phase.0.busy.load(Relaxed) > 0 {
            self.deadline = None;
        }
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        if self.any_bytes {
            say(&self.stream, &late_headers(self.header_timeout.unwrap_or_default()));
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the request headers did not arrive in time"))
    }
}

/// The error of a request whose headers are late.
pub(crate) fn late_headers(limit: Duration) -> ApiError {
    let message = format!("The request headers did not arrive within {} s.", limit.as_secs_f32());
    ApiError::new(Code::RequestTimeout, message)
}

/// An error straight to a socket on which no answer is under way, and that is closed next.
pub(crate) fn say(stream: &TcpStream, error: &ApiError) {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry = error.retry_after.map(|s| format!("retry-after: {s}\r\n")).unwrap_or_default();
    let body = error.to_json();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n{retry}");
    let response = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    // A socket that cannot take a few hundred bytes has no reader.
    let _ = stream.try_write(response.as_bytes());
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(done) => {
                if buf.filled().len() > before {
                    self.note_bytes();
                }
                Poll::Ready(done)
            }
            Poll::Pending => self.poll_deadline(cx).map(Err),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let went = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch_write(cx, went)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let went = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch_write(cx, went)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
