//! Between the picker's pools and the feed that shares bookings with other Waypost processes.
//!
//! Pools are found by the model's name, because a reload replaces them. Called by feeding.

use std::sync::Arc;
use waypost_door::Gateway;
use waypost_feeds::replicas::{Bookings, Event, Place, Reporter};
use waypost_picker::BookingEvent;

/// Reports the bookings of one model's pool.
#[derive(Debug)]
pub(crate) struct Ours {
    model: Arc<str>,
    reporter: Reporter,
}

impl Ours {
    pub(crate) fn new(model: &Arc<str>, reporter: Reporter) -> Self {
        Self { model: Arc::clone(model), reporter }
    }
}

impl waypost_picker::Reporter for Ours {
    fn report(&self, id: u64, what: BookingEvent) {
        self.reporter.report(Event { model: Arc::clone(&self.model), id, what });
    }
}

/// Takes in what others report.
pub(crate) struct Told(Arc<Gateway>);

impl Told {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self(gateway)
    }
}

impl Bookings for Told {
    fn remote(&self, replica: &Arc<str>, event: Event) {
        let brain = self.0.brain();
        let Some(model) = brain.snapshot().model(&event.model) else { return };
        // What finds no room, or no such endpoint, is counted there.
        let _ = brain.pool(model).remote(Arc::clone(replica), event.id, event.what, brain.now());
    }

    fn gone(&self, replica: &str) {
        let brain = self.0.brain();
        super::pools(&brain).iter().for_each(|(_, pool)| pool.remote_gone(replica));
    }

    fn own(&self) -> Vec<(Place, u32)> {
        let brain = self.0.brain();
        let pools = super::pools(&brain);
        let places = pools.iter().flat_map(|(model, pool)| {
            pool.endpoints().iter().map(|endpoint| {
                let place = Place { model: Arc::clone(model), endpoint: Arc::clone(endpoint.id()) };
                (place, endpoint.in_flight())
            })
        });
        places.filter(|(_, requests)| *requests > 0).collect()
    }
}
