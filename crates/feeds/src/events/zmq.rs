//! Listens to engines over ZMQ: connects to them, or has them connect.
//!
//! One task per address; a connection is read one message at a time, and the next is read when the last
//! has been taken. A flood therefore waits in the sockets and at last with the publisher, which drops what
//! is too much; the gap in the numbers then shows it. Called by [`super::EventFeeds`].

use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, consume_budget, yield_now};
use tokio::time::sleep;

use super::follow::Follower;
use super::zmtp::{Arrival, Connection, Message, Role, host};
use crate::pause::pause;

/// Most engines connected to one address of ours.
const MAX_PEERS: usize = 64;
/// After a batch of so many bytes, others get their turn.
pub(crate) const LARGE_BYTES: usize = 64 << 10;

/// Takes what comes on a connection.
pub(crate) trait Listen: Send + Sync + 'static {
    /// Runs until the connection ends, and tells why it did.
    fn listen(&self, connection: Connection) -> impl Future<Output = io::Error> + Send;
}

/// Connects to the address, again and again.
pub(crate) async fn connect(address: Arc<str>, listener: Arc<impl Listen>) {
    let mut failures = 0;
    loop {
        match Connection::connect(&address, Role::Subscriber).await {
            Ok(connection) => {
                failures = 0;
                let error = listener.listen(connection).await;
                tracing::info!(%address, %error, "the stream of KV events broke off");
            }
            Err(error) => tracing::debug!(%address, %error, "no stream of KV events"),
        }
        sleep(pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// Has engines connect to the address.
pub(crate) async fn bind(address: Arc<str>, listener: Arc<impl Listen>) {
    let mut failures = 0;
    loop {
        let error = match open(&address).await {
            Ok(socket) => {
                failures = 0;
                accept(&socket, &listener).await
            }
            Err(error) => error,
        };
        tracing::warn!(%address, %error, "cannot listen for KV events");
        sleep(pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

async fn open(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(host(address)?).await
}

async fn accept(socket: &TcpListener, listener: &Arc<impl Listen>) -> io::Error {
    let mut peers = JoinSet::new();
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return error,
        };
        while peers.try_join_next().is_some() {}
        if peers.len() >= MAX_PEERS {
            tracing::warn!(MAX_PEERS, "too many publishers of KV events on one address");
            continue;
        }
        let listener = Arc::clone(listener);
        peers.spawn(async move {
            let error = match Connection::shake(stream, Role::Subscriber).await {
                Ok(connection) => listener.listen(connection).await,
                Err(error) => error,
            };
            tracing::debug!(%error, "a publisher of KV events has gone");
        });
    }
}

/// The endpoints that publish on one address, told apart by topic.
pub(crate) struct Engines(pub(crate) Vec<Arc<Follower>>);

impl Engines {
    /// Whose topic it is: the longest that fits.
    fn owner(&self, topic: &[u8]) -> Option<usize> {
        let fits =
            |(_, follower): &(usize, &Arc<Follower>)| topic.starts_with(follower.source.topic.as_bytes());
        let fitting = self.0.iter().enumerate().filter(fits);
        fitting.max_by_key(|(_, follower)| follower.source.topic.len()).map(|(number, _)| number)
    }

    async fn run(&self, mut connection: Connection) -> io::Result<()> {
        for follower in &self.0 {
            connection.subscribe(follower.source.topic.as_bytes()).await?;
        }
        let mut joined: Vec<_> = self.0.iter().map(|_| None).collect();
        // Of several endpoints on one address, only a batch tells who has come.
        if let ([follower], [joined]) = (self.0.as_slice(), joined.as_mut_slice()) {
            *joined = Some(follower.join().await);
        }
        let mut message = Message::default();
        loop {
            let arrival = connection.receive(&mut message).await?;
            let here = self.0.iter().zip(&joined).filter(|(_, joined)| joined.is_some());
            if arrival == Arrival::Oversized {
                here.for_each(|(follower, _)| follower.oversized());
                continue;
            }
            let Some((topic, seq, payload)) = batch(&message) else {
                for (follower, _) in here {
                    follower.garbled().await;
                }
                continue;
            };
            let Some(number) = self.owner(topic) else { continue };
            if let (Some(follower), Some(joined)) = (self.0.get(number), joined.get_mut(number)) {
                if joined.is_none() {
                    *joined = Some(follower.join().await);
                }
                follower.heard(seq, payload).await;
            }
            // What lies in the buffer already would be taken without a pause.
            match payload.len() {
                0..LARGE_BYTES => consume_budget().await,
                _ => yield_now().await,
            }
        }
    }
}

impl Listen for Engines {
    async fn listen(&self, connection: Connection) -> io::Error {
        self.run(connection).await.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// `topic | number | payload`; the number −1 is none.
fn batch(message: &Message) -> Option<(&[u8], u64, &[u8])> {
    let [topic, number, payload] = message.exactly()?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (number != u64::MAX).then_some((topic, number, payload))
}
