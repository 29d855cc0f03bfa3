//! CLIP's tokens: byte-level byte pair encoding of lower-case words, whose last piece carries `</w>`.
//!
//! Gives the ids of transformers' `CLIPTokenizer`, with one difference: the special tokens' names inside a text are text,
//! so that no text can end itself. Bounded work per text. Called by `clip`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization as _;

use super::config::{json, text};
use crate::error::Error;

/// Largest vocabulary file that is read, in bytes; OpenAI's `tokenizer.json` has 2.2 MB.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// How much of a text is looked at, in bytes: the 77 tokens of a model fit many times over.
const MAX_TEXT_BYTES: usize = 16 << 10;
/// How much of a single word is looked at, in bytes; merging is quadratic in it.
const MAX_WORD_BYTES: usize = 2 << 10;
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const SUFFIX: &str = "</w>";
/// Stands for "these two do not merge".
const NEVER: u32 = u32::MAX;

/// Endings such as `'s`, runs of letters, single digits, and runs of anything else but white space.
static WORDS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+").ok());

/// A vocabulary with its merges.
pub(crate) struct Tokenizer {
    start: u32,
    end: u32,
    /// The token of each byte inside a word, and at its end.
    bytes: [[u32; 256]; 2],
    /// Two tokens to the rank of their merge, lowest first, and the token they become.
    merges: HashMap<(u32, u32), (u32, u32)>,
    largest: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("merges", &self.merges.len()).finish_non_exhaustive()
    }
}

/// What is needed of `tokenizer.json`.
#[derive(Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

/// A merge: `a b`, or in newer files `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

impl Merge {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Line(line) => line.split_once(' '),
            Self::Pair(left, right) => Some((left, right)),
        }
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` of `folder`, or else `vocab.json` and `merges.txt`.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("tokenizer.json");
        let (path, vocab, merges) = if path.exists() {
            let file: File = json(&path, MAX_FILE_BYTES)?;
            let clip = file.model.kind.as_deref().is_none_or(|kind| kind == "BPE")
                && file.model.end_of_word_suffix.as_deref() == Some(SUFFIX);
            if !clip {
                let reason =
                    format!("not CLIP's tokenizer: a BPE model with `{SUFFIX}` at word ends is read");
                return Err(Error::model(&path.display().to_string(), reason));
            }
            let mut vocab = file.model.vocab;
            vocab.extend(file.added_tokens.into_iter().map(|added| (added.content, added.id)));
            (path, vocab, file.model.merges)
        } else {
            let vocab: HashMap<String, u32> = json(&folder.join("vocab.json"), MAX_FILE_BYTES)?;
            let path = folder.join("merges.txt");
            let lines = text(&path, MAX_FILE_BYTES)?;
            let lines = lines.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
            let merges = lines.map(|line| Merge::Line(line.to_owned())).collect();
            (path, vocab, merges)
        };
        Self::new(&vocab, &merges).map_err(|reason| Error::model(&path.display().to_string(), reason))
    }

    fn new(vocab: &HashMap<String, u32>, merges: &[Merge]) -> Result<Self, String> {
        let id = |token: &str| {
            vocab.get(token).copied().ok_or_else(|| format!("token `{token}` is not in the vocabulary"))
        };
        let mut bytes = [[0; 256]; 2];
        for (byte, name) in (0..=255).zip(byte_names()) {
            bytes[0][byte] = id(&name.to_string())?;
            bytes[1][byte] = id(&format!("{name}{SUFFIX}"))?;
        }
        let mut table = HashMap::with_capacity(merges.len());
        for (rank, merge) in (0..).zip(merges) {
            let (left, right) = merge.parts().ok_or_else(|| format!("merge {rank} is not two tokens"))?;
            let merged = id(&format!("{left}{right}"))?;
            table.entry((id(left)?, id(right)?)).or_insert((rank, merged));
        }
        let (start, end) = (id(START)?, id(END)?);
        let largest = bytes.iter().flatten().chain(table.values().map(|(_, merged)| merged));
        let largest = largest.copied().fold(start.max(end), u32::max);
        Ok(Self { start, end, bytes, merges: table, largest })
    }

    /// The largest id it gives.
    pub(crate) fn largest(&self) -> u32 {
        self.largest
    }

    /// The ids of `text`, at most `most`, the ones for start and end included.
    pub(crate) fn ids(&self, text: &str, most: usize) -> Vec<u32> {
        let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
        let text: String = text.nfc().flat_map(char::to_lowercase).collect();
        let room = most.saturating_sub(2);
        let mut ids = vec![self.start];
        for word in WORDS.iter().flat_map(|words| words.find_iter(&text)) {
            if ids.len() > room {
                break;
            }
            self.word(word.as_str().as_bytes(), &mut ids);
        }
        ids.truncate(1 + room);
        ids.push(self.end);
        ids
    }

    /// Adds the tokens of one word: the merge of lowest rank first, of equals the leftmost.
    fn word(&self, word: &[u8], ids: &mut Vec<u32>) {
        let word = &word[..word.len().min(MAX_WORD_BYTES)];
        let Some((&last, inner)) = word.split_last() else { return };
        let mut tokens: Vec<u32> = inner.iter().map(|&b| self.bytes[0][usize::from(b)]).collect();
        tokens.push(self.bytes[1][usize::from(last)]);
        let merge = |left: u32, right: u32| self.merges.get(&(left, right)).copied().unwrap_or((NEVER, 0));
        let mut pairs: Vec<_> = tokens.windows(2).map(|pair| merge(pair[0], pair[1])).collect();
        while let Some((at, &(rank, merged))) = pairs.iter().enumerate().min_by_key(|(_, pair)| pair.0)
            && rank != NEVER
        {
            tokens[at] = merged;
            tokens.remove(at + 1);
            pairs.remove(at);
            if at < pairs.len() {
                pairs[at] = merge(merged, tokens[at + 1]);
            }
            if at > 0 {
                pairs[at - 1] = merge(tokens[at - 1], merged);
            }
        }
        ids.extend(tokens);
    }
}

/// The character that stands for each byte in byte-level vocabularies: printable Latin-1 for itself, the others, in
/// order, for the characters from U+0100 on.
fn byte_names() -> impl Iterator<Item = char> {
    let mut others = '\u{100}'..;
    (0..=255_u8).map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => others.next().unwrap_or(char::REPLACEMENT_CHARACTER),
    })
}
