//! The running batch and its bounded queue: how many requests are computed at once, who waits, who is turned away.
//!
//! First come, first served. A request that is dropped while it waits leaves the queue at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Gauge;

/// Places in the batch and in front of it.
pub(crate) struct Batch {
    running: Arc<Semaphore>,
    queue: Semaphore,
}

/// The queue is full; the request is to be answered 503.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A place in the batch, given up when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl Batch {
    pub(crate) fn new(max_running: usize, max_waiting: usize) -> Self {
        Batch { running: Arc::new(Semaphore::new(max_running)), queue: Semaphore::new(max_waiting) }
    }

    /// Waits for a place in the batch, counted in `waiting` meanwhile; fails at once when the queue is full.
    pub(crate) async fn enter(&self, waiting: &Gauge) -> Result<Place, Full> {
        // The semaphore hands a freed place to whoever waits longest, so this cannot jump the queue.
        if let Ok(place) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(place);
        }
        let _queued = self.queue.try_acquire().map_err(|_| Full)?;
        let _counted = waiting.hold();
        Arc::clone(&self.running).acquire_owned().await.map_err(|_| Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded_and_moves_up() {
        let batch = Batch::new(1, 1);
        let waiting = Gauge::default();
        let first = batch.enter(&waiting).await.unwrap();
        let mut second = Box::pin(batch.enter(&waiting));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(5), &mut second).await.is_err());
        assert_eq!(waiting.get(), 1);
        assert_eq!(batch.enter(&waiting).await.unwrap_err(), Full);
        drop(first);
        assert!(second.await.is_ok());
        assert_eq!(waiting.get(), 0);
    }

    #[tokio::test]
    async fn whoever_leaves_the_queue_frees_a_place_in_it() {
        let batch = Batch::new(1, 1);
        let waiting = Gauge::default();
        let _first = batch.enter(&waiting).await.unwrap();
        for _ in 0..3 {
            let leaver = batch.enter(&waiting);
            assert!(tokio::time::timeout(std::time::Duration::from_millis(5), leaver).await.is_err());
        }
        assert_eq!(waiting.get(), 0);
    }
}
