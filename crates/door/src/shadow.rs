//! Policies in shadow: they decide about a request that is under way already, and nobody waits for them.
//!
//! What they would have done is put into the Decision when it settles. Called on the way of a request.

use crate::gateway::Gateway;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use waypost_config::PolicyIndex;
use waypost_router::{Brain, Context, Decision, Shadowed};
use waypost_wire::RequestView;

/// Requests whose shadows are being decided at once; more go without.
const MAX_UNDER_WAY: usize = 256;
/// Bytes of their bodies; with more, requests go without, too.
const MAX_BYTES_UNDER_WAY: usize = 64 << 20;
/// How long the record of a request that has ended waits for its shadows.
const PATIENCE: Duration = Duration::from_secs(10);

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
static BYTES_UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// The shadows of one request.
#[derive(Debug)]
pub(crate) struct Shadows {
    policies: Vec<Arc<str>>,
    /// `None` where there was no room.
    done: Option<JoinHandle<Vec<Shadowed>>>,
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
    let Some(under_way) = UnderWay::begin(body.len()) else {
        return Some(Shadows { policies, done: None });
    };
    let (brain, body, headers) = (Arc::clone(brain), body.clone(), headers.clone());
    let (id, at_ms) = (decision.id.clone(), decision.at_unix_ms);
    let taken = decision.plan.first().map(|first| Arc::clone(&first.model));
    let shadows = shadows.clone();
    let done = tokio::spawn(async move {
        let _under_way = under_way;
        let mut decided = Vec::with_capacity(shadows.len());
        let Ok(view) = RequestView::parse(&body) else { return decided };
        let context = Context::new(&headers, at_ms);
        for shadow in shadows {
            decided.push(brain.shadow(shadow, &view, &context, &id, taken.as_ref()).await);
        }
        decided
    });
    Some(Shadows { policies, done: Some(done) })
}

/// Gives the place back, also when a policy breaks.
struct UnderWay {
    bytes: usize,
}

impl UnderWay {
    fn begin(bytes: usize) -> Option<Self> {
        let count = UNDER_WAY.fetch_add(1, Relaxed);
        let all = BYTES_UNDER_WAY.fetch_add(bytes, Relaxed);
        let place = Self { bytes };
        (count < MAX_UNDER_WAY && all <= MAX_BYTES_UNDER_WAY).then_some(place)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Relaxed);
        BYTES_UNDER_WAY.fetch_sub(self.bytes, Relaxed);
    }
}

impl Shadows {
    /// What they have to say, counted; awaited after the client has its answer.
    pub(crate) async fn settle(self, gateway: &Gateway, policy: &str) -> Vec<Shadowed> {
        let (mut decided, absent) = match self.done {
            Some(done) => match timeout(PATIENCE, done).await {
                Ok(decided) => (decided.unwrap_or_default(), "failed"),
                Err(_) => (Vec::new(), "late"),
            },
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
            if let Some(asked) = &shadowed.intent {
                gateway.note_intent(&shadowed.policy, asked, shadowed.error);
            }
            gateway.metrics.shadows.with_label_values(&[policy, &shadowed.policy, outcome]).inc();
        }
        decided
    }
}
