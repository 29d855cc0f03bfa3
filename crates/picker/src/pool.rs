//! The replicas of one model, and what is known of them.
//!
//! It never waits and never does I/O. What it knows survives a reload of the configuration as far as the new one
//! agrees. The choice itself is in `pick` and `pair`. Called through the router, fed by the feeds.

use crate::ask::Ask;
use crate::book::{Load, Weight};
use crate::booking::Shared;
use crate::endpoint::{Endpoint, Failure};
use crate::prefixes::{Cached, Prefixes};
use crate::remote::{BookingEvent, Reporter};
use crate::sessions::Sessions;
use crate::sync::{AtomicUsize, Mutex, Ordering::Relaxed};
use crate::{Held, KvState, Millis, Observed, PrefixIndex, Worker};
use smallvec::SmallVec;
use std::sync::Arc;
use waypost_config::{Picking, Scorer, Strategy};

/// Most endpoints of a pool: workers are numbered with 16 bits, and some numbers may still be in use by those gone.
pub(crate) const ENDPOINTS_MAX: usize = 32_768;
/// Age at which figures are not used where the configuration does not say, in milliseconds.
const STALE_AFTER_MS: Millis = 5_000;
/// No endpoint has this number.
const NOBODY: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub struct Pool {
    pub(crate) inner: Arc<Inner>,
}

/// What bookings need of their pool, too.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) picking: Arc<Picking>,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// Position by worker number.
    positions: Vec<u32>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) prefixes: Option<Prefixes>,
    pub(crate) sessions: Option<Arc<Mutex<Sessions>>>,
    /// The choice looks at more than requests in flight.
    pub(crate) looks: bool,
    /// It looks at what the engines tell of themselves.
    pub(crate) figures: bool,
    pub(crate) stale_after: Millis,
    /// Whose turn it is.
    pub(crate) turn: AtomicUsize,
}

/// Figures of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Bookings that are written down, those of other processes among them.
    pub bookings: usize,
    /// Bookings of other processes.
    pub others: usize,
    /// Bookings that nobody released before their lease was over.
    pub expired: u64,
    /// Bookings of other processes for which there was no room.
    pub others_dropped: u64,
    /// Failures that did not put their endpoint aside, because half of the pool was already.
    pub kept_in_rotation: u64,
}

impl Pool {
    /// A pool of these endpoints, chosen from as `picking` says.
    ///
    /// What `previous` knows of endpoints with the same id goes on, and so do its bookings. An endpoint beyond the
    /// 32,768th is left out.
    #[must_use]
    pub fn new(picking: Arc<Picking>, specs: &[waypost_config::Endpoint], previous: Option<&Self>) -> Self {
        let before = previous.map(|pool| &*pool.inner);
        let shared = before.map(|inner| Arc::clone(&inner.shared)).unwrap_or_default();
        let known = before.and_then(|inner| inner.prefixes.as_ref());
        let prefixes = picking.reads_prompts().then(|| Prefixes::new(&picking, known));
        let endpoints = endpoints(specs, before, prefixes.as_ref());
        let workers = endpoints.iter().map(|e| usize::from(e.worker().0) + 1).max().unwrap_or(0);
        let mut positions = vec![NOBODY; workers];
        for (position, endpoint) in endpoints.iter().enumerate() {
            positions[usize::from(endpoint.worker().0)] = position as u32;
        }
        let scores = |scorer| {
            picking.strategy == Strategy::Scorers && picking.scorers.iter().any(|(s, _)| *s == scorer)
        };
        let sessions = scores(Scorer::SessionAffinity)
            .then(|| before.and_then(|inner| inner.sessions.clone()).unwrap_or_default());
        let inner = Inner {
            looks: picking.reads_prompts()
                || picking.strategy == Strategy::Scorers
                || picking.busy.is_bounded(),
            figures: picking.metrics.is_some()
                || picking.strategy == Strategy::Ttft
                || picking.busy.kv_share.is_some()
                || picking.busy.waiting.is_some()
                || [Scorer::Queue, Scorer::Running, Scorer::KvUtilization, Scorer::LoraAffinity]
                    .into_iter()
                    .any(scores),
            stale_after: picking
                .metrics
                .as_ref()
                .map_or(STALE_AFTER_MS, |m| m.stale_after.as_millis() as Millis),
            picking,
            endpoints,
            positions,
            shared,
            prefixes,
            sessions,
            turn: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// All endpoints, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.inner.endpoints
    }

    /// How it chooses.
    #[must_use]
    pub fn picking(&self) -> &Arc<Picking> {
        &self.inner.picking
    }

    /// Whether the choice wants to know the prompt's blocks.
    #[must_use]
    pub fn reads_prompts(&self) -> bool {
        self.inner.prefixes.is_some()
    }

    /// The index that the engines' events are booked in; absent where none are listened to.
    #[must_use]
    pub fn index(&self) -> Option<&Arc<PrefixIndex>> {
        self.inner.prefixes.as_ref().and_then(Prefixes::events)
    }

    /// Position of the endpoint with this id.
    #[must_use]
    pub fn position(&self, id: &str) -> Option<usize> {
        self.inner.endpoints.iter().position(|endpoint| **endpoint.id() == *id)
    }

    /// Positions of the endpoints at any of these places: `ip:port`, or an `ip` whatever the port. Places without an
    /// endpoint have none.
    #[must_use]
    pub fn located(&self, places: &[String]) -> SmallVec<[usize; 8]> {
        let endpoints = self.inner.endpoints.iter().enumerate();
        let there = endpoints.filter(|(_, endpoint)| places.iter().any(|place| endpoint.spec().is_at(place)));
        there.map(|(index, _)| index).collect()
    }

    /// Takes note of what the engine of endpoint `index` told of itself.
    pub fn observe(&self, index: usize, observed: Observed) {
        let Some(endpoint) = self.inner.endpoints.get(index) else { return };
        if let (Some(prefixes), Some(blocks)) = (&self.inner.prefixes, observed.total_blocks) {
            let size = observed.block_size.unwrap_or(self.inner.picking.block_size);
            prefixes.set_capacity(endpoint.worker(), blocks, size);
        }
        endpoint.observe(observed);
    }

    /// Load booked on endpoint `index`; zero where the pool only counts requests.
    #[must_use]
    pub fn load(&self, index: usize) -> Load {
        let worker = self.inner.endpoints.get(index).map(|endpoint| endpoint.worker());
        worker.map(|worker| self.inner.shared.book.lock().load(worker)).unwrap_or_default()
    }

    /// Figures of now.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let book = self.inner.shared.book.lock();
        PoolStats {
            bookings: book.len() - book.others_len(),
            others: book.others_len(),
            expired: book.expired,
            others_dropped: book.others_dropped,
            kept_in_rotation: self.inner.shared.kept_in_rotation.load(Relaxed),
        }
    }

