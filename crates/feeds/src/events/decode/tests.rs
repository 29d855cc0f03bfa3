//! Events in every form that engines have been seen to send.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use waypost_wire::media_hash;

fn json(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec(value).unwrap()
}

/// A byte string of up to 255 bytes.
fn bin(bytes: &[u8]) -> Vec<u8> {
    [&[0xc4, bytes.len() as u8][..], bytes].concat()
}

/// Every event of a batch, as text that owns itself.
fn events(batch: &[u8]) -> Vec<Read> {
    let mut batch = Batch::parse(batch).unwrap();
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    while let Some(event) = decoder.next(&mut batch) {
        all.push(match event {
            Event::Stored(stored) => Read::Stored(stored.clone()),
            Event::Removed(tier, hashes) => Read::Removed(tier, hashes.to_vec()),
            Event::Cleared => Read::Cleared,
            Event::Dropped(why) => Read::Dropped(why),
        });
    }
    all
}

#[derive(Debug, Clone, PartialEq)]
enum Read {
    Stored(BlockStored),
    Removed(Tier, Vec<u64>),
    Cleared,
    Dropped(Dropped),
}

fn one(event: Value) -> Read {
    let all = events(&json(&json!([1.5, [event], 0])));
    assert_eq!(all.len(), 1);
    all[0].clone()
}

fn stored(event: Value) -> BlockStored {
    match one(event.clone()) {
        Read::Stored(stored) => stored,
        other => panic!("{event}: {other:?}"),
    }
}

fn dropped(event: Value) -> Dropped {
    match one(event.clone()) {
        Read::Dropped(why) => why,
        other => panic!("{event}: {other:?}"),
    }
}

fn plain() -> BlockStored {
    BlockStored {
        hashes: vec![11, 12],
        parent: Some(10),
        tokens: vec![1, 2, 3, 4],
        block_size: 2,
        tier: Some(Tier::Device),
        certain: 2,
        ..Default::default()
    }
}

#[test]
fn arrays_and_maps_say_the_same_at_both_levels() {
    let array = json!(["BlockStored", [11, 12], 10, [1, 2, 3, 4], 2, null, "GPU"]);
    let map = json!({"block_size": 2, "type": "BlockStored", "block_hashes": [11, 12], "parent_block_hash": 10,
        "token_ids": [1, 2, 3, 4], "lora_id": null, "medium": "GPU", "lora_name": null, "extra_keys": [null, null],
        "group_idx": 0, "kv_cache_spec_kind": "full_attention", "new": {"deep": [[[1]]]}});
    for event in [array, map] {
        let batches = [
            json!([1.5, [event]]),
            json!([1.5, [event], null]),
            json!([1, [event], 0, "new", {"x": 1}]),
            json!({"ts": 1.5, "events": [event], "data_parallel_rank": null}),
            json!({"events": [event], "new": [1]}),
        ];
        for batch in batches {
            assert_eq!(events(&json(&batch)), [Read::Stored(plain())], "{batch}");
        }
    }
}

#[test]
fn time_and_rank_are_read() {
    let bytes = json(&json!([1.5, [], 3]));
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!((batch.at(), batch.rank()), (1.5, Some(3)));
    let bytes = json(&json!({"ts": 2, "events": []}));
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!((batch.at(), batch.rank()), (2.0, None));
}

#[test]
fn the_batch_of_a_real_vllm_is_read() {
    let event = json!({"type": "BlockStored", "block_hashes": [u64::MAX], "parent_block_hash": null,
        "token_ids": vec![7; 16], "block_size": 16, "lora_id": null, "medium": "GPU", "lora_name": null,
        "extra_keys": [null], "group_idx": 0, "kv_cache_spec_kind": "full_attention"});
    let stored = stored(event);
    assert_eq!((stored.hashes, stored.parent, stored.certain), (vec![u64::MAX], None, 1));
}

