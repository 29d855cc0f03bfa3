//! Tier 1 on threads of its own: a bounded queue, a deadline, and an answer or the reason for none.
//!
//! An event loop never waits for the encoder's milliseconds of arithmetic; whoever asks goes on with tier 0 when the
//! queue is full or the deadline passes. A job nobody waits for any more costs no encoder time. Called by `classifying`.

use crate::decision::Asked;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use waypost_classify::Error;
use waypost_classify::encoder::{Branch, Encoder, Encoding, Session, excerpt};
use waypost_config::Encoder as Settings;

/// The latest encoding counts for this part of the mean.
const MEAN_OVER: u64 = 8;

/// The encoder's threads. They start when first needed and end when this is dropped.
#[derive(Debug)]
pub(crate) struct Encoders {
    encoder: Arc<Encoder>,
    settings: Settings,
    threads: usize,
    /// `None` once the threads could not be started.
    queue: OnceLock<Option<Sender<Job>>>,
    /// Microseconds that an encoding has lately taken.
    mean_us: Arc<AtomicU64>,
}

/// A text that somebody waits for.
#[derive(Debug)]
struct Job {
    text: String,
    branch: Branch,
    deadline: Instant,
    reply: oneshot::Sender<Encoding>,
}

impl Encoders {
    /// Threads as `settings` want them, not yet started.
    pub(crate) fn new(encoder: Arc<Encoder>, settings: Settings) -> Self {
        let half = || std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Self {
            encoder,
            settings,
            threads: settings.threads.unwrap_or_else(half),
            queue: OnceLock::new(),
            mean_us: Arc::default(),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Starts the threads, which unpack the encoder's weights in the background.
    pub(crate) fn start(&self) {
        self.queue();
    }

    /// Jobs that wait.
    pub(crate) fn depth(&self) -> usize {
        self.queue.get().and_then(Option::as_ref).map_or(0, Sender::len)
    }

    /// The encoding of `text`, unless it cannot be had within the deadline, or within `timeout` where that is shorter.
    pub(crate) async fn encode(
        &self,
        text: &str,
        branch: Branch,
        timeout: Duration,
    ) -> Result<Encoding, Asked> {
        let queue = self.queue().ok_or(Asked::Off)?;
        let time = timeout.min(self.settings.deadline);
        if self.wait(queue.len()) > time {
            return Err(Asked::Busy);
        }
        let deadline = Instant::now() + time;
        let (reply, answer) = oneshot::channel();
        queue.try_send(Job { text: excerpt(text), branch, deadline, reply }).map_err(
            |error| match error {
                TrySendError::Full(_) => Asked::Busy,
                TrySendError::Disconnected(_) => Asked::Failed,
            },
        )?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(encoding)) => Ok(encoding),
            // Dropped unanswered: because its time was up, or because the encoder broke on it.
            Ok(Err(_)) if Instant::now() < deadline => Err(Asked::Failed),
            Ok(Err(_)) | Err(_) => Err(Asked::Late),
        }
    }

    /// How long a new job would wait behind `ahead` others: a queue that is too long for its deadline would have every
    /// job wait in vain.
    fn wait(&self, ahead: usize) -> Duration {
        Duration::from_micros(self.mean_us.load(Relaxed) * ahead as u64 / self.threads as u64)
    }

    fn queue(&self) -> Option<&Sender<Job>> {
        if self.threads == 0 {
            return None;
        }
        let start = || {
            let (sender, jobs) = bounded(self.settings.queue);
            let started = (0..self.threads).filter(|index| self.spawn(*index, &jobs).is_ok()).count();
            (started > 0).then_some(sender)
        };
        self.queue.get_or_init(start).as_ref()
    }

    fn spawn(&self, index: usize, jobs: &Receiver<Job>) -> std::io::Result<()> {
        let (encoder, jobs, mean_us) = (Arc::clone(&self.encoder), jobs.clone(), Arc::clone(&self.mean_us));
        let run = move || {
            // A text that makes the kernels panic costs its own answer, not the thread.
            while catch_unwind(AssertUnwindSafe(|| work(&encoder, &jobs, &mean_us))).is_err() {}
        };
        std::thread::Builder::new().name(format!("encoder-{index}")).spawn(run).map(drop)
    }
}

