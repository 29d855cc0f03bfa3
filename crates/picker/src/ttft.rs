//! Estimated time until a request's first token, and what the choice costs those who come after: lower is better.
//!
//! An endpoint reads its prompts one after another, so a request waits for what is left of those before it, then for
//! what of its own prompt is not cached. Pure arithmetic over what the book has learned; called by the choice.

use crate::reading::Pace;

/// What a token to compute counts for: once for this request, once for those it keeps waiting.
///
/// Work that an endpoint elsewhere would have been spared costs everybody behind it; with 1, busy pools read prompts
/// again that they hold. The figures behind it are in `docs/benchmarks.md`.
const WORK: f64 = 2.0;
/// What each request in flight counts for, in prompt tokens: it slows all others down while it writes.
const REQUEST_TOKENS: f64 = 128.0;
/// How much the pool's pace counts beside the endpoint's own, in milliseconds of reading.
const POOL_PACE_MS: f64 = 2_000.0;
/// An endpoint is not taken for more than so many times faster or slower than the pool.
const PACE_RATIO_MOST: f64 = 4.0;

/// One endpoint, in prompt tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Waits {
    /// To be computed for requests before this one.
    pub(crate) backlog: f64,
    /// To be computed of this prompt.
    pub(crate) uncached: f64,
    /// Of this prompt, being computed for others just now: cached by the time it is wanted, but no reason to come here.
    pub(crate) pending: f64,
    /// Requests in flight there.
    pub(crate) requests: u32,
    /// Tokens that it reads in a millisecond.
    pub(crate) pace: f64,
}

/// Tokens per millisecond of an endpoint in a pool; `None` where nobody has read anything yet.
pub(crate) fn pace(own: Pace, pool: Pace) -> Option<f64> {
    let whole = pool.tokens / pool.ms;
    if !(whole.is_finite() && whole > 0.0) {
        return None;
    }
    let own = (own.tokens + whole * POOL_PACE_MS) / (own.ms + POOL_PACE_MS);
    Some(own.clamp(whole / PACE_RATIO_MOST, whole * PACE_RATIO_MOST))
}

/// The cost in milliseconds; in tokens while no pace is known.
pub(crate) fn cost(of: &Waits) -> f64 {
    let again = (WORK - 1.0) * (of.uncached + of.pending);
    (of.backlog + of.uncached + again + REQUEST_TOKENS * f64::from(of.requests)) / of.pace
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Waits = Waits { backlog: 0.0, uncached: 1_000.0, pending: 0.0, requests: 0, pace: 10.0 };

    #[test]
    fn costs_are_those_worked_by_hand() {
        for (of, expected) in [
            (IDLE, 200.0),
            (Waits { uncached: 100.0, ..IDLE }, 20.0),
            // 500 to wait for, 100 twice, 3 requests
            (Waits { backlog: 500.0, uncached: 100.0, requests: 3, ..IDLE }, 50.0 + 20.0 + 38.4),
            (Waits { pace: 5.0, ..IDLE }, 400.0),
            // The same prompt again, behind itself: no better than elsewhere, but for the request before.
            (Waits { backlog: 1_000.0, uncached: 0.0, pending: 1_000.0, requests: 1, ..IDLE }, 212.8),
        ] {
            let got = cost(&of);
            assert!((got - expected).abs() < 1e-9, "{of:?}: {got}, not {expected}");
        }
    }

    #[test]
    fn a_pace_that_is_little_known_is_the_pools() {
        let pool = Pace { tokens: 160_000.0, ms: 10_000.0 };
        let of = |tokens, ms| pace(Pace { tokens, ms }, pool).unwrap();
        assert_eq!(of(0.0, 0.0), 16.0);
        assert_eq!(of(0.0, 2_000.0), 8.0);
        assert_eq!(of(48_000.0, 2_000.0), 20.0);
        assert_eq!(of(0.0, 1e9), 4.0, "not slower than a quarter of it");
        assert_eq!(pace(Pace::default(), Pace::default()), None);
        assert_eq!(pace(Pace::default(), Pace { tokens: 5.0, ms: 0.0 }), None);
    }
}