#[test]
fn hashes_come_signed_unsigned_and_as_bytes() {
    let read = one(json!(["BlockRemoved", [-1, 5, u64::MAX]]));
    assert_eq!(read, Read::Removed(Tier::Device, vec![u64::MAX, 5, u64::MAX]));
    let digest: Vec<u8> = (0..32).collect();
    let mut bytes = b"\x92\x00\x91\x92\xacBlockRemoved\x92".to_vec();
    bytes.extend(bin(&digest));
    bytes.extend(bin(&[1, 2]));
    assert_eq!(events(&bytes), [Read::Removed(Tier::Device, vec![0x1819_1a1b_1c1d_1e1f, 0x0102])]);
}

#[test]
fn eagles_pairs_give_their_first_tokens() {
    let read = stored(json!(["BlockStored", [11, 12], 10, [[1, 2], [2, 3], [3, 4], [4, 5]], 2]));
    assert_eq!(read, plain());
}

#[test]
fn slots_that_old_versions_leave_out_shift_the_rest() {
    let removed = |event| one(event);
    assert_eq!(removed(json!(["BlockRemoved", [1]])), Read::Removed(Tier::Device, vec![1]));
    assert_eq!(removed(json!(["BlockRemoved", [1], "CPU"])), Read::Removed(Tier::Host, vec![1]));
    assert_eq!(removed(json!(["BlockRemoved", [1], 0])), Read::Removed(Tier::Device, vec![1]));
    assert_eq!(dropped(json!(["BlockRemoved", [1], 1])), Dropped::OtherGroup);
    // No extra keys: the group follows the adapter.
    let short = json!(["BlockStored", [11, 12], 10, [1, 2, 3, 4], 2, null, "GPU", null, 0, "full_attention"]);
    assert_eq!(stored(short), plain());
    let short = json!(["BlockStored", [11, 12], 10, [1, 2, 3, 4], 2, null, "GPU", null, 1]);
    assert_eq!(dropped(short), Dropped::OtherGroup);
    assert_eq!(one(json!(["AllBlocksCleared"])), Read::Cleared);
    assert_eq!(one(json!(["AllBlocksCleared", "worker"])), Read::Cleared);
    assert_eq!(one(json!({"type": "AllBlocksCleared"})), Read::Cleared);
}

#[test]
fn media_name_tiers_and_what_is_unknown_is_dropped() {
    let on = |medium: Value| json!(["BlockRemoved", [1], medium]);
    let tiers = [
        ("gpu", Tier::Device),
        ("DEVICE", Tier::Device),
        ("cpu", Tier::Host),
        ("CPU_PINNED", Tier::Host),
        ("CPU_TIER1", Tier::Host),
        ("CPU_TIER2", Tier::Disk),
        ("NVME", Tier::Disk),
        ("STORAGE", Tier::Disk),
        ("SHARED", Tier::Disk),
        ("REMOTE", Tier::Disk),
    ];
    for (name, tier) in tiers {
        assert_eq!(one(on(json!(name))), Read::Removed(tier, vec![1]), "{name}");
    }
    assert_eq!(dropped(on(json!("TAPE"))), Dropped::OtherMedium);
    let local = |locality: Value| json!({"type": "BlockRemoved", "block_hashes": [1], "locality": locality});
    assert_eq!(one(local(json!("LOCAL"))), Read::Removed(Tier::Device, vec![1]));
    assert_eq!(dropped(local(json!("REMOTE"))), Dropped::OtherMedium);
    assert_eq!(dropped(local(json!("moon"))), Dropped::OtherMedium);
}

