//! Prefill here, decode there: what is handed over, fetched once, held and let go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod common;

use std::time::{Duration, Instant};

use common::{COMPLETIONS, PATIENCE, cached, complete, ids, post, start};
use serde_json::json;
use waypost_sim::{Options, Role};

#[tokio::test]
async fn a_prompt_is_read_here_and_answered_there() {
    let timed = |role| Options {
        role,
        prefill_ms_per_token: 1.0,
        transfer_ms_per_token: 0.0,
        decode_ms_per_token: 0.0,
        ..Options::default()
    };
    let (prefill, decode) = (start(timed(Role::Prefill)).await, start(timed(Role::Decode)).await);
    let prompt = ids(0, 320);
    let ask = json!({"max_tokens": 50, "kv_transfer_params": {"do_remote_decode": true, "do_remote_prefill": false}});
    let first = complete(prefill.addr(), &prompt, ask).await;
    assert_eq!(first["usage"]["completion_tokens"], 1);
    let params = first["kv_transfer_params"].clone();
    assert_eq!(params["remote_port"], prefill.addr().port());
    assert_eq!(params["remote_block_ids"].as_array().unwrap().len(), 20);
    assert_eq!((prefill.stats().handed.held, prefill.stats().ranks[0].blocks_in_use), (1, 20));

    let begin = Instant::now();
    let second =
        complete(decode.addr(), &prompt, json!({"max_tokens": 5, "kv_transfer_params": params})).await;
    assert!(begin.elapsed() < Duration::from_millis(200), "the prompt is not read again");
    assert_eq!((cached(&second), &second["usage"]["completion_tokens"]), (319, &json!(5)));
    assert_eq!(decode.stats().handed.fetched, 1);
    assert_eq!((prefill.stats().handed.held, prefill.stats().ranks[0].blocks_in_use), (0, 0));

    // They can be fetched once; after that the prompt is read here.
    let again = ids(50_000, 320);
    let begin = Instant::now();
    complete(decode.addr(), &again, json!({"kv_transfer_params": params})).await;
    assert!(begin.elapsed() >= Duration::from_millis(320));
    assert_eq!(decode.stats().handed.fetch_failed, 1);

    let mut lacking = params;
    lacking.as_object_mut().unwrap().remove("remote_host");
    let body = json!({"model": "sim-small", "prompt": prompt, "kv_transfer_params": lacking});
    let refused = post(decode.addr(), COMPLETIONS, &body).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.json().to_string().contains("remote_host"));

    let sglang = json!({"bootstrap_host": "10.0.0.1", "bootstrap_port": 8998, "bootstrap_room": 7_u64 << 60, "max_tokens": 3});
    let [here, there] = [&prefill, &decode].map(|engine| complete(engine.addr(), &prompt, sglang.clone()));
    assert_eq!(here.await["usage"]["completion_tokens"], 1);
    assert_eq!(there.await["usage"]["completion_tokens"], 3);
    assert_eq!((prefill.stats().handed.bootstrapped, decode.stats().handed.bootstrapped), (1, 1));
}

#[tokio::test]
async fn blocks_that_nobody_fetches_are_let_go() {
    let engine = start(Options { kv_hold_ms: 50, ..Options::instant() }).await;
    complete(engine.addr(), &ids(0, 64), json!({"kv_transfer_params": {"do_remote_decode": true}})).await;
    assert_eq!(engine.stats().ranks[0].blocks_in_use, 4);
    let begin = Instant::now();
    while engine.stats().ranks[0].blocks_in_use > 0 {
        assert!(begin.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(engine.stats().handed.expired, 1);
}
