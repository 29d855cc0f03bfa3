//! The engine under load: latency, queue, prefix cache, metrics, cancels, and the record of what came in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{CHAT, PATIENCE, chat, get, open, post, request, start};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use waypost_sim::{Engine, Options};

/// The samples of `/metrics`, each under its name with labels.
async fn metrics(addr: SocketAddr) -> HashMap<String, f64> {
    let page = String::from_utf8(get(addr, "/metrics").await.body()).unwrap();
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn of(metrics: &HashMap<String, f64>, name: &str) -> f64 {
    metrics[&format!("vllm:{name}{{engine=\"0\",model_name=\"sim-small\"}}")]
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

fn endless(stream: bool) -> String {
    let body = chat(json!({"stream": stream, "max_tokens": 9_999, "ignore_eos": true}));
    request("POST", CHAT, "", &body.to_string())
}

async fn noticed(engine: &Engine, gone_at: u64) {
    until("the cancel is noticed", || engine.stats().aborted == 1).await;
    let stats = engine.stats();
    let took = stats.aborts[0].noticed_unix_us.saturating_sub(gone_at);
    assert!(took < 100_000, "noticed after {took} µs");
    assert_eq!(stats.aborts[0].path, CHAT);
    assert_eq!(stats.in_flight, 0);
    let metrics = metrics(engine.addr()).await;
    assert_eq!(of(&metrics, "num_requests_running"), 0.0);
    assert_eq!(of(&metrics, "kv_cache_usage_perc"), 0.0);
}

#[tokio::test]
async fn a_cancel_amid_a_stream_is_noticed_within_100_ms() {
    let engine = start(Options::default()).await;
    let mut stream = open(engine.addr(), &endless(true)).await;
    let mut bytes = vec![0; 1_000];
    stream.read_exact(&mut bytes).await.unwrap();
    let gone_at = unix_us();
    drop(stream);
    noticed(&engine, gone_at).await;
    assert!(engine.stats().aborts[0].events_sent >= 2);
}

#[tokio::test]
async fn a_cancel_before_the_headers_is_noticed_within_100_ms() {
    let engine = start(Options::default()).await;
    let stream = open(engine.addr(), &endless(false)).await;
    until("the request arrived", || engine.stats().in_flight == 1).await;
    let gone_at = unix_us();
    drop(stream);
    noticed(&engine, gone_at).await;
}

#[tokio::test]
async fn a_cancel_amid_a_stall_is_noticed_within_100_ms() {
    let engine = start(Options::instant()).await;
    engine.faults().add("stall=1".parse().unwrap()).unwrap();
    let mut stream = open(engine.addr(), &endless(true)).await;
    stream.read_u8().await.unwrap();
    let gone_at = unix_us();
    drop(stream);
    noticed(&engine, gone_at).await;
}

#[tokio::test]
async fn the_queue_is_bounded_and_seen_in_the_metrics() {
    let engine = start(Options { max_running: 2, max_waiting: 3, ..Options::default() }).await;
    let mut held = Vec::new();
    for count in 1..=5 {
        held.push(open(engine.addr(), &endless(true)).await);
        until("it arrived", || engine.stats().in_flight == count).await;
    }
    let seen = metrics(engine.addr()).await;
    assert_eq!(of(&seen, "num_requests_running"), 2.0);
    assert_eq!(of(&seen, "num_requests_waiting"), 3.0);
    assert!(of(&seen, "kv_cache_usage_perc") > 0.0);
    let turned_away = post(engine.addr(), CHAT, &chat(json!({}))).await;
    assert_eq!(turned_away.status(), 503);
    assert_eq!(turned_away.json()["error"]["code"], "queue_full");
    drop(held);
    until("all left", || engine.stats().aborted == 5).await;
    assert_eq!(post(engine.addr(), CHAT, &chat(json!({}))).await.status(), 200);
}

#[tokio::test]
async fn tokens_take_their_time() {
    let engine =
        start(Options { prefill_ms_per_token: 1.0, decode_ms_per_token: 4.0, ..Options::default() }).await;
    let text = "x".repeat(4 * 100);
    for stream in [false, true] {
        let messages = json!([{"role": "user", "content": format!("{stream} {text}")}]);
        let body = chat(json!({"messages": messages, "max_tokens": 20, "stream": stream}));
        let start = Instant::now();
        assert_eq!(post(engine.addr(), CHAT, &body).await.status(), 200);
        // 100 tokens of prefill and 19 gaps between 20 tokens.
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(100 + 19 * 4), "{took:?}");
    }
}

#[tokio::test]
async fn a_cached_prefix_is_not_read_again() {
    let engine =
        start(Options { prefill_ms_per_token: 0.5, decode_ms_per_token: 0.0, ..Options::default() }).await;
    let messages = json!([{"role": "user", "content": "word ".repeat(320)}]);
    let body = chat(json!({"messages": messages}));
    let mut times = Vec::new();
    let mut cached = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        let answer = post(engine.addr(), CHAT, &body).await.json();
        times.push(start.elapsed());
        cached.push(answer["usage"]["prompt_tokens_details"]["cached_tokens"].clone());
    }
    assert_eq!(cached, [0, 400]);
    assert!(times[0] >= Duration::from_millis(200), "{times:?}");
    assert!(times[1] < Duration::from_millis(100), "{times:?}");
    let seen = metrics(engine.addr()).await;
    assert_eq!(of(&seen, "prefix_cache_hits_total"), 400.0);
    assert_eq!(of(&seen, "prefix_cache_queries_total"), of(&seen, "prompt_tokens_total"));
}

