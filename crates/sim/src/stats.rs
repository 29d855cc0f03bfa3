//! What came in and how it ended, so that a test can prove that a cancel reached the engine, and when.
//!
//! It sees no bodies. `routes` opens a [`Ticket`] per request of the OpenAI API; whoever drops it unfinished left early.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::handoff::Handed;
use crate::metrics::{Gauge, Held};
use crate::options::Role;
use crate::rank::RankStats;

/// Aborted requests remembered one by one.
const MAX_ABORTS: usize = 256;

/// Counts since the engine started; POST requests of the OpenAI API only, connections apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Requests whose headers arrived.
    pub requests: u64,
    /// Requests not yet answered to the end.
    pub in_flight: u64,
    /// Requests answered to the end, errors included.
    pub finished: u64,
    /// Requests whose client went away first.
    pub aborted: u64,
    /// Requests that a fault ended by closing the connection.
    pub cut: u64,
    /// Requests struck by a fault of any kind.
    pub faults_applied: u64,
    /// Connections taken.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// The latest aborts, oldest first, at most 256.
    pub aborts: Vec<Abort>,
    /// What the engine does where prefill and decode are separate.
    pub role: Role,
    /// Its name towards other engines.
    pub engine_id: String,
    /// What was passed on between engines.
    pub handed: Handed,
    /// Caches and event streams by rank.
    pub ranks: Vec<RankStats>,
    /// Where KV events are published, by rank.
    pub kv_events: Vec<String>,
    /// Where they can be asked for again, by rank.
    pub kv_replay: Vec<String>,
}

/// A request whose client went away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Abort {
    /// Number of the request, counted from 1.
    pub id: u64,
    /// Its path.
    pub path: String,
    /// When the engine noticed, in microseconds since 1970.
    pub noticed_unix_us: u64,
    /// Time from the request's headers to the notice, in microseconds.
    pub after_us: u64,
    /// Events handed to the connection until then.
    pub events_sent: u64,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Board {
    requests: AtomicU64,
    in_flight: Gauge,
    finished: AtomicU64,
    aborted: AtomicU64,
    cut: AtomicU64,
    faults: AtomicU64,
    connections: AtomicU64,
    connections_open: Gauge,
    aborts: Mutex<VecDeque<Abort>>,
}

impl Board {
    pub(crate) fn connection(&self) -> Held {
        self.connections.fetch_add(1, Relaxed);
        self.connections_open.hold()
    }

    pub(crate) fn connections_open(&self) -> u64 {
        self.connections_open.get()
    }

    pub(crate) fn fault(&self) {
        self.faults.fetch_add(1, Relaxed);
    }

    /// Opens a ticket for a request that has just arrived.
    pub(crate) fn ticket(self: &Arc<Self>, path: &str) -> Ticket {
        Ticket {
            id: self.requests.fetch_add(1, Relaxed) + 1,
            rank: 0,
            path: path.to_owned(),
            arrived: Instant::now(),
            events: 0,
            end: End::Aborted,
            _in_flight: self.in_flight.hold(),
            board: Arc::clone(self),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            requests: self.requests.load(Relaxed),
            in_flight: self.in_flight.get(),
            finished: self.finished.load(Relaxed),
            aborted: self.aborted.load(Relaxed),
            cut: self.cut.load(Relaxed),
            faults_applied: self.faults.load(Relaxed),
            connections: self.connections.load(Relaxed),
            connections_open: self.connections_open.get(),
            aborts: self.aborts.lock().iter().cloned().collect(),
            ..Stats::default()
        }
    }
}

/// Follows one request; counts its end when dropped.
pub(crate) struct Ticket {
    pub(crate) id: u64,
    /// The rank the request is for.
    pub(crate) rank: usize,
    pub(crate) arrived: Instant,
    path: String,
    events: u64,
    end: End,
    board: Arc<Board>,
    _in_flight: Held,
}

#[derive(Clone, Copy)]
enum End {
    Aborted,
    Finished,
    Cut,
}

impl Ticket {
    pub(crate) fn event(&mut self) {
        self.events += 1;
    }

    pub(crate) fn finished(&mut self) {
        self.end = End::Finished;
    }

    pub(crate) fn cut(&mut self) {
        self.end = End::Cut;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        match self.end {
            End::Finished => self.board.finished.fetch_add(1, Relaxed),
            End::Cut => self.board.cut.fetch_add(1, Relaxed),
            End::Aborted => {
                let mut aborts = self.board.aborts.lock();
                if aborts.len() >= MAX_ABORTS {
                    aborts.pop_front();
                }
                aborts.push_back(Abort {
                    id: self.id,
                    path: std::mem::take(&mut self.path),
                    noticed_unix_us: unix_us(),
                    after_us: u64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u64::MAX),
                    events_sent: self.events,
                });
                self.board.aborted.fetch_add(1, Relaxed)
            }
        };
    }
}

/// Microseconds since 1970.
pub(crate) fn unix_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_ticket_is_an_abort_and_the_list_is_bounded() {
        let board = Arc::new(Board::default());
        board.ticket("/v1/a").finished();
        for _ in 0..MAX_ABORTS + 10 {
            board.ticket("/v1/b").event();
        }
        let stats = board.stats();
        assert_eq!(stats.finished, 1);
        assert_eq!(stats.aborted, MAX_ABORTS as u64 + 10);
        assert_eq!(stats.aborts.len(), MAX_ABORTS);
        assert_eq!(stats.aborts[0].events_sent, 1);
        assert_eq!(stats.in_flight, 0);
    }
}
