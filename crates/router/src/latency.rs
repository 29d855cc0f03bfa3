//! How long a model takes, learned from what it did lately: a straight line over the number of tokens.
//!
//! Least squares with forgetting, five numbers a model. Told at the end of each request; asked by auto policies.

use parking_lot::Mutex;

/// What an observation still counts when the next one comes: the last hundred matter.
const MEMORY: f64 = 0.99;
/// Answers whose lengths differ by less than this (a variance, in tokens squared) tell nothing about time per token.
const MIN_VARIANCE: f64 = 4.0;

/// See the module. One per model.
#[derive(Debug, Default)]
pub struct Latency(Mutex<Sums>);

#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    n: f64,
    tokens: f64,
    ms: f64,
    tokens_squared: f64,
    tokens_ms: f64,
}

impl Latency {
    /// An answer of `tokens` was complete after `ms`.
    pub fn observe(&self, tokens: u64, ms: f64) {
        let tokens = tokens as f64;
        let mut sums = self.0.lock();
        let old = *sums;
        *sums = Sums {
            n: MEMORY * old.n + 1.0,
            tokens: MEMORY * old.tokens + tokens,
            ms: MEMORY * old.ms + ms,
            tokens_squared: MEMORY * old.tokens_squared + tokens * tokens,
            tokens_ms: MEMORY * old.tokens_ms + tokens * ms,
        };
    }

    /// Milliseconds before the first token and per token; `None` while nothing has been observed.
    #[must_use]
    pub fn line(&self) -> Option<(f64, f64)> {
        let s = *self.0.lock();
        if s.n == 0.0 {
            return None;
        }
        let (tokens, ms) = (s.tokens / s.n, s.ms / s.n);
        let variance = s.tokens_squared / s.n - tokens * tokens;
        if variance < MIN_VARIANCE {
            return Some((ms, 0.0));
        }
        let per_token = ((s.tokens_ms / s.n - tokens * ms) / variance).clamp(0.0, ms / tokens.max(1.0));
        Some((ms - per_token * tokens, per_token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_line_and_follows_when_it_moves() {
        let latency = Latency::default();
        assert_eq!(latency.line(), None);
        latency.observe(100, 1200.0);
        assert_eq!(latency.line(), Some((1200.0, 0.0)), "one answer tells nothing about time per token");
        (1..200).for_each(|i| latency.observe(i * 7 % 400, 200.0 + 10.0 * (i * 7 % 400) as f64));
        let (first, per_token) = latency.line().unwrap();
        assert!((first - 200.0).abs() < 20.0 && (per_token - 10.0).abs() < 0.2, "{first} {per_token}");
        (1..1500).for_each(|i| latency.observe(i * 7 % 400, 500.0 + 20.0 * (i * 7 % 400) as f64));
        let (first, per_token) = latency.line().unwrap();
        assert!((first - 500.0).abs() < 5.0 && (per_token - 20.0).abs() < 0.1, "{first} {per_token}");
    }

    #[test]
    fn nonsense_never_gives_a_negative_time() {
        let latency = Latency::default();
        (0..100).for_each(|i| latency.observe(i, 1000.0 - 10.0 * i as f64));
        let (first, per_token) = latency.line().unwrap();
        assert!(first >= 0.0 && per_token >= 0.0);
    }
}
