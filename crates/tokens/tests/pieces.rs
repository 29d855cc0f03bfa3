//! A cached prompt has the ids of a prompt encoded whole, for tokenizers of several kinds.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use std::path::Path;
use std::sync::LazyLock;
use waypost_tokens::{DEFAULT_CACHE_BYTES, Tokenizer};

/// The golden tokenizers, changed in the ways that real ones differ: name, tokenizer with cache, without.
static KINDS: LazyLock<Vec<(&str, Tokenizer, Tokenizer)>> = LazyLock::new(|| {
    let golden = |name: &str| -> serde_json::Value {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    };
    let (bytes, pieces) = (golden("byte_level"), golden("sentence_piece"));
    let mut gpt_2 = bytes.clone();
    gpt_2["normalizer"] = json!(null);
    gpt_2["pre_tokenizer"] =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    gpt_2["added_tokens"] = json!([]);
    gpt_2["post_processor"] = json!(null);
    let mut odd_pattern = bytes.clone();
    odd_pattern["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
        json!(r"\w+|[^\w\s]+|\s+(?!\S)|\s+");
    let mut odd_tokens = bytes.clone();
    for (n, token) in odd_tokens["added_tokens"].as_array_mut().unwrap().iter_mut().enumerate() {
        token["lstrip"] = json!(n % 3 == 0);
        token["rstrip"] = json!(n % 3 == 1);
    }
    let mut metaspace = pieces.clone();
    metaspace["normalizer"] = json!(null);
    metaspace["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    let mut never = metaspace.clone();
    never["pre_tokenizer"]["prepend_scheme"] = json!("never");
    let mut no_specials = pieces.clone();
    no_specials["added_tokens"] = json!([]);
    no_specials["post_processor"] = json!(null);
    let all = [
        ("byte_level", bytes),
        ("gpt_2", gpt_2),
        ("odd_pattern", odd_pattern),
        ("odd_tokens", odd_tokens),
        ("sentence_piece", pieces),
        ("metaspace", metaspace),
        ("never", never),
        ("no_specials", no_specials),
    ];
    let load = |(name, tokenizer): (&'static str, serde_json::Value)| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let cached = Tokenizer::load_with_cache(folder.path(), DEFAULT_CACHE_BYTES).unwrap();
        (name, cached, Tokenizer::load_with_cache(folder.path(), 0).unwrap())
    };
    all.into_iter().map(load).collect()
});

/// Bits of prompts that stand at the edges of what tokenizers look at.
const BITS: [&str; 44] = [
    "the",
    "router",
    "It's",
    "they'll",
    "'s",
    "word",
    "Zürich",
    "e\u{301}",
    "日本語",
    "русский",
    "😀",
    "👩‍👩‍👧",
    "a",
    "Z",
    "1",
    "2025",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\u{3000}",
    ".",
    ", ",
    "!?",
    "{\"a\": 1}",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_",
    "<|eot|>",
    "<s>",
    "</s>",
    "<unk>",
    "[INST]",
    "▁",
    "<0x0A>",
    "user\n",
    "/",
    "_x",
];

fn text() -> impl Strategy<Value = String> {
    let bit =
        prop_oneof![8 => select(&BITS[..]).prop_map(str::to_owned), 1 => "\\PC{1,4}", 3 => "[a-zA-Z]{1,9} "];
    prop::collection::vec(bit, 0..600).prop_map(|bits| bits.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 24 } else { 200 }))]

    #[test]
    fn every_turn_has_the_ids_of_the_whole(turns in prop::collection::vec(text(), 1..4)) {
        for (name, cached, plain) in KINDS.iter() {
            let mut conversation = String::new();
            for turn in &turns {
                conversation.push_str(turn);
                // Once to fill the cache, once to use it.
                for _ in 0..2 {
                    let found = cached.text(&conversation, true).unwrap();
                    let whole = plain.text(&conversation, true).unwrap();
                    prop_assert!(found.ids == whole.ids, "{name}: {conversation:?}");
                }
            }
        }
    }
}

#[test]
fn a_next_turn_is_mostly_cached_where_cuts_are_proven_and_not_at_all_elsewhere() {
    let turn = "The router asks which model should answer and which replica holds the prefix. ".repeat(40);
    for (name, cached, _) in KINDS.iter() {
        let next = |first: &str| {
            cached.text(first, false).unwrap();
            cached.text(&format!("{first}And another question"), false).unwrap().cached_bytes
        };
        let words = !matches!(*name, "odd_pattern" | "odd_tokens");
        assert_eq!(next(&turn) > turn.len() - 600, words, "{name}");
        assert!(next(&format!("{turn}<|end|></s>")) > turn.len() - 600 || *name == "odd_tokens", "{name}");
        assert!(cached.stats().caches, "{name}");
    }
}

#[test]
fn what_the_cache_holds_is_bounded_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/byte_level.json");
    std::fs::copy(file, folder.path().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::load_with_cache(folder.path(), 256 << 10).unwrap();
    for n in 0..200 {
        tokenizer.text(&format!("Text number {n} is not the same as others. ").repeat(60), false).unwrap();
    }
    let stats = tokenizer.stats().cache;
    assert!(stats.bytes <= 256 << 10 && stats.evictions > 0 && stats.misses > 500, "{stats:?}");
}