    /// Who is told of bookings from now on. It goes on being told after a reload.
    pub fn set_reporter(&self, reporter: Option<Arc<dyn Reporter>>) {
        self.inner.shared.reported.store(reporter.is_some(), Relaxed);
        self.inner.shared.reporter.store(reporter.map(Arc::new));
    }

    /// Takes in what happened to the booking of this number in another process. False: it was dropped, for want of
    /// room or of such an endpoint.
    pub fn remote(&self, replica: Arc<str>, id: u64, event: BookingEvent, now: Millis) -> bool {
        let mut book = self.inner.shared.book.lock();
        book.expire(now);
        match event {
            BookingEvent::Add { endpoint, mut chain, blocks, prefill_tokens } => {
                let Some(index) = self.position(&endpoint) else { return false };
                let mut unnamed = blocks;
                if chain.len() > crate::book::BOOKING_BLOCKS_MAX {
                    let most = crate::book::BOOKING_BLOCKS_MAX;
                    unnamed = unnamed.saturating_add((chain.len() - most) as u32);
                    chain = chain[..most].into();
                }
                let prefilling = true;
                let to_compute = prefill_tokens.div_ceil(self.inner.picking.block_size.max(1));
                let cached_blocks = (chain.len() as u32).saturating_sub(to_compute);
                let prompt_tokens = prefill_tokens;
                let weight =
                    Weight { chain, unnamed, prompt_tokens, prefill_tokens, cached_blocks, prefilling };
                let ends = now.saturating_add(self.inner.lease());
                book.add_other((replica, id), &self.inner.endpoints[index], weight, (now, ends))
            }
            BookingEvent::PrefillDone => {
                book.other(&(replica, id)).is_some_and(|id| book.prefill_done(id, now))
            }
            BookingEvent::Free => book.remove_other(&(replica, id)).is_some(),
        }
    }

    /// Another process is gone: whatever it booked is over.
    pub fn remote_gone(&self, replica: &str) {
        self.inner.shared.book.lock().remove_replica(replica);
    }

