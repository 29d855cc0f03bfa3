//! Streams recorded from real engines (`tests/fixtures/kv-events`), replayed through decoder and index, against a plain
//! model of what the engine holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use waypost_feeds::events::decode::{Batch, Decoder, Event};
use waypost_feeds::events::dynamo::{self, Change};
use waypost_feeds::events::{Share, Target};
use waypost_picker::{Endpoint, PrefixIndex, Worker, hash};

/// Engine's name of a block → what is before it, its tokens, its adapter and its salt.
type Parents = HashMap<u64, (Option<u64>, Vec<u32>, String, String)>;
type Batches = BTreeMap<u64, Vec<u8>>;

struct Recording {
    block_size: u32,
    dynamo: bool,
    /// By source: what was heard live, completed by what was replayed.
    streams: Vec<Batches>,
    plane: Vec<Vec<u8>>,
}

fn recordings() -> Vec<(PathBuf, Recording)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/kv-events");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("{} is missing: nothing recorded to replay", folder.display());
        return Vec::new();
    };
    let paths =
        files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "kvrec"));
    let all: Vec<_> = paths.map(|path| (path.clone(), read(&std::fs::read(path).unwrap()))).collect();
    assert!(!all.is_empty(), "the folder has recordings");
    all
}

/// `KVREC1\n`, u32 length, JSON; then records: kind, source, frames, each with a u32 length; little endian.
fn read(bytes: &[u8]) -> Recording {
    let mut rest = bytes.strip_prefix(b"KVREC1\n").unwrap();
    let mut take = |length: usize| {
        let (head, tail) = rest.split_at(length);
        rest = tail;
        (head, tail.is_empty())
    };
    let length = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
    let size = length(take(4).0);
    let header: serde_json::Value = serde_json::from_slice(take(size).0).unwrap();
    let (mut live, mut replayed) = (BTreeMap::<u8, Batches>::new(), BTreeMap::<u8, Batches>::new());
    let mut plane = Vec::new();
    loop {
        let (head, _) = take(3);
        let (kind, source, count) = (head[0], head[1], head[2]);
        let mut end = false;
        let mut frames = Vec::new();
        for _ in 0..count {
            let size = length(take(4).0);
            let (frame, last) = take(size);
            frames.push(frame.to_vec());
            end = last;
        }
        let payload = frames.pop().unwrap();
        let number = frames.pop().map_or(u64::MAX, |n| n.try_into().map_or(u64::MAX, u64::from_be_bytes));
        match kind {
            0 => drop(live.entry(source).or_default().insert(number, payload)),
            2 if number != u64::MAX => drop(replayed.entry(source).or_default().insert(number, payload)),
            3 => plane.push(payload),
            _ => {}
        }
        if end {
            break;
        }
    }
    // A replay is of the stream with which it shares a batch.
    for batches in replayed.into_values() {
        let shared = |stream: &&mut Batches| stream.iter().any(|(n, bytes)| batches.get(n) == Some(bytes));
        live.values_mut().find(shared).expect("a replay of something heard").extend(batches);
    }
    let block_size = header["block_size"].as_str().unwrap().parse().unwrap();
    let dynamo = header["engine"].as_str().unwrap().contains("dynamo");
    Recording { block_size, dynamo, streams: live.into_values().collect(), plane }
}

#[test]
fn what_engines_said_ends_in_what_they_hold() {
    for (path, recording) in recordings() {
        assert!(!recording.streams.is_empty());
        for stream in &recording.streams {
            let numbers: Vec<_> = stream.keys().copied().collect();
            assert_eq!(numbers, (0..stream.len() as u64).collect::<Vec<_>>(), "{path:?} is whole");
            replay(&path, stream, &recording);
        }
        for message in &recording.plane {
            dynamo::read(message, check_plane).unwrap();
        }
    }
}

/// Dynamo's chain hashes are ours.
fn check_plane(event: dynamo::RouterEvent) {
    assert!(event.tier.is_some());
    if let Change::Stored(mut parent, blocks) = event.change {
        for block in blocks {
            assert_eq!(hash::extend(parent, block.local), block.engine);
            parent = Some(block.engine);
        }
    }
}

