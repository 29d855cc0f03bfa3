//! KV cache events as vLLM publishes them: what was stored, what was removed, and the msgpack of a batch of them.
//!
//! Both forms that engines in the field send: tagged arrays and, newer, tagged maps; the batch around them is an array
//! in either. Only encodes: `rank` makes the events, `feed` sends them.

use serde::Serialize;

use crate::options::EventsForm;

/// One event; fields and their order are vLLM's.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
pub(crate) enum KvEvent {
    BlockStored {
        block_hashes: Vec<u64>,
        parent_block_hash: Option<u64>,
        /// Empty for host memory: the blocks were published with their tokens when the GPU had them.
        token_ids: Vec<u32>,
        block_size: u32,
        lora_id: Option<u32>,
        medium: &'static str,
        lora_name: Option<String>,
        /// Per block, what besides the tokens went into its hash.
        extra_keys: Option<Vec<Option<Vec<String>>>>,
        group_idx: u32,
        kv_cache_spec_kind: &'static str,
    },
    BlockRemoved {
        block_hashes: Vec<u64>,
        medium: &'static str,
        group_idx: u32,
    },
    AllBlocksCleared {},
}

/// The same by position.
#[derive(Serialize)]
#[serde(untagged)]
enum Positional<'a> {
    Stored(
        &'static str,
        &'a [u64],
        Option<u64>,
        &'a [u32],
        u32,
        Option<u32>,
        &'static str,
        Option<&'a str>,
        Option<&'a [Option<Vec<String>>]>,
    ),
    Removed(&'static str, &'a [u64], &'static str),
    Cleared([&'static str; 1]),
}

impl KvEvent {
    fn positional(&self) -> Positional<'_> {
        match self {
            KvEvent::BlockStored {
                block_hashes,
                parent_block_hash,
                token_ids,
                block_size,
                lora_id,
                medium,
                lora_name,
                extra_keys,
                ..
            } => Positional::Stored(
                "BlockStored",
                block_hashes,
                *parent_block_hash,
                token_ids,
                *block_size,
                *lora_id,
                medium,
                lora_name.as_deref(),
                extra_keys.as_deref(),
            ),
            KvEvent::BlockRemoved { block_hashes, medium, .. } => {
                Positional::Removed("BlockRemoved", block_hashes, medium)
            }
            KvEvent::AllBlocksCleared {} => Positional::Cleared(["AllBlocksCleared"]),
        }
    }
}

/// The payload of a batch: time in seconds since 1970, the events, the data-parallel rank.
pub(crate) fn encode(
    form: EventsForm,
    seconds: f64,
    events: &[KvEvent],
    rank: usize,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    match form {
        EventsForm::Map => rmp_serde::to_vec_named(&(seconds, events, rank)),
        EventsForm::Array => {
            let events: Vec<Positional<'_>> = events.iter().map(KvEvent::positional).collect();
            rmp_serde::to_vec(&(seconds, events, rank))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Vec<KvEvent> {
        vec![
            KvEvent::BlockStored {
                block_hashes: vec![u64::MAX, 2],
                parent_block_hash: None,
                token_ids: vec![1, 2, 3, 4],
                block_size: 2,
                lora_id: Some(1),
                medium: "GPU",
                lora_name: Some("sim-a".into()),
                extra_keys: Some(vec![Some(vec!["sim-a".into()]), None]),
                group_idx: 0,
                kv_cache_spec_kind: "full_attention",
            },
            KvEvent::BlockRemoved { block_hashes: vec![2], medium: "CPU", group_idx: 0 },
            KvEvent::AllBlocksCleared {},
        ]
    }

    fn decoded(form: EventsForm) -> Value {
        rmp_serde::from_slice(&encode(form, 1.5, &sample(), 3).unwrap()).unwrap()
    }

    #[test]
    fn by_position() {
        let stored = json!([
            "BlockStored",
            [u64::MAX, 2],
            null,
            [1, 2, 3, 4],
            2,
            1,
            "GPU",
            "sim-a",
            [["sim-a"], null]
        ]);
        let removed = json!(["BlockRemoved", [2], "CPU"]);
        assert_eq!(decoded(EventsForm::Array), json!([1.5, [stored, removed, ["AllBlocksCleared"]], 3]));
    }

    #[test]
    fn by_name() {
        let stored = json!({"type": "BlockStored", "block_hashes": [u64::MAX, 2], "parent_block_hash": null,
            "token_ids": [1, 2, 3, 4], "block_size": 2, "lora_id": 1, "medium": "GPU", "lora_name": "sim-a",
            "extra_keys": [["sim-a"], null], "group_idx": 0, "kv_cache_spec_kind": "full_attention"});
        let removed = json!({"type": "BlockRemoved", "block_hashes": [2], "medium": "CPU", "group_idx": 0});
        assert_eq!(
            decoded(EventsForm::Map),
            json!([1.5, [stored, removed, {"type": "AllBlocksCleared"}], 3])
        );
    }
}
