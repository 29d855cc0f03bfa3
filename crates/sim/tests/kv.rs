//! The block cache as others see it: KV events over ZeroMQ, replay, ranks, adapters, and what prefill costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{
    CHAT, COMPLETIONS, PATIENCE, cached, chat, complete, get, ids, open, post, request, send, start,
};
use serde_json::{Value, json};
use waypost_sim::{Engine, EventsForm, MetricsForm, Options};
use zeromq::{DealerSocket, Socket as _, SocketRecv as _, SocketSend as _, SubSocket, ZmqMessage};

fn publishing(form: EventsForm) -> Options {
    Options {
        kv_events: Some("tcp://127.0.0.1:0".into()),
        kv_replay: Some("tcp://127.0.0.1:0".into()),
        kv_events_form: form,
        ..Options::instant()
    }
}

/// One message of the live stream.
struct Batch {
    topic: Vec<u8>,
    seq: Vec<u8>,
    payload: Vec<u8>,
}

impl Batch {
    fn seq(&self) -> u64 {
        u64::from_be_bytes(self.seq[..].try_into().unwrap())
    }

    fn decoded(&self) -> Value {
        rmp_serde::from_slice(&self.payload).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        self.decoded()[1].as_array().unwrap().clone()
    }
}

struct Subscriber(SubSocket);

impl Subscriber {
    /// Connects and waits until messages arrive: a subscription takes a moment to be known.
    async fn new(engine: &Engine, rank: usize) -> Self {
        let mut socket = SubSocket::new();
        socket.connect(&engine.kv_events()[rank]).await.unwrap();
        socket.subscribe("").await.unwrap();
        let mut subscriber = Subscriber(socket);
        let garbage = json!({"rank": rank, "garbage": true});
        loop {
            post(engine.addr(), "/sim/events", &garbage).await;
            if tokio::time::timeout(Duration::from_millis(20), subscriber.0.recv()).await.is_ok() {
                break;
            }
        }
        // Whatever else was sent meanwhile.
        while tokio::time::timeout(Duration::from_millis(50), subscriber.0.recv()).await.is_ok() {}
        subscriber
    }

    async fn next(&mut self) -> Batch {
        let message = tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("a message").unwrap();
        let frames = message.into_vec();
        let [topic, seq, payload] = &frames[..] else { panic!("{} frames", frames.len()) };
        Batch { topic: topic.to_vec(), seq: seq.to_vec(), payload: payload.to_vec() }
    }
}

/// Numbers and payloads from `from` on.
async fn replayed(engine: &Engine, from: u64, frames: usize) -> Vec<(u64, Vec<u8>)> {
    let mut dealer = DealerSocket::new();
    dealer.connect(&engine.kv_replay()[0]).await.unwrap();
    let ask = vec![bytes::Bytes::new(), bytes::Bytes::copy_from_slice(&from.to_be_bytes())];
    dealer.send(ZmqMessage::try_from(ask).unwrap()).await.unwrap();
    let mut batches = Vec::new();
    loop {
        let reply = tokio::time::timeout(PATIENCE, dealer.recv()).await.expect("a reply").unwrap().into_vec();
        assert_eq!(reply.len(), frames);
        let seq = u64::from_be_bytes(reply[frames - 2][..].try_into().unwrap());
        if reply[frames - 1].is_empty() {
            assert_eq!(seq, u64::MAX, "a replay ends with -1");
            return batches;
        }
        batches.push((seq, reply[frames - 1].to_vec()));
    }
}

