//! Policies in shadow: they decide about a request that is under way already, and nobody waits for them.
//!
//! What they would have done is put into the Decision when it settles. Called on the way of a request.

use crate::gateway::Gateway;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use waypost_config::PolicyIndex;
use waypost_router::{Brain, Context, Decision, Shadowed};
use waypost_wire::RequestView;

/// Requests whose shadows are being decided at once; more go without.
const MAX_UNDER_WAY: usize = 256;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// The shadows of one request.
#[derive(Debug)]
pub(crate) struct Shadows {
    policies: Vec<Arc<str>>,
    /// `None` where there was no room.
    done: Option<Arc<Mutex<Vec<Shadowed>>>>,
}

/// Sets the shadows of `policy` to work.
pub(crate) fn start(
    brain: &Arc<Brain>,
    policy: PolicyIndex,
    body: &Bytes,
    headers: &HeaderMap,
    decision: &Decision,
) -> Option<Shadows> {
    let snapshot = brain.snapshot();
    let shadows = &snapshot.policies[policy].shadow;
    if shadows.is_empty() {
        return None;
    }
    let policies = shadows.iter().map(|shadow| Arc::clone(&snapshot.policies[*shadow].name)).collect();
    if UNDER_WAY.fetch_add(1, Relaxed) >= MAX_UNDER_WAY {
        UNDER_WAY.fetch_sub(1, Relaxed);
        return Some(Shadows { policies, done: None });
    }
    let done = Arc::new(Mutex::new(Vec::with_capacity(shadows.len())));
    let (brain, body, headers) = (Arc::clone(brain), body.clone(), headers.clone());
    let (id, at_ms) = (decision.id.clone(), decision.at_unix_ms);
    let taken = decision.plan.first().map(|first| Arc::clone(&first.model));
    let (shadows, results) = (shadows.clone(), Arc::clone(&done));
    tokio::spawn(async move {
        let _under_way = UnderWay;
        let Ok(view) = RequestView::parse(&body) else { return };
        let context = Context { headers: &headers, at_ms, given: None };
        for shadow in shadows {
            let decided = brain.shadow(shadow, &view, &context, &id, taken.as_ref()).await;
            results.lock().push(decided);
        }
    });
    Some(Shadows { policies, done: Some(done) })
}

/// Gives the place back, also when a policy breaks.
struct UnderWay;

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Relaxed);
    }
}

impl Shadows {
    /// What they have to say by now, counted.
    pub(crate) fn settle(self, gateway: &Gateway, policy: &str) -> Vec<Shadowed> {
        let (mut decided, absent) = match self.done {
            Some(done) => (std::mem::take(&mut *done.lock()), "late"),
            None => (Vec::new(), "busy"),
        };
        for name in self.policies {
            if decided.iter().all(|shadowed| shadowed.policy != name) {
                decided.push(Shadowed::absent(name, absent));
            }
        }
        for shadowed in &decided {
            let outcome = match shadowed.error {
                Some("late") => "late",
                Some("busy") => "busy",
                Some(_) => "failed",
                None if shadowed.agrees => "agrees",
                None => "differs",
            };
            gateway.metrics.shadows.with_label_values(&[policy, &shadowed.policy, outcome]).inc();
        }
        decided
    }
}
