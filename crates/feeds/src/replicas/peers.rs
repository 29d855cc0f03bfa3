//! The other replicas as they are heard: who is there, what was missed, and how far our picture of each has drifted.
//!
//! Passes events on to the bookings; keeps only what it takes to compare. Owned by the listening half of
//! [`super::Replicas`].

use super::message::{Event, Message, Place};
use super::{Bookings, Counts, SILENCE};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;
use waypost_picker::BookingEvent;

/// Most other replicas listened to; messages of more are dropped and counted as garbage.
pub(super) const MAX_PEERS: usize = 64;
/// Most bookings of a replica kept for the comparison; those above show as drift.
const MAX_BOOKINGS: usize = 16 << 10;

pub(super) struct Peers {
    peers: HashMap<Arc<str>, Peer>,
    /// A booking that nobody released ends after this.
    lease: Duration,
}

/// Bookings of a peer by model and number: the endpoint, and since when.
type Heard = HashMap<(Arc<str>, u64), (Arc<str>, Instant)>;

struct Peer {
    /// Of its last message.
    number: u64,
    heard: Instant,
    bookings: Heard,
    drift: u64,
}

impl Peers {
    pub(super) fn new(lease: Duration) -> Self {
        Self { peers: HashMap::new(), lease }
    }

    /// Takes in a message of another replica.
    pub(super) fn hear(&mut self, message: Message, bookings: &dyn Bookings, counts: &Counts) {
        let now = Instant::now();
        if !self.peers.contains_key(&message.from) {
            if self.peers.len() >= MAX_PEERS {
                counts.garbage.fetch_add(1, Relaxed);
                return;
            }
            let number = message.number.saturating_sub(1);
            let peer = Peer { number, heard: now, bookings: HashMap::new(), drift: 0 };
            self.peers.insert(Arc::clone(&message.from), peer);
        }
        let Some(peer) = self.peers.get_mut(&message.from) else { return };
        counts.missed.fetch_add(message.number.saturating_sub(peer.number.saturating_add(1)), Relaxed);
        counts.heard.fetch_add(message.events.len() as u64, Relaxed);
        (peer.number, peer.heard) = (message.number, now);
        for event in message.events {
            peer.keep(&event, now);
            bookings.remote(&message.from, event);
        }
        if let Some(own) = message.own {
            let lease = self.lease;
            peer.bookings.retain(|_, (_, since)| now.duration_since(*since) < lease);
            peer.drift = drift(&peer.bookings, own);
        }
        self.tell(counts);
    }

    /// Ends the bookings of replicas that have fallen silent.
    pub(super) fn sweep(&mut self, bookings: &dyn Bookings, counts: &Counts) {
        self.peers.retain(|id, peer| {
            let there = peer.heard.elapsed() < SILENCE;
            if !there {
                bookings.gone(id);
            }
            there
        });
        self.tell(counts);
    }

    fn tell(&self, counts: &Counts) {
        counts.peers.store(self.peers.len() as u64, Relaxed);
        counts.drift.store(self.peers.values().map(|peer| peer.drift).sum(), Relaxed);
    }
}

impl Peer {
    fn keep(&mut self, event: &Event, now: Instant) {
        let key = (Arc::clone(&event.model), event.id);
        match &event.what {
            BookingEvent::Add { endpoint, .. } if self.bookings.len() < MAX_BOOKINGS => {
                self.bookings.insert(key, (Arc::clone(endpoint), now));
            }
            BookingEvent::Free => _ = self.bookings.remove(&key),
            BookingEvent::Add { .. } | BookingEvent::PrefillDone => {}
        }
    }
}

/// Sum over endpoints of the difference between the bookings heard and the teller's own number.
fn drift(heard: &Heard, own: Vec<(Place, u32)>) -> u64 {
    let mut difference: HashMap<Place, i64> = HashMap::new();
    for ((model, _), (endpoint, _)) in heard {
        *difference.entry(Place { model: Arc::clone(model), endpoint: Arc::clone(endpoint) }).or_default() +=
            1;
    }
    for (place, count) in own {
        *difference.entry(place).or_default() -= i64::from(count);
    }
    difference.into_values().map(i64::unsigned_abs).sum()
}
