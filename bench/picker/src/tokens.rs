//! Chats to token ids: from the request's body as the product does it, and beside it the `tokenizers` crate on the rendered text.
//!
//! Models' own tokenizers are not at hand, so one of the same kind is trained here and loaded from its files. Chats are made
//! of text that neither the training nor another chat has, so that only a chat's own first turn can be cached.

use crate::index::{ROUNDS, microseconds, row};
use serde_json::json;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, Error, SplitDelimiterBehavior, Tokenizer as Peer};
use waypost_tokens::{Engine, Tokenizer};

/// Entries of the vocabulary without added tokens; those of current models have 128,000 to 200,000.
const ENTRIES: usize = 32_768;
/// What GPT-4's pattern was made into for Llama 3.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const ADDED: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const TEMPLATE: &str = "{% for said in messages %}<|im_start|>{{ said.role }}
{{ said.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}";
const TOKENIZER_FILE: &str = "tokenizer.json";
/// One text of so many is for chats, the others are for training.
const HELD_OUT: usize = 4;
/// Who says how many tokens; with the template's own 3,350.
const FIRST_TURN: [(&str, usize); 8] = [
    ("system", 600),
    ("user", 150),
    ("assistant", 500),
    ("user", 100),
    ("assistant", 600),
    ("user", 900),
    ("assistant", 400),
    ("user", 60),
];
/// The answer, and what is asked then.
const SECOND_TURN: [(&str, usize); 2] = [("assistant", 300), ("user", 50)];
const CASES: [&str; 2] = ["chat of 3350 tokens, cold", "second turn of the chat"];
/// Ours from the prompt only, as the peer.
const PROMPTS: &str = "waypost, from the prompt";

/// What a client sends, and the prompt that the template makes of it.
struct Turn {
    body: Vec<u8>,
    prompt: String,
}

/// Of all chats' turns of one kind.
#[derive(Default)]
struct Seen {
    ours_ns: Vec<u64>,
    prompt_ns: Vec<u64>,
    peer_ns: Vec<u64>,
    tokens: usize,
    bytes: usize,
    cached_bytes: usize,
    wrong: usize,
}

/// The distinct texts of files of JSON lines, in random order.
fn texts(paths: &[String]) -> Result<Vec<String>, Error> {
    let mut found = HashSet::new();
    for path in paths {
        let file = std::fs::File::open(path)?;
        let read: Box<dyn Read> =
            if path.ends_with(".gz") { Box::new(flate2::read::GzDecoder::new(file)) } else { Box::new(file) };
        for line in BufReader::new(read).lines() {
            let line: serde_json::Value = serde_json::from_str(&line?)?;
            found.extend(line["text"].as_str().map(str::to_owned));
        }
    }
    let mut all: Vec<String> = found.into_iter().collect();
    all.sort_unstable();
    fastrand::Rng::with_seed(11).shuffle(&mut all);
    Ok(all)
}

/// A byte-level BPE.
fn trained(texts: &[String]) -> Result<Peer, Error> {
    let mut made = Peer::new(BPE::default());
    let split = Split::new(SplitPattern::Regex(PATTERN.to_owned()), SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, true, false);
    let steps = vec![PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)];
    made.with_pre_tokenizer(Some(Sequence::new(steps)));
    made.with_decoder(Some(DecoderWrapper::ByteLevel(bytes)));
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(ENTRIES)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    made.train(&mut TrainerWrapper::BpeTrainer(trainer), texts.iter())?;
    made.add_special_tokens(ADDED.map(|token| AddedToken::from(token, true)))?;
    Ok(made)
}

fn turn(messages: &[(&str, &str)]) -> Turn {
    let sent: Vec<_> =
        messages.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    let body = json!({"model": "m", "messages": sent}).to_string().into_bytes();
    let said = messages.iter().map(|(role, content)| format!("<|im_start|>{role}\n{content}<|im_end|>\n"));
    Turn { body, prompt: said.chain(["<|im_start|>assistant\n".to_owned()]).collect() }
}

