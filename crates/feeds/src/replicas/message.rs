//! What replicas tell each other: MessagePack arrays, with a version in front.
//!
//! Nothing of a prompt is in them but the hashes of its blocks.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use waypost_picker::BookingEvent;

/// Version of the form; messages of another are not read.
const VERSION: u8 = 1;
/// Most events in a message.
pub const MAX_EVENTS: usize = 256;
/// Most chain hashes told of a booking; the blocks behind them are told as a number.
pub const MAX_CHAIN: usize = 512;
/// Largest message that is read, in bytes: somewhat above [`MAX_EVENTS`] with [`MAX_CHAIN`] hashes of 9 bytes each.
const MAX_MESSAGE_BYTES: usize = 2 << 20;
/// Most endpoints told in a heartbeat.
const MAX_PLACES: usize = 8192;

/// A booking's way through its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The model whose pool it is in.
    pub model: Arc<str>,
    /// Its number, within that pool of that replica.
    pub id: u64,
    /// What happened.
    pub what: BookingEvent,
}

impl Event {
    /// The same with no more than [`MAX_CHAIN`] hashes.
    pub(crate) fn bounded(mut self) -> Self {
        if let BookingEvent::Add { chain, blocks, .. } = &mut self.what
            && let Some((head, tail)) = chain.split_at_checked(MAX_CHAIN)
        {
            *blocks = blocks.saturating_add(u32::try_from(tail.len()).unwrap_or(u32::MAX));
            *chain = head.into();
        }
        self
    }
}

/// An endpoint of a model's pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The model.
    pub model: Arc<str>,
    /// Id of the endpoint.
    pub endpoint: Arc<str>,
}

/// What goes over the channel.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    version: u8,
    /// Who tells.
    pub(crate) from: Arc<str>,
    /// One more than that of the message before.
    pub(crate) number: u64,
    pub(crate) events: Vec<Event>,
    /// In a heartbeat: the teller's requests in flight, where there are any.
    pub(crate) own: Option<Vec<(Place, u32)>>,
}

impl Message {
    pub(crate) fn new(
        from: &Arc<str>,
        number: u64,
        events: Vec<Event>,
        own: Option<Vec<(Place, u32)>>,
    ) -> Self {
        let own = own.map(|mut own| {
            own.truncate(MAX_PLACES);
            own
        });
        Self { version: VERSION, from: Arc::clone(from), number, events, own }
    }

    /// `None` only if it cannot be written, which no message is known to do.
    pub(crate) fn write(&self) -> Option<Vec<u8>> {
        rmp_serde::to_vec(self).ok()
    }

    /// `None` if it is of another version, too large, or no message.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        let message: Self = rmp_serde::from_slice(bytes).ok()?;
        let bounded =
            message.events.len() <= MAX_EVENTS && message.own.iter().all(|own| own.len() <= MAX_PLACES);
        (message.version == VERSION && bounded).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn add(chain: usize) -> Event {
        let chain = vec![u64::MAX; chain].into();
        Event {
            model: "m".into(),
            id: u64::MAX,
            what: BookingEvent::Add { endpoint: "http://e".into(), chain, blocks: 2, prefill_tokens: 7 },
        }
    }

    #[test]
    fn messages_survive_the_wire_and_the_largest_is_read() {
        let free = Event { what: BookingEvent::Free, ..add(0) };
        let place = Place { model: "m".into(), endpoint: "http://e".into() };
        let message = Message::new(&"a".into(), 3, vec![add(3), free], Some(vec![(place, 2)]));
        assert_eq!(Message::read(&message.write().unwrap()), Some(message));
        let full = Message::new(&"a".into(), 4, vec![add(MAX_CHAIN + 5).bounded(); MAX_EVENTS], None);
        let BookingEvent::Add { chain, blocks, .. } = &full.events[0].what else { panic!() };
        assert_eq!((chain.len(), *blocks), (MAX_CHAIN, 7), "the cut blocks are counted");
        assert_eq!(Message::read(&full.write().unwrap()), Some(full));
        let over = Message::new(&"a".into(), 4, vec![add(0); MAX_EVENTS + 1], None);
        assert_eq!(Message::read(&over.write().unwrap()), None);
    }

    #[test]
    fn another_version_is_not_read() {
        let message = Message { version: VERSION + 1, ..Message::new(&"a".into(), 1, vec![], None) };
        assert_eq!(Message::read(&message.write().unwrap()), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), real in any::<bool>()) {
            if real {
                let mut message = Message::new(&"a".into(), 1, vec![add(2)], None).write().unwrap();
                let flip = bytes.len() % message.len();
                message[flip] ^= bytes.first().copied().unwrap_or(1);
                bytes = message;
            }
            _ = Message::read(&bytes);
        }
    }
}
