//! The retry budget: retries may be a share of requests plus a floor per second, never a storm.
//!
//! A bucket of tokens: every request puts in `ratio`, every second `min_per_second`, every retry takes
//! one out. Pure; time comes in. Called before each retry.

use crate::Millis;
use parking_lot::Mutex;

/// Seconds worth of allowance that may be saved up.
const WINDOW_SECONDS: f64 = 10.0;
/// Requests whose share may be saved up.
const WINDOW_REQUESTS: f64 = 1000.0;

/// See the module.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    min_per_second: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    last: Millis,
}

impl RetryBudget {
    /// `ratio` of requests (0.2 = 20 %) plus `min_per_second`.
    #[must_use]
    pub fn new(ratio: f32, min_per_second: f32, now: Millis) -> Self {
        let (ratio, min_per_second) = (f64::from(ratio), f64::from(min_per_second));
        Self { ratio, min_per_second, state: Mutex::new(State { tokens: min_per_second, last: now }) }
    }

    /// A request came in.
    pub fn deposit(&self, now: Millis) {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        state.tokens += self.ratio;
    }

    /// Takes one retry out; false when the budget is spent.
    pub fn withdraw(&self, now: Millis) -> bool {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        let enough = state.tokens >= 1.0;
        if enough {
            state.tokens -= 1.0;
        }
        enough
    }

    fn refill(&self, state: &mut State, now: Millis) {
        let seconds = now.saturating_sub(state.last) as f64 / 1000.0;
        state.last = state.last.max(now);
        let most = self.min_per_second * WINDOW_SECONDS + self.ratio * WINDOW_REQUESTS;
        state.tokens = (state.tokens + seconds * self.min_per_second).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_within_share_and_floor() {
        let budget = RetryBudget::new(0.2, 10.0, 0);
        let mut granted = 0;
        // 10 seconds at 100 requests/s, every one of them failing and asking for two retries.
        for i in 0..1000 {
            let now = i * 10;
            budget.deposit(now);
            granted += u32::from(budget.withdraw(now)) + u32::from(budget.withdraw(now));
        }
        let allowed = 1000.0 * 0.2 + 10.0 * 10.0 + 10.0;
        assert!(f64::from(granted) <= allowed, "{granted}");
        assert!(f64::from(granted) > allowed * 0.95, "{granted}");
    }

    #[test]
    fn a_zero_budget_grants_nothing() {
        let budget = RetryBudget::new(0.0, 0.0, 0);
        budget.deposit(5000);
        assert!(!budget.withdraw(10_000));
    }
}
