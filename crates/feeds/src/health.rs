//! Asks endpoints whether they are well: so many failures in a row put one aside, one success brings it back.
//!
//! It only reports to the pool, which decides how long an endpoint stays aside and how many may be. An endpoint that
//! was put aside by failing requests comes back by a check too. Started by the waypost binary, again after every reload.

use crate::Clock;
use crate::client::{Client, PathError, below, place};
use crate::schedule::{self, Pace};
use http::Uri;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use waypost_config::Health;
use waypost_picker::{Endpoint, Failure, Pool};

/// Checks at the same time.
pub const MAX_AT_ONCE: usize = 64;
/// Most bytes of an answer that are read, so that its connection can be kept; a longer one costs the connection.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Checks {
    targets: Vec<Target>,
}

/// How checks of an address went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers with a 2xx.
    pub ok: u64,
    /// All others, and none.
    pub failed: u64,
    /// Failures in a row, up to now.
    pub failing: u32,
}

#[derive(Debug)]
struct Target {
    uri: Uri,
    health: Health,
    /// Pools with the position of the endpoint in them: ranks share an address, and models share engines.
    places: Vec<(Arc<Pool>, usize)>,
    ok: AtomicU64,
    failed: AtomicU64,
    failing: AtomicU32,
}

impl Checks {
    /// Adds the endpoints of a pool. An address that several of them share is asked once.
    ///
    /// # Errors
    /// Nothing is added if the path is wrong.
    pub fn add(&mut self, pool: &Arc<Pool>, health: &Health) -> Result<(), PathError> {
        let paths = pool.endpoints().iter().map(|endpoint| below(endpoint.base(), &health.path));
        let health = Health { failures: health.failures.max(1), ..health.clone() };
        for (index, uri) in paths.collect::<Result<Vec<_>, _>>()?.into_iter().enumerate() {
            let place = (Arc::clone(pool), index);
            match self.targets.iter_mut().find(|t| t.uri == uri && t.health == health) {
                Some(target) => target.places.push(place),
                None => self.targets.push(Target {
                    uri,
                    health: health.clone(),
                    places: vec![place],
                    ok: AtomicU64::new(0),
                    failed: AtomicU64::new(0),
                    failing: AtomicU32::new(0),
                }),
            }
        }
        Ok(())
    }

    /// Checks until it is dropped; returns at once if there is nothing to check.
    pub async fn run(&self, client: Client, clock: Clock) {
        // The sick are asked as often as the well: that they are back should be seen soon.
        let pace = |target: &Target| Pace { interval: target.health.interval, longest: Duration::ZERO };
        schedule::run(&self.targets, pace, MAX_AT_ONCE, |target| target.visit(&client, &clock)).await;
    }

    /// How checks went, for each address with the endpoints behind it.
    pub fn tallies(&self) -> impl Iterator<Item = (Vec<&Arc<Endpoint>>, Tally)> {
        self.targets.iter().map(|target| {
            let tally = Tally {
                ok: target.ok.load(Relaxed),
                failed: target.failed.load(Relaxed),
                failing: target.failing.load(Relaxed),
            };
            (target.endpoints().collect(), tally)
        })
    }
}

impl Target {
    fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.places.iter().filter_map(|(pool, index)| pool.endpoints().get(*index))
    }

    async fn visit(&self, client: &Client, clock: &Clock) -> bool {
        let well = tokio::time::timeout(self.health.timeout, self.is_well(client)).await.unwrap_or(false);
        if well {
            self.ok.fetch_add(1, Relaxed);
            if self.failing.swap(0, Relaxed) >= self.health.failures {
                tracing::info!(endpoint = place(&self.uri), "well again");
            }
            self.endpoints()
                .filter(|endpoint| endpoint.is_failing())
                .for_each(|endpoint| endpoint.succeeded());
        } else {
            self.failed.fetch_add(1, Relaxed);
            let failing = self.failing.fetch_add(1, Relaxed).saturating_add(1);
            if failing == self.health.failures {
                tracing::warn!(
                    endpoint = place(&self.uri),
                    failing,
                    "fails its health checks and is put aside"
                );
            }
            if failing >= self.health.failures {
                let now = clock();
                self.places.iter().for_each(|(pool, index)| pool.failed(*index, Failure::Broken, now));
            }
        }
        well
    }

    async fn is_well(&self, client: &Client) -> bool {
        let Ok(response) = client.get(&self.uri).await else { return false };
        let well = response.status().is_success();
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER_BYTES);
        // What it says does not matter; the connection can be used again once it has been read.
        _ = body.collect().await;
        well
    }
}
