//! One request's load on an endpoint, from the choice until it is dropped.
//!
//! Dropping frees exactly once, whatever became of the request. Held by the proxy for as long as the request lives.

use crate::book::Book;
use crate::choice::Choice;
use crate::endpoint::Endpoint;
use crate::pool::Inner;
use crate::remote::{BookingEvent, Reporter};
use crate::sync::{AtomicBool, AtomicU64, Mutex};
use crate::{Millis, Pool};
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// What goes on from one configuration's pool to the next.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The pool's one lock.
    pub(crate) book: Mutex<Book>,
    pub(crate) reporter: ArcSwapOption<Arc<dyn Reporter>>,
    /// Bookings are written down even where the choice does not look at them: others are told.
    pub(crate) reported: AtomicBool,
    /// Failures that did not put their endpoint aside, because half of the pool was already.
    pub(crate) kept_in_rotation: AtomicU64,
}

impl Shared {
    pub(crate) fn report(&self, id: u64, event: impl FnOnce() -> BookingEvent) {
        if let Some(reporter) = &*self.reporter.load() {
            reporter.report(id, event());
        }
    }
}

/// An endpoint with the request booked on it.
#[derive(Debug)]
pub struct Pick {
    /// Position in the pool.
    pub index: usize,
    /// Released when dropped.
    pub booking: Booking,
    /// Tokens of the prompt that the endpoint is expected to hold, slower tiers weighed.
    pub cached_tokens: u32,
    /// How it came about; absent where only requests in flight were compared.
    pub choice: Option<Box<Choice>>,
}

/// See the module.
#[derive(Debug)]
pub struct Booking {
    pub(crate) pool: Arc<Inner>,
    pub(crate) index: usize,
    /// 0: only counted on the endpoint, not written in the book.
    pub(crate) id: u64,
    pub(crate) probe: bool,
}

impl Booking {
    /// The endpoint it is booked on.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.pool.endpoints[self.index]
    }

    /// That endpoint's position in the pool.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its number, unique in this process and pool; 0 where the pool only counts requests.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The first token came: its prompt is no longer load. Further calls do nothing.
    pub fn prefill_done(&self, now: Millis) {
        if self.id != 0 && self.pool.shared.book.lock().prefill_done(self.id, now) {
            self.pool.shared.report(self.id, || BookingEvent::PrefillDone);
        }
    }

    /// Another endpoint of the pool it was picked from serves the request; an unknown position changes nothing.
    pub fn move_to(&mut self, index: usize, now: Millis) {
        let Some(to) = self.pool.endpoints.get(index).filter(|_| index != self.index) else { return };
        if self.probe && self.endpoint().is_aside() {
            self.endpoint().abandon_probe();
        }
        self.probe = to.begin_probe();
        if self.id == 0 {
            // In this order: a pick meanwhile sees it twice rather than nowhere.
            to.book();
            self.endpoint().release();
        } else {
            Pool::rebook(&self.pool, self.id, to, now);
        }
        self.index = index;
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if self.id == 0 {
            self.endpoint().release();
        } else {
            let entry = self.pool.shared.book.lock().remove(self.id);
            if entry.is_some() {
                self.pool.shared.report(self.id, || BookingEvent::Free);
            }
        }
        if self.probe && self.endpoint().is_aside() {
            self.endpoint().abandon_probe();
        }
    }
}

impl Pool {
    fn rebook(inner: &Inner, id: u64, to: &Arc<Endpoint>, now: Millis) {
        let mut book = inner.shared.book.lock();
        let Some(weight) = book.weight(id) else { return };
        let (tokens, blocks) = (weight.prompt_tokens, weight.chain.len());
        let mut told = Vec::new();
        let (device, cached) = match &inner.prefixes {
            Some(prefixes) if blocks > 0 => {
                let chain = &weight.chain;
                let cached = inner.cached_on(prefixes, to, chain, now, &mut told);
                prefixes.note(to.worker(), chain, now);
                (cached.device, inner.cached_tokens(cached, tokens))
            }
            _ => (0, 0),
        };
        let Some(weight) = book.move_to(id, to, (device, tokens - cached), now) else { return };
        inner.shared.report(id, || BookingEvent::Add {
            endpoint: Arc::clone(to.id()),
            chain: weight.chain.clone(),
            blocks: weight.unnamed,
            prefill_tokens: weight.prefill_tokens,
        });
    }
}

#[cfg(loom)]
#[cfg(test)]
mod loom;
