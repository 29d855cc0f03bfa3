//! The event stream of one rank: numbers batches, keeps the latest for replay, and spoils the stream on demand.
//!
//! `rank` publishes here under its lock, so the order of the stream is that of the cache. Never blocks the engine: a
//! batch that finds the queue full is dropped and counted, as ZeroMQ's high-water mark would. `sockets` sends.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::events::{KvEvent, encode};
use crate::options::EventsForm;
use crate::stats::unix_us;
use crate::text::Dice;

/// Batches kept for replay, vLLM's default, and the bytes they may take.
const MAX_REPLAY_BATCHES: usize = 10_000;
const MAX_REPLAY_BYTES: usize = 64 << 20;
/// Batches on their way to the socket; beyond that they are dropped.
const MAX_QUEUED_BATCHES: usize = 16_384;
/// Bounds of what one request to `POST /sim/events` may ask for.
const MAX_FLOOD_BATCHES: u32 = 100_000;
const MAX_OVERSIZED_BYTES: usize = 256 << 20;
const MAX_PAUSE_MS: u64 = 600_000;
const MAX_FAULTY_BATCHES: u64 = 1_000_000;

/// What `sockets` gets to do.
pub(crate) enum Live {
    /// Send these frames.
    Send([Bytes; 3]),
    /// Send nothing for a while; what comes meanwhile queues.
    Pause(Duration),
}

/// A fault of the event stream, the body of `POST /sim/events`; fields combine.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StreamFault {
    /// The rank it strikes.
    pub(crate) rank: usize,
    /// The next batches are numbered and kept for replay, but not sent.
    skip: u64,
    /// The next batches are sent twice.
    duplicate: u64,
    /// The next batch says this block size.
    block_size: Option<u32>,
    /// A message whose frames are no event batch is sent now; it takes no number.
    garbage: bool,
    /// A batch of this many zero bytes is sent now; it takes a number and is not kept for replay.
    oversized_bytes: usize,
    /// This many batches are sent now, each storing and removing a made-up block.
    flood: u32,
    /// Nothing is sent for this long.
    pause_ms: u64,
}

impl StreamFault {
    /// Says what is out of bounds.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (
                self.skip <= MAX_FAULTY_BATCHES && self.duplicate <= MAX_FAULTY_BATCHES,
                "at most 1000000 batches",
            ),
            (self.oversized_bytes <= MAX_OVERSIZED_BYTES, "oversized_bytes is at most 268435456"),
            (self.flood <= MAX_FLOOD_BATCHES, "flood is at most 100000"),
            (self.pause_ms <= MAX_PAUSE_MS, "pause_ms is at most 600000"),
        ];
        rules.iter().find(|(good, _)| !good).map_or(Ok(()), |(_, why)| Err(why))
    }
}

/// The stream of one rank.
pub(crate) struct Feed {
    form: EventsForm,
    rank: usize,
    topic: Bytes,
    outlet: Mutex<Outlet>,
    live: mpsc::Sender<Live>,
}

#[derive(Default)]
struct Outlet {
    /// Number of the next batch.
    next: u64,
    kept: VecDeque<(u64, Bytes)>,
    kept_bytes: usize,
    skip: u64,
    duplicate: u64,
    block_size: Option<u32>,
    dropped: u64,
}

impl Feed {
    /// A feed and what it has to send.
    pub(crate) fn new(form: EventsForm, rank: usize, topic: &str) -> (Self, mpsc::Receiver<Live>) {
        let (live, sent) = mpsc::channel(MAX_QUEUED_BATCHES);
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        (Feed { form, rank, topic, outlet: Mutex::default(), live }, sent)
    }

    pub(crate) fn topic(&self) -> Bytes {
        self.topic.clone()
    }

    /// Numbers a batch and sends it.
    pub(crate) fn publish(&self, mut events: Vec<KvEvent>) {
        let outlet = &mut *self.outlet.lock();
        if let Some(wrong) = outlet.block_size.take() {
            for event in &mut events {
                if let KvEvent::BlockStored { block_size, .. } = event {
                    *block_size = wrong;
                }
            }
        }
        // It cannot fail: the types are plain and the writer is memory.
        let Ok(payload) = encode(self.form, unix_us() as f64 / 1e6, &events, self.rank) else { return };
        let payload = Bytes::from(payload);
        let seq = outlet.number();
        outlet.keep(seq, payload.clone());
        if outlet.skip > 0 {
            outlet.skip -= 1;
            return;
        }
        if outlet.duplicate > 0 {
            outlet.duplicate -= 1;
            self.send(outlet, seq, payload.clone());
        }
        self.send(outlet, seq, payload);
    }