#[tokio::test]
async fn events_carry_exactly_the_token_numbers_of_the_request() {
    let engine = start(publishing(EventsForm::Array)).await;
    let mut subscriber = Subscriber::new(&engine, 0).await;
    let prompt = ids(1_000_000, 40);
    assert_eq!(cached(&complete(engine.addr(), &prompt, json!({})).await), 0);
    let batch = subscriber.next().await;
    assert_eq!((batch.seq(), &batch.topic[..]), (0, &b""[..]));
    assert_eq!(batch.decoded()[2], 0, "the rank");
    let [stored] = &batch.events()[..] else { panic!("one event") };
    assert_eq!(stored[0], "BlockStored");
    assert_eq!(stored[1].as_array().unwrap().len(), 2);
    assert_eq!(stored[2], Value::Null);
    assert_eq!(stored[3], json!(prompt[..32]));
    assert_eq!((&stored[4], &stored[6], &stored[8]), (&json!(16), &json!("GPU"), &json!([null, null])));

    // A longer prompt only adds what is new, behind the block before it.
    let answer = complete(engine.addr(), &ids(1_000_000, 64), json!({})).await;
    assert_eq!(cached(&answer), 32);
    let more = subscriber.next().await;
    assert_eq!(more.seq(), 1);
    assert_eq!(more.events()[0][2], stored[1][1]);
    assert_eq!(more.events()[0][3], json!(ids(1_000_032, 32)));
    // The same again changes nothing, and its last block is computed once more.
    assert_eq!(cached(&complete(engine.addr(), &ids(1_000_000, 64), json!({})).await), 48);
    assert_eq!(engine.stats().ranks[0].event_batches, 2);
}

#[tokio::test]
async fn the_map_form_replay_restart_and_reset() {
    let mut options = publishing(EventsForm::Map);
    options.kv_topic = "kv@10.0.0.1:8000@sim-small".into();
    options.kv_replay_topic = true;
    let engine = start(options).await;
    let mut subscriber = Subscriber::new(&engine, 0).await;
    for first in [0, 100, 200] {
        complete(engine.addr(), &ids(first, 16), json!({})).await;
    }
    let mut live = Vec::new();
    for seq in 0..3 {
        let batch = subscriber.next().await;
        assert_eq!((batch.seq(), &batch.topic[..]), (seq, &b"kv@10.0.0.1:8000@sim-small"[..]));
        assert_eq!(batch.events()[0]["type"], "BlockStored");
        assert_eq!(batch.events()[0]["token_ids"], json!(ids(u32::try_from(seq).unwrap() * 100, 16)));
        live.push((seq, batch.payload));
    }
    assert_eq!(replayed(&engine, 0, 4).await, live);
    assert_eq!(replayed(&engine, 2, 4).await, live[2..]);

    let reset = post(engine.addr(), "/reset_prefix_cache", &Value::Null).await.json();
    assert_eq!(reset, json!({"reset": true}));
    let cleared = subscriber.next().await;
    assert_eq!((cleared.seq(), cleared.events()), (3, vec![json!({"type": "AllBlocksCleared"})]));
    assert_eq!(cached(&complete(engine.addr(), &ids(0, 32), json!({})).await), 0);
    assert_eq!(subscriber.next().await.seq(), 4);

    post(engine.addr(), "/sim/restart", &Value::Null).await;
    assert!(replayed(&engine, 0, 4).await.is_empty());
    assert_eq!(cached(&complete(engine.addr(), &ids(0, 32), json!({})).await), 0);
    assert_eq!(subscriber.next().await.seq(), 0, "as a new process");
}

