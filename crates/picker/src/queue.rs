//! Requests that wait for room: who is next, and who has to go when the queue itself is full.
//!
//! Higher priorities strictly first; within one, callers take turns; within a caller, first come first served. Bounded;
//! every operation takes time in the logarithm of its length. It knows tickets only: the proxy waits and answers.

use crate::Millis;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// There is no room, and nobody waits that would have to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct Full;

/// Whether a request may be refused at once: its priority is below zero and the pool is full.
#[must_use]
pub fn is_shed(priority: i32, saturation: f64) -> bool {
    priority < 0 && saturation >= 1.0
}

/// See the module. Tickets and callers are numbers of the owner's choice.
#[derive(Debug)]
pub struct Queue {
    most: usize,
    bands: BTreeMap<i32, Band>,
    places: HashMap<u64, Place, RandomState>,
    deadlines: BTreeSet<(Millis, u64)>,
    /// Order of arrival, and of turns.
    last: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    priority: i32,
    caller: u64,
    arrival: u64,
    deadline: Millis,
}

/// Requests of one priority.
#[derive(Debug, Default)]
struct Band {
    lines: HashMap<u64, Line, RandomState>,
    /// Turn and caller.
    turns: BTreeMap<u64, u64>,
    /// Length of its line and caller.
    lengths: BTreeSet<(usize, u64)>,
}

/// Requests of one caller in a band: ticket by arrival.
#[derive(Debug, Default)]
struct Line {
    turn: u64,
    tickets: BTreeMap<u64, u64>,
}

impl Queue {
    /// An empty queue in which at most `most` requests wait.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, bands: BTreeMap::new(), places: HashMap::default(), deadlines: BTreeSet::new(), last: 0 }
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Lets `ticket` wait, which must not wait already. Returns the ticket that had to give way, to be refused: in a
    /// full queue the newest of the longest line of the lowest priority, if that is below `priority`, or if it is the
    /// same and that caller has more waiting than this one would.
    ///
    /// # Errors
    ///
    /// [`Full`] when nobody has to give way.
    pub fn push(
        &mut self,
        caller: u64,
        priority: i32,
        deadline: Millis,
        ticket: u64,
    ) -> Result<Option<u64>, Full> {
        let evicted = if self.places.len() < self.most {
            None
        } else {
            let victim = self.victim(caller, priority).ok_or(Full)?;
            self.remove(victim);
            Some(victim)
        };
        self.remove(ticket);
        self.last += 1;
        let place = Place { priority, caller, arrival: self.last, deadline };
        self.bands.entry(priority).or_default().push(place, ticket);
        self.places.insert(ticket, place);
        self.deadlines.insert((deadline, ticket));
        Ok(evicted)
    }

    /// The next one to be served, if anyone waits. Those whose deadline is over are taken out first and added to
    /// `late`, to be refused.
    pub fn pop(&mut self, now: Millis, late: &mut Vec<u64>) -> Option<u64> {
        while let Some((deadline, ticket)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.remove(ticket);
            late.push(ticket);
        }
        let band = self.bands.last_entry()?;
        let caller = band.get().turns.first_key_value().map(|(_, caller)| *caller)?;
        let (_, ticket) = band.get().lines.get(&caller)?.tickets.first_key_value()?;
        let ticket = *ticket;
        self.last += 1;
        let turn = self.last;
        band.into_mut().end_turn(caller, turn);
        self.remove(ticket);
        Some(ticket)
    }

    /// Takes a ticket out: its client left, or it was served elsewhere. False: it does not wait.
    pub fn remove(&mut self, ticket: u64) -> bool {
        let Some(place) = self.places.remove(&ticket) else { return false };
        self.deadlines.remove(&(place.deadline, ticket));
        if let Some(band) = self.bands.get_mut(&place.priority) {
            band.remove(place);
            if band.lines.is_empty() {
                self.bands.remove(&place.priority);
            }
        }
        true
    }

    /// Who has to give way to a request of this caller.
    fn victim(&self, caller: u64, priority: i32) -> Option<u64> {
        let (lowest, band) = self.bands.first_key_value()?;
        let (length, longest) = band.lengths.last()?;
        let own = band.lines.get(&caller).map_or(0, |line| line.tickets.len());
        let gives_way = *lowest < priority || (*lowest == priority && *length > own + 1);
        let line = band.lines.get(longest).filter(|_| gives_way)?;
        line.tickets.last_key_value().map(|(_, ticket)| *ticket)
    }
}

impl Band {
    fn push(&mut self, place: Place, ticket: u64) {
        let line = self.lines.entry(place.caller).or_default();
        let length = line.tickets.len();
        if length == 0 {
            line.turn = place.arrival;
            self.turns.insert(line.turn, place.caller);
        }
        line.tickets.insert(place.arrival, ticket);
        self.lengths.remove(&(length, place.caller));
        self.lengths.insert((length + 1, place.caller));
    }

    /// The caller goes behind all others.
    fn end_turn(&mut self, caller: u64, turn: u64) {
        if let Some(line) = self.lines.get_mut(&caller) {
            self.turns.remove(&line.turn);
            line.turn = turn;
            self.turns.insert(turn, caller);
        }
    }

    fn remove(&mut self, place: Place) {
        let Some(line) = self.lines.get_mut(&place.caller) else { return };
        let length = line.tickets.len();
        if line.tickets.remove(&place.arrival).is_none() {
            return;
        }
        self.lengths.remove(&(length, place.caller));
        if length > 1 {
            self.lengths.insert((length - 1, place.caller));
        } else {
            self.turns.remove(&line.turn);
            self.lines.remove(&place.caller);
        }
    }
}
