//! Dynamo's event plane over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{BLOCK, held, message, prompt, source, target_of, until, until_state};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use waypost_config::Prefixes;
use waypost_feeds::events::EventFeeds;
use waypost_picker::{KvState, PrefixIndex, hash};
use zeromq::{PubSocket, Socket, SocketSend};

/// Prompt `n` came to the worker of that instance.
fn stored(instance: u64, id: u64, n: u32) -> Value {
    let locals = hash::local_hashes(&prompt(n), BLOCK, hash::seed("", ""), &[]);
    let blocks: Vec<_> = hash::chain(&locals)
        .into_iter()
        .zip(locals)
        .map(|(chain, local)| json!({"block_hash": chain, "tokens_hash": local, "mm_extra_info": null}))
        .collect();
    event(instance, id, json!({"stored": {"parent_hash": null, "start_position": 0, "blocks": blocks}}))
}

fn event(instance: u64, id: u64, data: Value) -> Value {
    json!({"worker_id": instance, "storage_tier": "device", "residency_domain": "worker",
        "event": {"event_id": id, "data": data, "dp_rank": 0}})
}

/// `topic | publisher | number | frame`, with the events in an envelope in the frame.
fn plane(events: Value) -> zeromq::ZmqMessage {
    let payload = rmp_serde::to_vec(&events).unwrap();
    let mut envelope = vec![0x83, 0xa5];
    envelope.extend(b"topic\xa9kv-events\xa8sequence\x01\xa7payload\xc5");
    envelope.extend((payload.len() as u16).to_be_bytes());
    envelope.extend(payload);
    let frame = [&[1][..], &(envelope.len() as u32).to_be_bytes(), &envelope].concat();
    message(&[b"kv-events", &[0; 8], &[0; 8], &frame])
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_to_the_instance_they_name() {
    let mut publisher = PubSocket::new();
    let address = publisher.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let index = Arc::new(PrefixIndex::new(1 << 20));
    let instance = |worker, instance| {
        let spec = waypost_config::Endpoint {
            instance: Some(instance),
            events: Some(source(&address, None)),
            ..waypost_config::Endpoint::at(format!("http://e{worker}"))
        };
        target_of(&index, worker, spec)
    };
    let [a, b] = [instance(0, u64::MAX - 1), instance(1, 8)];
    let runtime = tokio::runtime::Handle::current();
    let feeds = EventFeeds::start(runtime, Arc::new(|| 7), &[a.clone(), b.clone()], Prefixes::Dynamo);
    let stats = feeds.stats();
    until("connected", 10, || stats[0].1.connections.get() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;

    let both = json!([stored(u64::MAX - 1, 1, 1), stored(8, 5, 2), stored(9, 1, 3)]);
    publisher.send(plane(both)).await.unwrap();
    until("heard", 5, || held(&a, 1) == 2 && held(&b, 2) == 2).await;
    assert_eq!((held(&a, 2), held(&b, 1)), (0, 0));
    assert_eq!(
        (a.endpoint.kv_state(), b.endpoint.kv_state()),
        (KvState::Live, KvState::Gaps),
        "b began late"
    );
    assert_eq!(stats[1].1.other_worker.get(), 1);

    publisher.send(plane(json!([stored(u64::MAX - 1, 1, 3)]))).await.unwrap();
    publisher.send(plane(json!([event(8, 6, json!("cleared"))]))).await.unwrap();
    until_state(&b, KvState::Live).await;
    assert_eq!((held(&a, 3), stats[0].1.duplicates.get(), held(&b, 2)), (0, 1, 0));

    publisher.send(plane(json!([stored(u64::MAX - 1, 4, 3)]))).await.unwrap();
    until_state(&a, KvState::Gaps).await;
    until("goes on", 5, || held(&a, 3) == 2).await;
    assert_eq!((held(&a, 1), stats[0].1.lost.get()), (0, 2));
    let chain = hash::chain(&hash::local_hashes(&prompt(3), BLOCK, hash::seed("", ""), &[]));
    let removed = event(u64::MAX - 1, 5, json!({"removed": {"block_hashes": chain}}));
    publisher.send(plane(json!([removed]))).await.unwrap();
    until("removed", 5, || held(&a, 3) == 0).await;
    publisher.send(message(&[b"kv-events", b"", b"", b"\x01garbage"])).await.unwrap();
    publisher.send(message(&[b"kv_metrics", b"", b"", b"another topic"])).await.unwrap();
    publisher.send(message(&[b"kv-events"])).await.unwrap();
    until("counted", 5, || stats[0].1.garbled.get() == 2).await;
}

/// A server of our own that speaks as much of core NATS as matters here; no real one could be had.
#[tokio::test(flavor = "multi_thread")]
async fn events_come_over_nats() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address =
        format!("nats://u:p@{}/namespace.n.component.c.endpoint.e.kv-events", listener.local_addr().unwrap());
    let index = Arc::new(PrefixIndex::new(1 << 20));
    let spec = waypost_config::Endpoint {
        instance: Some(7),
        events: Some(source(&address, None)),
        ..waypost_config::Endpoint::at("http://e")
    };
    let target = target_of(&index, 0, spec);
    let runtime = tokio::runtime::Handle::current();
    let feeds = EventFeeds::start(runtime, Arc::new(|| 7), std::slice::from_ref(&target), Prefixes::Dynamo);
    let stats = Arc::clone(&feeds.stats()[0].1);
    for life in 1..3 {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"INFO {\"max_payload\":1048576}\r\n").await.unwrap();
        let mut said = String::new();
        while !said.ends_with("PING\r\n") {
            stream.read_line(&mut said).await.unwrap();
        }
        assert!(said.contains("\r\nSUB namespace.n.component.c.endpoint.e.kv-events 1\r\n"), "{said}");
        stream.write_all(b"PONG\r\nPING\r\n").await.unwrap();
        let mut pong = [0; 6];
        stream.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"PONG\r\n");
        let big = vec![b'x'; 11 << 20];
        stream.write_all(format!("MSG s 1 {}\r\n", big.len()).as_bytes()).await.unwrap();
        stream.write_all(&big).await.unwrap();
        let payload = rmp_serde::to_vec(&json!([stored(7, u64::from(life), life)])).unwrap();
        stream.write_all(format!("\r\nMSG s 1 reply {}\r\n", payload.len()).as_bytes()).await.unwrap();
        stream.write_all(&payload).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
        until("heard", 5, || held(&target, life) == 2).await;
        assert_eq!((target.endpoint.kv_state(), stats.oversized.get()), (KvState::Live, u64::from(life)));
        stream.write_all(b"-ERR 'go away'\r\n").await.unwrap();
        until_state(&target, KvState::Waiting).await;
    }
    assert_eq!(held(&target, 1), 2, "kept over the new connection");
}