    /// Remembers that endpoint `index` failed.
    ///
    /// At most half of a pool, and at least one, is put aside by failures: what is left over serves on, since a
    /// fault that hits most of a pool is seldom the endpoints' own. Once every endpoint has failed since it last answered, all are.
    pub fn failed(&self, index: usize, failure: Failure, now: Millis) {
        let endpoints = &self.inner.endpoints;
        let Some(endpoint) = endpoints.get(index) else { return };
        if let Failure::Hold { for_ms } = failure {
            endpoint.hold(now, for_ms);
            return;
        }
        let _book = self.inner.shared.book.lock();
        let aside = endpoints.iter().filter(|e| e.is_aside()).count();
        endpoint.note_failure();
        if endpoint.is_aside() || aside < (endpoints.len() / 2).max(1) {
            endpoint.put_aside(now, fastrand::f64());
        } else {
            self.inner.shared.kept_in_rotation.fetch_add(1, Relaxed);
        }
        // Nothing is left that works: the model yields to its fallback, and without one all are tried in desperation.
        if endpoints.iter().all(|e| e.is_failing()) {
            endpoints.iter().filter(|e| !e.is_aside()).for_each(|e| e.put_aside(now, fastrand::f64()));
        }
    }

    /// The shortest time until one of the held endpoints is free, when all of them are held.
    #[must_use]
    pub fn all_held_ms(&self, now: Millis) -> Option<u64> {
        self.inner.endpoints.iter().map(|e| e.held_ms(now)).min().filter(|ms| *ms > 0)
    }
}

impl Inner {
    pub(crate) fn lease(&self) -> Millis {
        self.picking.lease.as_millis() as Millis
    }

    /// Position of a worker's endpoint; a worker that is gone has none.
    pub(crate) fn position(&self, worker: Worker) -> Option<usize> {
        let position = self.positions.get(usize::from(worker.0)).filter(|p| **p != NOBODY);
        position.map(|p| *p as usize)
    }

    /// What its own events say an endpoint holds, if they can be believed.
    pub(crate) fn believed(&self, endpoint: &Endpoint, held: Held) -> Option<Cached> {
        (endpoint.kv_state() != KvState::Blind).then(|| held.into())
    }

    /// What one endpoint holds of a prompt.
    pub(crate) fn cached_on(
        &self,
        prefixes: &Prefixes,
        endpoint: &Endpoint,
        chain: &[u64],
        now: Millis,
        helds: &mut Vec<Held>,
    ) -> Cached {
        let of = |helds: &[Held]| helds.iter().find(|h| h.worker == endpoint.worker()).copied();
        prefixes.told(chain, helds);
        let told = of(helds).and_then(|held| self.believed(endpoint, held)).unwrap_or_default();
        prefixes.guessed(chain, now, helds);
        told.at_least(of(helds).map_or(0, |held| held.device))
    }

    /// Tokens of a prompt that need not be computed: slower tiers count for less.
    pub(crate) fn cached_tokens(&self, cached: Cached, prompt_tokens: u32) -> u32 {
        let kv = &self.picking.kv;
        let blocks = f64::from(cached.device)
            + kv.host_weight * f64::from(cached.host)
            + kv.disk_weight * f64::from(cached.disk);
        ((blocks * f64::from(self.picking.block_size)) as u32).min(prompt_tokens)
    }

    /// Blocks that a prompt takes, the partial last one too.
    pub(crate) fn blocks(&self, ask: &Ask<'_>) -> u32 {
        ask.prompt_tokens.div_ceil(self.picking.block_size.max(1)).max(ask.chain.len() as u32)
    }
}

/// Those known before go on, new ones get numbers that nobody uses, and what the index holds of others is forgotten.
fn endpoints(
    specs: &[waypost_config::Endpoint],
    before: Option<&Inner>,
    prefixes: Option<&Prefixes>,
) -> Vec<Arc<Endpoint>> {
    let old = before.map_or(&[][..], |inner| &inner.endpoints);
    let mut taken = before.map(|inner| inner.shared.book.lock().workers()).unwrap_or_default();
    taken.extend(old.iter().map(|e| e.worker().0));
    let mut next = 0_u16;
    let mut fresh = || -> Option<Worker> {
        while !taken.insert(next) {
            next = next.checked_add(1)?;
        }
        if let Some(prefixes) = prefixes {
            prefixes.forget(Worker(next));
        }
        Some(Worker(next))
    };
    let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(specs.len());
    for spec in specs.iter().take(ENDPOINTS_MAX) {
        let id = spec.id();
        let known = old.iter().find(|e| *e.id() == id);
        let endpoint = match known {
            Some(known) if known.spec() == spec => Arc::clone(known),
            // Another role or event source: what it has on its hands stays with its number.
            Some(known) => Arc::new(known.with_spec(spec.clone())),
            None => match fresh() {
                Some(worker) => Arc::new(Endpoint::new(spec.clone(), worker)),
                None => break,
            },
        };
        endpoints.push(endpoint);
    }
    if let Some(prefixes) = prefixes {
        let gone = |e: &&Arc<Endpoint>| endpoints.iter().all(|kept| kept.worker() != e.worker());
        old.iter().filter(gone).for_each(|e| prefixes.forget(e.worker()));
    }
    endpoints
}

#[cfg(test)]
mod tests;
