//! One endpoint's stream of batches, kept complete: numbers judged, gaps filled, restarts noticed.
//!
//! The rule where it cannot be kept complete: the endpoint's share of the index is cleared and filled anew
//! from what comes, and its state is `gaps` until the cache has turned over or was cleared. A block whose
//! removal went unheard would draw requests to a cache that lacks it and would never leave; a block that
//! is missing costs a hit and comes back with its next use. Called by [`super::zmq`].

use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use waypost_config::EventSource;
use xxhash_rust::xxh3::xxh3_64;

use super::apply::{Connected, Share, Target};
use super::decode::{Batch, BatchError, Decoder};
use super::replay::{Replay, Replayed};
use super::sequence::{Last, Sequence, Verdict};
use crate::Clock;

/// After an answer that did not come or broke off, the publisher is not asked again for so long.
const COOLDOWN: Duration = Duration::from_secs(30);
/// So many messages in a row that cannot be read, and nothing of the stream is believed.
const GARBLED_IN_A_ROW: u32 = 3;

/// What the streams of one pool have in common.
pub(crate) struct Common {
    /// All endpoints of the pool that are followed.
    pub(crate) shares: ArcSwap<Vec<Arc<Share>>>,
    /// Replays that may run at once.
    pub(crate) replays: Semaphore,
    pub(crate) clock: Clock,
}

/// See the module.
pub(crate) struct Follower {
    pub(crate) share: Arc<Share>,
    pub(crate) source: EventSource,
    common: Arc<Common>,
    state: Mutex<State>,
}

struct State {
    sequence: Sequence,
    /// The shares this stream has written to: the endpoint's own, and those of ranks beside it.
    fed: Vec<Arc<Share>>,
    garbled: u32,
    /// No replay before then.
    quiet_until: Option<Instant>,
    /// Batches were lost because nobody answered; all is asked for once the time is over.
    owed: bool,
}

impl Follower {
    pub(crate) fn new(share: Arc<Share>, source: EventSource, common: Arc<Common>) -> Self {
        let state = State {
            sequence: Sequence::default(),
            fed: vec![Arc::clone(&share)],
            garbled: 0,
            quiet_until: None,
            owed: false,
        };
        Self { share, source, common, state: Mutex::new(state) }
    }

    /// True if it is this endpoint's, listened to there.
    pub(crate) fn follows(&self, target: &Target, source: &EventSource) -> bool {
        let own = &self.share.target;
        self.source == *source
            && Arc::ptr_eq(&own.endpoint, &target.endpoint)
            && Arc::ptr_eq(&own.index, &target.index)
            && own.block_size == target.block_size
    }

