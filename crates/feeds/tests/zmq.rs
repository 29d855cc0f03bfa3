//! Streams of batches over real sockets, and everything that goes wrong with them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{
    BLOCK, Engine, Ring, batch, counters, held, held_salted, message, prompt, remove, source, store, target,
    target_of, until, until_state,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use waypost_config::{EventSource, Prefixes};
use waypost_feeds::events::{EventFeeds, EventStats, Target};
use waypost_picker::{KvState, PrefixIndex};
use zeromq::{PubSocket, Socket, SocketSend};

fn feeds(targets: &[Target]) -> EventFeeds {
    let runtime = tokio::runtime::Handle::current();
    EventFeeds::start(runtime, Arc::new(|| 7), targets, Prefixes::Events)
}

fn index() -> Arc<PrefixIndex> {
    Arc::new(PrefixIndex::new(1 << 20))
}

/// An engine, its target and the feeds of it, connected and in step.
async fn connected(ring: Ring) -> (Engine, Target, EventFeeds, Arc<EventStats>) {
    let engine = Engine::new(ring).await;
    let target = target(&index(), 3, source(&engine.address, Some(&engine.replay)));
    let feeds = feeds(std::slice::from_ref(&target));
    until_state(&target, KvState::Live).await;
    let stats = Arc::clone(&feeds.stats()[0].1);
    tokio::time::sleep(Duration::from_millis(100)).await; // the publisher takes note of the subscription
    (engine, target, feeds, stats)
}

