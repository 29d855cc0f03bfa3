//! Repeats many small jobs, each at its own pace, within one task and with a bound on how many run at once.
//!
//! Jobs start spread over their first interval and are moved by up to a tenth at random each time, so that neither the
//! endpoints nor several Waypost processes march in step. A job that fails waits twice as long each time. Never runs a
//! job beside itself. Used by the scraper and the health checks.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a job runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Time from one start to the next.
    pub(crate) interval: Duration,
    /// The longest it becomes while the job fails.
    pub(crate) longest: Duration,
}

impl Pace {
    fn after(self, failures: u32) -> Duration {
        let grown = self.interval.saturating_mul(1 << failures.min(16));
        grown.min(self.longest.max(self.interval)).mul_f64(0.9 + 0.2 * fastrand::f64())
    }
}

/// Runs the job of every target at its pace, until it is dropped; a job says whether it went well.
pub(crate) async fn run<'a, T, F: Future<Output = bool>>(
    targets: &'a [T],
    pace: impl Fn(&T) -> Pace,
    at_once: usize,
    job: impl Fn(&'a T) -> F,
) {
    let begin = Instant::now();
    let first = |(index, target): (usize, &T)| {
        Reverse((begin + pace(target).interval.mul_f64(fastrand::f64()), index, 0))
    };
    let mut due: BinaryHeap<_> = targets.iter().enumerate().map(first).collect();
    let mut running = FuturesUnordered::new();
    loop {
        let now = Instant::now();
        while running.len() < at_once
            && let Some(Reverse((_, index, failures))) = due.pop_if_due(now)
            && let Some(target) = targets.get(index)
        {
            let (pace, job) = (pace(target), job(target));
            running.push(async move {
                let failures = if job.await { 0 } else { failures + 1u32 };
                Reverse((now + pace.after(failures), index, failures))
            });
        }
        let next = if running.len() < at_once { due.peek().map(|Reverse((at, ..))| *at) } else { None };
        if running.is_empty() && next.is_none() {
            return;
        }
        tokio::select! {
            Some(again) = running.next() => due.push(again),
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}

/// When a job is due, which, and how often it has failed in a row.
type Due = Reverse<(Instant, usize, u32)>;

trait PopIfDue {
    fn pop_if_due(&mut self, now: Instant) -> Option<Due>;
}

impl PopIfDue for BinaryHeap<Due> {
    fn pop_if_due(&mut self, now: Instant) -> Option<Due> {
        self.peek().is_some_and(|Reverse((at, ..))| *at <= now).then(|| self.pop()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    const TEN_MS: Pace = Pace { interval: Duration::from_millis(10), longest: Duration::from_millis(160) };

    #[tokio::test(start_paused = true)]
    async fn jobs_keep_their_pace_and_failing_ones_back_off() {
        let ran = RefCell::new([0u32; 3]);
        let job = |&index: &usize| {
            ran.borrow_mut()[index] += 1;
            async move { index != 2 }
        };
        let slow = Pace { interval: Duration::from_millis(100), ..TEN_MS };
        let pace = |index: &usize| if *index == 1 { slow } else { TEN_MS };
        let _ = tokio::time::timeout(Duration::from_secs(2), run(&[0, 1, 2], pace, 9, job)).await;
        let [fast, slow, failing] = *ran.borrow();
        assert!((170..=220).contains(&fast), "{fast} runs of 200");
        assert!((18..=22).contains(&slow), "{slow} runs of 20");
        assert!((12..=20).contains(&failing), "{failing} runs: 10, 20, 40, 80, 160, 160 … ms");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_jobs_never_run_beside_themselves_nor_above_the_bound() {
        let (now, most, runs) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let job = |_: &()| async {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            runs.set(runs.get() + 1);
            tokio::time::sleep(Duration::from_millis(50)).await;
            now.set(now.get() - 1);
            true
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), run(&[(); 7], |()| TEN_MS, 3, job)).await;
        assert_eq!(most.get(), 3);
        assert!((50..=60).contains(&runs.get()), "{} runs, 3 at once for 50 ms each", runs.get());
        // Those of the first round were dropped in their sleep.
        most.set(0);
        now.set(0);
        let _ = tokio::time::timeout(Duration::from_secs(1), run(&[()], |()| TEN_MS, 3, job)).await;
        assert_eq!(most.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_jobs_there_is_nothing_to_wait_for() {
        run(&[], |()| TEN_MS, 1, |()| async { true }).await;
    }
}
