//! Where requests wait while every endpoint of a pool is busy: bounded, by priority, fair between callers, never for long.
//!
//! Who is next is the picker's queue's to say; here is the waiting. Whenever load is released the next one is woken, and a
//! slow tick looks as well, because engines also get free without us. One at a time has the turn to choose, and whoever
//! leaves passes it on. Called by `placing`.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use waypost_picker::{Millis, Queue};

/// Whether there is room is looked at this often, since thresholds also depend on what engines and replicas tell.
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

    /// Stands in line. The place is given up when the guard is dropped.
    ///
    /// # Errors
    /// [`Woken::Full`]
    pub(crate) fn enter<'a>(&'a self, guest: Guest<'a>) -> Result<Waiting<'a>, Woken> {
        let ticket = self.next_ticket.fetch_add(1, Relaxed);
        let (ring, bell) = oneshot::channel();
        {
            let state = &mut *self.state.lock();
            let pushed = state.queue.push(guest.caller, guest.priority, guest.deadline, ticket);
            let Ok(evicted) = pushed else {
                self.refused[0].fetch_add(1, Relaxed);
                return Err(Woken::Full);
            };
            if let Some(evicted) = evicted {
                state.ring(evicted, Woken::Full);
            }
            state.bells.insert(ticket, ring);
        }
        let waiting = Waiting { room: self, guest, ticket, bell, has_turn: false, does_not_fit: false };
        // Load that was released just before this one stood in line called nobody.
        waiting.call_if_room();
        Ok(waiting)
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

/// A request that has to wait.
#[derive(Clone, Copy)]
pub(crate) struct Guest<'a> {
    /// Who asks.
    pub(crate) caller: u64,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Until when, on the picker's clock.
    pub(crate) deadline: Millis,
    /// The picker's clock.
    pub(crate) now: &'a (dyn Fn() -> Millis + Sync),
    /// Whether the pool could take a request.
    pub(crate) has_room: &'a (dyn Fn() -> bool + Sync),
}

/// A place in the line, then the turn; both are passed on when it is dropped.
pub(crate) struct Waiting<'a> {
    room: &'a WaitingRoom,
    guest: Guest<'a>,
    ticket: u64,
    bell: oneshot::Receiver<Woken>,
    has_turn: bool,
    /// It was its turn, and there was room for others only.
    does_not_fit: bool,
}

impl Waiting<'_> {
    /// Waits for the turn, and has it then until this is dropped or goes [back](Self::back).
    ///
    /// # Errors
    /// [`Woken::Late`] or [`Woken::Full`]: it waits no longer.
    pub(crate) async fn turn(&mut self) -> Result<(), Woken> {
        let Guest { deadline, now, .. } = self.guest;
        let woken = loop {
            let left = Duration::from_millis(deadline.saturating_sub(now()));
            match timeout(TICK.min(left), &mut self.bell).await {
                Ok(Ok(woken)) => break woken,
                // Nobody drops a bell without ringing it.
                Ok(Err(_)) => break Woken::Full,
                Err(_) if now() >= deadline => break Woken::Late,
                Err(_) => self.call_if_room(),
            }
        };
        match woken {
            Woken::Turn => self.has_turn = true,
            Woken::Full => _ = self.room.refused[0].fetch_add(1, Relaxed),
            Woken::Late => _ = self.room.refused[1].fetch_add(1, Relaxed),
        }
        if self.has_turn { Ok(()) } else { Err(woken) }
    }

    /// It had its turn and found no endpoint. It keeps its place, since its room was taken from elsewhere; but goes behind
    /// the others when there is room again and again that only they can use.
    pub(crate) fn back(&mut self) {
        let Guest { caller, priority, deadline, has_room, .. } = self.guest;
        let room_left = has_room();
        let behind = room_left && self.does_not_fit;
        self.does_not_fit = room_left;
        self.has_turn = false;
        {
            let (ring, bell) = oneshot::channel();
            self.bell = bell;
            let state = &mut *self.room.state.lock();
            state.serving = false;
            state.queue.put_back(caller, priority, deadline, self.ticket, !behind);
            state.bells.insert(self.ticket, ring);
        }
        // Not at once for those who would come back as fast: the tick does it.
        if !behind {
            self.call_if_room();
        }
    }

    fn call_if_room(&self) {
        if (self.guest.has_room)() {
            self.room.call((self.guest.now)());
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        {
            let state = &mut *self.room.state.lock();
            if state.bells.remove(&self.ticket).is_some() {
                state.queue.remove(self.ticket);
                return;
            }
            // It may have been given a turn that it did not hear of.
            if !self.has_turn && !matches!(self.bell.try_recv(), Ok(Woken::Turn)) {
                return;
            }
            state.serving = false;
        }
        // There may be room for one more.
        self.call_if_room();
    }
}

#[cfg(test)]
mod tests;
