//! Runs a stream's work and hands out its replies, both in the task that gRPC polls: no second task, no wake-up
//! between them, and a stream that gRPC drops takes its work along. A panic of the work becomes an error.

use crate::budget::Counts;
use crate::pb::envoy::service::ext_proc::v3::ProcessingResponse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

/// Replies that may wait to be sent; the work waits when there are more.
const REPLIES: usize = 16;

type Work = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// See the module. As a stream: the replies, then the error if there was one.
pub(crate) struct Driven {
    work: Option<Work>,
    failed: Option<Status>,
    replies: Receiver<ProcessingResponse>,
    open: Open,
}

impl Driven {
    /// Drives what `work` makes of the sender for its replies.
    pub(crate) fn new<W>(open: Open, work: impl FnOnce(Sender<ProcessingResponse>) -> W) -> Self
    where
        W: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, replies) = channel(REPLIES);
        Self { work: Some(Box::pin(work(sender))), failed: None, replies, open }
    }
}

impl std::fmt::Debug for Driven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driven").field("done", &self.work.is_none()).finish_non_exhaustive()
    }
}

impl Stream for Driven {
    type Item = Result<ProcessingResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // Only the work below makes replies, so nothing has to wake us for one; polling for them would count
            // against tokio's budget, which may say "pending" with replies at hand.
            if let Ok(reply) = self.replies.try_recv() {
                return Poll::Ready(Some(Ok(reply)));
            }
            let Some(work) = &mut self.work else { return Poll::Ready(self.failed.take().map(Err)) };
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Ready(done)) => {
                    self.failed = done.err();
                    self.work = None;
                }
                Ok(Poll::Pending) if self.replies.is_empty() => return Poll::Pending,
                Ok(Poll::Pending) => {}
                Err(_) => {
                    self.open.counts.panics.fetch_add(1, Relaxed);
                    self.failed = Some(Status::internal("the judge failed"));
                    self.work = None;
                }
            }
        }
    }
}

/// A stream counts as open while this lives.
#[derive(Debug)]
pub(crate) struct Open {
    counts: Arc<Counts>,
}

impl Open {
    /// `None` when `most` are open.
    pub(crate) fn new(counts: &Arc<Counts>, most: usize) -> Option<Self> {
        let open = Self { counts: Arc::clone(counts) };
        let before = counts.streams_open.fetch_add(1, Relaxed);
        (before < most).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.streams_open.fetch_sub(1, Relaxed);
    }
}
