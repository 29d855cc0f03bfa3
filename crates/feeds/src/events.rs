//! KV events: which blocks each engine holds, as it says so itself, kept in the pool's prefix index.
//!
//! One task per address that is listened to; nothing here chooses an endpoint. The binary holds one
//! [`EventFeeds`] per pool and hands it the pool's endpoints again after each reload; `/metrics` reads the
//! [`EventStats`].

mod apply;
pub mod decode;
pub mod dynamo;
mod follow;
mod msgpack;
mod nats;
mod plane;
mod replay;
mod sequence;
mod slots;
mod stats;
mod taint;
mod zmq;
mod zmtp;

pub use apply::{Share, Target};
pub use msgpack::Malformed;
pub use stats::{Count, EventStats};

use crate::Clock;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use waypost_config::{EventSource, Prefixes};
use waypost_picker::Endpoint;

use follow::{Common, Follower};
use plane::Plane;
use zmq::Engines;

/// Replays that run at once, of all endpoints of a pool.
const MAX_REPLAYS: usize = 8;

/// The event streams of one pool. Dropping it ends them and forgets what they told.
pub struct EventFeeds {
    runtime: Handle,
    common: Arc<Common>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    followers: Vec<Arc<Follower>>,
    tasks: HashMap<Route, Task>,
}

/// What one task listens to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Route {
    address: Arc<str>,
    bind: bool,
    dynamo: bool,
}

struct Task {
    followers: Vec<Arc<Follower>>,
    abort: AbortHandle,
}

impl EventFeeds {
    /// Starts listening for these endpoints, on this runtime. Those without `spec().events` are left out,
    /// and all are when `prefixes` says that events are not used.
    pub fn start(runtime: Handle, clock: Clock, targets: &[Target], prefixes: Prefixes) -> Self {
        let common = Common { shares: ArcSwap::default(), replays: Semaphore::new(MAX_REPLAYS), clock };
        let feeds = Self { runtime, common: Arc::new(common), state: Mutex::default() };
        feeds.sync(targets, prefixes);
        feeds
    }

    /// The pool is now this: streams of endpoints that stay go on, others end or begin.
    pub fn sync(&self, targets: &[Target], prefixes: Prefixes) {
        let wanted: Vec<_> = match prefixes {
            Prefixes::Approximate { .. } => Vec::new(),
            Prefixes::Events | Prefixes::Dynamo => targets.iter().filter_map(with_source).collect(),
        };
        let state = &mut *self.state.lock();
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut state.followers)
            .into_iter()
            .partition(|follower| wanted.iter().any(|(target, source)| follower.follows(target, source)));
        // Before others begin: one of them may have taken over a number in the index.
        gone.iter().for_each(|follower| follower.share.close());
        state.followers = wanted
            .into_iter()
            .map(|(target, source)| {
                let known = kept.iter().find(|follower| follower.follows(target, source));
                known.map_or_else(|| self.follower(target, source), Arc::clone)
            })
            .collect();
        let shares = state.followers.iter().map(|follower| Arc::clone(&follower.share)).collect();
        self.common.shares.store(Arc::new(shares));
        self.route(state, prefixes == Prefixes::Dynamo);
    }

    fn follower(&self, target: &Target, source: &EventSource) -> Arc<Follower> {
        let share = Arc::new(Share::new(target.clone()));
        Arc::new(Follower::new(share, source.clone(), Arc::clone(&self.common)))
    }

    /// One task per address; those with the same followers as before go on.
    fn route(&self, state: &mut State, dynamo: bool) {
        let mut routes: HashMap<Route, Vec<Arc<Follower>>> = HashMap::new();
        for follower in &state.followers {
            let EventSource { address, bind, .. } = &follower.source;
            let route = Route { address: Arc::clone(address), bind: *bind, dynamo };
            routes.entry(route).or_default().push(Arc::clone(follower));
        }
        state.tasks.retain(|route, task| {
            let same = routes.get(route).is_some_and(|followers| {
                followers.len() == task.followers.len()
                    && followers.iter().zip(&task.followers).all(|(a, b)| Arc::ptr_eq(a, b))
            });
            if same {
                routes.remove(route);
            } else {
                task.abort.abort();
            }
            same
        });
        for (route, followers) in routes {
            let abort = self.listen(&route, followers.clone());
            state.tasks.insert(route, Task { followers, abort });
        }
    }

    fn listen(&self, route: &Route, followers: Vec<Arc<Follower>>) -> AbortHandle {
        let address = Arc::clone(&route.address);
        let task = match (route.dynamo, route.bind) {
            (false, false) => self.runtime.spawn(zmq::connect(address, Arc::new(Engines(followers)))),
            (false, true) => self.runtime.spawn(zmq::bind(address, Arc::new(Engines(followers)))),
            (true, bind) => {
                let plane = Arc::new(Plane::new(followers, Arc::clone(&self.common)));
                match (nats::is_nats(&address), bind) {
                    (true, _) => self.runtime.spawn(nats::connect(address, plane)),
                    (false, true) => self.runtime.spawn(zmq::bind(address, plane)),
                    (false, false) => self.runtime.spawn(zmq::connect(address, plane)),
                }
            }
        };
        task.abort_handle()
    }

    /// The counters of every endpoint that is followed.
    #[must_use]
    pub fn stats(&self) -> Vec<(Arc<Endpoint>, Arc<EventStats>)> {
        let shares = self.common.shares.load();
        let one = |share: &Arc<Share>| (Arc::clone(&share.target.endpoint), Arc::clone(&share.stats));
        shares.iter().map(one).collect()
    }
}

impl Drop for EventFeeds {
    fn drop(&mut self) {
        self.sync(&[], Prefixes::Events);
    }
}

fn with_source(target: &Target) -> Option<(&Target, &EventSource)> {
    Some((target, target.endpoint.spec().events.as_ref()?))
}