fn replay(path: &Path, stream: &Batches, recording: &Recording) {
    let endpoint = Arc::new(Endpoint::new(waypost_config::Endpoint::at("http://e"), Worker(0)));
    let index = Arc::new(PrefixIndex::new(64 << 20));
    let share = Share::new(Target { endpoint, index: Arc::clone(&index), block_size: recording.block_size });
    let mut parents = Parents::new();
    let mut holds: BTreeMap<u64, u32> = BTreeMap::new();
    let (mut stored_events, mut most) = (0, 0);
    for payload in stream.values() {
        let mut batch = Batch::parse(payload).unwrap();
        assert!(batch.at() > 0.0 && batch.rank().is_some());
        let mut decoder = Decoder::default();
        while let Some(event) = decoder.next(&mut batch) {
            match &event {
                Event::Stored(stored) => {
                    stored_events += 1;
                    assert_eq!(
                        (stored.block_size, stored.certain),
                        (recording.block_size, stored.hashes.len())
                    );
                    let mut parent = stored.parent;
                    let inherited = parent.and_then(|p| parents.get(&p)).map(|(.., salt)| salt.clone());
                    let salt = if stored.salt.is_empty() {
                        inherited.unwrap_or_default()
                    } else {
                        stored.salt.clone()
                    };
                    let blocks = stored.tokens.chunks(recording.block_size as usize);
                    for (engine, tokens) in stored.hashes.iter().zip(blocks) {
                        parents.insert(*engine, (parent, tokens.to_vec(), stored.lora.clone(), salt.clone()));
                        *holds.entry(*engine).or_default() += 1;
                        parent = Some(*engine);
                    }
                }
                Event::Removed(_, hashes) => {
                    for hash in *hashes {
                        let count = holds.get_mut(hash).expect("what goes was there");
                        *count -= 1;
                        if *count == 0 {
                            holds.remove(hash);
                        }
                    }
                }
                Event::Cleared => holds.clear(),
                Event::Dropped(why) => panic!("{path:?}: {why:?}"),
            }
            assert!(share.apply(&event));
            assert_eq!(index.stats().pairs, holds.len() as u64, "{path:?}");
            most = most.max(holds.len());
        }
        holds.keys().for_each(|engine| check(path, *engine, &parents, &holds, &index, recording));
    }
    assert!(stored_events > 0 && most > 0, "{path:?}");
    assert_eq!(index.stats().unknown_parents, 0);
}

/// The blocks up to this one, and their tokens.
fn trail(engine: u64, parents: &Parents) -> (Vec<u64>, Vec<u32>) {
    let mut trail = vec![engine];
    while let Some(parent) = parents[&trail[trail.len() - 1]].0 {
        trail.push(parent);
    }
    trail.reverse();
    let tokens = trail.iter().flat_map(|engine| parents[engine].1.clone()).collect();
    (trail, tokens)
}

/// The prompt that ends in this block is found as far as the engine holds it without a hole.
fn check(
    path: &Path,
    engine: u64,
    parents: &Parents,
    holds: &BTreeMap<u64, u32>,
    index: &PrefixIndex,
    recording: &Recording,
) {
    let (blocks, tokens) = trail(engine, parents);
    let (_, _, lora, salt) = &parents[&engine];
    let locals = hash::local_hashes(&tokens, recording.block_size as usize, hash::seed(lora, salt), &[]);
    let chain = hash::chain(&locals);
    if recording.dynamo {
        assert_eq!(chain, blocks, "the mocker names its blocks as we do");
    }
    let want = blocks.iter().take_while(|engine| holds.contains_key(engine)).count() as u32;
    let mut found = Vec::new();
    index.matches(&chain, &mut found);
    assert_eq!(found.first().map_or(0, |held| held.device), want, "{path:?}");
    let plain = |other: &&u64| parents[*other].2.is_empty() && parents[*other].3.is_empty();
    let twin = holds.keys().filter(plain).any(|other| trail(*other, parents).1 == tokens);
    if (!salt.is_empty() || !lora.is_empty()) && !twin {
        let bare =
            hash::chain(&hash::local_hashes(&tokens, recording.block_size as usize, hash::seed("", ""), &[]));
        index.matches(&bare[bare.len() - 1..], &mut found);
        assert!(found.is_empty(), "{path:?}: a salted block has no name without its salt");
    }
}
