//! The replicas of one model: picking one and booking it are one step, so that two requests that
//! arrive at once see each other.
//!
//! It never waits and never does I/O. Every endpoint of a pool may be put aside: the model then yields
//! to its fallback, or, without one, its doubtful endpoints are tried in desperation. Called through
//! the router.

use crate::Millis;
use crate::endpoint::{Endpoint, Failure};
use parking_lot::Mutex;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
    picking: Mutex<()>,
}

/// An endpoint with the request booked on it.
#[derive(Debug)]
pub struct Pick {
    /// Position in the pool.
    pub index: usize,
    /// Released when dropped.
    pub booking: Booking,
}

/// One request's load on an endpoint; dropping it releases the load, exactly once.
#[derive(Debug)]
pub struct Booking {
    endpoint: Arc<Endpoint>,
    probe: bool,
}

impl Booking {
    /// The endpoint it is booked on.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.endpoint.release();
        if self.probe && self.endpoint.is_aside() {
            self.endpoint.abandon_probe();
        }
    }
}

impl Pool {
    /// A pool of these endpoints, which may be shared with an earlier pool.
    #[must_use]
    pub fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self { endpoints, picking: Mutex::new(()) }
    }

    /// All endpoints, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Picks the least loaded endpoint not in `tried` and books one request on it; ties are random.
    ///
    /// With `desperate`, endpoints put aside are taken too: better a doubtful endpoint than none.
    /// An endpoint that asked to be left alone is never taken.
    #[must_use]
    pub fn pick(&self, now: Millis, tried: &[usize], desperate: bool) -> Option<Pick> {
        let _guard = self.picking.lock();
        let mut best: Option<(u32, usize)> = None;
        let mut ties = 0;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let free = endpoint.held_ms(now) == 0 && (desperate || endpoint.is_free(now));
            if !free || tried.contains(&index) {
                continue;
            }
            let load = endpoint.in_flight();
            match best {
                Some((least, _)) if load > least => continue,
                Some((least, _)) if load == least => ties += 1,
                _ => ties = 1,
            }
            // Reservoir sampling: each of the equals is kept with the same probability.
            if ties == 1 || fastrand::u32(0..ties) == 0 {
                best = Some((load, index));
            }
        }
        let (_, index) = best?;
        let endpoint = Arc::clone(&self.endpoints[index]);
        let probe = endpoint.is_aside();
        endpoint.book();
        Some(Pick { index, booking: Booking { endpoint, probe } })
    }

    /// Remembers that endpoint `index` failed.
    pub fn failed(&self, index: usize, failure: Failure, now: Millis) {
        let endpoint = &self.endpoints[index];
        if let Failure::Hold { for_ms } = failure {
            endpoint.hold(now, for_ms);
            return;
        }
        endpoint.put_aside(now, fastrand::f64());
    }

    /// The shortest time until one of the held endpoints is free, when all of them are held.
    #[must_use]
    pub fn all_held_ms(&self, now: Millis) -> Option<u64> {
        self.endpoints.iter().map(|e| e.held_ms(now)).min().filter(|ms| *ms > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{ASIDE_FIRST_MS, ASIDE_MOST_MS};

    fn pool(n: usize) -> Pool {
        let at = |i| waypost_config::Endpoint::at(format!("http://e{i}"));
        Pool::new((0..n).map(|i| Arc::new(Endpoint::new(at(i), crate::Worker(i as u16)))).collect())
    }

    #[test]
    fn load_spreads_evenly_and_bookings_are_released_once() {
        let pool = pool(4);
        let picks: Vec<_> = (0..40).map(|_| pool.pick(0, &[], false).unwrap()).collect();
        assert!(pool.endpoints().iter().all(|e| e.in_flight() == 10));
        drop(picks);
        assert!(pool.endpoints().iter().all(|e| e.in_flight() == 0));
    }

    #[test]
    fn ties_are_random() {
        let pool = pool(3);
        let mut seen = [0; 3];
        (0..300).for_each(|_| seen[pool.pick(0, &[], false).unwrap().index] += 1);
        assert!(seen.iter().all(|n| *n > 50), "{seen:?}");
    }

    #[test]
    fn one_probe_at_a_time_comes_back() {
        let pool = pool(2);
        (0..2).for_each(|i| pool.failed(i, Failure::Broken, 0));
        assert!(pool.pick(1, &[], false).is_none(), "nothing healthy is left");
        assert!(pool.pick(1, &[], true).is_some(), "desperation takes it");
        let later = ASIDE_FIRST_MS * 2;
        let probe = pool.pick(later, &[1], false).unwrap();
        assert!(pool.pick(later, &[1], false).is_none(), "one probe at a time");
        drop(probe);
        let probe = pool.pick(later, &[1], false).unwrap();
        probe.booking.endpoint().succeeded();
        assert!(!pool.endpoints()[0].is_aside());
    }

    #[test]
    fn time_aside_doubles_up_to_its_bound() {
        let pool = pool(1);
        let mut now = 0;
        for round in 0..10 {
            pool.failed(0, Failure::Broken, now);
            assert!(pool.pick(now, &[], false).is_none());
            assert!(pool.pick(now, &[], true).is_some(), "desperation takes it");
            let most = (ASIDE_FIRST_MS << round).min(ASIDE_MOST_MS) * 12 / 10;
            now += most + 1;
            assert!(pool.pick(now, &[], false).is_some(), "round {round}");
        }
    }

    #[test]
    fn a_hold_is_obeyed_even_in_desperation() {
        let pool = pool(2);
        pool.failed(0, Failure::Hold { for_ms: 7_000 }, 0);
        assert!((0..50).all(|_| pool.pick(6_999, &[], true).unwrap().index == 1));
        assert_eq!(pool.all_held_ms(10), None);
        pool.failed(1, Failure::Hold { for_ms: 3_000 }, 0);
        assert_eq!(pool.all_held_ms(1_000), Some(2_000));
        assert!(pool.pick(1_000, &[], true).is_none());
        assert!(pool.pick(7_000, &[1], false).is_some());
    }
}
