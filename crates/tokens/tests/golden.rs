//! Ids equal those of Hugging Face `transformers`, written by `golden/make.py`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use waypost_tokens::{Engine, Error, Tokenizer};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(golden().join("cases.json")).unwrap()).unwrap()
}

/// A model's folder with this tokenizer and template.
fn model(tokenizer: &str, specials: &Value, template: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = golden().join(format!("{tokenizer}.json"));
    std::fs::copy(source, folder.path().join("tokenizer.json")).unwrap();
    let config =
        json!({"chat_template": template, "bos_token": specials[0], "eos_token": {"content": specials[1]}});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn chats_have_the_ids_of_transformers() {
    let all = cases();
    let mut compared = 0;
    for case in all["cases"].as_array().unwrap() {
        let (shape, name) = (case["template"].as_str().unwrap(), case["tokenizer"].as_str().unwrap());
        let folder = model(name, &all["specials"][name], &all["templates"][shape]);
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let body = case["request"].as_str().unwrap();
        let found = tokenizer.chat(body.as_bytes());
        if let Some(refused) = case.get("refused") {
            let error = found.unwrap_err();
            assert!(error.is_request() && error.to_string().contains(refused.as_str().unwrap()), "{error}");
            continue;
        }
        let wanted = tokenizer.text(case["text"].as_str().unwrap(), false).unwrap().ids;
        assert_eq!(wanted, ids(&case["ids"]), "encoding of {shape}: {body}");
        assert_eq!(found.unwrap().ids, wanted, "template {shape}: {body}\nwanted {}", case["text"]);
        compared += 1;
    }
    assert!(compared >= 16);
}

/// A body as it was sent: the order of its keys shows in some prompts.
#[derive(serde::Deserialize)]
struct Row {
    name: String,
    body: Box<serde_json::value::RawValue>,
    ids: Vec<u32>,
}

#[derive(serde::Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

#[test]
fn bodies_have_the_ids_of_vllm() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokens");
    let text = std::fs::read_to_string(fixtures.join("vllm.json")).unwrap();
    let Rows { rows } = serde_json::from_str(&text).unwrap();
    let tokenizer = Tokenizer::load(&fixtures.join("tiny")).unwrap();
    for Row { name, body, ids } in &rows {
        let body = body.get();
        let found = match body.contains("\"prompt\"") {
            true => tokenizer.completion(body.as_bytes()),
            false => tokenizer.chat(body.as_bytes()),
        };
        assert_eq!(found.unwrap().ids, *ids, "{name}");
    }
    assert!(rows.len() >= 11);
}

#[test]
fn completions_have_the_ids_of_transformers() {
    let all = cases();
    for case in all["completions"].as_array().unwrap() {
        let name = case["tokenizer"].as_str().unwrap();
        let folder = model(name, &all["specials"][name], &Value::Null);
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let wanted = ids(&case["ids"]);
        for prompt in [case["prompt"].clone(), json!([case["prompt"]]), json!([case["prompt"], "second"])] {
            let found = tokenizer.completion(json!({"prompt": prompt}).to_string().as_bytes()).unwrap();
            assert_eq!(found.ids, wanted, "{prompt}");
        }
        for prompt in [json!(wanted), json!([wanted])] {
            let found = tokenizer.completion(json!({"prompt": prompt}).to_string().as_bytes()).unwrap();
            assert_eq!(found.ids, wanted);
        }
        let bare = json!({"prompt": case["prompt"], "add_special_tokens": false}).to_string();
        assert_eq!(tokenizer.completion(bare.as_bytes()).unwrap().ids, wanted[1..]);
        assert!(matches!(tokenizer.chat(b"{}"), Err(Error::Tokenizer(_))), "it has no template");
    }
}

#[test]
fn both_kinds_of_tokenizers_are_encoded_fast_and_cached() {
    let all = cases();
    for name in ["byte_level", "sentence_piece"] {
        let folder = model(name, &all["specials"][name], &Value::Null);
        let stats = Tokenizer::load(folder.path()).unwrap().stats();
        assert_eq!((stats.engine, stats.caches), (Engine::Fast, true), "{name}");
    }
}