    /// A connection stands, until what is returned is dropped. What was said before it is asked for, where
    /// that can be asked.
    pub(crate) async fn join(&self) -> Connected<'_> {
        let connected = self.share.connected();
        let state = &mut *self.state.lock().await;
        state.sequence.reconnected();
        if self.may_ask(state) && self.ask(state).await {
            self.share.set_heard();
        }
        connected
    }

    /// A message came that was too large to be read: its batch counts as missing.
    pub(crate) fn oversized(&self) {
        self.share.stats.oversized.one();
    }

    /// A message came that is no batch.
    pub(crate) async fn garbled(&self) {
        let state = &mut *self.state.lock().await;
        self.note_garbled(state);
    }

    /// A batch of the live stream.
    pub(crate) async fn heard(&self, seq: u64, payload: &[u8]) {
        let state = &mut *self.state.lock().await;
        let batch = Batch::parse(payload);
        let at = batch.as_ref().map_or(0.0, Batch::at);
        if state.owed && self.may_ask(state) {
            let before = std::mem::take(&mut state.sequence);
            if !self.ask(state).await && state.sequence.last().is_none() {
                state.sequence = before;
            }
        }
        match state.sequence.judge(seq, at) {
            Verdict::Duplicate => return self.share.stats.duplicates.one(),
            Verdict::Next => {}
            Verdict::Restart => {
                self.restarted(state);
                if seq > 0 {
                    self.bridge(state, seq).await;
                }
            }
            Verdict::Gap(_) => self.bridge(state, seq).await,
        }
        if seq == state.sequence.next() {
            self.take(state, seq, payload, batch);
            self.share.set_heard();
        }
    }

    /// Fills the gap before `seq`, or gives it up.
    async fn bridge(&self, state: &mut State, seq: u64) {
        self.share.stats.gaps.one();
        if self.may_ask(state) {
            self.ask(state).await;
        } else {
            // Asked too lately: once more when the time is over.
            state.owed = self.source.replay.is_some();
        }
        let next = state.sequence.next();
        if next < seq {
            self.lose(state, seq - next);
            state.sequence.jump(seq);
        }
    }

    fn may_ask(&self, state: &State) -> bool {
        self.source.replay.is_some() && state.quiet_until.is_none_or(|until| Instant::now() >= until)
    }

    /// Has the publisher say again what comes behind the last batch; true if it answered to the end.
    async fn ask(&self, state: &mut State) -> bool {
        let Some(address) = &self.source.replay else { return false };
        let Ok(_permit) = self.common.replays.acquire().await else { return false };
        self.share.set_replaying(true);
        self.share.stats.replays.one();
        let mut answered = self.replay(address, state).await;
        if answered == Some(Life::Another) {
            self.restarted(state);
            answered = self.replay(address, state).await;
        }
        state.owed = answered.is_none();
        if answered.is_none() {
            self.share.stats.replays_failed.one();
            state.quiet_until = Some(Instant::now() + COOLDOWN);
        }
        self.share.set_replaying(false);
        answered.is_some()
    }

    /// One question and its answers. It asks from the last batch on, not from the one behind it: the same
    /// bytes again prove that it is still the same life of the publisher.
    async fn replay(&self, address: &str, state: &mut State) -> Option<Life> {
        let last = state.sequence.last();
        let mut replay = Replay::ask(address, last.map_or(0, |last| last.seq)).await.ok()?;
        let mut first = true;
        loop {
            match replay.next().await {
                Replayed::Batch(seq, payload) => {
                    let digest = last.filter(|last| first && last.seq == seq).map_or(0, |last| last.digest);
                    // A batch that was given up unseen has no digest.
                    if digest != 0 && digest != xxh3_64(payload) {
                        return Some(Life::Another);
                    }
                    if first && last.is_none() && seq == 0 {
                        self.restarted(state);
                    }
                    first = false;
                    let next = state.sequence.next();
                    if seq > next {
                        self.lose(state, seq - next);
                    }
                    if seq >= next {
                        self.take(state, seq, payload, Batch::parse(payload));
                    }
                }
                Replayed::Oversized => self.oversized(),
                Replayed::End if first && last.is_some() => return Some(Life::Another),
                Replayed::End => return Some(Life::Same),
                Replayed::Broken => return None,
            }
        }
    }

    /// Applies a batch and counts it as taken, whatever was in it.
    fn take(&self, state: &mut State, seq: u64, payload: &[u8], batch: Result<Batch<'_>, BatchError>) {
        let stats = &self.share.stats;
        let mut at = state.sequence.last().map_or(0.0, |last| last.at);
        match batch {
            Ok(batch) => {
                at = batch.at();
                state.garbled = 0;
                state.fed.iter().for_each(|share| share.set_garbled(false));
                stats.batches.one();
                stats.bytes.add(payload.len() as u64);
                stats.last_seen_ms.set((self.common.clock)());
                if !self.apply(state, batch) {
                    self.lose(state, 0);
                }
            }
            Err(why) => {
                if why == BatchError::TooLarge {
                    stats.oversized.one();
                } else {
                    self.note_garbled(state);
                }
                self.lose(state, 1);
            }
        }
        state.sequence.take(Last { seq, at, digest: xxh3_64(payload) });
    }

    /// False if a removal could not be read.
    fn apply(&self, state: &mut State, mut batch: Batch<'_>) -> bool {
        let Some(share) = self.owner(batch.rank()) else {
            self.share.stats.other_worker.one();
            return true;
        };
        if !state.fed.iter().any(|fed| Arc::ptr_eq(fed, &share)) {
            let shares = self.common.shares.load();
            state.fed.retain(|fed| shares.iter().any(|share| Arc::ptr_eq(fed, share)));
            state.fed.push(Arc::clone(&share));
        }
        let mut decoder = Decoder::default();
        let mut sound = true;
        while let Some(event) = decoder.next(&mut batch) {
            sound &= share.apply(&event);
        }
        sound
    }

    /// Whose blocks a batch of that rank speaks of.
    fn owner(&self, rank: Option<u32>) -> Option<Arc<Share>> {
        let own = self.share.target.endpoint.spec();
        match (rank, own.rank) {
            (Some(rank), Some(expected)) if rank != expected => {
                let shares = self.common.shares.load();
                let beside = shares.iter().find(|share| {
                    let spec = share.target.endpoint.spec();
                    spec.base == own.base && spec.instance == own.instance && spec.rank == Some(rank)
                });
                beside.map(Arc::clone)
            }
            _ => Some(Arc::clone(&self.share)),
        }
    }

    fn note_garbled(&self, state: &mut State) {
        self.share.stats.garbled.one();
        state.garbled = state.garbled.saturating_add(1);
        if state.garbled >= GARBLED_IN_A_ROW {
            state.fed.iter().for_each(|share| share.set_garbled(true));
        }
    }

    fn lose(&self, state: &State, batches: u64) {
        self.share.stats.lost.add(batches);
        state.fed.iter().for_each(|share| share.lose());
    }

    /// The publisher begins, or begins anew: its cache is empty, and that is all known.
    fn restarted(&self, state: &mut State) {
        if state.sequence.last().is_some() {
            self.share.stats.restarts.one();
        }
        state.sequence = Sequence::default();
        state.fed.iter().for_each(|share| share.restart());
    }
}

/// Whether the publisher that answered is the one that was heard before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Same,
    Another,
}
