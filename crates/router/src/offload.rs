//! Work of milliseconds on threads of its own: a bounded queue, a deadline, and an answer or the reason for none.
//!
//! An event loop must not compute for that long. A job that nobody waits for any more is not done. Called by `reading`
//! and `encoding`.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::fmt::{Debug, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    /// Too many others wait.
    Busy,
    /// Its time was up.
    Late,
    /// It broke off.
    Failed,
    /// There are no threads.
    Off,
}

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Threads that start when first needed and end when this is dropped. Each keeps an `S` from job to job.
pub(crate) struct Offload<S> {
    name: &'static str,
    threads: usize,
    queue_jobs: usize,
    begin: Arc<dyn Fn() -> Option<S> + Send + Sync>,
    /// `None` once no thread could be started.
    queue: OnceLock<Option<Sender<Job<S>>>>,
}

impl<S: 'static> Offload<S> {
    /// So many threads and jobs that may wait for one; a thread for which `begin` makes nothing ends.
    pub(crate) fn new(
        name: &'static str,
        threads: usize,
        queue_jobs: usize,
        begin: impl Fn() -> Option<S> + Send + Sync + 'static,
    ) -> Self {
        Self { name, threads, queue_jobs, begin: Arc::new(begin), queue: OnceLock::new() }
    }

    /// Starts the threads, which begin in the background.
    pub(crate) fn start(&self) {
        self.queue();
    }

    /// Jobs that wait.
    pub(crate) fn depth(&self) -> usize {
        self.queue.get().and_then(Option::as_ref).map_or(0, Sender::len)
    }

    /// Does `work` on a thread, unless that takes longer than `limit` or too many others wait.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, Undone> {
        let deadline = Instant::now() + limit;
        let (reply, answer) = oneshot::channel();
        let job: Job<S> = Box::new(move |kept| {
            if Instant::now() < deadline && !reply.is_closed() {
                // Whoever asked may have left meanwhile.
                let _ = reply.send(work(kept));
            }
        });
        self.queue().ok_or(Undone::Off)?.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Undone::Busy,
            TrySendError::Disconnected(_) => Undone::Failed,
        })?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(done)) => Ok(done),
            // Dropped unanswered: because its time was up, or because it broke.
            Ok(Err(_)) if Instant::now() < deadline => Err(Undone::Failed),
            Ok(Err(_)) | Err(_) => Err(Undone::Late),
        }
    }

    fn queue(&self) -> Option<&Sender<Job<S>>> {
        let start = || {
            let (sender, jobs) = bounded(self.queue_jobs);
            let started = (0..self.threads).filter(|index| self.spawn(*index, &jobs).is_ok()).count();
            (started > 0).then_some(sender)
        };
        self.queue.get_or_init(start).as_ref()
    }

    fn spawn(&self, index: usize, jobs: &Receiver<Job<S>>) -> std::io::Result<()> {
        let (begin, jobs) = (Arc::clone(&self.begin), jobs.clone());
        let work = move || {
            let Some(mut kept) = begin() else { return };
            jobs.iter().for_each(|job| job(&mut kept));
        };
        // A job that panics costs its own answer and what the thread kept, not the thread.
        let run = move || while catch_unwind(AssertUnwindSafe(&work)).is_err() {};
        std::thread::Builder::new().name(format!("{}-{index}", self.name)).spawn(run).map(drop)
    }
}

impl<S> Debug for Offload<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offload").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SOON: Duration = Duration::from_millis(5);

    /// Threads that count their jobs.
    fn counting(threads: usize) -> Offload<u32> {
        Offload::new("test", threads, 64, || Some(0))
    }

    fn count(jobs: &mut u32) -> u32 {
        *jobs += 1;
        *jobs
    }

    #[tokio::test]
    async fn jobs_are_done_late_or_broken_and_the_threads_survive() {
        let offload = counting(2);
        assert_eq!(offload.run(MINUTE, |_| 7).await, Ok(7));
        let slow = |_: &mut u32| std::thread::sleep(Duration::from_millis(200));
        assert_eq!(offload.run(SOON, slow).await, Err(Undone::Late));
        for _ in 0..64 {
            let broken = offload.run(MINUTE, |_| -> u8 { std::panic::panic_any("broken") }).await;
            assert_eq!(broken, Err(Undone::Failed));
        }
        assert_eq!(offload.run(MINUTE, |_| 8).await, Ok(8));
    }

    #[tokio::test]
    async fn a_thread_keeps_what_it_has_until_a_job_breaks() {
        let offload = counting(1);
        assert_eq!(offload.run(MINUTE, count).await, Ok(1));
        assert_eq!(offload.run(MINUTE, count).await, Ok(2));
        let broken = offload.run(MINUTE, |_| -> u8 { std::panic::panic_any("broken") }).await;
        assert_eq!(broken, Err(Undone::Failed));
        assert_eq!(offload.run(MINUTE, count).await, Ok(1));
    }

    #[tokio::test]
    async fn nobody_works_for_those_who_left_or_gave_up() {
        let offload = counting(1);
        let (let_go, held) = std::sync::mpsc::channel();
        let others = async {
            assert_eq!(offload.run(SOON, count).await, Err(Undone::Late));
            assert!(tokio::time::timeout(SOON, offload.run(MINUTE, count)).await.is_err());
            assert!(offload.depth() >= 2);
            let_go.send(()).unwrap();
        };
        let (busy, ()) = tokio::join!(offload.run(MINUTE, move |_| held.recv()), others);
        assert_eq!(busy, Ok(Ok(())));
        assert_eq!(offload.run(MINUTE, count).await, Ok(1));
    }

    #[tokio::test]
    async fn threads_end_with_the_last_who_could_ask() {
        let kept = Arc::new(());
        let begin = {
            let kept = Arc::clone(&kept);
            move || Some(Arc::clone(&kept))
        };
        let offload = Offload::new("test", 2, 4, begin);
        offload.start();
        drop(offload);
        for _ in 0..600 {
            if Arc::strong_count(&kept) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("threads still hold what they kept");
    }
}
