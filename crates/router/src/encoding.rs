//! Tier 1 on threads of its own, one encoder session each.
//!
//! An event loop never waits for the encoder's milliseconds of arithmetic; whoever asks goes on with tier 0 when the
//! queue is full or the deadline passes. Called by `classifying`.

use crate::decision::Asked;
use crate::offload::{Offload, Undone};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use waypost_classify::encoder::{Branch, Encoder, Encoding, Session};
use waypost_config::Encoder as Settings;

/// The latest encoding counts for this part of the mean.
const MEAN_OVER: u64 = 8;

/// The encoder's threads.
#[derive(Debug)]
pub(crate) struct Encoders {
    settings: Settings,
    threads: usize,
    offload: Offload<Session>,
    /// Microseconds that an encoding has lately taken.
    mean_us: Arc<AtomicU64>,
}

impl Encoders {
    /// Threads as `settings` want them, not yet started.
    pub(crate) fn new(encoder: Arc<Encoder>, settings: Settings) -> Self {
        let half = || std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        let threads = settings.threads.unwrap_or_else(half);
        let begin = move || Session::new(Arc::clone(&encoder)).ok();
        let offload = Offload::new("encoder", threads, settings.queue, begin);
        Self { settings, threads, offload, mean_us: Arc::default() }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Starts the threads, which unpack the encoder's weights in the background.
    pub(crate) fn start(&self) {
        self.offload.start();
    }

    /// Jobs that wait.
    pub(crate) fn depth(&self) -> usize {
        self.offload.depth()
    }

    /// The encoding of a text by its `excerpt`, unless it cannot be had within the deadline, or within `timeout` where that
    /// is shorter.
    pub(crate) async fn encode(
        &self,
        excerpt: Arc<str>,
        branch: Branch,
        timeout: Duration,
    ) -> Result<Encoding, Asked> {
        let time = timeout.min(self.settings.deadline);
        if self.wait() > time {
            return Err(Asked::Busy);
        }
        let mean_us = Arc::clone(&self.mean_us);
        let encode = move |session: &mut Session| {
            let begun = Instant::now();
            let encoded = session.encode(&excerpt, branch);
            let (mean, took) = (mean_us.load(Relaxed), begun.elapsed().as_micros() as u64);
            mean_us.store(mean - mean / MEAN_OVER + took / MEAN_OVER, Relaxed);
            encoded
        };
        match self.offload.run(time, encode).await {
            Ok(Ok(encoding)) => Ok(encoding),
            // An error is a defect of one text.
            Ok(Err(_)) | Err(Undone::Failed) => Err(Asked::Failed),
            Err(Undone::Late) => Err(Asked::Late),
            Err(Undone::Busy) => Err(Asked::Busy),
            Err(Undone::Off) => Err(Asked::Off),
        }
    }

    /// How long a new job would wait behind the others: a queue that is too long for its deadline would have every job
    /// wait in vain.
    fn wait(&self) -> Duration {
        let ahead = self.depth() as u64;
        Duration::from_micros(self.mean_us.load(Relaxed) * ahead / self.threads.max(1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_classify::Base;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Its weights are still packed: the first thread takes a while to start.
    fn encoder() -> Arc<Encoder> {
        Arc::clone(Base::embedded().unwrap().encoder())
    }

    fn encoders(threads: usize, queue: usize, deadline: Duration) -> Encoders {
        Encoders::new(encoder(), Settings { threads: Some(threads), queue, deadline })
    }

    #[tokio::test]
    async fn an_answer_is_what_a_session_says() {
        let (encoder, settings) = (encoder(), Settings { threads: Some(2), queue: 64, deadline: MINUTE });
        let encoders = Encoders::new(Arc::clone(&encoder), settings);
        let text = "What is the capital of Peru?";
        let expected = std::thread::scope(|scope| {
            scope.spawn(|| Session::new(encoder)?.encode(text, Branch::Prompt)).join().unwrap().unwrap()
        });
        assert_eq!(encoders.encode(text.into(), Branch::Prompt, MINUTE).await, Ok(expected));
        assert!(encoders.mean_us.load(Relaxed) > 0 && encoders.depth() == 0);
    }

    #[tokio::test]
    async fn without_threads_it_is_off() {
        assert_eq!(encoders(0, 64, MINUTE).encode("x".into(), Branch::Prompt, MINUTE).await, Err(Asked::Off));
    }

    #[tokio::test]
    async fn whoever_asks_too_much_of_it_is_told_at_once() {
        let encoders = encoders(1, 1, MINUTE);
        let ask = || encoders.encode("x".into(), Branch::Prompt, MINUTE);
        let (first, second) = tokio::join!(ask(), ask());
        assert!(first.is_ok());
        assert_eq!(second, Err(Asked::Busy));
    }

    #[tokio::test]
    async fn a_queue_too_long_for_the_deadline_is_full_too() {
        let encoders = encoders(1, 64, Duration::from_secs(10));
        encoders.mean_us.store(20_000_000, Relaxed);
        let ask = || encoders.encode("x".into(), Branch::Prompt, MINUTE);
        let (first, second) = tokio::join!(ask(), ask());
        assert!(first.is_ok(), "an empty queue is always tried");
        assert_eq!(second, Err(Asked::Busy));
    }

    #[tokio::test]
    async fn the_shorter_of_deadline_and_timeout_counts() {
        let nothing = Duration::from_nanos(1);
        let hurried = encoders(1, 64, nothing);
        assert_eq!(hurried.encode("x".into(), Branch::Prompt, MINUTE).await, Err(Asked::Late));
        let patient = encoders(1, 64, MINUTE);
        assert_eq!(patient.encode("x".into(), Branch::Prompt, nothing).await, Err(Asked::Late));
    }
}
