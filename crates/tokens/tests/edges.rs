//! Media, files that do not fit, and templates and requests that mean harm.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use waypost_tokens::{Error, Tokenizer};
use waypost_wire::media_hash;

fn load(template: &Value) -> Result<Tokenizer, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/byte_level.json");
    std::fs::copy(file, folder.path().join("tokenizer.json")).unwrap();
    let config = json!({"chat_template": template}).to_string();
    std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    Tokenizer::load(folder.path())
}

fn golden(name: &str) -> Tokenizer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cases.json");
    let cases: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    load(&cases["templates"][name]).unwrap()
}

fn user(content: Value) -> Vec<u8> {
    json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]})
        .to_string()
        .into_bytes()
}

#[test]
fn ids_before_an_image_are_those_of_the_text_before_it() {
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let text = |text: &str| json!({"type": "text", "text": text});
    for (name, before_image) in
        [("qwenish", "<|im_start|>user\nWhat is this?"), ("chatml", "<|im_start|>user\n")]
    {
        let tokenizer = golden(name);
        let body = |url| {
            user(json!([text("What is this?"), image(url), text("And this?"), image("https://e.org/b")]))
        };
        let found = tokenizer.chat(&body("https://e.org/a")).unwrap();
        let expected = format!("<|im_start|>system\nBe brief.<|im_end|>\n{before_image}");
        let exact = tokenizer.text(&expected, false).unwrap().ids;
        assert_eq!(found.media[0], (exact.len(), media_hash("https://e.org/a")), "{name}");
        assert_eq!(found.ids[..exact.len()], exact, "{name}");
        assert!(found.media[1].0 >= found.media[0].0 && found.media[1].0 < found.ids.len());
        let other = tokenizer.chat(&body("data:image/png;base64,AAAA")).unwrap();
        assert_eq!(other.ids, found.ids);
        assert_ne!(other.media[0].1, found.media[0].1);
    }
    assert_eq!(media_hash(&"0f".repeat(32)), 0x0f0f_0f0f_0f0f_0f0f);
}

#[test]
fn a_file_that_does_not_fit_is_named() {
    let broken = load(&json!("{% for x in %}")).unwrap_err().to_string();
    assert!(broken.contains("tokenizer_config.json: chat template 'default' does not parse"), "{broken}");
    let unnamed = load(&json!([{"name": "tool_use", "template": "x"}])).unwrap_err().to_string();
    assert!(unnamed.contains("no chat template named 'default'"), "{unnamed}");
    let folder = tempfile::tempdir().unwrap();
    let missing = Tokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(missing.contains("tokenizer.json"), "{missing}");
    std::fs::write(folder.path().join("tokenizer.json"), "{\"model\": 1}").unwrap();
    let wrong = Tokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(wrong.contains("not a tokenizer of Hugging Face's format"), "{wrong}");
    std::fs::write(
        folder.path().join("tokenizer.json"),
        r#"{"model":{"type":"BPE","vocab":{},"merges":[]}}"#,
    )
    .unwrap();
    assert!(Tokenizer::load(folder.path()).is_ok_and(|t| t.text("a", false).is_ok()), "empty is no panic");
}

#[test]
fn named_templates_and_tokens_of_the_config_are_used() {
    let named = json!([{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]);
    let tokenizer = load(&named).unwrap();
    let ids = |text| tokenizer.text(text, false).unwrap().ids;
    assert_eq!(tokenizer.chat(&user(json!("x"))).unwrap().ids, ids("plain"));
    let tools = json!({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "f"}}]});
    assert_eq!(tokenizer.chat(tools.to_string().as_bytes()).unwrap().ids, ids("tools"));
}

#[test]
fn hostile_templates_and_requests_end_in_errors_and_soon() {
    let start = Instant::now();
    let endless = load(&json!(
        "{% for i in range(9999) %}{% for j in range(9999) %}{% set x = 1 %}{% endfor %}{% endfor %}"
    ));
    assert!(matches!(endless.unwrap().chat(&user(json!("x"))), Err(Error::TooLong { .. })));
    let large = load(&json!("{% for i in range(99999) %}{{ messages[1].content }}{% endfor %}")).unwrap();
    assert!(large.chat(&user(json!("x".repeat(10_000)))).unwrap_err().is_request());
    let deep = load(&json!("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")).unwrap();
    assert!(deep.chat(&user(json!("x"))).is_err());
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());

    let tokenizer = golden("qwenish");
    let nested = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for body in [
        "",
        "{}",
        "[]",
        r#"{"messages":[]}"#,
        r#"{"messages":[{"role":"user","content":[{"type":"odd"}]}]}"#,
        r#"{"messages":[{"role":"user","content":"x"}],"chat_template":"own"}"#,
        r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]}"#,
        r#"{"messages":[{"role":"assistant","tool_calls":[1]}]}"#,
        r#"{"messages":[{"role":"user","content":"x"}],"tools":[{}]}"#,
        r#"{"messages":[{"role":"user","content":"x"}],"continue_final_message":true}"#,
        &format!(r#"{{"messages":[{{"role":"user","content":"x"}}],"documents":{nested}}}"#),
    ] {
        let error = tokenizer.chat(body.as_bytes()).unwrap_err();
        assert!(error.is_request() && error.to_string().len() < 400, "{error}");
    }
    let long = json!({"prompt": "x".repeat(waypost_tokens::MAX_TEXT_BYTES + 1)}).to_string();
    assert!(matches!(tokenizer.completion(long.as_bytes()), Err(Error::TooLong { .. })));
}
