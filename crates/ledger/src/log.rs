//! The decision log: the last records, in bounded memory, found by id in one step.
//!
//! An id carries the instance (so that replicas do not answer for each other) and a sequence number,
//! which is also the slot: no map, no search. Called at settle, and by `GET /v1/decisions/{id}`.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One record with its sequence number.
type Slot<T> = Mutex<Option<(u64, Arc<T>)>>;

/// A ring of the latest records.
#[derive(Debug)]
pub struct DecisionLog<T> {
    instance: u32,
    next: AtomicU64,
    slots: Vec<Slot<T>>,
}

impl<T> DecisionLog<T> {
    /// Keeps the latest `capacity` records; `instance` sets this process apart from others.
    #[must_use]
    pub fn new(capacity: usize, instance: u32) -> Self {
        let slots = (0..capacity.max(1)).map(|_| Mutex::new(None)).collect();
        Self { instance, next: AtomicU64::new(1), slots }
    }

    /// A new sequence number, unique in this process.
    pub fn next_sequence(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// The id clients see for a sequence number: 24 hexadecimal digits.
    #[must_use]
    pub fn id(&self, sequence: u64) -> String {
        format!("{:08x}{sequence:016x}", self.instance)
    }

    /// Stores a record; the oldest one gives way.
    pub fn put(&self, sequence: u64, record: Arc<T>) {
        let mut slot = self.slot(sequence).lock();
        // A request that took very long must not overwrite a newer one.
        if slot.as_ref().is_none_or(|(kept, _)| *kept <= sequence) {
            *slot = Some((sequence, record));
        }
    }

    /// The record with this id, if it is still kept.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<T>> {
        if id.len() != 24 || !id.is_ascii() {
            return None;
        }
        let (instance, sequence) = id.split_at(8);
        if u32::from_str_radix(instance, 16).ok()? != self.instance {
            return None;
        }
        let sequence = u64::from_str_radix(sequence, 16).ok()?;
        let slot = self.slot(sequence).lock();
        slot.as_ref().filter(|(kept, _)| *kept == sequence).map(|(_, record)| Arc::clone(record))
    }

    fn slot(&self, sequence: u64) -> &Slot<T> {
        &self.slots[(sequence % self.slots.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_latest_and_knows_its_own() {
        let log = DecisionLog::new(4, 7);
        let ids: Vec<_> = (0..10)
            .map(|i| {
                let sequence = log.next_sequence();
                log.put(sequence, Arc::new(i));
                log.id(sequence)
            })
            .collect();
        let found: Vec<_> = ids.iter().map(|id| log.get(id).map(|r| *r)).collect();
        assert_eq!(found[..6], [None; 6]);
        assert_eq!(found[6..], [Some(6), Some(7), Some(8), Some(9)]);
        assert_eq!(DecisionLog::<i32>::new(4, 8).get(&ids[9]), None);
        for bad in ["", "zz", "é0000007000000000000000", &"0".repeat(24)] {
            assert_eq!(log.get(bad), None);
        }
        log.put(1, Arc::new(99));
        assert_eq!(log.get(&ids[8]).map(|r| *r), Some(8), "an old straggler does not overwrite");
    }
}
