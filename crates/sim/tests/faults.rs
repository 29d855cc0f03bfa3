//! Every fault, as it really is on the wire.

mod common;

use std::time::{Duration, Instant};

use common::{CHAT, End, PATIENCE, chat, drain, get, open, post, request, send, start};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use waypost_sim::{Engine, Options};

async fn struck(engine: &Engine, spec: &str, stream: bool) -> common::Wire {
    let headers = format!("x-sim-fault: {spec}\r\n");
    let body = chat(json!({"stream": stream}));
    send(engine.addr(), "POST", CHAT, &headers, &body).await
}

#[tokio::test]
async fn status_with_retry_after() {
    let engine = start(Options::instant()).await;
    let wire = struck(&engine, "status=429,retry_after=7", true).await;
    assert_eq!(wire.status(), 429);
    assert_eq!(wire.header("retry-after"), Some("7"));
    assert_eq!(wire.json()["error"]["type"], "rate_limit_error");
    assert!(wire.header("x-sim-fault").is_some());
    assert_eq!(engine.stats().faults_applied, 1);
    let wrong = struck(&engine, "nonsense", true).await;
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn cut_after_three_events_leaves_the_body_without_its_end() {
    let engine = start(Options::instant()).await;
    for (spec, end) in [("cut=3", End::Eof), ("cut=3,rst", End::Reset)] {
        let wire = struck(&engine, spec, true).await;
        assert_eq!(wire.end, end, "{spec}");
        let (chunks, terminated) = wire.chunks();
        assert!(!terminated, "no terminating chunk");
        assert_eq!(chunks.len(), 3, "three events came");
    }
    assert_eq!(engine.stats().cut, 2);
    assert_eq!(engine.stats().aborted, 0, "a cut is not the client's doing");
}

#[tokio::test]
async fn cut_right_after_the_headers_and_in_the_middle_of_a_whole_body() {
    let engine = start(Options::instant()).await;
    let bare = struck(&engine, "cut", true).await;
    assert_eq!((bare.status(), bare.raw_body().len()), (200, 0));
    let half = struck(&engine, "cut=1", false).await;
    let announced: usize = half.header("content-length").unwrap().parse().unwrap();
    assert_eq!(half.raw_body().len(), announced / 2);
}

#[tokio::test]
async fn drop_closes_before_the_first_byte() {
    let engine = start(Options::instant()).await;
    for (spec, end) in [("drop", End::Eof), ("drop,rst", End::Reset)] {
        let wire = struck(&engine, spec, true).await;
        assert_eq!((wire.bytes.len(), wire.end), (0, end));
    }
}

#[tokio::test]
async fn stall_sends_two_events_and_then_nothing() {
    let engine = start(Options::instant()).await;
    let body = chat(json!({"stream": true})).to_string();
    let sent = request("POST", CHAT, "x-sim-fault: stall=2\r\n", &body);
    let mut stream = open(engine.addr(), &sent).await;
    let mut bytes = Vec::new();
    let silent = tokio::time::timeout(Duration::from_millis(300), async {
        while stream.read_buf(&mut bytes).await.unwrap() > 0 {}
    });
    assert!(silent.await.is_err(), "the connection stays open");
    let wire = common::Wire { bytes, end: End::Eof };
    assert_eq!(wire.events().len(), 2);
    assert_eq!(engine.stats().in_flight, 1);
}

#[tokio::test]
async fn slow_headers_are_slow() {
    let engine = start(Options::instant()).await;
    let start = Instant::now();
    let body = chat(json!({"stream": true})).to_string();
    let sent = request("POST", CHAT, "x-sim-fault: slow_headers=150\r\n", &body);
    let mut stream = open(engine.addr(), &sent).await;
    stream.read_u8().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn malformed_spoils_one_event() {
    let engine = start(Options::instant()).await;
    let wire = struck(&engine, "malformed=json,after=2", true).await;
    let bad: Vec<usize> = wire
        .events()
        .iter()
        .enumerate()
        .filter(|(_, e)| *e != "[DONE]" && serde_json::from_str::<Value>(e).is_err())
        .map(|(i, _)| i)
        .collect();
    assert_eq!(bad, [2]);
    let garbage = struck(&engine, "malformed=garbage", true).await;
    assert!(std::str::from_utf8(&garbage.body()).is_err());
    let whole = struck(&engine, "malformed=json", false).await;
    let announced: usize = whole.header("content-length").unwrap().parse().unwrap();
    assert_eq!(whole.raw_body().len(), announced);
    assert!(serde_json::from_slice::<Value>(whole.raw_body()).is_err());
}

#[tokio::test]
async fn split_cuts_events_at_odd_places_and_loses_nothing() {
    let engine = start(Options::instant()).await;
    let plain = struck(&engine, "slow_headers=0", true).await;
    let split = struck(&engine, "split=7", true).await;
    let (chunks, terminated) = split.chunks();
    assert!(terminated && chunks.iter().all(|c| c.len() <= 7));
    let text = |wire: &common::Wire| {
        let delta = |e: &Value| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
        wire.json_events().iter().filter_map(delta).collect::<String>()
    };
    assert_eq!(text(&plain), text(&split));
}

#[tokio::test]
async fn the_next_three_requests_over_http() {
    let engine = start(Options::instant()).await;
    let list = post(engine.addr(), "/sim/faults", &json!({"status": 503, "n": 3})).await;
    assert_eq!(list.json()[0]["n"], 3);
    assert_eq!(get(engine.addr(), "/v1/models").await.status(), 200, "only POST is struck");
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(post(engine.addr(), CHAT, &chat(json!({}))).await.status());
    }
    assert_eq!(seen, [503, 503, 503, 200, 200]);

    post(engine.addr(), "/sim/faults", &json!(["drop", {"status": 500, "path": "/metrics"}])).await;
    assert_eq!(get(engine.addr(), "/metrics").await.status(), 500);
    let left = send(engine.addr(), "DELETE", "/sim/faults", "", &Value::Null).await;
    assert_eq!(left.json(), json!([]));
    assert_eq!(get(engine.addr(), "/metrics").await.status(), 200);
    assert_eq!(post(engine.addr(), "/sim/faults", &json!({"x": 1})).await.status(), 400);
}

#[tokio::test]
async fn faults_from_the_start() {
    let engine =
        start(Options { faults: vec!["status=500,n=1".parse().unwrap()], ..Options::instant() }).await;
    assert_eq!(post(engine.addr(), CHAT, &chat(json!({}))).await.status(), 500);
    assert_eq!(post(engine.addr(), CHAT, &chat(json!({}))).await.status(), 200);
}

#[tokio::test]
async fn refused_connections_and_the_way_back() {
    let engine = start(Options::instant()).await;
    let addr = engine.addr();
    let kept = open(addr, &request("GET", "/health", "", "")).await;
    engine.faults().refuse(None, true).await;
    let refused = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    drain(kept).await; // the hang-up closes it
    engine.faults().accept().await;
    assert_eq!(get(addr, "/health").await.status(), 200);

    let asked = Instant::now();
    post(addr, "/sim/faults", &json!("refuse=200")).await;
    for refused in [true, false] {
        while TcpStream::connect(addr).await.is_err() != refused {
            assert!(asked.elapsed() < PATIENCE, "never refused: {refused}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert!(asked.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn stop_frees_the_port_and_ends_every_connection() {
    let engine = start(Options::default()).await;
    let addr = engine.addr();
    let body = chat(json!({"stream": true, "max_tokens": 9999, "ignore_eos": true})).to_string();
    let mut stream = open(addr, &request("POST", CHAT, "", &body)).await;
    stream.read_u8().await.unwrap();
    engine.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
    let wire = drain(stream).await;
    assert!(!wire.bytes.windows(5).any(|w| w == b"0\r\n\r\n"));
    let again = Engine::start(addr, Options::default()).await.unwrap();
    assert_eq!(get(addr, "/health").await.status(), 200);
    drop(again);
}
