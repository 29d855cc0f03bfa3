//! Listens to Dynamo's own event plane and hands each event to the endpoint it is of.
//!
//! A missed event cannot be asked for again without Dynamo's request plane, so a gap clears the worker's
//! share, see [`super::follow`]. Called by [`super::EventFeeds`].

use std::io;
use std::sync::Arc;
use tokio::task::{consume_budget, yield_now};

use super::apply::Share;
use super::decode::Event;
use super::dynamo::{Change, RouterEvent, is_topic, read};
use super::follow::{Common, Follower};
use super::zmq::{LARGE_BYTES, Listen};
use super::zmtp::{Arrival, Connection, Message};

/// The endpoints whose events come by one address.
pub(crate) struct Plane {
    followers: Vec<Arc<Follower>>,
    common: Arc<Common>,
}

impl Plane {
    pub(crate) fn new(followers: Vec<Arc<Follower>>, common: Arc<Common>) -> Self {
        Self { followers, common }
    }

    pub(crate) fn shares(&self) -> impl Iterator<Item = &Arc<Share>> {
        self.followers.iter().map(|follower| &follower.share)
    }

    /// Takes a message of events.
    pub(crate) fn take(&self, message: &[u8]) {
        let read = read(message, |event| self.apply(event));
        if read.is_err() {
            // Whose it was cannot be told: what was missed shows in the numbers of the next.
            self.shares().for_each(|share| share.stats.garbled.one());
        }
    }

    fn apply(&self, event: RouterEvent) {
        let is_its = |share: &&Arc<Share>| {
            let spec = share.target.endpoint.spec();
            spec.instance == Some(event.worker) && spec.rank.is_none_or(|rank| rank == event.rank)
        };
        let Some(share) = self.shares().find(is_its) else {
            return self.shares().for_each(|share| share.stats.other_worker.one());
        };
        share.stats.batches.one();
        share.stats.last_seen_ms.set((self.common.clock)());
        if !share.number(event.id) {
            return share.stats.duplicates.one();
        }
        let Some(tier) = event.tier else {
            return share.stats.other_medium.one();
        };
        match event.change {
            Change::Stored(parent, blocks) => share.store_named(tier, parent, &blocks),
            Change::Removed(hashes) => drop(share.apply(&Event::Removed(tier, &hashes))),
            Change::Cleared => drop(share.apply(&Event::Cleared)),
        }
    }
}

impl Listen for Plane {
    async fn listen(&self, connection: Connection) -> io::Error {
        let _connected: Vec<_> = self.shares().map(|share| share.connected()).collect();
        self.run(connection).await.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Plane {
    async fn run(&self, mut connection: Connection) -> io::Result<()> {
        for follower in &self.followers {
            connection.subscribe(follower.source.topic.as_bytes()).await?;
        }
        let mut message = Message::default();
        loop {
            match connection.receive(&mut message).await? {
                Arrival::Oversized => self.shares().for_each(|share| share.stats.oversized.one()),
                // topic | publisher | number | frame
                Arrival::Message => match message.exactly::<4>() {
                    Some([topic, _, _, frame]) if is_topic(topic) => {
                        self.take(frame);
                        match frame.len() {
                            0..LARGE_BYTES => consume_budget().await,
                            _ => yield_now().await,
                        }
                    }
                    Some(_) => {}
                    None => self.shares().for_each(|share| share.stats.garbled.one()),
                },
            }
        }
    }
}
