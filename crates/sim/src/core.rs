//! What all requests of one engine share: its options, models, ranks, faults and counters.
//!
//! It answers nothing itself. `server` makes one per engine; every endpoint reads it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderMap;

use crate::faults::Faults;
use crate::handoff::Handoffs;
use crate::metrics::{Meters, Page, Series};
use crate::options::{MODEL_PREFIX, Options};
use crate::rank::{Naming, Rank};
use crate::record::Recorder;
use crate::reply::ApiError;
use crate::sockets::Sockets;
use crate::stats::{Board, Stats};
use crate::text::hash;
use crate::{Error, Fault};

/// Under this name all models are counted that only `any_model` lets in, so that callers cannot make up labels.
const ANY_MODEL_LABEL: &str = "sim-any";
/// Picks the rank of a request, as vLLM's header does.
const RANK_HEADER: &str = "x-data-parallel-rank";

/// The shared parts of an engine.
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) ranks: Vec<Arc<Rank>>,
    pub(crate) handoffs: Arc<Handoffs>,
    pub(crate) faults: Faults,
    pub(crate) board: Arc<Board>,
    pub(crate) recorder: Recorder,
    /// Per model its meters, one per rank.
    models: HashMap<String, Vec<Arc<Meters>>>,
    any: Vec<Arc<Meters>>,
    next_rank: AtomicUsize,
    /// Where events are published and replayed, by rank.
    pub(crate) kv_events: Vec<String>,
    pub(crate) kv_replay: Vec<String>,
}

/// A model as one request sees it.
pub(crate) struct Served {
    /// The name the answer gives, always with the prefix.
    pub(crate) name: String,
    pub(crate) meters: Arc<Meters>,
    /// Tells models apart in hashes.
    pub(crate) seed: u64,
    pub(crate) rank: Arc<Rank>,
    lora: Option<u32>,
}

impl Served {
    /// What sets its blocks apart, for a request with this salt.
    pub(crate) fn naming(&self, salt: Option<String>) -> Naming {
        let lora = self.lora.map(|id| (id, self.name.clone()));
        Naming { root: self.seed, lora, salt: salt.filter(|salt| !salt.is_empty()) }
    }
}

impl Core {
    /// An engine at this address, with checked options.
    pub(crate) fn new(options: Options, addr: SocketAddr, sockets: &Sockets) -> Result<Self, Error> {
        let ranks = 0..options.data_parallel;
        let meters = || ranks.clone().map(|_| Arc::default()).collect::<Vec<_>>();
        let names = options.models.iter().chain(&options.lora);
        let core = Core {
            models: names.map(|name| (name.clone(), meters())).collect(),
            any: meters(),
            ranks: ranks
                .clone()
                .map(|rank| Arc::new(Rank::new(rank, &options, sockets.feeds.get(rank).cloned())))
                .collect(),
            handoffs: Arc::new(Handoffs::new(addr, Duration::from_millis(options.kv_hold_ms))),
            faults: Faults::new(options.seed),
            board: Arc::default(),
            recorder: Recorder::default(),
            next_rank: AtomicUsize::new(0),
            kv_events: sockets.events.clone(),
            kv_replay: sockets.replay.clone(),
            options,
        };
        for fault in &core.options.faults {
            core.faults.add(Fault::clone(fault))?;
        }
        Ok(core)
    }

    /// The model of this name on this rank, if it is served.
    pub(crate) fn model(&self, asked: &str, rank: usize) -> Option<Served> {
        let known = self.models.get(asked);
        let meters = known.or(self.options.any_model.then_some(&self.any))?;
        let name =
            if asked.starts_with(MODEL_PREFIX) { asked.to_owned() } else { format!("{MODEL_PREFIX}{asked}") };
        let lora = self.options.lora.iter().position(|adapter| adapter == asked);
        Some(Served {
            seed: hash(self.options.seed, name.as_bytes()),
            name,
            meters: Arc::clone(meters.get(rank)?),
            rank: Arc::clone(self.ranks.get(rank)?),
            lora: lora.and_then(|place| u32::try_from(place + 1).ok()),
        })
    }

    /// The rank a request is for: the one it names, else the next one.
    pub(crate) fn rank_for(&self, headers: &HeaderMap) -> Result<usize, ApiError> {
        let count = self.ranks.len();
        let Some(asked) = headers.get(RANK_HEADER) else {
            return Ok(self.next_rank.fetch_add(1, Relaxed) % count);
        };
        let asked = asked.to_str().ok().and_then(|text| text.trim().parse().ok());
        asked
            .filter(|rank| *rank < count)
            .ok_or_else(|| ApiError::bad(None, format!("{RANK_HEADER} must be a number below {count}.")))
    }

    /// Everything counted.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            role: self.options.role,
            engine_id: self.handoffs.engine_id.clone(),
            handed: self.handoffs.stats(),
            ranks: self.ranks.iter().map(|rank| rank.stats()).collect(),
            kv_events: self.kv_events.clone(),
            kv_replay: self.kv_replay.clone(),
            ..self.board.stats()
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let mut models: Vec<(&str, &[Arc<Meters>])> =
            self.models.iter().map(|(name, meters)| (name.as_str(), &meters[..])).collect();
        models.sort_unstable_by_key(|(name, _)| *name);
        if self.options.any_model && !self.models.contains_key(ANY_MODEL_LABEL) {
            models.push((ANY_MODEL_LABEL, &self.any));
        }
        let mut series = Vec::new();
        for (model, meters) in models {
            let lora = self.options.lora.iter().any(|adapter| adapter == model);
            for (meters, rank) in meters.iter().zip(&self.ranks) {
                series.push(Series { model, rank: rank.index, lora, usage: rank.usage(), meters });
            }
        }
        Page::new(&series, &self.options).render()
    }
}