/// Answers jobs until nobody can ask any more.
fn work(encoder: &Arc<Encoder>, jobs: &Receiver<Job>, mean_us: &AtomicU64) -> Result<(), Error> {
    let mut session = Session::new(Arc::clone(encoder))?;
    for job in jobs {
        let begun = Instant::now();
        if !job.is_wanted(begun) {
            continue;
        }
        let encoded = session.encode(&job.text, job.branch);
        let (mean, took) = (mean_us.load(Relaxed), begun.elapsed().as_micros() as u64);
        mean_us.store(mean - mean / MEAN_OVER + took / MEAN_OVER, Relaxed);
        // An error is a defect of one text; dropping the reply tells of it.
        if let Ok(encoding) = encoded {
            let _ = job.reply.send(encoding);
        }
    }
    Ok(())
}

impl Job {
    /// Whether somebody still waits, and not in vain.
    fn is_wanted(&self, now: Instant) -> bool {
        now < self.deadline && !self.reply.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_classify::Base;

    const MINUTE: Duration = Duration::from_secs(60);

    /// On an encoder whose weights are still packed: the first thread takes a while to start.
    fn encoders(threads: usize, queue: usize, deadline: Duration) -> Encoders {
        let encoder = Arc::clone(Base::embedded().unwrap().encoder());
        Encoders::new(encoder, Settings { threads: Some(threads), queue, deadline })
    }

    #[tokio::test]
    async fn an_answer_is_what_a_session_says() {
        let encoders = encoders(2, 64, MINUTE);
        let text = "What is the capital of Peru?";
        let expected = std::thread::scope(|scope| {
            let encoder = Arc::clone(&encoders.encoder);
            scope.spawn(move || Session::new(encoder)?.encode(text, Branch::Prompt)).join().unwrap().unwrap()
        });
        assert_eq!(encoders.encode(text, Branch::Prompt, MINUTE).await, Ok(expected));
        assert!(encoders.mean_us.load(Relaxed) > 0 && encoders.depth() == 0);
    }

    #[tokio::test]
    async fn without_threads_it_is_off() {
        assert_eq!(encoders(0, 64, MINUTE).encode("x", Branch::Prompt, MINUTE).await, Err(Asked::Off));
    }

    #[tokio::test]
    async fn whoever_asks_too_much_of_it_is_told_at_once() {
        let encoders = encoders(1, 1, MINUTE);
        let ask = || encoders.encode("x", Branch::Prompt, MINUTE);
        let (first, second) = tokio::join!(ask(), ask());
        assert!(first.is_ok());
        assert_eq!(second, Err(Asked::Busy));
    }

    #[tokio::test]
    async fn a_queue_too_long_for_the_deadline_is_full_too() {
        let encoders = encoders(1, 64, Duration::from_secs(10));
        encoders.mean_us.store(20_000_000, Relaxed);
        let ask = || encoders.encode("x", Branch::Prompt, MINUTE);
        let (first, second) = tokio::join!(ask(), ask());
        assert!(first.is_ok(), "an empty queue is always tried");
        assert_eq!(second, Err(Asked::Busy));
    }

    #[tokio::test]
    async fn the_shorter_of_deadline_and_timeout_counts() {
        let nothing = Duration::from_millis(1);
        let hurried = encoders(1, 64, nothing);
        assert_eq!(hurried.encode("x", Branch::Prompt, MINUTE).await, Err(Asked::Late));
        let patient = encoders(1, 64, MINUTE);
        assert_eq!(patient.encode("x", Branch::Prompt, nothing).await, Err(Asked::Late));
    }

    #[test]
    fn nobody_works_for_those_who_left_or_gave_up() {
        let now = Instant::now();
        let job = |deadline| {
            let (reply, answer) = oneshot::channel();
            (Job { text: String::new(), branch: Branch::Prompt, deadline, reply }, answer)
        };
        let (waiting, answer) = job(now + MINUTE);
        assert!(waiting.is_wanted(now));
        drop(answer);
        assert!(!waiting.is_wanted(now));
        let (late, _answer) = job(now);
        assert!(!late.is_wanted(now));
    }

    #[tokio::test]
    async fn threads_end_with_the_last_who_could_ask() {
        let encoders = encoders(2, 4, MINUTE);
        encoders.start();
        let encoder = Arc::clone(&encoders.encoder);
        drop(encoders);
        for _ in 0..600 {
            if Arc::strong_count(&encoder) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("threads still hold the encoder");
    }
}