/// The same without a replay endpoint: there is no sign that the subscription has arrived.
async fn unanswered() -> (Engine, Target, EventFeeds, Arc<EventStats>) {
    let engine = Engine::new(Ring::default()).await;
    let target = target(&index(), 3, source(&engine.address, None));
    let feeds = feeds(std::slice::from_ref(&target));
    let stats = Arc::clone(&feeds.stats()[0].1);
    until("connected", 10, || stats.connections.get() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    (engine, target, feeds, stats)
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_and_go_as_the_engine_says() {
    let (mut engine, target, feeds, stats) = connected(Ring::default()).await;
    assert_eq!(target.endpoint.kv_state(), KvState::Live);
    engine.send(json!([store(1), store(2)])).await;
    until("stored", 5, || held(&target, 1) == 2 && held(&target, 2) == 2).await;
    engine.send(json!([remove(1)])).await;
    until("removed", 5, || held(&target, 1) == 0).await;
    assert_eq!(held(&target, 2), 2);
    engine.send(json!([["AllBlocksCleared"]])).await;
    until("cleared", 5, || held(&target, 2) == 0).await;
    assert_eq!(target.endpoint.kv_state(), KvState::Live);
    assert_eq!((stats.stored.get(), stats.removed.get(), stats.cleared.get()), (2, 1, 1));
    assert_eq!((stats.batches.get(), stats.blocks.get(), stats.last_seen_ms.get()), (3, 4, 7));
    engine.send(json!([store(1)])).await;
    until("stored", 5, || held(&target, 1) == 2).await;
    drop(feeds);
    assert_eq!(
        (held(&target, 1), target.endpoint.kv_state()),
        (0, KvState::Off),
        "who has left holds nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_is_told_what_was_said() {
    for four_frames in [false, true] {
        let engine = Engine::new(Ring { four_frames, ..Default::default() }).await;
        (1..4).for_each(|n| drop(engine.lose(json!([store(n)]))));
        let target = target(&index(), 0, source(&engine.address, Some(&engine.replay)));
        let _feeds = feeds(std::slice::from_ref(&target));
        until_state(&target, KvState::Live).await;
        assert!((1..4).all(|n| held(&target, n) == 2));
        assert_eq!(*engine.ring.asked.lock(), [0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_filled_in_order() {
    let (mut engine, target, _feeds, stats) = connected(Ring::default()).await;
    engine.send(json!([store(1)])).await;
    until("stored", 5, || held(&target, 1) == 2).await;
    engine.lose(json!([store(2)]));
    engine.lose(json!([remove(2), remove(1)]));
    engine.send(json!([store(3)])).await;
    until("filled", 5, || held(&target, 3) == 2).await;
    assert_eq!((held(&target, 1), held(&target, 2)), (0, 0));
    until_state(&target, KvState::Live).await;
    assert_eq!((stats.gaps.get(), stats.lost.get(), stats.batches.get()), (1, 0, 4), "{}", counters(&stats));
    assert_eq!(*engine.ring.asked.lock(), [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_was_lost_clears_the_share() {
    let (mut engine, target, _feeds, stats) = connected(Ring::default()).await;
    engine.send(json!([store(1)])).await;
    until("stored", 5, || held(&target, 1) == 2).await;
    engine.lose(json!([remove(1)]));
    engine.lose(json!([store(2)]));
    engine.ring.batches.lock().drain(..2);
    engine.send(json!([store(3)])).await;
    until("on it goes", 5, || held(&target, 3) == 2).await;
    until_state(&target, KvState::Gaps).await;
    assert_eq!((held(&target, 1), held(&target, 2)), (0, 2), "no stale block, and what was still told");
    assert_eq!(stats.lost.get(), 1, "{}", counters(&stats));
    engine.send(json!([["AllBlocksCleared"]])).await;
    until_state(&target, KvState::Live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_turnover_of_the_cache_nothing_is_missing() {
    let (mut engine, target, _feeds, _) = unanswered().await;
    let told = waypost_picker::Observed { total_blocks: Some(4), ..Default::default() };
    target.endpoint.observe(told);
    engine.lose(json!([store(1)]));
    engine.send(json!([store(2)])).await;
    until_state(&target, KvState::Gaps).await;
    engine.send(json!([store(3)])).await;
    until_state(&target, KvState::Live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_a_gap_clears_the_share() {
    let (mut engine, target, _feeds, stats) = unanswered().await;
    assert_eq!(target.endpoint.kv_state(), KvState::Waiting);
    engine.send(json!([store(1)])).await;
    until_state(&target, KvState::Live).await;
    engine.lose(json!([remove(1)]));
    engine.send(json!([store(2)])).await;
    until_state(&target, KvState::Gaps).await;
    assert_eq!((held(&target, 1), held(&target, 2)), (0, 2));
    assert_eq!((stats.gaps.get(), stats.lost.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_ends_is_given_up() {
    let (mut engine, target, _feeds, stats) = unanswered().await;
    drop(_feeds);
    let ring = Ring { endless: true, ..Default::default() };
    let deaf = Engine::new(ring).await;
    let spec = source(&engine.address, Some(&deaf.replay));
    let target2 = common::target(&target.index, 4, spec);
    let feeds = feeds(std::slice::from_ref(&target2));
    let stats2 = Arc::clone(&feeds.stats()[0].1);
    until("given up", 10, || stats2.replays_failed.get() == 1).await;
    engine.lose(json!([store(1)]));
    engine.send(json!([store(2)])).await;
    until_state(&target2, KvState::Gaps).await;
    assert_eq!((held(&target2, 2), stats2.replays.get()), (2, 1), "not asked again at once");
    assert_eq!(stats.batches.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_and_late_batches_change_nothing() {
    let (mut engine, target, _feeds, stats) = connected(Ring::default()).await;
    let first = engine.send(json!([store(1)])).await;
    engine.send(json!([remove(1)])).await;
    engine.send_raw(first.0, &first.1).await;
    let late = engine.lose(json!([store(2)]));
    engine.send(json!([store(3)])).await;
    engine.send_raw(late.0, &late.1).await;
    until("heard", 5, || stats.duplicates.get() == 2).await;
    assert_eq!((held(&target, 1), held(&target, 2), held(&target, 3)), (0, 2, 2));
    assert_eq!((stats.restarts.get(), stats.batches.get()), (0, 4), "{}", counters(&stats));
    assert_eq!(target.endpoint.kv_state(), KvState::Live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_clears_and_begins_anew() {
    let (mut engine, target, _feeds, stats) = connected(Ring::default()).await;
    engine.send(json!([store(1)])).await;
    engine.send(json!([store(2)])).await;
    until("stored", 5, || held(&target, 2) == 2).await;
    let (address, replay) = (engine.address.clone(), engine.replay.clone());
    drop(engine);
    until_state(&target, KvState::Waiting).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The new life has said as much as the old one before it can be heard: only the bytes differ.
    let engine = Engine::at(&address, &replay, Ring::default(), 100).await;
    (3..6).for_each(|n| drop(engine.lose(json!([store(n)]))));
    until_state(&target, KvState::Live).await;
    assert_eq!((held(&target, 1), held(&target, 2)), (0, 0));
    assert!((3..6).all(|n| held(&target, n) == 2));
    assert_eq!((stats.restarts.get(), stats.lost.get()), (1, 0), "{}", counters(&stats));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_noticed_without_answers() {
    let (mut engine, target, _feeds, stats) = unanswered().await;
    engine.send(json!([store(1)])).await;
    engine.send(json!([store(2)])).await;
    until("stored", 5, || held(&target, 2) == 2).await;
    // Behind a proxy the connection stays: only the number goes back, and the time does not.
    engine.send_raw(0, &batch(100.0, json!([store(3)]))).await;
    until("anew", 5, || held(&target, 3) == 2).await;
    assert_eq!((held(&target, 1), held(&target, 2), stats.restarts.get()), (0, 0, 1));
    assert_eq!(target.endpoint.kv_state(), KvState::Live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_comes_back_without_loss() {
    let (mut engine, target, _feeds, stats) = connected(Ring::default()).await;
    engine.send(json!([store(1)])).await;
    until("stored", 5, || held(&target, 1) == 2).await;
    let (address, replay) = (engine.address.clone(), engine.replay.clone());
    let batches = std::mem::take(&mut *engine.ring.batches.lock());
    drop(engine);
    until_state(&target, KvState::Waiting).await;
    assert_eq!(held(&target, 1), 2, "kept while it may come back");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ring = Ring { batches: parking_lot::Mutex::new(batches), ..Default::default() };
    let _engine = Engine::at(&address, &replay, ring, 1).await;
    until_state(&target, KvState::Live).await;
    assert_eq!(
        (held(&target, 1), stats.restarts.get(), stats.batches.get()),
        (2, 0, 1),
        "{}",
        counters(&stats)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_counted_and_at_last_nothing_is_believed() {
    let (mut engine, target, _feeds, stats) = unanswered().await;
    engine.publisher.send(message(&[b"just one frame"])).await.unwrap();
    engine.publisher.send(message(&[b"t", b"short", b""])).await.unwrap();
    until("counted", 5, || stats.garbled.get() == 2).await;
    for seq in 0..3 {
        engine.send_raw(seq, b"\xc1garbage").await;
    }
    until_state(&target, KvState::Blind).await;
    engine.send_raw(3, &batch(1.0, json!([store(1)]))).await;
    until("believed again, with a gap", 5, || target.endpoint.kv_state() == KvState::Gaps).await;
    assert_eq!((held(&target, 1), stats.garbled.get(), stats.lost.get()), (2, 5, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_read_past() {
    let (mut engine, target, _feeds, stats) = unanswered().await;
    engine.send_raw(0, &vec![0; 32 << 20]).await;
    engine.publisher.send(message(&[b"x".as_slice(); 40])).await.unwrap();
    engine.send_raw(1, &batch(1.0, json!([store(1)]))).await;
    until("the next one is heard", 20, || held(&target, 1) == 2).await;
    assert_eq!(stats.oversized.get(), 2);
    until_state(&target, KvState::Gaps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_block_size_blinds() {
    let (mut engine, target, _feeds, stats) = connected(Ring::default()).await;
    engine.send(json!([["BlockStored", [1], null, prompt(1), 2 * BLOCK]])).await;
    until_state(&target, KvState::Blind).await;
    assert_eq!((held(&target, 1), stats.block_size.get(), stats.blocks.get()), (0, 1, 0));
    engine.send(json!([store(1)])).await;
    until_state(&target, KvState::Live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salt_reaches_the_children_and_no_one_else() {
    let (mut engine, target, _feeds, _) = connected(Ring::default()).await;
    let (head, tail) = (prompt(1)[..BLOCK].to_vec(), prompt(1)[BLOCK..].to_vec());
    engine.send(json!([["BlockStored", [1], null, head, BLOCK, null, "GPU", null, [["s"]]]])).await;
    engine.send(json!([["BlockStored", [2], 1, tail, BLOCK, null, "GPU", null, [null]]])).await;
    until("stored", 5, || held_salted(&target, &prompt(1), "s") == 2).await;
    assert_eq!((held(&target, 1), held_salted(&target, &prompt(1), "t")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_ends_in_step() {
    let (mut engine, target, _feeds, stats) = connected(Ring::default()).await;
    for n in 1..5_000 {
        engine.send(json!([store(n), remove(n)])).await;
    }
    engine.send(json!([store(9)])).await;
    until("all heard", 30, || held(&target, 9) == 2 && target.endpoint.kv_state() == KvState::Live).await;
    // Dropped by the publisher and asked for again, or heard at once: none is missing.
    assert_eq!((stats.batches.get(), stats.lost.get()), (5_000, 0), "{}", counters(&stats));
    assert!((1..5_000).filter(|n| *n != 9).all(|n| held(&target, n) == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_connect_to_us_and_are_told_apart_by_topic() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", free.local_addr().unwrap());
    drop(free);
    let index = index();
    let bound = |topic: &str| EventSource { bind: true, topic: topic.into(), ..source(&address, None) };
    let targets = [target(&index, 0, bound("kv@a@")), target(&index, 1, bound("kv@b@"))];
    let _feeds = feeds(&targets);
    let mut publishers = Vec::new();
    for _ in 0..2 {
        let mut publisher = PubSocket::new();
        publisher.connect(&address).await.unwrap();
        publishers.push(publisher);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for (n, (publisher, topic)) in (1..).zip(publishers.iter_mut().zip(["kv@a@m", "kv@b@m"])) {
        let payload = batch(0.0, json!([store(n)]));
        publisher.send(message(&[topic.as_bytes(), &[0; 8], &payload])).await.unwrap();
    }
    until("heard", 5, || held(&targets[0], 1) == 2 && held(&targets[1], 2) == 2).await;
    assert_eq!((held(&targets[0], 2), held(&targets[1], 1)), (0, 0));
    assert!(targets.iter().all(|target| target.endpoint.kv_state() == KvState::Live));
    publishers.remove(0);
    until_state(&targets[0], KvState::Waiting).await;
    assert_eq!(targets[1].endpoint.kv_state(), KvState::Live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_another_rank_goes_to_that_rank() {
    let mut engine = Engine::new(Ring::default()).await;
    let index = index();
    let rank = |rank, address: &str| waypost_config::Endpoint {
        rank: Some(rank),
        events: Some(source(address, None)),
        ..waypost_config::Endpoint::at("http://e")
    };
    let targets =
        [target_of(&index, 0, rank(0, &engine.address)), target_of(&index, 1, rank(1, "tcp://127.0.0.1:1"))];
    let feeds = feeds(&targets);
    let stats = Arc::clone(&feeds.stats()[0].1);
    until("connected", 10, || stats.connections.get() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (seq, of) in [0, 1, 2].into_iter().enumerate() {
        let payload = rmp_serde::to_vec(&json!([1.0, [store(of + 1)], of])).unwrap();
        engine.send_raw(seq as u64, &payload).await;
    }
    until("heard", 5, || stats.other_worker.get() == 1).await;
    assert_eq!((held(&targets[0], 1), held(&targets[1], 2)), (2, 2));
    assert_eq!((held(&targets[0], 2), held(&targets[1], 3)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_stay_keep_their_stream_over_a_reload() {
    let (mut engine, target, feeds, stats) = connected(Ring::default()).await;
    engine.send(json!([store(1)])).await;
    until("stored", 5, || held(&target, 1) == 2).await;
    let other = common::target(&target.index, 9, source("tcp://127.0.0.1:1", None));
    feeds.sync(&[other.clone(), target.clone()], Prefixes::Events);
    assert_eq!((held(&target, 1), target.endpoint.kv_state()), (2, KvState::Live));
    assert_eq!(other.endpoint.kv_state(), KvState::Waiting);
    engine.send(json!([store(2)])).await;
    until("goes on", 5, || held(&target, 2) == 2).await;
    assert_eq!(stats.connections.get(), 1);
    feeds.sync(&[other], Prefixes::Events);
    assert_eq!((held(&target, 1), target.endpoint.kv_state()), (0, KvState::Off));
    engine.send(json!([store(3)])).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(held(&target, 3), 0);
}

/// What a stranger may send instead of ZMTP, or within it.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_no_harm() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let target = target(&index(), 0, source(&address, None));
    let feeds = feeds(std::slice::from_ref(&target));
    let stats = Arc::clone(&feeds.stats()[0].1);
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    let ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB";
    let endless = [&[2u8][..], &[0xff; 8], &[7; 100]].concat();
    let command = [&[6u8][..], &[0xff; 8]].concat();
    let strangers: [&[&[u8]]; 5] = [
        &[b"HTTP/1.1 400 Bad Request\r\n\r\n", &[b'x'; 64]],
        &[&greeting, b"\x04\x05\x05ERROR"],
        &[&greeting, b"\x00\x01x"],
        &[&greeting, ready, &command],
        &[&greeting, ready, &endless],
    ];
    for bytes in strangers {
        let (mut stream, _) = listener.accept().await.unwrap();
        for part in bytes {
            stream.write_all(part).await.unwrap();
        }
        // Ours reads on or hangs up; either way it comes back.
        let mut sink = Vec::new();
        let _ = tokio::time::timeout(Duration::from_millis(300), stream.read_to_end(&mut sink)).await;
    }
    assert_eq!(stats.oversized.get(), 1);
    assert_eq!(stats.connections.get(), 2);
    until_state(&target, KvState::Waiting).await;
}