#[test]
fn only_attention_that_needs_the_whole_prefix_is_followed() {
    let of = |kind: Value, group: Value| json!({"type": "BlockRemoved", "block_hashes": [1], "kv_cache_spec_kind": kind, "group_idx": group});
    for kind in ["full_attention", "mla", "mla_attention", "sink_full_attention", "FULL_ATTENTION"] {
        assert_eq!(one(of(json!(kind), json!(2))), Read::Removed(Tier::Device, vec![1]), "{kind}");
    }
    for kind in ["sliding_window", "mamba", "cross_attention", "chunked_local_attention", "new_attention"] {
        assert_eq!(dropped(of(json!(kind), json!(0))), Dropped::OtherGroup, "{kind}");
    }
    assert_eq!(dropped(of(json!(null), json!(1))), Dropped::OtherGroup);
    assert_eq!(one(of(json!(null), json!(null))), Read::Removed(Tier::Device, vec![1]));
}

/// A store event at the start of a prompt, with these fields besides.
fn first(extra: Value) -> Value {
    let mut event = json!({"type": "BlockStored", "block_hashes": [11, 12], "parent_block_hash": null,
        "token_ids": [1, 2, 3, 4], "block_size": 2});
    let fields = extra.as_object().unwrap().clone();
    event.as_object_mut().unwrap().extend(fields);
    event
}

#[test]
fn every_place_of_a_salt_is_known() {
    let places = [
        json!({"cache_salt": "s"}),
        json!({"metadata": {"other": 1, "cache_salt": "s"}}),
        json!({"lora_name": {"cache_salt": "s"}}),
        json!({"extra_keys": [["dynamo-cache-salt:s"], null]}),
        json!({"extra_keys": [["s"], null]}),
        json!({"extra_keys": [["s"], null], "cache_salt": "s", "metadata": {"cache_salt": "s"}}),
    ];
    for place in places {
        let read = stored(first(place.clone()));
        assert_eq!((read.salt.as_str(), read.certain), ("s", 2), "{place}");
    }
    assert_eq!(stored(first(json!({"cache_salt": "", "metadata": null}))).salt, "");
}

#[test]
fn what_could_be_two_things_is_dropped() {
    let events = [
        json!({"cache_salt": "s", "metadata": {"cache_salt": "t"}}),
        json!({"cache_salt": 5}),
        json!({"extra_keys": [["a", "b"], null]}),
        json!({"extra_keys": [[7], null]}),
        json!({"extra_keys": ["loose", null]}),
        json!({"extra_keys": [["dynamo-cache-salt:s", "t"], null]}),
        json!({"lora_id": 3}),
    ];
    for event in events {
        assert_eq!(dropped(first(event.clone())), Dropped::Ambiguous, "{event}");
    }
    // From the doubtful block on.
    assert_eq!(stored(first(json!({"extra_keys": [["s"], [7]]}))).certain, 1);
    assert_eq!(stored(first(json!({"extra_keys": [null, ["dynamo-cache-salt:s"]]}))).certain, 1);
}

#[test]
fn adapters_and_media_are_told_from_salts() {
    let read = stored(first(json!({"lora_name": "l", "lora_id": 1,
        "extra_keys": [["l", ["img", 3], "s"], ["l", ["img", 3]]]})));
    assert_eq!((read.lora.as_str(), read.salt.as_str()), ("l", "s"));
    assert_eq!(read.media, [(0, media_hash("img")), (1, media_hash("img"))]);
    // Behind a parent there is no salt: a plain name is a medium, as old versions write it.
    let mut later = first(json!({"extra_keys": [["img"], null]}));
    later["parent_block_hash"] = json!(9);
    let read = stored(later);
    assert_eq!((read.salt.as_str(), read.media), ("", vec![(0, media_hash("img"))]));
    // Described media count once.
    let described = json!([{"mm_objects": [{"mm_hash": 77, "offsets": [[0, 2]]}]}, null]);
    let read = stored(first(json!({"block_mm_infos": described, "extra_keys": [[["img", 0]], null]})));
    assert_eq!(read.media, [(0, 77)]);
}

