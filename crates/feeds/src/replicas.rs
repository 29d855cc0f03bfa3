//! Shares bookings between Waypost processes through a channel of Redis or Valkey.
//!
//! Each process tells what it books and hears what the others book, so that their choices see each other's load. Lossy
//! on purpose: nothing is acknowledged, repeated or kept, a full queue drops the newest event, and what was lost ends
//! by the leases of the listener. Never makes a request wait, and never logs the address, which may hold a password.
//! Started by the waypost binary.

mod message;
mod peers;

pub use message::{Event, MAX_CHAIN, MAX_EVENTS, Place};

use crate::pause::pause;
use crate::replicas::message::Message;
use crate::replicas::peers::Peers;
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Events that wait to be sent; the next is dropped.
pub const QUEUE_EVENTS: usize = 8192;
/// How long events are gathered for one message.
const GATHER: Duration = Duration::from_millis(5);
/// Time between two tellings of one's own counts.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// A replica not heard for this long is gone, and its bookings with it.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Longest wait for an answer of the server.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The side that keeps bookings: the picker's pools.
pub trait Bookings: Send + Sync + 'static {
    /// Another replica booked, moved on or released.
    fn remote(&self, replica: &Arc<str>, event: Event);
    /// Another replica is gone: whatever it booked is over.
    fn gone(&self, replica: &str);
    /// Our own requests in flight, where there are any.
    fn own(&self) -> Vec<(Place, u32)>;
}

/// The address is no `redis://` or `rediss://` one. Says no more, because it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("the address of Redis is not one: redis://[user:password@]host[:port][/db], or rediss:// for TLS")]
pub struct AddressError;

/// Where our own bookings are reported to; cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    queue: mpsc::Sender<Event>,
    counts: Arc<Counts>,
}

impl Reporter {
    /// Tells the other replicas. Never waits: an event that finds the queue full is dropped and counted.
    pub fn report(&self, event: Event) {
        if self.queue.try_send(event.bounded()).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// How sharing goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events sent.
    pub sent: u64,
    /// Own events that found the queue full.
    pub dropped: u64,
    /// Own events that were lost with the connection.
    pub lost: u64,
    /// Events heard from others.
    pub heard: u64,
    /// Messages of others that were missed, by their numbers.
    pub missed: u64,
    /// Messages that could not be read, or came from more replicas than are kept.
    pub garbage: u64,
    /// Times the connection was lost or could not be made.
    pub disconnects: u64,
    /// Other replicas heard lately.
    pub peers: u64,
    /// Sum over endpoints of how far the bookings heard were from what the others counted, at their last heartbeats.
    pub drift: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
    heard: AtomicU64,
    missed: AtomicU64,
    garbage: AtomicU64,
    disconnects: AtomicU64,
    peers: AtomicU64,
    drift: AtomicU64,
}

/// See the module.
pub struct Replicas {
    client: redis::Client,
    channel: Arc<str>,
    id: Arc<str>,
    reporter: Reporter,
    queue: mpsc::Receiver<Event>,
    lease: Duration,
}

/// Reads how sharing goes.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Counts>);

impl Replicas {
    /// Not yet connected. `lease` is after how long a booking that nobody released ends.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(settings: &waypost_config::Replicas, lease: Duration) -> Result<Self, AddressError> {
        let client = redis::Client::open(settings.redis.expose()).map_err(|_| AddressError)?;
        let (sender, queue) = mpsc::channel(QUEUE_EVENTS);
        Ok(Self {
            client,
            channel: Arc::clone(&settings.channel),
            id: format!("{:016x}", fastrand::u64(..)).into(),
            reporter: Reporter { queue: sender, counts: Arc::default() },
            queue,
            lease,
        })
    }

    /// Where own bookings are reported to.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// For metrics.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.reporter.counts))
    }

    /// Tells and listens until it is dropped.
    pub async fn run(self, bookings: Arc<dyn Bookings>) {
        let Self { client, channel, id, reporter, queue, lease } = self;
        let counts = &*reporter.counts;
        let link = Link { client: &client, channel: &channel, id: &id, bookings: &*bookings, counts };
        tokio::join!(link.tell(queue), link.listen(lease));
    }
}

/// What both halves need.
#[derive(Clone, Copy)]
struct Link<'a> {
    client: &'a redis::Client,
    channel: &'a str,
    id: &'a Arc<str>,
    bookings: &'a dyn Bookings,
    counts: &'a Counts,
}

