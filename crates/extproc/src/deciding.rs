//! The judge of the real door: which requests are ours, and what each of them is asked for.
//!
//! It opens a [`Request`] for what OpenAI's API knows, answers the list of models itself, and gives any endpoint to what has
//! no body to look at. It never waits. Called by the streams.

mod case;
mod llm_d;
mod way;

use crate::judge::{Head, Judge};
use case::Kind;
pub use case::Request;
use http::{HeaderName, Method};
use std::sync::Arc;
use waypost_config::ExtProc;
use waypost_door::outfit::steers;
use waypost_door::{Gateway, Route};

/// Where the list of models is asked for.
const MODELS_PATH: &str = "/v1/models";
/// Names that later filters and routes go by; clients have no say in them. Those of the destination are the streams' own.
const ROUTING: [&str; 3] = ["x-selected-model", "x-gateway-model-name", "x-gateway-base-model-name"];
/// Beginnings of names that a client could pass off as ours.
const ROUTING_PREFIXES: [&str; 2] = ["x-vsr-destination", "x-vsr-looper-"];

/// See the module.
#[derive(Debug, Clone)]
pub struct Deciding {
    gateway: Arc<Gateway>,
    settings: Arc<ExtProc>,
}

impl Deciding {
    /// Decides with the gateway's brain of the moment; `settings` are those that the door was opened with.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, settings: ExtProc) -> Self {
        Self { gateway, settings: Arc::new(settings) }
    }
}

impl Judge for Deciding {
    type Case = Request;

    fn open(&self, mut head: Head) -> Option<Request> {
        let path = head.path.split('?').next().unwrap_or_default();
        let brain = self.gateway.brain();
        // Where one pool takes any name, only its engines know their names.
        let names_unknown = || matches!(&*brain.snapshot().models, [pool] if pool.any_name);
        let kind = match (&head.method, Route::of(path)) {
            (&Method::POST, Some(route)) => Kind::Model(route),
            (&Method::GET, _) if path == MODELS_PATH && !names_unknown() => Kind::Models,
            _ => Kind::Other,
        };
        if self.settings.conformance {
            llm_d::choose(&brain, &mut head);
        }
        Some(Request::new(&self.gateway, Arc::clone(&self.settings), kind, head))
    }

    fn steers(&self, name: &HeaderName) -> bool {
        let ours = ROUTING.contains(&name.as_str())
            || ROUTING_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
            || llm_d::controls(name);
        !self.settings.trust_clients && (ours || steers(name))
    }
}
