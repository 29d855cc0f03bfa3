//! How each endpoint of a pool looks to one request: what it holds of the prompt, its load, its own figures.
//!
//! One row per endpoint, written into a buffer that the thread uses again. Read by the strategies and for the Decision.

use crate::ask::{Ask, Threshold, Want, WhyNot};
use crate::book::{Book, Load};
use crate::cost::Terms;
use crate::endpoint::Endpoint;
use crate::pool::Inner;
use crate::sync::thread_local;
use crate::{Adapters, Held, Millis, Observed, ttft};
use smallvec::SmallVec;
use std::cell::RefCell;
use waypost_config::{Role, Strategy};

/// A thread's buffers.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) rows: Vec<Row>,
    told: Vec<Held>,
    guessed: Vec<Held>,
}

/// One endpoint.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) terms: Terms,
    /// Tokens of the prompt it need not compute.
    pub(crate) cached_tokens: u32,
    pub(crate) prefilling: u32,
    /// Of the prompts it is reading, tokens that are probably computed.
    pub(crate) progress: f64,
    /// Tokens of the prompt that are only cached because others are having them computed.
    pub(crate) pending_tokens: u32,
    /// Prompt tokens it reads in a millisecond; 1 where nobody knows.
    pub(crate) pace: f64,
    pub(crate) figures: Figures,
    pub(crate) why_not: Option<WhyNot>,
    /// Cost or score, by the strategy.
    pub(crate) value: Option<f64>,
    /// In step with the scorers.
    pub(crate) scores: SmallVec<[f64; 4]>,
}

/// What an engine tells, or, where that is unknown or old, what our own bookings say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Figures {
    /// Milliseconds since it told anything.
    pub(crate) age: Option<Millis>,
    /// Too old to be used.
    pub(crate) stale: bool,
    /// Requests waiting, as told.
    pub(crate) waiting: Option<u32>,
    /// Requests running, as told.
    pub(crate) running: Option<u32>,
    /// Share of KV cache in use, as told.
    pub(crate) usage: Option<f64>,
    /// The same by our own bookings, where the cache's size is known.
    pub(crate) booked_usage: Option<f64>,
    /// Blocks of our size that its KV cache can hold, as told.
    pub(crate) room: Option<f64>,
    /// 0 to 1: how ready the adapter asked for is.
    pub(crate) adapter: f64,
}

impl Figures {
    /// What `observed` is worth at `now`. `load` is what is booked, in blocks of `block_size` tokens.
    pub(crate) fn new(
        inner: &Inner,
        observed: &Observed,
        load: Load,
        adapter: Option<&str>,
        now: Millis,
    ) -> Self {
        let told = *observed != Observed { at: observed.at, ..Observed::default() };
        let age = told.then(|| now.saturating_sub(observed.at));
        let stale = age.is_some_and(|age| age > inner.stale_after);
        let fresh = told && !stale;
        let size = f64::from(inner.picking.block_size.max(1));
        // The size of the cache does not age.
        let room = observed
            .total_blocks
            .filter(|blocks| *blocks > 0)
            .map(|blocks| blocks as f64 * observed.block_size.map_or(size, f64::from).max(1.0) / size);
        Self {
            age,
            stale,
            waiting: observed.waiting.filter(|_| fresh),
            running: observed.running.filter(|_| fresh),
            usage: observed.kv_usage.filter(|usage| fresh && usage.is_finite()),
            room,
            booked_usage: room.map(|room| load.decode_blocks as f64 / room),
            adapter: readiness(observed.adapters.as_ref().filter(|_| fresh), adapter),
        }
    }

    /// Share of KV cache in use: the higher of what is told and what is booked.
    pub(crate) fn kv_share(&self) -> Option<f64> {
        match (self.usage, self.booked_usage) {
            (Some(told), Some(booked)) => Some(told.max(booked)),
            (told, booked) => told.or(booked),
        }
    }
}

/// llm-d's LoRA affinity: 1 in use, 0.8 there is room to load it, 0.6 it is waited for, 0 there is no room.
fn readiness(adapters: Option<&Adapters>, wanted: Option<&str>) -> f64 {
    let (Some(adapters), Some(wanted)) = (adapters, wanted) else { return 0.0 };
    let has = |names: &[std::sync::Arc<str>]| names.iter().any(|name| **name == *wanted);
    if has(&adapters.running) {
        1.0
    } else if adapters.running.len() + adapters.waiting.len() < adapters.max as usize {
        0.8
    } else if has(&adapters.waiting) {
        0.6
    } else {
        0.0
    }
}

thread_local! {
    static SURVEY: RefCell<Survey> = RefCell::default();
}

impl Survey {
    /// Lends the thread's buffers to `act`.
    pub(crate) fn with<T>(act: impl FnOnce(&mut Self) -> T) -> T {
        SURVEY.with(|survey| act(&mut survey.borrow_mut()))
    }

    #[cfg(test)]
    pub(crate) fn of(rows: Vec<Row>) -> Self {
        Self { rows, ..Self::default() }
    }

    /// Looks up what the engines told of the prompt; needs no lock of the pool.
    pub(crate) fn look_up(&mut self, inner: &Inner, ask: &Ask<'_>) {
        self.told.clear();
        if let Some(prefixes) = &inner.prefixes {
            prefixes.told(ask.chain, &mut self.told);
        }
    }