#[tokio::test]
async fn the_stream_is_spoilt_on_demand() {
    let engine = start(publishing(EventsForm::Array)).await;
    let mut subscriber = Subscriber::new(&engine, 0).await;
    let spoil = async |fault: Value| {
        assert_eq!(post(engine.addr(), "/sim/events", &fault).await.status(), 200);
    };
    spoil(json!({"skip": 1, "duplicate": 1, "block_size": 7})).await;
    for first in [0, 100, 200] {
        complete(engine.addr(), &ids(first, 16), json!({})).await;
    }
    let seen = [subscriber.next().await.seq(), subscriber.next().await.seq(), subscriber.next().await.seq()];
    assert_eq!(seen, [1, 1, 2]);
    let all = replayed(&engine, 0, 3).await;
    assert_eq!(all.len(), 3);
    let first: Value = rmp_serde::from_slice(&all[0].1).unwrap();
    assert_eq!(first[1][0][4], 7);

    spoil(json!({"oversized_bytes": 5_000_000})).await;
    let large = subscriber.next().await;
    assert_eq!((large.seq(), large.payload.len()), (3, 5_000_000));
    spoil(json!({"garbage": true})).await;
    assert_ne!(subscriber.next().await.seq.len(), 8);
    spoil(json!({"flood": 500})).await;
    for seq in 4..504 {
        assert_eq!(subscriber.next().await.seq(), seq);
    }
    let begin = Instant::now();
    spoil(json!({"pause_ms": 80, "flood": 1})).await;
    assert_eq!(subscriber.next().await.seq(), 504);
    assert!(begin.elapsed() >= Duration::from_millis(80));
    for wrong in [json!({"flood": 1_000_000_000}), json!({"rank": 1, "skip": 1}), json!({"nonsense": 1})] {
        assert_eq!(post(engine.addr(), "/sim/events", &wrong).await.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn whoever_replays_the_stream_knows_what_is_where() {
    let options = Options { cache_blocks: 24, host_blocks: 10, ..publishing(EventsForm::Array) };
    let engine = start(options).await;
    for round in 0..60_u32 {
        let prompt = ids(round * 7 % 11 * 1_000, 16 * (1 + round % 5));
        complete(engine.addr(), &prompt, json!({"max_tokens": 1 + round % 40, "ignore_eos": true})).await;
    }
    let mut tiers: HashMap<(String, u64), bool> = HashMap::new();
    let mut known: HashMap<u64, ()> = HashMap::new();
    for (_, payload) in replayed(&engine, 0, 3).await {
        let batch: Value = rmp_serde::from_slice(&payload).unwrap();
        for event in batch[1].as_array().unwrap() {
            let stored = event[0] == "BlockStored";
            let medium = event[if stored { 6 } else { 2 }].as_str().unwrap();
            if stored && medium == "GPU" {
                let parent = event[2].as_u64();
                assert!(parent.is_none_or(|parent| known.contains_key(&parent)), "an unknown parent");
            }
            for hash in event[1].as_array().unwrap() {
                let hash = hash.as_u64().unwrap();
                let before = tiers.insert((medium.to_owned(), hash), stored).unwrap_or(false);
                assert_ne!(before, stored, "stored or removed twice");
                assert!(
                    medium == "GPU" || !stored || known.contains_key(&hash),
                    "offloaded but never computed"
                );
                known.insert(hash, ());
            }
        }
    }
    let there = |medium: &str| tiers.iter().filter(|((m, _), there)| m == medium && **there).count();
    let stats = &engine.stats().ranks[0];
    assert_eq!((there("GPU"), there("CPU")), (stats.gpu_blocks, stats.host_blocks));
    assert_eq!((stats.host_blocks, stats.blocks_in_use), (10, 0));
    assert!((20..=24).contains(&stats.gpu_blocks), "{stats:?}");
}

#[tokio::test]
async fn the_next_turn_finds_the_answer_too() {
    let engine = start(Options::instant()).await;
    let answer = complete(
        engine.addr(),
        &ids(0, 32),
        json!({"max_tokens": 64, "ignore_eos": true, "return_token_ids": true}),
    )
    .await;
    let mut next = ids(0, 32);
    next.extend(
        answer["choices"][0]["token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32),
    );
    assert_eq!(next.len(), 96);
    next.push(7);
    assert_eq!(cached(&complete(engine.addr(), &next, json!({})).await), 96);

    let user = json!({"role": "user", "content": "word ".repeat(64)});
    let first = chat(json!({"messages": [user], "max_tokens": 90, "ignore_eos": true}));
    let said = post(engine.addr(), CHAT, &first).await.json()["choices"][0]["message"]["content"].clone();
    let reply = json!({"role": "assistant", "content": said});
    let more = json!({"role": "user", "content": "Go on."});
    let second = post(engine.addr(), CHAT, &chat(json!({"messages": [user, reply, more]}))).await.json();
    let conversation = (320 + 10 + said.as_str().unwrap().len()) as u64 / 4;
    assert!(cached(&second) + 32 > conversation, "{second} {conversation}");
}

#[tokio::test]
async fn host_memory_is_slower_than_the_gpu_and_faster_than_reading() {
    let engine = start(Options {
        prefill_ms_per_token: 1.0,
        host_ms_per_token: 0.25,
        decode_ms_per_token: 0.0,
        cache_blocks: 13,
        host_blocks: 64,
        ..Options::default()
    })
    .await;
    let took = async |first: u32| {
        let begin = Instant::now();
        let answer = complete(engine.addr(), &ids(first, 193), json!({})).await;
        (cached(&answer), begin.elapsed().as_millis())
    };
    let (found, cold) = took(0).await;
    assert!(found == 0 && cold >= 193, "{found} {cold}");
    let (found, warm) = took(0).await;
    assert!(found == 192 && warm < 40, "{found} {warm}");
    took(10_000).await;
    let (found, host) = took(0).await;
    assert!(found == 192 && (48..150).contains(&host), "{found} {host}");
}

#[tokio::test]
async fn prompts_are_read_one_after_the_other_and_only_what_is_new() {
    let engine =
        start(Options { prefill_ms_per_token: 0.5, decode_ms_per_token: 0.0, ..Options::default() }).await;
    let begin = Instant::now();
    let (addr, prompts) = (engine.addr(), [ids(0, 200), ids(1_000, 200), ids(2_000, 200)]);
    let [a, b, c] = prompts.each_ref().map(|prompt| complete(addr, prompt, json!({})));
    tokio::join!(a, b, c);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");

    // Whoever gives up does not keep the others waiting.
    let body = json!({"model": "sim-small", "prompt": ids(9_000, 20_000)}).to_string();
    let long = open(addr, &request("POST", COMPLETIONS, "", &body)).await;
    while engine.stats().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(long);
    let begin = Instant::now();
    complete(addr, &ids(0, 200), json!({})).await;
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn whoever_finds_no_blocks_waits() {
    let options = Options { cache_blocks: 8, decode_ms_per_token: 2.0, ..Options::default() };
    let engine = start(options).await;
    let body = json!({"model": "sim-small", "prompt": ids(0, 16), "max_tokens": 9_000, "ignore_eos": true});
    let held = open(engine.addr(), &request("POST", COMPLETIONS, "", &body.to_string())).await;
    while engine.stats().ranks[0].blocks_in_use == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let page = String::from_utf8(get(engine.addr(), "/metrics").await.body()).unwrap();
    assert!(page.contains("vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"sim-small\"} 1\n"), "{page}");
    let prompt = ids(100, 32);
    let mut second = Box::pin(complete(engine.addr(), &prompt, json!({})));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut second).await.is_err());
    let page = String::from_utf8(get(engine.addr(), "/metrics").await.body()).unwrap();
    assert!(page.contains("vllm:num_requests_waiting{engine=\"0\",model_name=\"sim-small\"} 1\n"), "{page}");
    drop(held);
    second.await;
}

#[tokio::test]
async fn each_rank_has_its_own_cache_stream_and_metrics() {
    let options = Options { data_parallel: 2, ..publishing(EventsForm::Array) };
    let engine = start(options).await;
    let mut subscriber = Subscriber::new(&engine, 1).await;
    let body = json!({"model": "sim-small", "prompt": ids(0, 33), "max_tokens": 1});
    let on = async |rank: &str| {
        let header = format!("x-data-parallel-rank: {rank}\r\n");
        send(engine.addr(), "POST", COMPLETIONS, &header, &body).await
    };
    assert_eq!(cached(&on("1").await.json()), 0);
    assert_eq!(cached(&on("1").await.json()), 32);
    assert_eq!(cached(&on("0").await.json()), 0);
    assert_eq!(subscriber.next().await.decoded()[2], 1);
    for wrong in ["2", "-1", "x"] {
        assert_eq!(on(wrong).await.status(), 400);
    }
    let page = String::from_utf8(get(engine.addr(), "/metrics").await.body()).unwrap();
    for line in [
        "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"sim-small\"} 0\n",
        "vllm:prefix_cache_hits_total{engine=\"1\",model_name=\"sim-small\"} 32\n",
        "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"16384\",engine=\"1\"} 1\n",
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[tokio::test]
async fn adapters_and_salts_share_nothing() {
    let options = Options { lora: vec!["sim-law".into()], ..publishing(EventsForm::Map) };
    let engine = start(options).await;
    let mut subscriber = Subscriber::new(&engine, 0).await;
    let prompt = ids(0, 33);
    complete(engine.addr(), &prompt, json!({})).await;
    assert_eq!(cached(&complete(engine.addr(), &prompt, json!({"model": "sim-law"})).await), 0);
    assert_eq!(cached(&complete(engine.addr(), &prompt, json!({"cache_salt": "tenant"})).await), 0);
    assert_eq!(cached(&complete(engine.addr(), &prompt, json!({"cache_salt": "tenant"})).await), 32);
    let plain = subscriber.next().await.events().remove(0);
    let law = subscriber.next().await.events().remove(0);
    let salted = subscriber.next().await.events().remove(0);
    let said = |event: &Value| json!([event["lora_id"], event["lora_name"], event["extra_keys"]]);
    assert_eq!(said(&plain), json!([null, null, [null, null]]));
    assert_eq!(said(&law), json!([1, "sim-law", [["sim-law"], ["sim-law"]]]));
    assert_eq!(said(&salted), json!([null, null, [["tenant"], null]]));
    assert_ne!(plain["block_hashes"], law["block_hashes"]);
    let page = String::from_utf8(get(engine.addr(), "/metrics").await.body()).unwrap();
    let line =
        "vllm:lora_requests_info{max_lora=\"1\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"} 1";
    assert!(page.contains(line), "{page}");
    let models = get(engine.addr(), "/v1/models").await.json();
    assert_eq!(models["data"][1]["parent"], "sim-small");
}

#[tokio::test]
async fn other_engines_names() {
    for (metrics, names) in [
        (MetricsForm::Sglang, ["sglang:num_running_reqs{", "sglang:num_queue_reqs{", "sglang:token_usage{"]),
        (
            MetricsForm::Trtllm,
            ["trtllm_num_requests_running{", "trtllm_kv_cache_utilization{", "trtllm_kv_cache_max_blocks{"],
        ),
    ] {
        let engine = start(Options { metrics, ..Options::instant() }).await;
        let page = String::from_utf8(get(engine.addr(), "/metrics").await.body()).unwrap();
        assert!(names.iter().all(|name| page.contains(name)) && !page.contains("vllm:"), "{page}");
    }
}

#[tokio::test]
async fn a_stopped_engine_frees_its_ports_and_wrong_addresses_are_named() {
    let engine = start(publishing(EventsForm::Array)).await;
    let (events, replay) = (engine.kv_events()[0].clone(), engine.kv_replay()[0].clone());
    engine.stop().await;
    let options = Options { kv_events: Some(events), kv_replay: Some(replay.clone()), ..Options::instant() };
    let engine = start(options).await;
    assert_eq!(engine.stats().kv_replay, [replay]);
    let addr = "127.0.0.1:0".parse().unwrap();
    let taken = Options { kv_events: Some(engine.kv_events()[0].clone()), ..Options::instant() };
    assert!(Engine::start(addr, taken).await.err().unwrap().to_string().contains("tcp://127.0.0.1"));
    for wrong in ["5557", "ipc:///tmp/a", "tcp://127.0.0.1"] {
        let options = Options { kv_events: Some(wrong.into()), ..Options::instant() };
        assert!(Engine::start(addr, options).await.err().unwrap().to_string().contains(wrong));
    }
}

#[tokio::test]
async fn an_engine_connects_to_a_central_subscriber() {
    let mut socket = SubSocket::new();
    let at = socket.bind("tcp://127.0.0.1:0").await.unwrap();
    socket.subscribe("").await.unwrap();
    let options = Options { kv_events: Some(format!("connect:{at}")), ..Options::instant() };
    let engine = start(options).await;
    let mut subscriber = Subscriber(socket);
    let mut first = 0;
    // Until the connection stands, messages are lost.
    let batch = loop {
        complete(engine.addr(), &ids(first, 16), json!({})).await;
        first += 100;
        if let Ok(batch) = tokio::time::timeout(Duration::from_millis(50), subscriber.next()).await {
            break batch;
        }
        assert!(first < 20_000, "never connected");
    };
    assert_eq!(batch.events()[0][0], "BlockStored");
}