/// As many chats as `text` is enough for, two turns each.
fn chats(tokenizer: &Peer, text: &str) -> Result<Vec<[Turn; 2]>, Error> {
    let parts: Vec<_> = FIRST_TURN.iter().chain(&SECOND_TURN).collect();
    let encoded = tokenizer.encode(text, false)?;
    let chats = encoded.get_offsets().chunks_exact(parts.iter().map(|(_, tokens)| tokens).sum());
    let chat = |mut offsets: &[(usize, usize)]| {
        let mut messages = Vec::new();
        for (role, tokens) in &parts {
            let (own, rest) = offsets.split_at(*tokens);
            let place = |offset: usize| text.floor_char_boundary(offset);
            messages.push((*role, text[place(own[0].0)..place(own[tokens - 1].1)].trim()));
            offsets = rest;
        }
        [turn(&messages[..FIRST_TURN.len()]), turn(&messages)]
    };
    Ok(chats.map(chat).collect())
}

fn timed<T>(run: impl FnOnce() -> T, times: &mut Vec<u64>) -> T {
    let start = Instant::now();
    let made = run();
    times.push(start.elapsed().as_nanos() as u64);
    made
}

/// All chats with caches that are empty at first, and the peer in turns with ours.
fn round(folder: &Path, chats: &[[Turn; 2]]) -> Result<(), Error> {
    let (ours, of_prompts) = (Tokenizer::load(folder)?, Tokenizer::load(folder)?);
    let peer = Peer::from_file(folder.join(TOKENIZER_FILE))?;
    let mut seen: [Seen; 2] = Default::default();
    for (number, turn) in chats.iter().flatten().enumerate() {
        let seen = &mut seen[number % 2];
        let found = timed(|| ours.chat(&turn.body), &mut seen.ours_ns)?;
        let again = timed(|| of_prompts.text(&turn.prompt, false), &mut seen.prompt_ns)?;
        let expected = timed(|| peer.encode_fast(turn.prompt.as_str(), false), &mut seen.peer_ns)?;
        seen.tokens += found.ids.len();
        seen.bytes += turn.prompt.len();
        seen.cached_bytes += found.cached_bytes;
        seen.wrong += usize::from([&found.ids, &again.ids].iter().any(|ids| *ids != expected.get_ids()));
    }
    let fast = ours.stats().engine == Engine::Fast;
    for (case, mut seen) in CASES.into_iter().zip(seen) {
        let mean = |sum: usize| sum as f64 / chats.len() as f64;
        for (peer, times) in [
            ("waypost", &mut seen.ours_ns),
            (PROMPTS, &mut seen.prompt_ns),
            ("tokenizers", &mut seen.peer_ns),
        ] {
            let mut made = json!({"case": case, "peer": peer, "chats": chats.len(),
                "tokens": mean(seen.tokens), "bytes": mean(seen.bytes),
                "p50_ms": microseconds(times, 0.5) / 1e3, "p99_ms": microseconds(times, 0.99) / 1e3});
            if peer != "tokenizers" {
                made["cached_percent"] = (100.0 * seen.cached_bytes as f64 / seen.bytes as f64).into();
                made["wrong"] = seen.wrong.into();
                made["fast"] = fast.into();
            }
            row(made);
        }
    }
    Ok(())
}

/// Trains on the files' texts, and measures.
pub(crate) fn run(paths: &[String]) -> Result<(), Error> {
    let texts = texts(paths)?;
    let (held_out, training) = texts.split_at(texts.len() / HELD_OUT);
    let tokenizer = trained(training)?;
    let folder = tempfile::tempdir()?;
    tokenizer.save(folder.path().join(TOKENIZER_FILE), false)?;
    std::fs::write(folder.path().join("chat_template.jinja"), TEMPLATE)?;
    let chats = chats(&tokenizer, &held_out.join("\n\n"))?;
    if chats.is_empty() {
        return Err("the texts are too short for a chat".into());
    }
    (0..ROUNDS).try_for_each(|_| round(folder.path(), &chats))
}
