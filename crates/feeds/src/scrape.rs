//! Reads the engines' metrics: one task for all endpoints, at each one's pace.
//!
//! Pages are read as they arrive and never kept whole. What a page tells is written into the picker's endpoints, with
//! the time; a page that fails changes nothing there, so figures grow old rather than wrong. Ranks behind one address
//! share a read. Started by the waypost binary, again after every reload.

pub mod parse;

use crate::Clock;
use crate::client::{Client, PathError, below, place};
use crate::schedule::{self, Pace};
use http::Uri;
use http_body_util::BodyExt;
use hyper::body::Body;
use parse::{Names, Page, Reader, SpecError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use waypost_config::{Metrics, MetricsForm};
use waypost_picker::{Endpoint, Millis, Pool};

/// Most bytes of a page; reading stops there and the page is not used.
pub const MAX_PAGE_BYTES: u64 = 4 << 20;
/// Pages read at the same time.
pub const MAX_AT_ONCE: usize = 64;
/// Longest time between two tries of an endpoint that fails, unless its interval is longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// Bounds of the time for one read, which else is the time after which its figures would be stale.
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];

/// Metrics that cannot be read as configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A metric's name.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Scraper {
    targets: Vec<Target>,
}

/// How reads of an address went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pages read.
    pub ok: u64,
    /// Not reached, too slow, broken off, or not a 2xx.
    pub failed: u64,
    /// Pages cut off at [`MAX_PAGE_BYTES`].
    pub too_large: u64,
    /// Pages without any figure that was looked for.
    pub garbage: u64,
    /// Series and lines of pages read that were skipped because they were garbled or too many.
    pub skipped: u64,
    /// When a page was read last.
    pub last_ok: Option<Millis>,
}

/// One page to read.
#[derive(Debug)]
struct Target {
    uri: Uri,
    form: MetricsForm,
    names: Names,
    interval: Duration,
    timeout: Duration,
    /// Pools, and positions in them.
    places: Vec<(Arc<Pool>, usize)>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    ok: AtomicU64,
    failed: AtomicU64,
    too_large: AtomicU64,
    garbage: AtomicU64,
    skipped: AtomicU64,
    /// 0: never; otherwise one more than the time.
    last_ok: AtomicU64,
    /// The last read went wrong, which has been logged.
    ill: AtomicBool,
}

/// Why a page was not used.
#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error("cannot be reached: {}", innermost(.0))]
    Unreached(#[from] hyper_util::client::legacy::Error),
    #[error("answered {0}")]
    Status(http::StatusCode),
    #[error("broke off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("took longer than {0:?}")]
    Slow(Duration),
    #[error("is larger than {MAX_PAGE_BYTES} bytes")]
    TooLarge,
    #[error("has none of the metrics that were looked for")]
    Garbage,
}

/// The client's own words are "client error (Connect)"; what is behind them is worth reading.
fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).last().map(ToString::to_string).unwrap_or_default()
}

impl Scraper {
    /// Adds the endpoints of a pool. The same page for several endpoints is read once, at the shortest interval.
    ///
    /// # Errors
    /// Nothing is added if the path or a custom metric's name is wrong.
    pub fn add(&mut self, pool: &Arc<Pool>, metrics: &Metrics) -> Result<(), Error> {
        let names = Names::of(&metrics.form)?;
        let paths = pool.endpoints().iter().map(|endpoint| below(endpoint.base(), &metrics.path));
        let uris = paths.collect::<Result<Vec<_>, _>>()?;
        let timeout = metrics.stale_after.clamp(TIMEOUTS[0], TIMEOUTS[1]);
        for (index, uri) in uris.into_iter().enumerate() {
            let place = (Arc::clone(pool), index);
            match self.targets.iter_mut().find(|t| t.uri == uri && t.form == metrics.form) {
                Some(target) => {
                    target.interval = target.interval.min(metrics.interval);
                    target.timeout = target.timeout.max(timeout);
                    target.places.push(place);
                }
                None => self.targets.push(Target {
                    uri,
                    form: metrics.form.clone(),
                    names: names.clone(),
                    interval: metrics.interval,
                    timeout,
                    places: vec![place],
                    counts: Counts::default(),
                }),
            }
        }
        Ok(())
    }

    /// Reads until it is dropped; returns at once if there is nothing to read.
    pub async fn run(&self, client: Client, clock: Clock) {
        let pace = |target: &Target| Pace { interval: target.interval, longest: LONGEST_BACKOFF };
        schedule::run(&self.targets, pace, MAX_AT_ONCE, |target| target.visit(&client, &clock)).await;
    }

    /// How reads went, for each page with the endpoints it tells of.
    pub fn tallies(&self) -> impl Iterator<Item = (Vec<&Arc<Endpoint>>, Tally)> {
        self.targets.iter().map(|target| (target.endpoints().collect(), target.counts.tally()))
    }
}

impl Target {
    fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.places.iter().filter_map(|(pool, index)| pool.endpoints().get(*index))
    }

    /// Reads the page and takes note of how that went; whether it went well.
    async fn visit(&self, client: &Client, clock: &Clock) -> bool {
        let read = tokio::time::timeout(self.timeout, self.read(client, clock)).await;
        let counts = &self.counts;
        let add = |to: &AtomicU64| _ = to.fetch_add(1, Relaxed);
        match read.unwrap_or(Err(Bad::Slow(self.timeout))) {
            Ok((page, at)) => {
                for ((pool, index), endpoint) in self.places.iter().zip(self.endpoints()) {
                    pool.observe(*index, page.observed(endpoint.spec().rank, at));
                }
                add(&counts.ok);
                counts.skipped.fetch_add(page.skipped(), Relaxed);
                counts.last_ok.store(at.saturating_add(1), Relaxed);
                if counts.ill.swap(false, Relaxed) {
                    tracing::info!(endpoint = place(&self.uri), "metrics can be read again");
                }
                true
            }
            Err(bad) => {
                add(match bad {
                    Bad::TooLarge => &counts.too_large,
                    Bad::Garbage => &counts.garbage,
                    _ => &counts.failed,
                });
                if !counts.ill.swap(true, Relaxed) {
                    tracing::warn!(endpoint = place(&self.uri), "the page of metrics {bad}");
                }
                false
            }
        }
    }

    /// The page, and when the engine began to tell it.
    async fn read(&self, client: &Client, clock: &Clock) -> Result<(Page, Millis), Bad> {
        let response = client.get(&self.uri).await?;
        if !response.status().is_success() {
            return Err(Bad::Status(response.status()));
        }
        let at = clock();
        let mut body = response.into_body();
        if body.size_hint().lower() > MAX_PAGE_BYTES {
            return Err(Bad::TooLarge);
        }
        let mut reader = Reader::new(&self.names);
        let mut left = MAX_PAGE_BYTES;
        while let Some(frame) = body.frame().await {
            let Ok(chunk) = frame?.into_data() else { continue };
            left = left.checked_sub(chunk.len() as u64).ok_or(Bad::TooLarge)?;
            reader.push(&chunk);
        }
        let page = reader.finish();
        if page.is_empty() { Err(Bad::Garbage) } else { Ok((page, at)) }
    }
}

impl Counts {
    fn tally(&self) -> Tally {
        Tally {
            ok: self.ok.load(Relaxed),
            failed: self.failed.load(Relaxed),
            too_large: self.too_large.load(Relaxed),
            garbage: self.garbage.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            last_ok: self.last_ok.load(Relaxed).checked_sub(1),
        }
    }
}
