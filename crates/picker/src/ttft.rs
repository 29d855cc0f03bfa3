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
    /// For which its KV cache lacks room, with all that is booked there: they wait until as many are freed, and in an
    /// engine that is full prompts are read no faster than others end.
    pub(crate) over: f64,
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
    (of.backlog + of.over + of.uncached + again + REQUEST_TOKENS * f64::from(of.requests)) / of.pace
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, chain, pool, store};
    use crate::{Ask, Observed, Pool, Tier};
    use waypost_config::Strategy;

    const IDLE: Waits =
        Waits { backlog: 0.0, uncached: 1_000.0, pending: 0.0, over: 0.0, requests: 0, pace: 10.0 };

    #[test]
    fn costs_are_those_worked_by_hand() {
        for (of, expected) in [
            (IDLE, 200.0),
            (Waits { uncached: 100.0, ..IDLE }, 20.0),
            // 500 to wait for, 100 twice, 3 requests
            (Waits { backlog: 500.0, uncached: 100.0, requests: 3, ..IDLE }, 50.0 + 20.0 + 38.4),
            (Waits { pace: 5.0, ..IDLE }, 400.0),
            (Waits { over: 300.0, ..IDLE }, 230.0),
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

    fn costs(pool: &Pool, ask: &Ask<'_>, now: u64) -> Vec<f64> {
        let choice = pool.pick(ask, now).unwrap().choice.unwrap();
        choice.candidates.iter().map(|c| c.cost.unwrap()).collect()
    }

    #[test]
    fn it_goes_where_the_prompt_is_until_waiting_there_costs_more() {
        let pool = pool(2, Strategy::Ttft, |_| ());
        store(&pool, 0, Tier::Device, 7, 100);
        let prompt = chain(7, 100);
        let mut held = Vec::new();
        // Others, who hold nothing: each has 800 tokens to read.
        for seed in 0..4 {
            let other = chain(100 + seed, 50);
            held.push(pool.pick(&Ask { tried: &[1], ..ask(&other) }, 0).unwrap());
            let here = pool.pick(&ask(&prompt), 0).unwrap();
            // 928 a request here, twice 1,600 there.
            assert_eq!(here.index, usize::from(seed == 3), "behind {} requests", held.len());
        }
    }

    #[test]
    fn what_has_been_read_is_waited_for_no_more_and_the_pace_is_learned() {
        let pool = pool(2, Strategy::Ttft, |_| ());
        let (first, second, mine) = (chain(1, 100), chain(2, 100), chain(3, 10));
        let one = pool.pick(&Ask { tried: &[1], ..ask(&first) }, 0).unwrap();
        let two = pool.pick(&Ask { tried: &[1], ..ask(&second) }, 0).unwrap();
        // In tokens: 3,200 before it, twice 160, 2 requests; nobody knows how fast they are read.
        assert_eq!(costs(&pool, &ask(&mine), 40), [3_200.0 + 320.0 + 256.0, 320.0]);
        one.booking.prefill_done(100);
        // 16 tokens a millisecond, for all.
        assert_eq!(costs(&pool, &ask(&mine), 100), [(1_600.0 + 320.0 + 256.0) / 16.0, 20.0]);
        let halfway = costs(&pool, &ask(&mine), 150);
        assert!((halfway[0] - (800.0 + 320.0 + 256.0) / 16.0).abs() < 1.0, "{halfway:?}");
        let late = costs(&pool, &ask(&mine), 900);
        assert!((late[0] - (320.0 + 256.0) / 16.0).abs() < 1.0, "{late:?}");
        drop((one, two));
        assert_eq!(costs(&pool, &ask(&mine), 900)[0], late[1]);
    }

    #[test]
    fn an_endpoint_without_room_makes_wait() {
        let pool = pool(2, Strategy::Ttft, |_| ());
        let told = Observed { total_blocks: Some(105), block_size: Some(16), ..Observed::default() };
        pool.observe(0, told);
        let held = pool.pick(&Ask { tried: &[1], ..ask(&chain(1, 100)) }, 0).unwrap();
        held.booking.prefill_done(0);
        let mine = chain(2, 10);
        // 5 blocks of 16 tokens too many.
        assert_eq!(costs(&pool, &ask(&mine), 0), [80.0 + 320.0 + 128.0, 320.0]);
    }
}
