//! Work of milliseconds on threads of its own: a bounded queue, a deadline, and an answer or the reason for none.
//!
//! An event loop must not compute for that long. A job that nobody waits for any more is not done. Called by `reading`.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::oneshot;

/// Jobs that may wait for a thread.
const QUEUE_JOBS: usize = 1024;

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    /// Too many others wait.
    Busy,
    /// Its time was up.
    Late,
    /// It broke off, or there are no threads.
    Failed,
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads that start when first needed and end when this is dropped.
#[derive(Debug)]
pub(crate) struct Offload {
    name: &'static str,
    queue: OnceLock<Sender<Job>>,
}

impl Offload {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, queue: OnceLock::new() }
    }

    /// Does `work` on a thread, unless that takes longer than `limit` or too many others wait.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undone> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !reply.is_closed() {
                // Whoever asked may have left meanwhile.
                let _ = reply.send(work());
            }
        });
        self.queue().try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Undone::Busy,
            TrySendError::Disconnected(_) => Undone::Failed,
        })?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(Undone::Failed),
            Err(_) => Err(Undone::Late),
        }
    }

    fn queue(&self) -> &Sender<Job> {
        self.queue.get_or_init(|| {
            let (sender, jobs) = bounded(QUEUE_JOBS);
            let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            for index in 0..threads.div_ceil(2) {
                let jobs: Receiver<Job> = jobs.clone();
                let run = move || {
                    for job in jobs {
                        // A job that panics costs its own answer, not the thread.
                        let _ = catch_unwind(AssertUnwindSafe(job));
                    }
                };
                // Without any thread the queue is closed, and every job fails.
                let _ = std::thread::Builder::new().name(format!("{}-{index}", self.name)).spawn(run);
            }
            sender
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_are_done_late_or_broken_and_the_threads_survive() {
        let offload = Offload::new("test");
        let minute = Duration::from_secs(60);
        assert_eq!(offload.run(minute, || 7).await, Ok(7));
        let slow = || std::thread::sleep(Duration::from_millis(200));
        assert_eq!(offload.run(Duration::from_millis(5), slow).await, Err(Undone::Late));
        for _ in 0..64 {
            let broken = offload.run(minute, || -> u8 { std::panic::panic_any("broken") }).await;
            assert_eq!(broken, Err(Undone::Failed));
        }
        assert_eq!(offload.run(minute, || 8).await, Ok(8));
    }
}
