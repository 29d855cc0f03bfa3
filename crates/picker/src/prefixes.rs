//! What a pool knows of the endpoints' caches: the engines' events, and our own choices.
//!
//! Where both are known, an endpoint holds the more of the two: events tell what is there, choices what is about to be.
//! Only made for pools whose choice reads prompts; taken over by the next pool while the settings agree.

use crate::approximate::Approximate;
use crate::predicted::Predicted;
use crate::{Held, Millis, PrefixIndex, Worker};
use std::path::Path;
use std::sync::Arc;
use waypost_config::{Picking, Prefixes as Source};

/// About what one guessed block takes, in bytes: hash, time and two links in a list and a map.
const GUESS_BYTES: usize = 64;
/// Most blocks that are guessed for the moment between a choice and the engine's event.
const PREDICTED_BLOCKS_MAX: usize = 1 << 20;

/// What has to agree for the content to stay of use.
#[derive(Debug, Clone, PartialEq)]
struct Settings {
    block_size: u32,
    index_bytes: usize,
    source: Source,
    predicted: std::time::Duration,
    tokenizer: Option<Arc<Path>>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Prefixes {
    settings: Settings,
    events: Option<Arc<PrefixIndex>>,
    guesses: Option<Guesses>,
}

/// What our own choices tell.
#[derive(Debug, Clone)]
enum Guesses {
    /// Until events tell.
    Predicted(Arc<Predicted>),
    /// No events ever tell.
    Approximate(Arc<Approximate>),
}

impl Prefixes {
    pub(crate) fn new(picking: &Picking, previous: Option<&Self>) -> Self {
        let settings = Settings {
            block_size: picking.block_size,
            index_bytes: picking.index_bytes,
            source: picking.prefixes,
            predicted: picking.predicted,
            tokenizer: picking.tokenizer.clone(),
        };
        if let Some(previous) = previous.filter(|p| p.settings == settings) {
            return previous.clone();
        }
        let millis = |time: std::time::Duration| time.as_millis() as Millis;
        let room = (picking.index_bytes / GUESS_BYTES).max(1);
        let (events, guesses) = match picking.prefixes {
            Source::Events | Source::Dynamo => {
                let ttl = millis(picking.predicted);
                let predicted = || Predicted::new(ttl, room.min(PREDICTED_BLOCKS_MAX));
                let index = Arc::new(PrefixIndex::new(picking.index_bytes));
                (Some(index), (ttl > 0).then(|| Guesses::Predicted(Arc::new(predicted()))))
            }
            Source::Approximate { ttl } => {
                (None, Some(Guesses::Approximate(Arc::new(Approximate::new(millis(ttl), room)))))
            }
        };
        Self { settings, events, guesses }
    }

    pub(crate) fn events(&self) -> Option<&Arc<PrefixIndex>> {
        self.events.as_ref()
    }

    pub(crate) fn forget(&self, worker: Worker) {
        if let Some(events) = &self.events {
            events.clear(worker);
        }
        match &self.guesses {
            Some(Guesses::Predicted(predicted)) => predicted.forget(worker),
            Some(Guesses::Approximate(approximate)) => approximate.forget(worker),
            None => {}
        }
    }

    /// The engine tells how many blocks of how many tokens it has room for.
    pub(crate) fn set_capacity(&self, worker: Worker, blocks: u64, block_size: u32) {
        if let Some(Guesses::Approximate(approximate)) = &self.guesses {
            let ours = blocks.saturating_mul(block_size.into()) / u64::from(self.settings.block_size.max(1));
            approximate.set_capacity(worker, usize::try_from(ours).unwrap_or(usize::MAX));
        }
    }

    /// The prompt went to `worker`.
    pub(crate) fn note(&self, worker: Worker, chain: &[u64], now: Millis) {
        match self.guesses.as_ref().filter(|_| !chain.is_empty()) {
            Some(Guesses::Predicted(predicted)) => predicted.note(worker, chain, now),
            Some(Guesses::Approximate(approximate)) => approximate.note(worker, chain, now),
            None => {}
        }
    }

    /// What events say of the prompt.
    pub(crate) fn told(&self, chain: &[u64], out: &mut Vec<Held>) {
        out.clear();
        if let Some(events) = self.events.as_ref().filter(|_| !chain.is_empty()) {
            events.matches(chain, out);
        }
    }

    /// What our own choices say of it.
    pub(crate) fn guessed(&self, chain: &[u64], now: Millis, out: &mut Vec<Held>) {
        out.clear();
        match self.guesses.as_ref().filter(|_| !chain.is_empty()) {
            Some(Guesses::Predicted(predicted)) => predicted.matches(chain, now, out),
            Some(Guesses::Approximate(approximate)) => approximate.matches(chain, now, out),
            None => {}
        }
    }
}

/// Blocks of a prompt that an endpoint holds, by tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cached {
    pub(crate) device: u32,
    pub(crate) host: u32,
    pub(crate) disk: u32,
}

impl Cached {
    pub(crate) fn blocks(self) -> u32 {
        self.device + self.host + self.disk
    }

    /// At least these first blocks are on the device; slower tiers keep what lies behind.
    pub(crate) fn at_least(self, device: u32) -> Self {
        if device <= self.device {
            return self;
        }
        let (host_end, disk_end) = (self.device + self.host, self.blocks());
        let host_end = host_end.max(device);
        Self { device, host: host_end - device, disk: disk_end.max(host_end) - host_end }
    }
}

impl From<Held> for Cached {
    fn from(held: Held) -> Self {
        Self { device: held.device, host: held.host, disk: held.disk }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_covers_slower_tiers_from_the_front() {
        let told = Cached { device: 2, host: 3, disk: 4 };
        assert_eq!(told.at_least(1), told);
        assert_eq!(told.at_least(4), Cached { device: 4, host: 1, disk: 4 });
        assert_eq!(told.at_least(6), Cached { device: 6, host: 0, disk: 3 });
        assert_eq!(told.at_least(20), Cached { device: 20, host: 0, disk: 0 });
    }
}
