//! The OpenAI API as clients see it: shapes, usage, limits, errors, determinism.

mod common;

use common::{CHAT, Wire, chat, get, post, start};
use serde_json::{Value, json};
use waypost_sim::{Options, UsageForm};

fn content(events: &[Value]) -> String {
    let text = |e: &Value| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
    events.iter().filter_map(text).collect()
}

#[tokio::test]
async fn nothing_passes_for_a_real_model() {
    let engine = start(Options::instant()).await;
    let answer = post(engine.addr(), CHAT, &chat(json!({"max_tokens": 1}))).await;
    assert_eq!(answer.header("x-sim"), Some("1"));
    let text = answer.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(text, "[simulated] ");
    let list = get(engine.addr(), "/v1/models").await.json();
    assert_eq!(list["data"][0]["owned_by"], "waypost-sim");
    assert_eq!(get(engine.addr(), "/nowhere").await.header("x-sim"), Some("1"));
    let real = Options { models: vec!["gpt-4".into()], ..Options::default() };
    let addr = "127.0.0.1:0".parse().unwrap();
    assert!(waypost_sim::Engine::start(addr, real).await.is_err());
}

#[tokio::test]
async fn streamed_and_whole_answers_have_the_same_text_and_counts() {
    let engine = start(Options::instant()).await;
    let whole = post(engine.addr(), CHAT, &chat(json!({}))).await.json();
    let asked = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let wire = post(engine.addr(), CHAT, &asked).await;
    assert!(wire.header("content-type").unwrap().starts_with("text/event-stream"));
    assert!(wire.chunks().1, "the terminating chunk came");
    let events = wire.json_events();
    assert_eq!(whole["choices"][0]["message"]["content"], content(&events));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");

    let usage = &events[events.len() - 1];
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    let pieces = events.len() - 3; // without role, finish and usage
    assert_eq!(usage["usage"]["completion_tokens"], pieces);
    let total = usage["usage"]["prompt_tokens"].as_u64().unwrap() + pieces as u64;
    assert_eq!(usage["usage"]["total_tokens"], total);
    let finish = &events[events.len() - 2];
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert!(finish["usage"].is_null());
}

#[tokio::test]
async fn usage_comes_only_when_asked_for() {
    let engine = start(Options::instant()).await;
    let wire = post(engine.addr(), CHAT, &chat(json!({"stream": true}))).await;
    let events = wire.json_events();
    assert!(events.iter().all(|e| e.get("usage").is_none()));
    assert!(events.iter().all(|e| e["choices"].as_array().unwrap().len() == 1));
}

#[tokio::test]
async fn nim_puts_usage_beside_the_finish_reason() {
    let engine = start(Options { usage: UsageForm::Nim, ..Options::instant() }).await;
    let wire = post(engine.addr(), CHAT, &chat(json!({"stream": true}))).await;
    let events = wire.json_events();
    let (last, before) = events.split_last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert!(last["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
    assert!(before.iter().all(|e| e.get("usage").is_none()));
}

#[tokio::test]
async fn the_same_prompt_has_the_same_answer_on_every_engine() {
    let (one, two) = (start(Options::instant()).await, start(Options::instant()).await);
    let text = |w: Wire| w.json()["choices"][0]["message"]["content"].to_string();
    let first = text(post(one.addr(), CHAT, &chat(json!({}))).await);
    assert_eq!(first, text(post(two.addr(), CHAT, &chat(json!({}))).await));
    let other = chat(json!({"messages": [{"role": "user", "content": "Good evening"}]}));
    assert_ne!(first, text(post(one.addr(), CHAT, &other).await));
    assert!(!first.contains("Good morning"), "the prompt is not echoed");
}

#[tokio::test]
async fn limits_are_kept_and_named() {
    let engine = start(Options::instant()).await;
    for field in ["max_tokens", "max_completion_tokens"] {
        let answer = post(engine.addr(), CHAT, &chat(json!({field: 7}))).await.json();
        assert_eq!(answer["usage"]["completion_tokens"], 7);
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    let long = chat(json!({"stream": true, "max_tokens": 300, "ignore_eos": true}));
    let events = post(engine.addr(), CHAT, &long).await.json_events();
    assert_eq!(events.len(), 302);
}

#[tokio::test]
async fn forced_tools_are_called_with_fitting_arguments() {
    let engine = start(Options::instant()).await;
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}});
    let named = json!({"type": "function", "function": {"name": "weather"}});
    for choice in [json!("required"), named] {
        let mut body = chat(json!({"tools": [tool], "tool_choice": choice}));
        let answer = post(engine.addr(), CHAT, &body).await.json();
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call["name"], "weather");
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["city"].is_string() && arguments["days"].is_i64());

        body["stream"] = true.into();
        let events = post(engine.addr(), CHAT, &body).await.json_events();
        let fragment = |e: &Value| {
            let path = "/choices/0/delta/tool_calls/0/function/arguments";
            e.pointer(path).and_then(Value::as_str).map(str::to_owned)
        };
        let streamed: String = events.iter().filter_map(fragment).collect();
        assert_eq!(call["arguments"], streamed);
    }
    let auto = chat(json!({"tools": [tool], "tool_choice": "auto"}));
    let answer = post(engine.addr(), CHAT, &auto).await.json();
    assert!(answer["choices"][0]["message"]["content"].is_string());
    let unknown = json!({"type": "function", "function": {"name": "nope"}});
    let wrong = chat(json!({"tools": [tool], "tool_choice": unknown}));
    assert_eq!(post(engine.addr(), CHAT, &wrong).await.status(), 400);
}

