//! What each endpoint has on its hands: the bookings of this process and those told by others.
//!
//! All of it changes under the pool's one lock, in the same step as the choice. Every booking is freed exactly once:
//! by its request, or when its lease is over. Survives a reload of the configuration.

use crate::endpoint::Endpoint;
use crate::reading::{Pace, Reading};
use crate::trie::Trie;
use crate::{Millis, Worker};
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Most blocks of one booking that are told apart; further ones are only counted.
pub(crate) const BOOKING_BLOCKS_MAX: usize = 65_536;
/// Most bookings of other processes that are kept; further ones are dropped and counted.
pub(crate) const OTHERS_BOOKINGS_MAX: usize = 65_536;

/// An endpoint's load, as it was booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests before their first token.
    pub prefilling: u32,
    /// Their prompt tokens that the endpoint has to compute.
    pub prefill_tokens: u64,
    /// Blocks in use by requests in flight, shared ones counted once.
    pub decode_blocks: u64,
}

/// What one request puts on an endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weight {
    pub(crate) chain: Box<[u64]>,
    /// Blocks without a name: the partial last one, and those that are not shared.
    pub(crate) unnamed: u32,
    /// All of the prompt.
    pub(crate) prompt_tokens: u32,
    /// What the endpoint computes of it before the first token.
    pub(crate) prefill_tokens: u32,
    /// Blocks of `chain` that it finds cached.
    pub(crate) cached_blocks: u32,
    /// It is before its first token.
    pub(crate) prefilling: bool,
}

/// Who else booked it: the process, and its number there.
pub(crate) type Other = (Arc<str>, u64);

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) weight: Weight,
    ends: Millis,
    other: Option<Other>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    loads: Vec<Load>,
    readings: Vec<Reading>,
    pub(crate) active: Trie,
    /// Numbers grow, so the first one is the oldest and its lease the first to end.
    entries: BTreeMap<u64, Entry>,
    others: HashMap<Other, u64, RandomState>,
    last: u64,
    pub(crate) expired: u64,
    pub(crate) others_dropped: u64,
}

impl Book {
    pub(crate) fn load(&self, worker: Worker) -> Load {
        self.loads.get(usize::from(worker.0)).copied().unwrap_or_default()
    }

    /// What the endpoint is reading, if it ever read anything.
    pub(crate) fn reading(&self, worker: Worker) -> Option<&Reading> {
        self.readings.get(usize::from(worker.0))
    }

    /// The pace of all endpoints together.
    pub(crate) fn pace(&self, now: Millis) -> Pace {
        self.readings.iter().map(|reading| reading.pace(now)).fold(Pace::default(), |sum, pace| Pace {
            tokens: sum.tokens + pace.tokens,
            ms: sum.ms + pace.ms,
        })
    }

    /// Books it from `now` until `ends` and returns its number, which is never 0.
    pub(crate) fn add(
        &mut self,
        endpoint: &Arc<Endpoint>,
        weight: Weight,
        (now, ends): (Millis, Millis),
    ) -> u64 {
        endpoint.book();
        self.put(Entry { endpoint: Arc::clone(endpoint), weight, ends, other: None }, now)
    }

    /// Books what another process told. False: there is no room.
    pub(crate) fn add_other(
        &mut self,
        other: Other,
        endpoint: &Arc<Endpoint>,
        weight: Weight,
        (now, ends): (Millis, Millis),
    ) -> bool {
        drop(self.remove_other(&other));
        if self.others.len() >= OTHERS_BOOKINGS_MAX {
            self.others_dropped += 1;
            return false;
        }
        endpoint.book_other();
        let entry = Entry { endpoint: Arc::clone(endpoint), weight, ends, other: Some(other.clone()) };
        let id = self.put(entry, now);
        self.others.insert(other, id);
        true
    }

    fn put(&mut self, entry: Entry, now: Millis) -> u64 {
        self.last += 1;
        self.charge(self.last, &entry, now);
        self.entries.insert(self.last, entry);
        self.last
    }

