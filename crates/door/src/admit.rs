//! Step 2: is there room, and is the request of a size we take? Refused here, before any work.
//!
//! Called by a door, first on the way of a request; the limits are the configuration's.

use crate::gateway::Gateway;
use http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use waypost_config::Limits;
use waypost_wire::{ApiError, Code};

/// After this many seconds a shed client may try again.
pub const RETRY_AFTER_SHED_S: u64 = 1;

/// One request's place among those in flight; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Gateway>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
        self.0.metrics.in_flight.dec();
    }
}

/// Takes a place, or says why there is none.
///
/// # Errors
/// 503 in a shutdown or with as many requests in flight as there may be, 431 for headers over the limits; counted.
pub fn admit(gateway: &Arc<Gateway>, limits: &Limits, headers: &HeaderMap) -> Result<Place, ApiError> {
    let refuse = |reason: &str, error: ApiError| {
        gateway.metrics.refused.with_label_values(&[reason]).inc();
        Err(error)
    };
    if gateway.is_closing() {
        let error = ApiError::new(Code::Draining, "This Waypost is shutting down; try another replica.");
        return refuse("draining", error.retry_after(RETRY_AFTER_SHED_S));
    }
    if let Err(error) = check_headers(limits, headers) {
        return refuse("headers", error);
    }
    let before = gateway.in_flight.fetch_add(1, Relaxed);
    gateway.metrics.in_flight.inc();
    let place = Place(Arc::clone(gateway));
    if before >= limits.requests_in_flight {
        drop(place);
        let message = format!("Waypost has {before} requests in flight, as many as it may.");
        return refuse("in_flight", ApiError::new(Code::Overloaded, message).retry_after(RETRY_AFTER_SHED_S));
    }
    Ok(place)
}

/// 431 in OpenAI's shape. hyper has a harder limit behind this one, but answers without a body.
fn check_headers(limits: &Limits, headers: &HeaderMap) -> Result<(), ApiError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > limits.header_fields || bytes > limits.header_bytes {
        let message = format!(
            "The request headers are too large: {} fields and {bytes} bytes; the limits are {} fields and {} bytes.",
            headers.len(),
            limits.header_fields,
            limits.header_bytes
        );
        return Err(ApiError::new(Code::HeadersTooLarge, message));
    }
    Ok(())
}