impl Link<'_> {
    async fn tell(self, mut queue: mpsc::Receiver<Event>) {
        let mut backoff = Backoff::default();
        let mut number = 0;
        loop {
            if let Ok(mut connection) = within(self.client.get_multiplexed_async_connection()).await {
                // What waited for the connection is old; its bookings may be over.
                self.lose(drain(&mut queue, QUEUE_EVENTS).len());
                let error = self.tell_on(&mut connection, &mut queue, &mut number, &mut backoff).await;
                self.disconnected("tell", &error, &backoff);
            } else {
                self.counts.disconnects.fetch_add(1, Relaxed);
            }
            backoff.wait().await;
        }
    }

    /// Until the connection is lost.
    async fn tell_on(
        self,
        connection: &mut MultiplexedConnection,
        queue: &mut mpsc::Receiver<Event>,
        number: &mut u64,
        backoff: &mut Backoff,
    ) -> redis::RedisError {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = Vec::new();
        loop {
            let own = tokio::select! {
                () = gather(queue, &mut events) => None,
                _ = heartbeat.tick() => {
                    // What has been booked before it is counted must be heard before it is compared.
                    events.extend(drain(queue, MAX_EVENTS - events.len()));
                    Some(self.bookings.own())
                }
            };
            *number += 1;
            let sent = events.len();
            let message = Message::new(self.id, *number, std::mem::take(&mut events), own);
            let Some(bytes) = message.write() else { continue };
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(self.channel).arg(bytes);
            match within(publish.query_async::<i64>(connection)).await {
                Ok(_) => _ = self.counts.sent.fetch_add(sent as u64, Relaxed),
                Err(error) => {
                    self.lose(sent);
                    return error;
                }
            }
            backoff.reset();
        }
    }

    async fn listen(self, lease: Duration) {
        let mut backoff = Backoff::default();
        let mut peers = Peers::new(lease);
        loop {
            let error = self.listen_on(&mut peers, &mut backoff).await.err();
            match error {
                Some(error) => self.disconnected("listen", &error, &backoff),
                None => self.disconnected("listen", &"nothing is heard, not even of oneself", &backoff),
            }
            peers.sweep(self.bookings, self.counts);
            backoff.wait().await;
        }
    }

    /// Until the connection is lost, or brings nothing: one's own heartbeats are heard too.
    async fn listen_on(self, peers: &mut Peers, backoff: &mut Backoff) -> redis::RedisResult<()> {
        let mut connection = within(self.client.get_async_pubsub()).await?;
        within(connection.subscribe(self.channel)).await?;
        let mut messages = connection.into_on_message();
        let mut sweep = interval(HEARTBEAT);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return Ok(()) };
                    heard = Instant::now();
                    backoff.reset();
                    match Message::read(message.get_payload_bytes()) {
                        Some(message) if message.from == *self.id => {}
                        Some(message) => peers.hear(message, self.bookings, self.counts),
                        None => _ = self.counts.garbage.fetch_add(1, Relaxed),
                    }
                }
                _ = sweep.tick() => {
                    peers.sweep(self.bookings, self.counts);
                    if heard.elapsed() > SILENCE {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn lose(self, events: usize) {
        self.counts.lost.fetch_add(events as u64, Relaxed);
    }

    fn disconnected(self, half: &str, why: &dyn std::fmt::Display, backoff: &Backoff) {
        self.counts.disconnects.fetch_add(1, Relaxed);
        // Once, not at every try that follows.
        if backoff.0 == 0 {
            tracing::warn!(half, "bookings are not shared with other replicas for now: {why}");
        }
    }
}

/// Waits for an event, then a little for more; keeps what it has when it is dropped.
async fn gather(queue: &mut mpsc::Receiver<Event>, events: &mut Vec<Event>) {
    if events.is_empty() {
        match queue.recv().await {
            Some(event) => events.push(event),
            // Not while a `Reporter` is kept, as `run` does.
            None => std::future::pending().await,
        }
    }
    if queue.len() < MAX_EVENTS {
        sleep(GATHER).await;
    }
    events.extend(drain(queue, MAX_EVENTS - events.len()));
}

fn drain(queue: &mut mpsc::Receiver<Event>, most: usize) -> Vec<Event> {
    std::iter::from_fn(|| queue.try_recv().ok()).take(most).collect()
}

async fn within<T>(answer: impl Future<Output = redis::RedisResult<T>>) -> redis::RedisResult<T> {
    let late = |_| redis::RedisError::from((redis::ErrorKind::Io, "no answer in time"));
    timeout(TIMEOUT, answer).await.map_err(late)?
}

/// Time between tries to connect.
#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    async fn wait(&mut self) {
        sleep(pause(self.0)).await;
        self.0 = self.0.saturating_add(1);
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}

impl Watch {
    /// How sharing goes now.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let counts = &self.0;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Tally {
            sent: read(&counts.sent),
            dropped: read(&counts.dropped),
            lost: read(&counts.lost),
            heard: read(&counts.heard),
            missed: read(&counts.missed),
            garbage: read(&counts.garbage),
            disconnects: read(&counts.disconnects),
            peers: read(&counts.peers),
            drift: read(&counts.drift),
        }
    }
}
