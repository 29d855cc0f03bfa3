//! An engine of our own that publishes over real ZMQ sockets, those of another implementation, and the
//! pool that listens to it.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "helpers of tests; each file uses a part")]

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use waypost_config::EventSource;
use waypost_feeds::events::{EventStats, Target};
use waypost_picker::{Endpoint, Held, KvState, PrefixIndex, Worker, hash};
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

pub(crate) const BLOCK: usize = 4;

/// A batch with these events, published `at`.
pub(crate) fn batch(at: f64, events: Value) -> Vec<u8> {
    rmp_serde::to_vec(&json!([at, events, 0])).unwrap()
}

/// The tokens of prompt `n`, of two blocks.
pub(crate) fn prompt(n: u32) -> Vec<u32> {
    (0..2 * BLOCK as u32).map(|i| n * 100 + i).collect()
}

/// Prompt `n` came in; its blocks are called `2n` and `2n + 1`.
pub(crate) fn store(n: u32) -> Value {
    json!(["BlockStored", [2 * n, 2 * n + 1], null, prompt(n), BLOCK, null, "GPU"])
}

/// Prompt `n` went out.
pub(crate) fn remove(n: u32) -> Value {
    json!({"type": "BlockRemoved", "block_hashes": [2 * n, 2 * n + 1], "medium": "GPU"})
}

pub(crate) fn target(index: &Arc<PrefixIndex>, worker: u16, events: EventSource) -> Target {
    let spec = waypost_config::Endpoint { events: Some(events), ..waypost_config::Endpoint::at("http://e") };
    target_of(index, worker, spec)
}

pub(crate) fn target_of(index: &Arc<PrefixIndex>, worker: u16, spec: waypost_config::Endpoint) -> Target {
    let endpoint = Arc::new(Endpoint::new(spec, Worker(worker)));
    Target { endpoint, index: Arc::clone(index), block_size: BLOCK as u32 }
}

pub(crate) fn source(address: &str, replay: Option<&str>) -> EventSource {
    EventSource { address: address.into(), bind: false, replay: replay.map(Into::into), topic: "".into() }
}

/// Blocks of prompt `n` that the target's worker holds on its device.
pub(crate) fn held(target: &Target, n: u32) -> u32 {
    held_salted(target, &prompt(n), "")
}

pub(crate) fn held_salted(target: &Target, tokens: &[u32], salt: &str) -> u32 {
    let chain = hash::chain(&hash::local_hashes(tokens, BLOCK, hash::seed("", salt), &[]));
    let mut found: Vec<Held> = Vec::new();
    target.index.matches(&chain, &mut found);
    found.iter().find(|held| held.worker == target.endpoint.worker()).map_or(0, |held| held.device)
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < end, "waited {seconds} s in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn until_state(target: &Target, state: KvState) {
    until(&format!("{state:?} instead of {:?}", target.endpoint.kv_state()), 15, || {
        target.endpoint.kv_state() == state
    })
    .await;
}

pub(crate) fn counters(stats: &EventStats) -> String {
    format!(
        "batches {} gaps {} lost {} replays {} failed {} restarts {} duplicates {} garbled {} oversized {}",
        stats.batches.get(),
        stats.gaps.get(),
        stats.lost.get(),
        stats.replays.get(),
        stats.replays_failed.get(),
        stats.restarts.get(),
        stats.duplicates.get(),
        stats.garbled.get(),
        stats.oversized.get()
    )
}

/// The batches that can be asked for again, and how the answers look.
#[derive(Default)]
pub(crate) struct Ring {
    pub(crate) batches: parking_lot::Mutex<Vec<(u64, Vec<u8>)>>,
    /// Answers carry the topic too.
    pub(crate) four_frames: bool,
    /// Never sends the end marker.
    pub(crate) endless: bool,
    pub(crate) asked: parking_lot::Mutex<Vec<u64>>,
}

/// An engine: publishes, and says again what it is asked for.
pub(crate) struct Engine {
    pub(crate) publisher: PubSocket,
    pub(crate) address: String,
    pub(crate) replay: String,
    pub(crate) ring: Arc<Ring>,
    next: AtomicU64,
    clock: AtomicU32,
    answering: tokio::task::JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Engine {
    pub(crate) async fn new(ring: Ring) -> Self {
        Self::at("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", ring, 0).await
    }

    pub(crate) async fn at(address: &str, replay: &str, ring: Ring, clock: u32) -> Self {
        let mut publisher = PubSocket::new();
        let address = publisher.bind(address).await.unwrap().to_string();
        let mut router = RouterSocket::new();
        let replay = router.bind(replay).await.unwrap().to_string();
        let ring = Arc::new(ring);
        let answering = tokio::spawn(answer(router, Arc::clone(&ring)));
        let (next, clock) = (AtomicU64::new(0), AtomicU32::new(clock));
        Self { publisher, address, replay, ring, next, clock, answering }
    }

    /// Numbers a batch and keeps it for replay, but does not send it.
    pub(crate) fn lose(&self, events: Value) -> (u64, Vec<u8>) {
        let seq = self.next.fetch_add(1, Relaxed);
        let payload = batch(f64::from(self.clock.fetch_add(1, Relaxed)), events);
        self.ring.batches.lock().push((seq, payload.clone()));
        (seq, payload)
    }

    pub(crate) async fn send(&mut self, events: Value) -> (u64, Vec<u8>) {
        let (seq, payload) = self.lose(events);
        self.send_raw(seq, &payload).await;
        (seq, payload)
    }

    pub(crate) async fn send_raw(&mut self, seq: u64, payload: &[u8]) {
        self.publisher.send(message(&[b"kv-events", &seq.to_be_bytes(), payload])).await.unwrap();
    }
}

pub(crate) fn message(frames: &[&[u8]]) -> ZmqMessage {
    let frames: Vec<bytes::Bytes> = frames.iter().map(|frame| bytes::Bytes::copy_from_slice(frame)).collect();
    ZmqMessage::try_from(frames).unwrap()
}

async fn answer(mut router: RouterSocket, ring: Arc<Ring>) {
    loop {
        let Ok(question) = router.recv().await else { return };
        let peer = question.get(0).unwrap().clone();
        assert!(question.get(1).unwrap().is_empty(), "an empty frame comes before the number");
        let start = u64::from_be_bytes(question.get(2).unwrap().as_ref().try_into().unwrap());
        ring.asked.lock().push(start);
        let mut answers: Vec<_> =
            ring.batches.lock().iter().filter(|(seq, _)| *seq >= start).cloned().collect();
        if !ring.endless {
            answers.push((u64::MAX, Vec::new()));
        }
        for (seq, payload) in answers {
            let seq = seq.to_be_bytes();
            let frames: &[&[u8]] = if ring.four_frames {
                &[&peer, b"", b"t", &seq, &payload]
            } else {
                &[&peer, b"", &seq, &payload]
            };
            if router.send(message(frames)).await.is_err() {
                break;
            }
        }
    }
}
