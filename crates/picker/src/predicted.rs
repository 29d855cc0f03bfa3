//! What was sent to workers a moment ago, for which no event has come yet.
//!
//! A worker is believed to hold a prompt for a fixed time after it was sent there; by then its events tell. Pure: the
//! time comes in; called by the choice.

use crate::trie::Trie;
use crate::{Held, Millis, Worker};
use parking_lot::Mutex;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(crate) struct Predicted {
    ttl: Millis,
    max_blocks: usize,
    sent: Mutex<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    trie: Trie,
    /// In the order of their ends.
    prompts: VecDeque<Prompt>,
    /// Of all prompts, shared ones counted each time.
    blocks: usize,
}

#[derive(Debug)]
struct Prompt {
    ends: Millis,
    worker: Worker,
    chain: Box<[u64]>,
}

impl Predicted {
    /// Believes for `ttl` milliseconds, and at most `max_blocks` blocks; of more, the oldest prompts go first.
    pub(crate) fn new(ttl: Millis, max_blocks: usize) -> Self {
        Self { ttl, max_blocks, sent: Mutex::default() }
    }

    /// The prompt went to the worker. Of one with more blocks than may be held only the beginning is kept.
    pub(crate) fn note(&self, worker: Worker, chain: &[u64], now: Millis) {
        let chain: Box<[u64]> = chain[..chain.len().min(self.max_blocks)].into();
        let sent = &mut *self.sent.lock();
        sent.expire(now);
        while sent.blocks + chain.len() > self.max_blocks {
            sent.drop_oldest();
        }
        sent.trie.add(worker, &chain);
        sent.blocks += chain.len();
        sent.prompts.push_back(Prompt { ends: now.saturating_add(self.ttl), worker, chain });
    }

    /// Writes to `out` how much of the prompt each worker is believed to hold, all of it as device blocks.
    pub(crate) fn matches(&self, chain: &[u64], now: Millis, out: &mut Vec<Held>) {
        out.clear();
        let sent = &mut *self.sent.lock();
        sent.expire(now);
        sent.trie.depths(
            chain,
            &mut |worker, device| match out.iter_mut().find(|held| held.worker == worker) {
                Some(held) => held.device = device,
                None => out.push(Held { worker, device, host: 0, disk: 0 }),
            },
        );
    }

    /// Forgets the worker.
    pub(crate) fn forget(&self, worker: Worker) {
        let Sent { trie, prompts, blocks } = &mut *self.sent.lock();
        prompts.retain(|prompt| {
            let gone = prompt.worker == worker;
            if gone {
                trie.remove(worker, &prompt.chain);
                *blocks -= prompt.chain.len();
            }
            !gone
        });
    }
}

impl Sent {
    fn expire(&mut self, now: Millis) {
        while self.prompts.front().is_some_and(|prompt| prompt.ends <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(prompt) = self.prompts.pop_front() {
            self.trie.remove(prompt.worker, &prompt.chain);
            self.blocks -= prompt.chain.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(predicted: &Predicted, chain: &[u64], now: Millis) -> Vec<(u16, u32)> {
        let mut out = Vec::new();
        predicted.matches(chain, now, &mut out);
        out.iter().map(|held| (held.worker.0, held.device)).collect()
    }

    #[test]
    fn a_prompt_is_believed_until_its_time_is_up_and_being_sent_again_renews_it() {
        let predicted = Predicted::new(1600, 1000);
        predicted.note(Worker(1), &[1, 2, 3], 0);
        predicted.note(Worker(2), &[1, 2], 1000);
        assert_eq!(held(&predicted, &[1, 2, 3, 4], 1500), [(1, 3), (2, 2)]);
        assert_eq!(held(&predicted, &[1, 2, 3, 4], 1600), [(2, 2)]);
        predicted.note(Worker(2), &[1], 2000);
        assert_eq!(held(&predicted, &[1, 2], 2600), [(2, 1)]);
        assert_eq!(held(&predicted, &[1, 2], 3600), []);
        assert!(predicted.sent.lock().trie.is_empty());
    }

    #[test]
    fn blocks_are_bounded_and_the_oldest_prompts_pay() {
        let predicted = Predicted::new(1000, 100);
        let long: Vec<u64> = (0..500).collect();
        predicted.note(Worker(0), &long, 0);
        assert_eq!(held(&predicted, &long, 1), [(0, 100)]);
        predicted.note(Worker(1), &[7, 8], 1);
        assert_eq!(held(&predicted, &long, 2), []);
        assert_eq!(held(&predicted, &[7, 8, 9], 2), [(1, 2)]);
        assert_eq!(predicted.sent.lock().blocks, 2);
    }

    #[test]
    fn forgotten_is_forgotten() {
        let predicted = Predicted::new(2_000, 100);
        predicted.note(Worker(0), &[1, 2], 0);
        predicted.note(Worker(1), &[1], 0);
        predicted.forget(Worker(0));
        assert_eq!(held(&predicted, &[1, 2], 1), [(1, 1)]);
        assert_eq!(predicted.sent.lock().blocks, 1);
    }
}
