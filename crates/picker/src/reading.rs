//! The prompts that an endpoint is reading: in which order, how far the first one has come, and how fast it goes.
//!
//! Learned from nothing but when requests were booked and when their first tokens came. Owned by the book and changed
//! under its lock; read for the estimate of the time to first token.

use crate::Millis;
use std::collections::VecDeque;

/// After this time without news what was learned of an endpoint's pace counts half, in milliseconds.
const PACE_HALF_LIFE_MS: f64 = 30_000.0;

/// Prompt tokens, and the milliseconds in which they were read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Pace {
    pub(crate) tokens: f64,
    pub(crate) ms: f64,
}

/// One prompt.
#[derive(Debug)]
struct Prompt {
    id: u64,
    /// That have to be computed.
    tokens: u32,
    /// Position and chain hash of the first block that has to be.
    from: Option<(u32, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// As they were booked, which is taken for the order in which they are read.
    prompts: VecDeque<Prompt>,
    /// When the first of them began to be read; `None`: not known.
    since: Option<Millis>,
    learned: Pace,
    learned_at: Millis,
}

impl Reading {
    /// A prompt is booked, of whose `chain` the first `cached` blocks are there; `tokens` are to be computed.
    pub(crate) fn begin(&mut self, id: u64, tokens: u32, chain: &[u64], cached: u32, now: Millis) {
        if self.prompts.is_empty() {
            self.since = Some(now);
        }
        let from = chain.get(cached as usize).map(|hash| (cached, *hash));
        self.prompts.push_back(Prompt { id, tokens, from });
    }

    /// Its first token came.
    pub(crate) fn done(&mut self, id: u64, now: Millis) {
        let Some(prompt) = self.take(id) else { return };
        if let Some(since) = self.since {
            self.learned = self.pace(now);
            self.learned_at = now;
            self.learned.tokens += f64::from(prompt.tokens);
            self.learned.ms += now.saturating_sub(since) as f64;
        }
        self.since = Some(now);
    }

    /// It is over before its first token, nobody knows when.
    pub(crate) fn abandoned(&mut self, id: u64) {
        let first = self.prompts.front().is_some_and(|prompt| prompt.id == id);
        if self.take(id).is_some() && first {
            self.since = None;
        }
    }

    fn take(&mut self, id: u64) -> Option<Prompt> {
        let at = self.prompts.iter().position(|prompt| prompt.id == id)?;
        self.prompts.remove(at)
    }

    /// What was learned, worth less the older it is.
    pub(crate) fn pace(&self, now: Millis) -> Pace {
        let age = now.saturating_sub(self.learned_at) as f64;
        let worth = (-age / PACE_HALF_LIFE_MS).exp2();
        Pace { tokens: self.learned.tokens * worth, ms: self.learned.ms * worth }
    }

    /// Tokens of the first prompt that have been computed by now, at `tokens_per_ms`.
    pub(crate) fn progress(&self, tokens_per_ms: f64, now: Millis) -> f64 {
        let Some((first, since)) = self.prompts.front().zip(self.since) else { return 0.0 };
        (now.saturating_sub(since) as f64 * tokens_per_ms).min(f64::from(first.tokens))
    }

    /// How many of the first `cached` blocks of `chain` have been computed, as far as they are not being read just now.
    pub(crate) fn computed(&self, chain: &[u64], cached: u32) -> u32 {
        // A prompt that agrees at the first block it computes agrees up to there, and computes it for both.
        let shared = |(at, hash): &(u32, u64)| chain.get(*at as usize) == Some(hash);
        let from = self.prompts.iter().filter_map(|prompt| prompt.from).filter(shared).map(|(at, _)| at);
        from.min().map_or(cached, |at| at.min(cached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_learned_from_first_tokens_and_fades() {
        let mut reading = Reading::default();
        reading.begin(1, 1_000, &[], 0, 5_000);
        reading.begin(2, 3_000, &[], 0, 5_050);
        assert_eq!(reading.progress(10.0, 5_040), 400.0);
        assert_eq!(reading.progress(10.0, 9_000), 1_000.0, "not more than the first prompt has");
        reading.done(1, 5_100);
        assert_eq!(reading.pace(5_100), Pace { tokens: 1_000.0, ms: 100.0 });
        assert_eq!(reading.progress(10.0, 5_150), 500.0, "the second is being read since then");
        reading.done(2, 5_400);
        let pace = reading.pace(5_400 + PACE_HALF_LIFE_MS as Millis);
        assert!((pace.tokens - 2_000.0).abs() < 10.0 && (pace.ms - 200.0).abs() < 1.0, "{pace:?}");
        reading.done(2, 6_000);
        assert_eq!(reading.progress(10.0, 6_000), 0.0);
    }

    #[test]
    fn who_leaves_early_teaches_nothing() {
        let mut reading = Reading::default();
        (1..4).for_each(|id| reading.begin(id, 500, &[], 0, 0));
        reading.abandoned(2);
        assert_eq!(reading.progress(1.0, 100), 100.0, "it was not its turn");
        reading.abandoned(1);
        assert_eq!(reading.progress(1.0, 100), 0.0, "nobody knows since when the third is read");
        reading.done(3, 200);
        assert_eq!(reading.pace(200), Pace::default());
        reading.begin(4, 500, &[], 0, 300);
        reading.done(4, 350);
        assert_eq!(reading.pace(350), Pace { tokens: 500.0, ms: 50.0 });
    }

    #[test]
    fn blocks_that_another_prompt_is_computing_are_not_there_yet() {
        let mut reading = Reading::default();
        let chain = [1, 2, 3, 4];
        assert_eq!(reading.computed(&chain, 3), 3);
        reading.begin(1, 100, &[1, 2, 7, 8], 2, 0);
        assert_eq!(reading.computed(&chain, 3), 3, "it shares two blocks, which were there before");
        reading.begin(2, 100, &chain, 2, 0);
        assert_eq!(reading.computed(&chain, 4), 2);
        assert_eq!(reading.computed(&chain, 1), 1);
        reading.begin(3, 0, &chain, 4, 0);
        reading.done(2, 10);
        assert_eq!(reading.computed(&chain, 4), 4);
    }
}
