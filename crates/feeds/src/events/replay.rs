//! Asks a publisher to say again what it has said: one question, answers until its end marker.
//!
//! Bounded in idle time, in total time and, by [`super::zmtp`], in bytes; keeps one answer at a time.
//! Called by [`super::follow`].

use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

use super::zmtp::{Arrival, Connection, Message, Role};

/// Longest silence before and within an answer; a publisher that cannot be reached holds up others for no longer.
const IDLE: Duration = Duration::from_secs(2);
/// Longest whole answer.
const TOTAL: Duration = Duration::from_secs(120);

/// An answer under way.
#[derive(Debug)]
pub(crate) struct Replay {
    connection: Connection,
    message: Message,
    deadline: Instant,
}

/// One piece of the answer.
#[derive(Debug)]
pub(crate) enum Replayed<'a> {
    /// A batch and its number.
    Batch(u64, &'a [u8]),
    /// A batch that is too large to be read.
    Oversized,
    /// That was all.
    End,
    /// Silence, a broken connection or something else than an answer.
    Broken,
}

impl Replay {
    /// Asks for the batches from `start` on.
    pub(crate) async fn ask(address: &str, start: u64) -> io::Result<Self> {
        let deadline = Instant::now() + TOTAL;
        let mut connection = timeout(IDLE, Connection::connect(address, Role::Dealer)).await??;
        timeout(IDLE, connection.send(&[b"", &start.to_be_bytes()])).await??;
        Ok(Self { connection, message: Message::default(), deadline })
    }

    /// The next batch: `["", topic?, number, payload]`, and at the end the number −1 with an empty payload.
    pub(crate) async fn next(&mut self) -> Replayed<'_> {
        let until = self.deadline.min(Instant::now() + IDLE);
        match timeout_at(until, self.connection.receive(&mut self.message)).await {
            Ok(Ok(Arrival::Message)) => {}
            Ok(Ok(Arrival::Oversized)) => return Replayed::Oversized,
            _ => return Replayed::Broken,
        }
        let mut frames = self.message.frames().rev();
        let (Some(payload), Some(number)) = (frames.next(), frames.next()) else { return Replayed::Broken };
        match <[u8; 8]>::try_from(number).map(u64::from_be_bytes) {
            Ok(u64::MAX) if payload.is_empty() => Replayed::End,
            Ok(number) if number != u64::MAX => Replayed::Batch(number, payload),
            _ => Replayed::Broken,
        }
    }
}
