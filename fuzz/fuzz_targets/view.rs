//! The request view and its rewrite, held against `serde_json`, which reads bodies independently.
//!
//! Whatever the view accepts `serde_json` must accept and read the same way, and the rewritten body must
//! be the same JSON but for `model` and v1's object. Whatever the view calls broken JSON must be broken,
//! but for the documented bounds. Nothing may panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use waypost_wire::{Code, Content, RequestView};

/// Refusals of valid JSON that the scanner documents: bounds `serde_json` does not have.
const STRICTER: [&str; 4] =
    ["number longer than", "nesting deeper than", "top-level keys", "more than 20000 messages"];
/// Cuts tried on every text: none at all, within an escape, within a short text, longer than most.
const CUTS: [usize; 6] = [0, 1, 5, 12, 64, 4096];

fuzz_target!(|body: &[u8]| {
    let theirs = serde_json::from_slice::<Map<String, Value>>(body);
    match (RequestView::parse(body), theirs) {
        (Ok(view), Ok(object)) => compare(&view, body, object),
        // JSON has no largest number, a double has: the view passes 1e999 on, for the upstream to judge.
        (Ok(_), Err(e)) => assert!(e.to_string().starts_with("number out of range"), "accepted: {e}"),
        (Err(e), Ok(_)) => assert!(
            e.code != Code::InvalidJson || STRICTER.iter().any(|bound| e.message.contains(bound)),
            "refused valid JSON: {}",
            e.message
        ),
        (Err(_), Err(_)) => {}
    }
});

fn compare(view: &RequestView<'_>, body: &[u8], mut object: Map<String, Value>) {
    let field = |name: &str| object.get(name).unwrap_or(&Value::Null);
    assert_eq!(view.model.map(|m| m.decode()).as_deref(), field("model").as_str());
    assert_eq!(view.stream, field("stream") == true);
    assert_eq!(view.nim.is_some(), object.contains_key("nim-llm-router"));
    let caps = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    assert_eq!(view.max_tokens, caps.iter().filter_map(|name| field(name).as_u64()).max());

    let messages = view.messages.as_deref().unwrap_or_default();
    let theirs: Vec<&Value> = match field("messages") {
        Value::Array(theirs) => theirs.iter().collect(),
        _ => {
            // The Responses API: items with a role, in the first of these fields that has some.
            let with_role = |name: &&str| -> Vec<&Value> {
                field(name)
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|item| item.get("role").is_some())
                    .collect()
            };
            let sets: Vec<_> =
                ["input", "prompt", "query"].iter().map(with_role).filter(|s| !s.is_empty()).collect();
            let ours = sets.iter().find(|set| set.len() == messages.len());
            assert!(ours.is_some() || (sets.is_empty() && messages.is_empty()));
            if sets.len() > 1 { Vec::new() } else { ours.cloned().unwrap_or_default() }
        }
    };
    assert!(theirs.is_empty() || messages.len() == theirs.len());
    let mut text_bytes = 0;
    for (ours, theirs) in messages.iter().zip(theirs) {
        if let Content::Text(text) = ours.content {
            assert_eq!(Some(text.decode().as_ref()), theirs["content"].as_str());
        }
        text_bytes += read_texts(ours.content);
    }
    text_bytes += view.input.map_or(0, read_texts);
    // `prompt`, `input` and `query` may all be there; the view keeps one and counts each.
    assert!(text_bytes <= view.text_bytes);

    let sent = view.rewrite(&Bytes::copy_from_slice(body), "m/x");
    let bytes = sent.to_vec();
    assert_eq!(sent.len(), bytes.len());
    let after: Map<String, Value> = serde_json::from_slice(&bytes).expect("the rewritten body is JSON");
    object.remove("nim-llm-router");
    object.insert("model".to_owned(), "m/x".into());
    assert_eq!(after, object);
}

/// Reads every text whole and cut; returns their length on the wire.
fn read_texts(content: Content<'_>) -> usize {
    let mut length = 0;
    for text in content.texts() {
        length += text.raw_len();
        let whole = text.decode();
        assert!(text.is(&whole));
        for max in CUTS {
            let mut cut = String::new();
            text.push_head_tail(max, &mut cut);
            assert!(cut.len() <= max.max(1) + 1, "{} bytes for {max}", cut.len());
            assert!(text.raw_len() > max || cut == whole);
        }
    }
    length
}
