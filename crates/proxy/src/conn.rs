//! One client connection as hyper sees it, with deadlines hyper does not have.
//!
//! hyper's own header timer also runs while a kept-alive connection is idle and ends it without a word.
//! Here the time from a request's first byte to the end of its headers is bounded and answered with a
//! 408, an idle connection is closed after its own, longer time, and a running request is left alone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use waypost_wire::{ApiError, Code};

const WAITING: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// Where a connection is in its life; shared with the code that serves its requests.
#[derive(Debug, Clone)]
pub(crate) struct Phase(Arc<AtomicU8>);

impl Phase {
    /// A request's headers are complete; the guard lasts until its answer is out.
    pub(crate) fn busy(&self) -> Busy {
        self.0.store(BUSY, Relaxed);
        Busy(self.clone())
    }
}

/// A request is being served while this lives.
#[derive(Debug)]
pub(crate) struct Busy(Phase);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.store(WAITING, Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    phase: Phase,
    /// The phase as last seen, to notice changes.
    seen: u8,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    header_timeout: Duration,
    keepalive_timeout: Duration,
    any_bytes: bool,
}

impl Conn {
    /// A fresh connection; its first request must arrive within `header_timeout` of `since`.
    pub(crate) fn new(
        stream: TcpStream,
        since: Instant,
        header_timeout: Duration,
        keepalive_timeout: Duration,
    ) -> Self {
        let deadline = since + header_timeout;
        Self {
            stream,
            phase: Phase(Arc::new(AtomicU8::new(HEAD))),
            seen: HEAD,
            deadline,
            timer: Box::pin(sleep_until(deadline)),
            header_timeout,
            keepalive_timeout,
            any_bytes: false,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.clone()
    }

    /// Ends the connection when its deadline is over.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let phase = self.phase.0.load(Relaxed);
        if phase != self.seen {
            self.seen = phase;
            if phase == WAITING {
                self.deadline = Instant::now() + self.keepalive_timeout;
            }
        }
        if phase == BUSY {
            return Poll::Pending;
        }
        loop {
            // The timer is moved lazily: only forward when it fires, backward when it must.
            if self.deadline < self.timer.deadline() {
                self.timer.as_mut().reset(self.deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.deadline <= Instant::now() {
                break;
            }
            self.timer.as_mut().reset(self.deadline);
        }
        if phase == HEAD && self.any_bytes {
            self.say_timeout();
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the request did not arrive in time"))
    }

    /// No answer is under way in this phase, so the 408 can go straight to the socket.
    fn say_timeout(&self) {
        let seconds = self.header_timeout.as_secs();
        let message = format!("The request headers did not arrive within {seconds} s.");
        let body = ApiError::new(Code::RequestTimeout, message).to_json();
        let head = "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n";
        let response = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        // A socket that cannot take a few hundred bytes has no reader.
        let _ = self.stream.try_write(response.as_bytes());
    }
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
                    self.any_bytes = true;
                    if self.phase.0.compare_exchange(WAITING, HEAD, Relaxed, Relaxed).is_ok() {
                        self.seen = HEAD;
                        self.deadline = Instant::now() + self.header_timeout;
                    }
                }
                Poll::Ready(done)
            }
            Poll::Pending => self.poll_deadline(cx).map(Err),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