#[tokio::test]
async fn structured_output_is_json() {
    let engine = start(Options::instant()).await;
    let schema = json!({"type": "object", "properties": {"grade": {"enum": ["a", "b"]}}});
    let formats = [
        json!({"type": "json_object"}),
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}),
    ];
    for (format, key) in formats.into_iter().zip(["simulated", "grade"]) {
        let body = chat(json!({"response_format": format}));
        let answer = post(engine.addr(), CHAT, &body).await.json();
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        let object: Value = serde_json::from_str(text).unwrap();
        assert!(object.get(key).is_some(), "{object}");
    }
}

#[tokio::test]
async fn completions_take_text_and_token_numbers() {
    let engine = start(Options::instant()).await;
    let body = json!({"model": "sim-small", "prompt": "Once upon", "max_tokens": 9});
    let answer = post(engine.addr(), "/v1/completions", &body).await.json();
    assert_eq!(answer["object"], "text_completion");
    let body = json!({"model": "sim-small", "prompt": [1, 2, 3], "max_tokens": 9, "stream": true,
        "stream_options": {"include_usage": true}});
    let events = post(engine.addr(), "/v1/completions", &body).await.json_events();
    assert_eq!(events.last().unwrap()["usage"]["prompt_tokens"], 3);
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 9);
    assert_eq!(events.len(), 11);
}

#[tokio::test]
async fn responses_stream_ends_with_the_whole_response() {
    let engine = start(Options::instant()).await;
    let mut body = json!({"model": "sim-small", "input": "Hello"});
    let whole = post(engine.addr(), "/v1/responses", &body).await.json();
    assert_eq!(whole["status"], "completed");
    body["stream"] = true.into();
    let events: Vec<Value> = post(engine.addr(), "/v1/responses", &body)
        .await
        .events()
        .iter()
        .map(|e| serde_json::from_str(e).unwrap())
        .collect();
    assert_eq!(events[0]["type"], "response.created");
    let delta = |e: &Value| e["delta"].as_str().map(str::to_owned);
    let streamed: String = events.iter().filter_map(delta).collect();
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let path = "/output/0/content/0/text";
    assert_eq!(whole.pointer(path).unwrap(), &Value::from(streamed));
    assert_eq!(last["response"].pointer(path), whole.pointer(path));
    let numbers = events.iter().map(|e| e["sequence_number"].as_u64().unwrap());
    assert!(numbers.eq(0..events.len() as u64));
}

#[tokio::test]
async fn embeddings_and_rerank_are_deterministic() {
    let engine = start(Options::instant()).await;
    let mut body = json!({"model": "sim-small", "input": ["a b", "c"], "dimensions": 8});
    let floats = post(engine.addr(), "/v1/embeddings", &body).await.json();
    assert_eq!(floats["data"].as_array().unwrap().len(), 2);
    assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), 8);
    body["encoding_format"] = "base64".into();
    let packed = post(engine.addr(), "/v1/embeddings", &body).await.json();
    assert_eq!(packed["data"][0]["embedding"].as_str().unwrap().len(), 44);

    let vast = json!({"model": "sim-small", "input": vec!["a"; 2_000], "dimensions": 8_000});
    assert_eq!(post(engine.addr(), "/v1/embeddings", &vast).await.status(), 400);

    let body = json!({"model": "sim-small", "query": "red house", "top_n": 2,
        "documents": ["a boat", {"text": "the red house"}, "a red boat"]});
    let ranked = post(engine.addr(), "/v1/rerank", &body).await.json();
    let order: Vec<_> = ranked["results"].as_array().unwrap().iter().map(|r| &r["index"]).collect();
    assert_eq!(order, [1, 2]);
}

#[tokio::test]
async fn errors_have_openais_shape() {
    let engine = start(Options { max_body_bytes: 2_000, ..Options::instant() }).await;
    let unknown = chat(json!({"model": "sim-nope"}));
    let cases = [
        (post(engine.addr(), CHAT, &unknown).await, 404, json!("model_not_found")),
        (post(engine.addr(), CHAT, &json!({"model": 3})).await, 400, Value::Null),
        (post(engine.addr(), CHAT, &chat(json!({"n": 2}))).await, 400, Value::Null),
        (post(engine.addr(), CHAT, &chat(json!({"x": "y".repeat(3_000)}))).await, 413, Value::Null),
        (get(engine.addr(), CHAT).await, 405, Value::Null),
        (get(engine.addr(), "/nowhere").await, 404, Value::Null),
    ];
    for (wire, status, code) in cases {
        assert_eq!(wire.status(), status);
        let error = &wire.json()["error"];
        assert!(error["message"].is_string() && error["type"] == "invalid_request_error");
        assert_eq!(error["code"], code);
    }
}

#[tokio::test]
async fn any_model_answers_under_a_marked_name() {
    let engine = start(Options { any_model: true, ..Options::instant() }).await;
    let answer = post(engine.addr(), CHAT, &chat(json!({"model": "big"}))).await.json();
    assert_eq!(answer["model"], "sim-big");
    let metrics = get(engine.addr(), "/metrics").await;
    let metrics = String::from_utf8(metrics.body()).unwrap();
    assert!(metrics.contains("model_name=\"sim-any\"") && !metrics.contains("sim-big"));
}

#[tokio::test]
async fn pages_answer() {
    let engine = start(Options::instant()).await;
    assert_eq!(get(engine.addr(), "/health").await.status(), 200);
    let version = get(engine.addr(), "/version").await.json();
    assert!(version["version"].as_str().unwrap().starts_with("waypost-sim"));
    assert_eq!(get(engine.addr(), "/v1/models/sim-small").await.json()["id"], "sim-small");
    assert_eq!(get(engine.addr(), "/v1/models/sim-x").await.status(), 404);
}
