//! Where requests wait while every endpoint of a pool is busy: bounded, by priority, fair between callers, never for long.
//!
//! Who is next is the picker's queue's to say; here is the waiting. Whenever load is released the next one is woken, and a
//! slow tick looks as well, because engines also get free without us. Called by `placing`.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::oneshot;
use waypost_picker::{Millis, Queue};

/// Requests whose thresholds depend on what engines tell are looked at this often.
const TICK: Duration = Duration::from_millis(20);

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Its turn has come.
    Turn,
    /// Its deadline is over.
    Late,
    /// The queue is full, or somebody more urgent took the place.
    Full,
}

/// One pool's queue.
#[derive(Debug)]
pub(crate) struct WaitingRoom {
    state: Mutex<State>,
    next_ticket: AtomicU64,
    /// Requests that were refused because the queue was full, and because their time was over.
    pub(crate) refused: [AtomicU64; 2],
    most: usize,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    bells: HashMap<u64, oneshot::Sender<Woken>>,
    /// Somebody was woken and has not yet picked: nobody else is until then.
    serving: bool,
}

impl WaitingRoom {
    pub(crate) fn new(most: usize) -> Self {
        let state = State { queue: Queue::new(most), bells: HashMap::new(), serving: false };
        Self { state: Mutex::new(state), next_ticket: AtomicU64::new(1), refused: Default::default(), most }
    }

    /// Requests that may wait.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Whether a newcomer has to queue up.
    pub(crate) fn has_line(&self) -> bool {
        let state = self.state.lock();
        !state.queue.is_empty() || state.serving
    }

    /// Waits for a turn until `deadline` on the picker's clock. After [`Woken::Turn`] the caller holds the turn until it
    /// drops the guard.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        caller: u64,
        priority: i32,
        deadline: Millis,
        now: &(dyn Fn() -> Millis + Sync),
        has_room: &(dyn Fn() -> bool + Sync),
    ) -> Result<Turn, Woken> {
        let ticket = self.next_ticket.fetch_add(1, Relaxed);
        let (ring, mut bell) = oneshot::channel();
        {
            let state = &mut *self.state.lock();
            match state.queue.push(caller, priority, deadline, ticket) {
                Err(_) => {
                    self.refused[0].fetch_add(1, Relaxed);
                    return Err(Woken::Full);
                }
                Ok(evicted) => {
                    if let Some(evicted) = evicted {
                        state.ring(evicted, Woken::Full);
                    }
                }
            }
            state.bells.insert(ticket, ring);
        }
        // If this future is dropped, its client has left.
        let mut waiting = Waiting { room: self, ticket: Some(ticket) };
        loop {
            match tokio::time::timeout(TICK, &mut bell).await {
                Ok(Ok(Woken::Turn)) => {
                    waiting.ticket = None;
                    return Ok(Turn(Arc::clone(self)));
                }
                Ok(Ok(woken)) => {
                    self.refused[usize::from(woken == Woken::Late)].fetch_add(1, Relaxed);
                    return Err(woken);
                }
                // Nobody drops a bell without ringing it.
                Ok(Err(_)) => return Err(Woken::Full),
                Err(_) if now() >= deadline => {
                    self.refused[1].fetch_add(1, Relaxed);
                    return Err(Woken::Late);
                }
                Err(_) if has_room() => self.call(now()),
                Err(_) => {}
            }
        }
    }

    /// Wakes the next one, unless somebody who was woken is still choosing.
    pub(crate) fn call(&self, now: Millis) {
        let state = &mut *self.state.lock();
        if state.serving {
            return;
        }
        let mut late = Vec::new();
        while let Some(ticket) = state.queue.pop(now, &mut late) {
            if state.ring(ticket, Woken::Turn) {
                state.serving = true;
                break;
            }
        }
        for ticket in late {
            state.ring(ticket, Woken::Late);
        }
    }
}

impl State {
    /// Whether somebody was there to hear it.
    fn ring(&mut self, ticket: u64, woken: Woken) -> bool {
        self.bells.remove(&ticket).is_some_and(|bell| bell.send(woken).is_ok())
    }
}

/// The right to choose next.
#[derive(Debug)]
pub(crate) struct Turn(Arc<WaitingRoom>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.state.lock().serving = false;
    }
}

/// A place in the line, given up when dropped.
struct Waiting<'a> {
    room: &'a Arc<WaitingRoom>,
    ticket: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let state = &mut *self.room.state.lock();
        state.queue.remove(ticket);
        if state.bells.remove(&ticket).is_none() {
            // It may have been woken for a turn that it does not take.
            state.serving = false;
        }
    }
}