#[test]
fn a_bad_event_spoils_no_other() {
    let bad = [
        json!(5),
        json!([]),
        json!({}),
        json!(["BlockRemoved"]),
        json!(["BlockRemoved", ["x"]]),
        json!(["BlockStored", [1], null, ["x"], 2]),
        json!(["BlockStored", [1], null, [u64::from(u32::MAX) + 1], 2]),
        json!(["BlockStored", [1], null, [1], null]),
        json!({"type": "BlockRemoved", "block_hashes": {"x": 1}}),
    ];
    for event in bad {
        let batch = json(&json!([0, [event, ["AllBlocksCleared"]]]));
        let all = events(&batch);
        assert!(matches!(all[0], Read::Dropped(Dropped::Malformed { .. })), "{event}: {all:?}");
        assert_eq!(all[1..], [Read::Cleared], "{event}");
    }
    assert_eq!(one(json!(["BlockMoved", [1]])), Read::Dropped(Dropped::Unknown));
    assert_eq!(one(json!({"type": "BlockMoved"})), Read::Dropped(Dropped::Unknown));
}

#[test]
fn bounds_hold() {
    let many = json(&json!([0, vec![0; MAX_EVENTS_PER_BATCH as usize + 1]]));
    assert_eq!(Batch::parse(&many).unwrap_err(), BatchError::TooLarge);
    assert_eq!(Batch::parse(&vec![0; MAX_BATCH_BYTES + 1]).unwrap_err(), BatchError::TooLarge);
    let tokens = vec![1; MAX_TOKENS_PER_EVENT as usize + 1];
    let batch = json(&json!([0, [["BlockStored", [1], null, tokens, 2], ["AllBlocksCleared"]]]));
    assert_eq!(events(&batch), [Read::Dropped(Dropped::Malformed { removal: false }), Read::Cleared]);
    // Lengths that lie, and depth without end.
    let liars: [&[u8]; 5] = [
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x00\xdd\xff\xff\xff\xff\x00",
        b"\x92\x00\xdf\xff\xff\xff\xff",
        b"\x92\x00\x91\xc6\xff\xff\xff\xff",
        b"\xc1",
    ];
    for bytes in liars {
        assert_eq!(Batch::parse(bytes).unwrap_err(), BatchError::Malformed(Malformed));
    }
    let mut deep = b"\x92\x00\x91".to_vec();
    deep.extend(vec![0x91; 1 << 20]);
    deep.push(0xc0);
    assert!(matches!(events(&deep)[..], [Read::Dropped(Dropped::Malformed { .. })]));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(mut batch) = Batch::parse(&bytes) {
            let mut decoder = Decoder::default();
            while decoder.next(&mut batch).is_some() {}
        }
    }

    #[test]
    fn a_broken_batch_is_survived(cut in 0usize..400, at in 0usize..400, flip: u8) {
        let event = first(json!({"lora_name": "l", "extra_keys": [["l", ["img", 3], "s"], ["l", ["img", 3]]],
            "block_mm_infos": [{"mm_objects": [{"mm_hash": 77}]}, null], "metadata": {"cache_salt": "s"}}));
        let mut bytes = json(&json!([1.5, [event, ["BlockRemoved", [1, 2], "CPU"]], 0]));
        let end = bytes.len() - 1;
        bytes[at.min(end)] ^= flip;
        bytes.truncate((end + 1).saturating_sub(cut % 8));
        if let Ok(mut batch) = Batch::parse(&bytes) {
            let mut decoder = Decoder::default();
            while let Some(event) = decoder.next(&mut batch) {
                if let Event::Stored(stored) = event {
                    prop_assert!(stored.certain <= stored.hashes.len());
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        hashes in prop::collection::vec(any::<u64>(), 0..40), parent: Option<u64>,
        tokens in prop::collection::vec(any::<u32>(), 0..300), size in 1u32..64,
    ) {
        let want = BlockStored {
            certain: hashes.len(), hashes: hashes.clone(), parent, tokens: tokens.clone(), block_size: size,
            tier: Some(Tier::Device), ..Default::default()
        };
        prop_assert_eq!(stored(json!(["BlockStored", hashes, parent, tokens, size])), want);
    }
}