    fn send(&self, outlet: &mut Outlet, seq: u64, payload: Bytes) {
        let number = Bytes::copy_from_slice(&seq.to_be_bytes());
        self.queue(outlet, Live::Send([self.topic(), number, payload]));
    }

    fn queue(&self, outlet: &mut Outlet, what: Live) {
        outlet.dropped += u64::from(self.live.try_send(what).is_err());
    }

    /// Batches numbered so far, and those that were dropped because the queue was full.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let outlet = self.outlet.lock();
        (outlet.next, outlet.dropped)
    }

    /// The kept batches from this number on, oldest first.
    pub(crate) fn replay(&self, start: u64) -> Vec<(u64, Bytes)> {
        let outlet = self.outlet.lock();
        outlet.kept.iter().filter(|(seq, _)| *seq >= start).cloned().collect()
    }

    /// As a new process begins: number 0, nothing to replay.
    pub(crate) fn restart(&self) {
        let outlet = &mut *self.outlet.lock();
        *outlet = Outlet { dropped: outlet.dropped, ..Outlet::default() };
    }

    /// Puts a checked fault in force.
    pub(crate) fn spoil(&self, fault: &StreamFault) {
        let mut outlet = self.outlet.lock();
        outlet.skip += fault.skip;
        outlet.duplicate += fault.duplicate;
        outlet.block_size = fault.block_size.or(outlet.block_size);
        if fault.pause_ms > 0 {
            self.queue(&mut outlet, Live::Pause(Duration::from_millis(fault.pause_ms)));
        }
        if fault.garbage {
            let frame = |bytes: &'static [u8]| Bytes::from_static(bytes);
            let frames = [self.topic(), frame(b"\x00\xff"), frame(b"\xc1\xff not msgpack \xc3(")];
            self.queue(&mut outlet, Live::Send(frames));
        }
        if fault.oversized_bytes > 0 {
            let seq = outlet.number();
            self.send(&mut outlet, seq, vec![0; fault.oversized_bytes].into());
        }
        drop(outlet);
        let mut dice = Dice::new(unix_us());
        for _ in 0..fault.flood {
            self.publish(made_up(dice.roll()));
        }
    }
}

/// Events that leave the cache as it is.
fn made_up(block: u64) -> Vec<KvEvent> {
    let stored = KvEvent::BlockStored {
        block_hashes: vec![block],
        parent_block_hash: None,
        token_ids: vec![0],
        block_size: 1,
        lora_id: None,
        medium: "GPU",
        lora_name: None,
        extra_keys: None,
        group_idx: 0,
        kv_cache_spec_kind: "full_attention",
    };
    vec![stored, KvEvent::BlockRemoved { block_hashes: vec![block], medium: "GPU", group_idx: 0 }]
}

impl Outlet {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn keep(&mut self, seq: u64, payload: Bytes) {
        self.kept_bytes += payload.len();
        self.kept.push_back((seq, payload));
        while self.kept.len() > MAX_REPLAY_BATCHES || self.kept_bytes > MAX_REPLAY_BYTES {
            let Some((_, oldest)) = self.kept.pop_front() else { return };
            self.kept_bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(sent: &mut mpsc::Receiver<Live>) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Ok(Live::Send([_, number, _])) = sent.try_recv() {
            numbers.push(u64::from_be_bytes(number[..].try_into().unwrap()));
        }
        numbers
    }

    #[test]
    fn gaps_and_repeats_are_of_the_live_stream_only() {
        let (feed, mut sent) = Feed::new(EventsForm::Array, 0, "");
        feed.spoil(&StreamFault { skip: 1, duplicate: 1, ..StreamFault::default() });
        for _ in 0..3 {
            feed.publish(Vec::new());
        }
        assert_eq!(numbers(&mut sent), [1, 1, 2]);
        let replayed: Vec<u64> = feed.replay(0).into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(replayed, [0, 1, 2]);
        assert_eq!(feed.replay(2).len(), 1);
        feed.restart();
        assert!(feed.replay(0).is_empty());
        feed.publish(Vec::new());
        assert_eq!(numbers(&mut sent), [0]);
    }

    #[test]
    fn the_ring_and_the_queue_are_bounded() {
        let (feed, _sent) = Feed::new(EventsForm::Map, 0, "t");
        feed.spoil(&StreamFault { flood: 20_000, ..StreamFault::default() });
        assert_eq!(feed.replay(0).len(), MAX_REPLAY_BATCHES);
        assert_eq!(feed.replay(0)[0].0, 10_000);
        assert_eq!(feed.counts(), (20_000, 20_000 - MAX_QUEUED_BATCHES as u64));
    }
}
