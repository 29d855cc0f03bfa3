//! Keeps the picker informed while the gateway runs: metrics, health and KV events of every endpoint, and the bookings of
//! other Waypost processes.
//!
//! It starts the feeds for a configuration, goes on with those that stay after a reload, and tells `/metrics` how they do.
//! Called by serve and reload.

mod bookings;
mod figures;

use crate::error::Error;
use bookings::{Ours, Told};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use waypost_config::Snapshot;
use waypost_door::Gateway;
use waypost_feeds::events::{EventFeeds, Target};
use waypost_feeds::health::Checks;
use waypost_feeds::replicas::{Replicas, Reporter, Watch};
use waypost_feeds::scrape::Scraper;
use waypost_feeds::{Client, Clock};
use waypost_picker::Pool;
use waypost_router::Brain;

/// All feeds of one process.
pub(crate) struct Feeding {
    runtime: Handle,
    clock: Clock,
    client: Client,
    /// By model: streams go on over a reload.
    events: HashMap<Arc<str>, EventFeeds>,
    scraper: Arc<Scraper>,
    checks: Arc<Checks>,
    /// That of the scraper and that of the checks; those before them end.
    tasks: JoinSet<()>,
    sharing: Option<(Reporter, Watch)>,
}

impl Feeding {
    /// Starts what `gateway`'s configuration asks for. Called within a runtime, which runs the feeds.
    pub(crate) fn start(gateway: &Arc<Gateway>) -> Result<Self, Error> {
        let brain = gateway.brain();
        let started = brain.started();
        let mut feeding = Self {
            runtime: Handle::current(),
            clock: Arc::new(move || started.elapsed().as_millis() as u64),
            client: Client::new(),
            events: HashMap::new(),
            scraper: Arc::default(),
            checks: Arc::default(),
            tasks: JoinSet::new(),
            sharing: None,
        };
        if let Some(settings) = &brain.snapshot().replicas {
            // All leases are one default unless somebody sets them apart; the longest is safe for all.
            let lease =
                brain.snapshot().models.iter().map(|model| model.picking.lease).max().unwrap_or_default();
            let replicas =
                Replicas::new(settings, lease).map_err(|e| Error::Usage(format!("replicas.redis: {e}")))?;
            feeding.sharing = Some((replicas.reporter(), replicas.watch()));
            feeding.runtime.spawn(replicas.run(Arc::new(Told::new(Arc::clone(gateway)))));
        }
        feeding.follow(&brain)?;
        Ok(feeding)
    }

    /// The configuration is now that of `brain`.
    ///
    /// # Errors
    /// Naming the model whose metrics or health cannot be read as configured; then nothing has changed.
    pub(crate) fn follow(&mut self, brain: &Brain) -> Result<(), Error> {
        let (mut scraper, mut checks) = (Scraper::default(), Checks::default());
        let pools = pools(brain);
        for (name, pool) in &pools {
            let picking = pool.picking();
            let fault = |e: String| Error::Usage(format!("model `{name}`: {e}"));
            if let Some(metrics) = &picking.metrics {
                scraper.add(pool, metrics).map_err(|e| fault(e.to_string()))?;
            }
            if let Some(health) = &picking.health {
                checks.add(pool, health).map_err(|e| fault(e.to_string()))?;
            }
        }
        for (name, pool) in &pools {
            self.listen(name, pool);
            if let Some((reporter, _)) = &self.sharing {
                pool.set_reporter(Some(Arc::new(Ours::new(name, reporter.clone()))));
            }
        }
        self.events
            .retain(|name, _| pools.iter().any(|(known, pool)| known == name && pool.index().is_some()));
        self.tasks.abort_all();
        (self.scraper, self.checks) = (Arc::new(scraper), Arc::new(checks));
        let (scraper, checks) = (Arc::clone(&self.scraper), Arc::clone(&self.checks));
        let (client, clock) = (self.client.clone(), Arc::clone(&self.clock));
        self.tasks.spawn_on(async move { scraper.run(client, clock).await }, &self.runtime);
        let (client, clock) = (self.client.clone(), Arc::clone(&self.clock));
        self.tasks.spawn_on(async move { checks.run(client, clock).await }, &self.runtime);
        Ok(())
    }

    /// The KV events of a pool's endpoints.
    fn listen(&mut self, name: &Arc<str>, pool: &Arc<Pool>) {
        let Some(index) = pool.index() else { return };
        let target = |endpoint: &Arc<waypost_picker::Endpoint>| Target {
            endpoint: Arc::clone(endpoint),
            index: Arc::clone(index),
            block_size: pool.picking().block_size,
        };
        let targets: Vec<_> = pool.endpoints().iter().map(target).collect();
        let prefixes = pool.picking().prefixes;
        match self.events.get(name) {
            Some(feeds) => feeds.sync(&targets, prefixes),
            None => {
                let feeds =
                    EventFeeds::start(self.runtime.clone(), Arc::clone(&self.clock), &targets, prefixes);
                self.events.insert(Arc::clone(name), feeds);
            }
        }
    }

    /// How feeds, pools and queues do, for `/metrics`.
    pub(crate) fn text(&self, brain: &Brain) -> Result<String, String> {
        figures::text(self, brain, &pools(brain))
    }
}

/// The pools of a brain by model; adapters have none of their own.
fn pools(brain: &Brain) -> Vec<(Arc<str>, Arc<Pool>)> {
    let models = brain.snapshot().models.iter().enumerate();
    models
        .filter(|(_, model)| model.adapter_of.is_none())
        .map(|(index, model)| (Arc::clone(&model.name), Arc::clone(brain.pool(index))))
        .collect()
}

/// Adds to each model the endpoints of its `endpoints_file`.
pub(crate) fn discover(snapshot: &mut Snapshot) -> Result<(), Error> {
    for index in 0..snapshot.models.len() {
        let model = &snapshot.models[index];
        if let Some(base) = model.adapter_of {
            snapshot.models[index].endpoints = snapshot.models[base].endpoints.clone();
            continue;
        }
        let Some(file) = &model.endpoints_file else { continue };
        let found = waypost_feeds::discovery::read(file).map_err(|e| Error::Data(e.to_string()))?;
        let known = model.endpoints.len();
        let endpoints = &mut snapshot.models[index].endpoints;
        for endpoint in found {
            if endpoints.iter().all(|known| known.id() != endpoint.id()) {
                endpoints.push(endpoint);
            }
        }
        if endpoints.len() > waypost_config::MAX_ENDPOINTS {
            endpoints.truncate(known);
            let name = &snapshot.models[index].name;
            return Err(Error::Data(format!("model `{name}`: too many endpoints in its `endpoints_file`")));
        }
    }
    Ok(())
}
