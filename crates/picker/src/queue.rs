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

/// See the module. Tickets and callers are numbers of the owner's choice.
#[derive(Debug)]
pub struct Queue {
    most: usize,
    bands: BTreeMap<i32, Band>,
    places: HashMap<u64, Place, RandomState>,
    deadlines: BTreeSet<(Millis, u64)>,
    /// Order of arrival, and of turns: the latest, and the earliest, which goes down when somebody is put back.
    last: u64,
    first: u64,
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
        let (places, middle) = (HashMap::default(), u64::MAX / 2);
        Self { most, bands: BTreeMap::new(), places, deadlines: BTreeSet::new(), last: middle, first: middle }
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
        self.last += 1;
        self.insert(Place { priority, caller, arrival: self.last, deadline }, ticket);
        Ok(evicted)
    }

    /// Lets a ticket that was popped wait on, since it could not be served: before all others of its priority, or behind
    /// them. Nobody gives way to it, so the queue may be longer by those.
    pub fn put_back(&mut self, caller: u64, priority: i32, deadline: Millis, ticket: u64, in_front: bool) {
        let arrival = if in_front {
            self.first -= 1;
            self.first
        } else {
            self.last += 1;
            self.last
        };
        self.insert(Place { priority, caller, arrival, deadline }, ticket);
    }

    fn insert(&mut self, place: Place, ticket: u64) {
        self.remove(ticket);
        self.bands.entry(place.priority).or_default().push(place, ticket);
        self.places.insert(ticket, place);
        self.deadlines.insert((place.deadline, ticket));
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
        // Behind all turns, unless it was put back in front of them.
        if length == 0 || place.arrival < line.turn {
            self.turns.remove(&line.turn);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop(0, &mut Vec::new())).collect()
    }

    #[test]
    fn priorities_are_strict_callers_take_turns_and_each_is_first_come_first_served() {
        let mut queue = Queue::new(100);
        for (caller, priority, ticket) in
            [(1, 0, 10), (1, 0, 11), (1, 0, 12), (2, 0, 20), (2, 0, 21), (3, 0, 30), (1, 5, 50), (9, -1, 90)]
        {
            assert_eq!(queue.push(caller, priority, 1, ticket), Ok(None));
        }
        assert_eq!(all(&mut queue), [50, 10, 20, 30, 11, 21, 12, 90]);
        assert!(queue.is_empty() && queue.bands.is_empty() && queue.deadlines.is_empty());
    }

    #[test]
    fn a_caller_that_comes_back_waits_its_turn() {
        let mut queue = Queue::new(100);
        (10..13).for_each(|ticket| assert_eq!(queue.push(1, 0, 1, ticket), Ok(None)));
        assert_eq!(queue.push(2, 0, 1, 20), Ok(None));
        assert_eq!(queue.pop(0, &mut Vec::new()), Some(10));
        assert_eq!(queue.pop(0, &mut Vec::new()), Some(20));
        assert_eq!(queue.push(2, 0, 1, 21), Ok(None));
        assert_eq!(all(&mut queue), [11, 21, 12]);
    }

    #[test]
    fn the_late_are_handed_out_apart() {
        let mut queue = Queue::new(100);
        for (ticket, deadline) in [(1, 50), (2, 10), (3, 30)] {
            assert_eq!(queue.push(0, 0, deadline, ticket), Ok(None));
        }
        let mut late = Vec::new();
        assert_eq!(queue.pop(30, &mut late), Some(1));
        assert_eq!(late, [2, 3]);
        assert_eq!(queue.pop(30, &mut late), None);
    }

    #[test]
    fn a_full_queue_makes_room_for_higher_priorities_and_for_callers_with_less() {
        let mut queue = Queue::new(4);
        (10..13).for_each(|ticket| assert_eq!(queue.push(1, 0, 1, ticket), Ok(None)));
        assert_eq!(queue.push(2, 0, 1, 20), Ok(None));
        assert_eq!(queue.push(1, 0, 1, 13), Err(Full), "its own line is the longest");
        assert_eq!(queue.push(5, -1, 1, 50), Err(Full), "lower than all");
        assert_eq!(queue.push(2, 0, 1, 21), Ok(Some(12)), "3 against 1");
        assert_eq!(queue.push(2, 0, 1, 22), Err(Full), "2 against 2");
        assert_eq!(queue.push(3, 1, 1, 30), Ok(Some(21)));
        assert_eq!(queue.push(3, 1, 1, 31), Ok(Some(11)));
        assert_eq!(all(&mut queue), [30, 31, 10, 20]);
        assert_eq!(Queue::new(0).push(1, 9, 1, 1), Err(Full));
    }

    #[test]
    fn a_removed_ticket_is_gone() {
        let mut queue = Queue::new(4);
        (1..4).for_each(|ticket| assert_eq!(queue.push(1, 0, 1, ticket), Ok(None)));
        assert!(queue.remove(1));
        assert!(!queue.remove(1));
        assert_eq!(all(&mut queue), [2, 3]);
    }

    #[test]
    fn who_is_put_back_is_first_again_or_last_of_its_priority() {
        let mut queue = Queue::new(4);
        for (caller, ticket) in [(1, 10), (1, 11), (2, 20), (3, 30)] {
            assert_eq!(queue.push(caller, 0, 1, ticket), Ok(None));
        }
        assert_eq!(queue.pop(0, &mut Vec::new()), Some(10));
        queue.put_back(1, 0, 1, 10, true);
        assert_eq!(queue.pop(0, &mut Vec::new()), Some(10));
        queue.put_back(1, 0, 1, 10, true);
        assert_eq!(queue.push(4, 1, 1, 40), Ok(Some(11)), "still no more than four");
        assert_eq!([queue.pop(0, &mut Vec::new()), queue.pop(0, &mut Vec::new())], [Some(40), Some(10)]);
        queue.put_back(1, 0, 1, 10, false);
        assert_eq!(all(&mut queue), [20, 30, 10]);
        assert!(queue.bands.is_empty() && queue.deadlines.is_empty());
    }

    proptest! {
        /// Against a plain list: no ticket is lost or served twice, and none overtakes a higher priority or, within
        /// its caller, an earlier one.
        #[test]
        fn it_agrees_with_a_list(steps in prop::collection::vec((0..4_u8, 0..3_u64, -1..2_i32, 1..20_u64), 0..120)) {
            let mut queue = Queue::new(8);
            let mut list: Vec<(u64, u64, i32, u64)> = Vec::new();
            for (ticket, (what, caller, priority, time)) in steps.into_iter().enumerate() {
                let ticket = ticket as u64;
                match what {
                    0 | 1 => match queue.push(caller, priority, time, ticket) {
                        Ok(evicted) => {
                            list.retain(|(t, ..)| Some(*t) != evicted);
                            list.push((ticket, caller, priority, time));
                        }
                        Err(Full) => prop_assert!(list.len() == 8 && list.iter().all(|(_, _, p, _)| *p >= priority)),
                    },
                    2 => {
                        let mut late = Vec::new();
                        let popped = queue.pop(time, &mut late);
                        prop_assert!(list.iter().all(|(t, _, _, deadline)| (*deadline <= time) == late.contains(t)));
                        list.retain(|(t, ..)| !late.contains(t));
                        prop_assert_eq!(popped.is_none(), list.is_empty());
                        if let Some(ticket) = popped {
                            let at = list.iter().position(|(t, ..)| *t == ticket);
                            prop_assert!(at.is_some());
                            let (_, caller, priority, _) = list.remove(at.unwrap_or(0));
                            prop_assert!(list.iter().all(|(_, _, p, _)| *p <= priority));
                            let same = |(t, c, p, _): &(u64, u64, i32, u64)| {
                                *c == caller && *p == priority && *t < ticket
                            };
                            prop_assert!(!list.iter().any(same));
                        }
                    }
                    _ => {
                        let known = list.iter().any(|(t, ..)| *t == time);
                        prop_assert_eq!(queue.remove(time), known);
                        list.retain(|(t, ..)| *t != time);
                    }
                }
                prop_assert_eq!(queue.len(), list.len());
                let held = queue.bands.values().flat_map(|b| b.lines.values()).map(|l| l.tickets.len());
                prop_assert_eq!(held.sum::<usize>(), list.len());
                prop_assert_eq!(queue.deadlines.len(), list.len());
            }
        }
    }
}
