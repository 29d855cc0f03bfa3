//! Tasks for the streams of a connection that notice at once what they call to themselves.
//!
//! hyper asks h2 for room to send, and h2 wakes whoever asks, which is the task at work. Tokio takes that for a task that
//! steps back for others and wakes a second thread to take it over: two system calls and a change of core for each
//! message. Called by `server`.

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::task::{Context, Poll, Wake, Waker};

/// Calls to itself that a task follows before it steps back.
const ROUNDS: usize = 8;

/// Spawns attentive tasks on tokio.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attentively;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Attentively {
    fn execute(&self, work: F) {
        let bell = Arc::<Bell>::default();
        let waker = Waker::from(Arc::clone(&bell));
        drop(tokio::spawn(Attentive { work: Box::pin(work), bell, waker }));
    }
}

struct Attentive<F> {
    work: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<F: Future> Future for Attentive<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { work, bell, waker } = &mut *self;
        bell.task.register(cx.waker());
        for _ in 0..ROUNDS {
            bell.state.swap(AT_WORK, AcqRel);
            let done = work.as_mut().poll(&mut Context::from_waker(waker));
            if done.is_ready() || bell.state.compare_exchange(AT_WORK, AWAY, AcqRel, Acquire).is_ok() {
                return done;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Wakes the task if it is away; a task at work looks at the bell before it goes.
#[derive(Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

const AWAY: u8 = 0;
const AT_WORK: u8 = 1;
const RUNG: u8 = 2;

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, AcqRel) == AWAY {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn attentive<F: Future>(work: F) -> Attentive<F> {
        let bell = Arc::<Bell>::default();
        Attentive { work: Box::pin(work), waker: Waker::from(Arc::clone(&bell)), bell }
    }

    fn poll<F: Future>(task: &mut Attentive<F>, wakes: &Arc<Counted>) -> Poll<F::Output> {
        Pin::new(task).poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
    }

    #[test]
    fn a_call_to_itself_is_followed_without_a_wake() {
        let wakes = Arc::new(Counted::default());
        let mut left = 3;
        let mut task = attentive(std::future::poll_fn(|cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert_eq!(poll(&mut task, &wakes), Poll::Ready(()));
        assert_eq!(wakes.0.load(Relaxed), 0);
    }

    #[test]
    fn one_that_calls_itself_without_end_steps_back() {
        let (wakes, mut polls) = (Arc::new(Counted::default()), 0);
        let mut task = attentive(std::future::poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        assert_eq!(poll(&mut task, &wakes), Poll::Pending);
        assert_eq!(poll(&mut task, &wakes), Poll::Pending);
        drop(task);
        assert_eq!((polls, wakes.0.load(Relaxed)), (2 * ROUNDS, 2));
    }

    #[test]
    fn whoever_calls_while_it_is_away_wakes_it_once() {
        let (wakes, kept) = (Arc::new(Counted::default()), Mutex::new(None));
        let mut task = attentive(std::future::poll_fn(|cx| {
            let called = kept.lock().unwrap().replace(cx.waker().clone()).is_some();
            if called { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert_eq!(poll(&mut task, &wakes), Poll::Pending);
        let waker = kept.lock().unwrap().clone().unwrap();
        waker.wake_by_ref();
        waker.wake();
        assert_eq!(wakes.0.load(Relaxed), 1);
        assert_eq!(poll(&mut task, &wakes), Poll::Ready(()));
    }
}