#[tokio::test]
async fn metrics_agree_with_the_answers() {
    let engine = start(Options::instant()).await;
    let (mut prompt, mut completion) = (0, 0);
    for max_tokens in [3, 1_000] {
        let answer = post(engine.addr(), CHAT, &chat(json!({"max_tokens": max_tokens}))).await;
        let usage = answer.json()["usage"].clone();
        prompt += usage["prompt_tokens"].as_u64().unwrap();
        completion += usage["completion_tokens"].as_u64().unwrap();
    }
    let seen = metrics(engine.addr()).await;
    assert_eq!(of(&seen, "prompt_tokens_total") as u64, prompt);
    assert_eq!(of(&seen, "generation_tokens_total") as u64, completion);
    assert_eq!(of(&seen, "time_to_first_token_seconds_count") as u64, 2);
    let finished = |reason: &str| {
        let labels = format!("engine=\"0\",model_name=\"sim-small\",finished_reason=\"{reason}\"");
        seen[&format!("vllm:request_success_total{{{labels}}}")]
    };
    assert_eq!([finished("stop"), finished("length"), finished("abort")], [1.0, 1.0, 0.0]);
}

#[tokio::test]
async fn a_recorded_request_is_the_one_that_was_sent() {
    let engine = start(Options { record: true, ..Options::instant() }).await;
    let body = "{ \"model\" : \"sim-small\",\n\t\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e4\"}] }";
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    let sent = http::Request::post(format!("http://{}{CHAT}?x=1", engine.addr()))
        .header("x-tenant", "a")
        .body(Full::from(body))
        .unwrap();
    let answer = client.request(sent).await.unwrap();
    assert_eq!(answer.headers()["x-sim"], "1");
    answer.into_body().collect().await.unwrap();
    let recorded = engine.requests(1).remove(0);
    assert_eq!(recorded.body, body);
    assert_eq!(recorded.path, format!("{CHAT}?x=1"));
    assert!(recorded.headers.contains(&("x-tenant".into(), "a".into())));
    let listed = get(engine.addr(), "/sim/requests?last=1").await.json();
    assert!(listed[0]["body_base64"].is_string());

    let silent = start(Options::instant()).await;
    post(silent.addr(), CHAT, &chat(json!({}))).await;
    assert_eq!(get(silent.addr(), "/sim/requests").await.status(), 403);
    assert!(silent.requests(9).is_empty());
}