    /// Writes the rows; `book` is locked, so they hold until the request is booked.
    pub(crate) fn fill(&mut self, inner: &Inner, book: &Book, ask: &Ask<'_>, now: Millis) {
        self.rows.clear();
        self.rows.resize_with(inner.endpoints.len(), Row::default);
        let rows = &mut self.rows;
        for held in &self.told {
            let Some(index) = inner.position(held.worker) else { continue };
            if let Some(cached) = inner.believed(&inner.endpoints[index], *held) {
                rows[index].terms.cached = cached;
            }
        }
        if let Some(prefixes) = &inner.prefixes {
            prefixes.guessed(ask.chain, now, &mut self.guessed);
            for held in &self.guessed {
                let Some(index) = inner.position(held.worker) else { continue };
                let cached = &mut rows[index].terms.cached;
                *cached = cached.at_least(held.device);
            }
            book.active.depths(ask.chain, &mut |worker, blocks| {
                let Some(index) = inner.position(worker) else { return };
                let active = &mut rows[index].terms.active;
                *active = blocks.max(*active);
            });
        }
        for (row, endpoint) in rows.iter_mut().zip(&inner.endpoints) {
            let load = book.load(endpoint.worker());
            row.prefilling = load.prefilling;
            row.terms.prefill_tokens = load.prefill_tokens;
            row.terms.decode_blocks = load.decode_blocks;
            row.terms.requests = endpoint.requests();
            row.cached_tokens = inner.cached_tokens(row.terms.cached, ask.prompt_tokens);
            if inner.figures {
                row.figures = endpoint.with_observed(|o| Figures::new(inner, o, load, ask.adapter, now));
            }
        }
        if inner.picking.strategy == Strategy::Ttft {
            self.estimate(inner, book, ask, now);
        }
    }

    /// How far each endpoint has come with what it is reading.
    fn estimate(&mut self, inner: &Inner, book: &Book, ask: &Ask<'_>, now: Millis) {
        let pool = book.pace(now);
        for (row, endpoint) in self.rows.iter_mut().zip(&inner.endpoints) {
            let reading = book.reading(endpoint.worker());
            let pace = ttft::pace(reading.map(|r| r.pace(now)).unwrap_or_default(), pool);
            row.pace = pace.unwrap_or(1.0);
            let Some(reading) = reading else { continue };
            row.progress = reading.progress(pace.unwrap_or(0.0), now);
            let cached = row.terms.cached.device;
            let pending = cached - reading.computed(ask.chain, cached);
            row.pending_tokens = pending.saturating_mul(inner.picking.block_size).min(ask.prompt_tokens);
        }
    }

    /// Writes to each row why it cannot be taken, and forgets what an earlier strategy wrote there.
    pub(crate) fn judge(&mut self, inner: &Inner, ask: &Ask<'_>, now: Millis) {
        for (index, row) in self.rows.iter_mut().enumerate() {
            let barred = inner.barred(index, ask, now);
            row.why_not = barred.or_else(|| inner.too_busy(row).map(WhyNot::Busy));
            row.value = None;
            row.scores.clear();
        }
    }

    /// Positions and rows of those that can be taken.
    pub(crate) fn eligible(&self) -> impl Iterator<Item = (usize, &Row)> + Clone {
        self.rows.iter().enumerate().filter(|(_, row)| row.why_not.is_none())
    }

    /// Most blocks that an endpoint able to serve holds.
    pub(crate) fn best_cached(&self) -> u32 {
        let able = |row: &&Row| matches!(row.why_not, None | Some(WhyNot::FilteredAffinity));
        self.rows.iter().filter(able).map(|row| row.terms.cached.blocks()).max().unwrap_or(0)
    }
}

impl Inner {
    /// Why an endpoint cannot be taken, load aside.
    pub(crate) fn barred(&self, index: usize, ask: &Ask<'_>, now: Millis) -> Option<WhyNot> {
        let endpoint: &Endpoint = &self.endpoints[index];
        let role = endpoint.spec().role;
        let fits = match ask.want {
            Want::Decode => role != Role::Prefill,
            Want::Prefill => role != Role::Decode,
        };
        if !fits {
            Some(WhyNot::Role)
        } else if ask.only.is_some_and(|only| !only.contains(&index)) {
            Some(WhyNot::NotInSubset)
        } else if ask.tried.contains(&index) {
            Some(WhyNot::Tried)
        } else if endpoint.held_ms(now) > 0 {
            Some(WhyNot::Held)
        } else if !ask.desperate && !endpoint.is_free(now) {
            Some(WhyNot::Aside)
        } else {
            None
        }
    }

    /// The bound that an endpoint is above. Each rank of a data-parallel engine is an endpoint, judged for itself.
    fn too_busy(&self, row: &Row) -> Option<Threshold> {
        let busy = &self.picking.busy;
        let above =
            |figure: Option<f64>, most: Option<f64>| matches!((figure, most), (Some(f), Some(m)) if f > m);
        if above(row.figures.kv_share(), busy.kv_share) {
            Some(Threshold::KvShare)
        } else if busy.prefill_tokens.is_some_and(|most| row.terms.prefill_tokens > most) {
            Some(Threshold::PrefillTokens)
        } else if busy.requests.is_some_and(|most| row.terms.requests >= most) {
            Some(Threshold::Requests)
        } else if busy.waiting.is_some_and(|most| row.figures.waiting.is_some_and(|n| n > most)) {
            Some(Threshold::Waiting)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_as_ready_as_llm_d_says() {
        let adapters = Adapters { max: 3, running: vec!["a".into()], waiting: vec!["b".into()] };
        let full = Adapters { max: 2, ..adapters.clone() };
        let readiness = |adapters, name| readiness(Some(adapters), Some(name));
        assert_eq!(readiness(&adapters, "a"), 1.0);
        assert_eq!(readiness(&adapters, "b"), 0.8);
        assert_eq!(readiness(&adapters, "c"), 0.8);
        assert_eq!(readiness(&full, "b"), 0.6);
        assert_eq!(readiness(&full, "c"), 0.0);
        assert_eq!(super::readiness(None, Some("a")), 0.0);
    }
}