    /// The first token came. False: it came before, or the booking is gone.
    pub(crate) fn prefill_done(&mut self, id: u64, now: Millis) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if !std::mem::take(&mut entry.weight.prefilling) {
            return false;
        }
        let worker = usize::from(entry.endpoint.worker().0);
        if let Some(load) = self.loads.get_mut(worker) {
            load.prefilling -= 1;
            load.prefill_tokens -= u64::from(std::mem::take(&mut entry.weight.prefill_tokens));
        }
        if let Some(reading) = self.readings.get_mut(worker) {
            reading.done(id, now);
        }
        true
    }

    pub(crate) fn other(&self, other: &Other) -> Option<u64> {
        self.others.get(other).copied()
    }

    /// Frees it; `None` when that has been done before.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.discharge(id, &entry);
        match &entry.other {
            Some(other) => {
                self.others.remove(other);
                entry.endpoint.release_other();
            }
            None => entry.endpoint.release(),
        }
        Some(entry)
    }

    pub(crate) fn remove_other(&mut self, other: &Other) -> Option<Entry> {
        self.remove(self.other(other)?)
    }

    /// Frees all that another process told.
    pub(crate) fn remove_replica(&mut self, replica: &str) {
        let ids: Vec<u64> =
            self.others.iter().filter(|((of, _), _)| **of == *replica).map(|(_, id)| *id).collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// Puts it on another endpoint, with `prefill_tokens` to compute behind `cached_blocks` there. `None`: the booking is
    /// gone.
    pub(crate) fn move_to(
        &mut self,
        id: u64,
        to: &Arc<Endpoint>,
        (cached_blocks, prefill_tokens): (u32, u32),
        now: Millis,
    ) -> Option<&Weight> {
        let mut entry = self.entries.remove(&id)?;
        self.discharge(id, &entry);
        entry.endpoint.release();
        to.book();
        entry.endpoint = Arc::clone(to);
        if entry.weight.prefilling {
            entry.weight.prefill_tokens = prefill_tokens;
            entry.weight.cached_blocks = cached_blocks;
        }
        self.charge(id, &entry, now);
        Some(&self.entries.entry(id).or_insert(entry).weight)
    }

    pub(crate) fn weight(&self, id: u64) -> Option<&Weight> {
        self.entries.get(&id).map(|entry| &entry.weight)
    }

    /// Ends the leases that are over; returns how many.
    pub(crate) fn expire(&mut self, now: Millis) -> u64 {
        let mut ended = 0;
        while let Some((id, entry)) = self.entries.first_key_value()
            && entry.ends <= now
        {
            self.remove(*id);
            ended += 1;
        }
        self.expired += ended;
        ended
    }

    /// Bookings now, those of other processes among them.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bookings of other processes now.
    pub(crate) fn others_len(&self) -> usize {
        self.others.len()
    }

    /// Numbers of workers that have bookings.
    pub(crate) fn workers(&self) -> HashSet<u16> {
        self.entries.values().map(|entry| entry.endpoint.worker().0).collect()
    }

    fn charge(&mut self, id: u64, entry: &Entry, now: Millis) {
        let (worker, weight) = (entry.endpoint.worker(), &entry.weight);
        let new = self.active.add(worker, &weight.chain);
        if self.loads.len() <= usize::from(worker.0) {
            self.loads.resize(usize::from(worker.0) + 1, Load::default());
            self.readings.resize_with(self.loads.len(), Reading::default);
        }
        if let Some(reading) = self.readings.get_mut(usize::from(worker.0)).filter(|_| weight.prefilling) {
            reading.begin(id, weight.prefill_tokens, &weight.chain, weight.cached_blocks, now);
        }
        if let Some(load) = self.loads.get_mut(usize::from(worker.0)) {
            load.prefilling += u32::from(weight.prefilling);
            load.prefill_tokens += u64::from(weight.prefill_tokens);
            load.decode_blocks += new + u64::from(weight.unnamed);
        }
    }

    fn discharge(&mut self, id: u64, entry: &Entry) {
        let (worker, weight) = (entry.endpoint.worker(), &entry.weight);
        let gone = self.active.remove(worker, &weight.chain);
        if let Some(reading) = self.readings.get_mut(usize::from(worker.0)).filter(|_| weight.prefilling) {
            reading.abandoned(id);
        }
        if let Some(load) = self.loads.get_mut(usize::from(worker.0)) {
            load.prefilling -= u32::from(weight.prefilling);
            load.prefill_tokens -= u64::from(weight.prefill_tokens);
            load.decode_blocks -= gone + u64::from(weight.unnamed);
        }
    }
}
