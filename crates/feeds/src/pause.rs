//! How long to wait before the next try to connect or to listen.
//!
//! Called by everything that keeps a connection of its own.

use std::time::Duration;

/// First pause before a new try to connect or to listen, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(5);

/// The pause after `failures` tries, moved by up to a fifth so that many do not come at once.
pub(crate) fn pause(failures: u32) -> Duration {
    let whole = PAUSE_FIRST.saturating_mul(1 << failures.min(8)).min(PAUSE_MOST);
    whole.mul_f64(0.8 + 0.4 * fastrand::f64())
}
