//! The ZeroMQ sockets of an engine's event streams: PUB for what happens, ROUTER for what happened, as vLLM has them.
//!
//! One task per socket; it ends with the engine. Nothing here knows what an event is. `server` opens them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use zeromq::{
    Endpoint, PubSocket, RouterSocket, Socket as _, SocketEvent, SocketRecv as _, SocketSend as _, ZmqMessage,
};

use crate::Error;
use crate::feed::{Feed, Live};
use crate::options::Options;

/// Marks an address to connect to rather than to listen on.
pub(crate) const CONNECT: &str = "connect:";
/// The number that ends a replay: -1.
const END: [u8; 8] = [0xff; 8];
/// Pause between attempts to reach a subscriber.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A peer that does not read a replay for so long loses the rest of it.
const MAX_REPLAY_SEND: Duration = Duration::from_secs(10);

/// The feeds of all ranks, where their sockets listen, and the tasks behind them.
#[derive(Default)]
pub(crate) struct Sockets {
    pub(crate) feeds: Vec<Arc<Feed>>,
    /// Bound addresses, by rank; those connected to are as given.
    pub(crate) events: Vec<String>,
    pub(crate) replay: Vec<String>,
    pub(crate) tasks: JoinSet<()>,
}

/// Opens what the options ask for: nothing unless they name an address for events.
pub(crate) async fn open(options: &Options, stop: &watch::Receiver<bool>) -> Result<Sockets, Error> {
    let mut sockets = Sockets::default();
    let Some(events) = &options.kv_events else { return Ok(sockets) };
    for rank in 0..options.data_parallel {
        let (feed, sent) = Feed::new(options.kv_events_form, rank, &options.kv_topic);
        let feed = Arc::new(feed);
        sockets.feeds.push(Arc::clone(&feed));
        let url = of_rank(events, rank)?;
        let mut socket = PubSocket::new();
        let peer = url.strip_prefix(CONNECT).map(str::to_owned);
        let at = match &peer {
            Some(_) => url,
            None => bind(&mut socket, &url).await?,
        };
        sockets.events.push(at);
        sockets.tasks.spawn(publish(socket, sent, peer, stop.clone()));
        if let Some(replay) = &options.kv_replay {
            let mut socket = RouterSocket::new();
            sockets.replay.push(bind(&mut socket, &of_rank(replay, rank)?).await?);
            sockets.tasks.spawn(replays(socket, feed, options.kv_replay_topic, stop.clone()));
        }
    }
    Ok(sockets)
}

/// The address of a rank: its port is the first rank's plus the rank; port 0 stays 0.
fn of_rank(url: &str, rank: usize) -> Result<String, Error> {
    let wrong = |why: &str| Error::Address { url: url.to_owned(), why: why.to_owned() };
    let (mode, plain) = match url.strip_prefix(CONNECT) {
        Some(plain) => (CONNECT, plain),
        None => ("", url),
    };
    let plain = plain.replace("//*:", "//0.0.0.0:");
    match plain.parse::<Endpoint>() {
        Ok(Endpoint::Tcp(host, port)) => {
            let port = match port {
                0 => 0,
                first => u16::try_from(rank)
                    .ok()
                    .and_then(|rank| first.checked_add(rank))
                    .ok_or_else(|| wrong("the port of the last rank would be above 65535"))?,
            };
            Ok(format!("{mode}{}", Endpoint::Tcp(host, port)))
        }
        Ok(_) => Err(wrong("only tcp:// is known")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

async fn bind(socket: &mut impl zeromq::Socket, url: &str) -> Result<String, Error> {
    match socket.bind(url).await {
        Ok(at) => Ok(at.to_string()),
        Err(error) => Err(Error::Address { url: url.to_owned(), why: error.to_string() }),
    }
}

/// Sends what comes until the engine stops.
async fn publish(
    mut socket: PubSocket,
    mut sent: mpsc::Receiver<Live>,
    peer: Option<String>,
    mut stop: watch::Receiver<bool>,
) {
    let mut monitor = socket.monitor();
    let sending = async {
        if let Some(peer) = &peer {
            connect(&mut socket, peer).await;
        }
        loop {
            tokio::select! {
                live = sent.recv() => match live {
                    // A subscriber that cannot keep up loses messages; the socket never waits for one.
                    Some(Live::Send(frames)) => send(&mut socket, frames).await,
                    Some(Live::Pause(time)) => tokio::time::sleep(time).await,
                    None => break,
                },
                Ok(event) = monitor.recv() => {
                    if let (SocketEvent::Disconnected(_), Some(peer)) = (event, &peer) {
                        connect(&mut socket, peer).await;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = sending => {}
        _ = stop.changed() => {}
    }
    let _ = socket.close().await;
}

async fn connect(socket: &mut PubSocket, peer: &str) {
    while socket.connect(peer).await.is_err() {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn send(socket: &mut PubSocket, frames: [Bytes; 3]) {
    if let Ok(message) = ZmqMessage::try_from(frames.to_vec()) {
        let _ = socket.send(message).await;
    }
}

/// Answers requests for replay, `["", number]`, one after the other until the engine stops.
async fn replays(
    mut socket: RouterSocket,
    feed: Arc<Feed>,
    with_topic: bool,
    mut stop: watch::Receiver<bool>,
) {
    let answering = async {
        while let Ok(request) = socket.recv().await {
            let frames = request.into_vec();
            let [peer, empty, start] = &frames[..] else { continue };
            let Ok(start) = <[u8; 8]>::try_from(&start[..]) else { continue };
            if !empty.is_empty() {
                continue;
            }
            let reply = |seq: [u8; 8], payload: Bytes| {
                let mut frames = vec![peer.clone(), Bytes::new()];
                frames.extend(with_topic.then(|| feed.topic()));
                frames.extend([Bytes::copy_from_slice(&seq), payload]);
                frames
            };
            let kept = feed.replay(u64::from_be_bytes(start)).into_iter();
            let batches = kept.map(|(seq, payload)| reply(seq.to_be_bytes(), payload));
            for frames in batches.chain([reply(END, Bytes::new())]) {
                let Ok(message) = ZmqMessage::try_from(frames) else { break };
                match tokio::time::timeout(MAX_REPLAY_SEND, socket.send(message)).await {
                    Ok(Ok(())) => {}
                    _ => break,
                }
            }
        }
    };
    tokio::select! {
        () = answering => {}
        _ = stop.changed() => {}
    }
    let _ = socket.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rank_has_the_next_port() {
        assert_eq!(of_rank("tcp://*:5557", 2).unwrap(), "tcp://0.0.0.0:5559");
        assert_eq!(of_rank("connect:tcp://epp:5557", 0).unwrap(), "connect:tcp://epp:5557");
        assert_eq!(of_rank("tcp://127.0.0.1:0", 3).unwrap(), "tcp://127.0.0.1:0");
        for wrong in ["tcp://127.0.0.1:65535", "ipc:///tmp/x", "nonsense", "tcp://host"] {
            assert!(matches!(of_rank(wrong, 1), Err(Error::Address { .. })), "{wrong}");
        }
    }
}
