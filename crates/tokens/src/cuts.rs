//! Where a text may be cut so that its pieces encode, each by itself, to the ids of the whole.
//!
//! Two kinds of cuts, each allowed only where this can be proven from the tokenizer's own file:
//! before an added token, since text between added tokens is encoded apart; and inside plain text between
//! an ASCII letter and a space that an ASCII letter follows, if nothing in the tokenizer reaches across.
//! Cuts depend on the text before them only, so that a conversation's next turn has the same ones.
//! Called by the tokenizer.

use crate::engine::Encoder;
use crate::error::Error;
use crate::probes;
use aho_corasick::{AhoCorasick, MatchKind};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use tokenizers::{AddedToken, Tokenizer as Reference};

mod patterns;

/// Shortest piece, in bytes: long enough to pay for its place in the cache, short enough that the part of
/// a conversation behind the last cut is soon encoded.
const MIN_PIECE_BYTES: usize = 512;
/// Stands for a space in vocabularies of the SentencePiece kind.
const SPACE_MARK: char = '▁';

/// The rules of one tokenizer.
pub(crate) struct Cuts {
    added: Option<Added>,
    words: Option<Words>,
    min_piece_bytes: usize,
}

/// Cuts before added tokens.
struct Added {
    automaton: AhoCorasick,
    /// By pattern: may a piece start with it.
    starts: Vec<bool>,
}

/// Cuts between words.
#[derive(Debug, Clone, Copy)]
struct Words {
    /// Letters after which a cut may stand, by byte.
    letters: [bool; 256],
    /// The tokenizer puts a space before a text, so that a piece is encoded without its own.
    drop_space: bool,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<Value>,
}

impl Cuts {
    /// No cuts at all.
    pub(crate) fn none() -> Self {
        Self { added: None, words: None, min_piece_bytes: MIN_PIECE_BYTES }
    }

    /// What can be proven of `reference`, whose file is `json`.
    pub(crate) fn new(reference: &Reference, json: &[u8]) -> Self {
        let decoder = reference.get_added_tokens_decoder();
        let tokens: Vec<&AddedToken> = decoder.values().filter(|token| !token.content.is_empty()).collect();
        let words = serde_json::from_slice::<File>(json).ok().and_then(|file| words(&file, &tokens));
        Self { added: added(&tokens), words, min_piece_bytes: MIN_PIECE_BYTES }
    }

    /// These rules if they keep the ids of the probes, or none: a proof against slips in the proof.
    pub(crate) fn checked(self, encoder: &Encoder) -> Self {
        let decoder = encoder.reference().get_added_tokens_decoder();
        let tokens: Vec<&str> = decoder.values().map(|token| token.content.as_str()).collect();
        let small = Self { min_piece_bytes: 1, ..self };
        let holds = probes::texts(&tokens).iter().all(|text| {
            let whole = encoder.encode(text).ok();
            let mut ids = Vec::new();
            let pieces = small.pieces(text).try_for_each(|(piece, after_cut)| {
                ids.extend(small.encode(encoder, piece, after_cut)?);
                Ok::<_, Error>(())
            });
            pieces.is_err() == whole.is_none() && whole.is_none_or(|whole| whole == ids)
        });
        if holds { Self { min_piece_bytes: MIN_PIECE_BYTES, ..small } } else { Self::none() }
    }

    /// Are there any.
    pub(crate) fn any(&self) -> bool {
        self.added.is_some() || self.words.is_some()
    }

    /// The pieces of `text` in order, and whether each follows a cut between words.
    pub(crate) fn pieces<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (&'t str, bool)> {
        let mut tokens = self.added.iter().flat_map(move |added| added.starts(text)).peekable();
        let (mut at, mut after_cut, mut done) = (0, false, false);
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let from = at + self.min_piece_bytes;
            while tokens.next_if(|start| *start < from).is_some() {}
            let token = tokens.peek().copied();
            let word = self.words.and_then(|words| words.next(text, from, token.unwrap_or(text.len())));
            let (start, was_after_cut) = (at, after_cut);
            after_cut = word.is_some();
            let end = word.or(token);
            done = end.is_none();
            at = end.unwrap_or(text.len());
            Some((text.get(start..at).unwrap_or_default(), was_after_cut))
        })
    }

    /// The ids of one of [`Self::pieces`].
    pub(crate) fn encode(&self, encoder: &Encoder, piece: &str, after_cut: bool) -> Result<Vec<u32>, Error> {
        let drop_space = after_cut && self.words.is_some_and(|words| words.drop_space);
        let text = if drop_space { piece.strip_prefix(' ').unwrap_or(piece) } else { piece };
        encoder.encode(text)
    }
}

impl Added {
    /// Offsets in `text` at which a token starts that a piece may start with.
    fn starts<'t>(&'t self, text: &'t str) -> impl Iterator<Item = usize> {
        let may = |pattern: usize| self.starts.get(pattern).copied().unwrap_or(false);
        let found = self.automaton.find_iter(text);
        found.filter(move |m| may(m.pattern().as_usize())).map(|m| m.start())
    }
}

impl Words {
    /// The first cut in `from..to`.
    fn next(&self, text: &str, from: usize, to: usize) -> Option<usize> {
        let bytes = text.as_bytes();
        // The letter after the space must be seen, in whatever text follows.
        let window = bytes.get(from.saturating_sub(1)..to.min(bytes.len()))?;
        let at = window.windows(3).position(
            |w| matches!(w, [a, b' ', c] if self.letters[usize::from(*a)] && c.is_ascii_alphabetic()),
        )?;
        Some(from.saturating_sub(1) + at + 1)
    }
}

/// Tokens matched in the raw text split it before anything else happens (`AddedVocabulary` of `tokenizers`,
/// leftmost longest). A piece that starts with one is split in the same way as the whole text is from
/// there, unless the token takes white space on its left.
fn added(tokens: &[&AddedToken]) -> Option<Added> {
    let raw: Vec<&AddedToken> = tokens.iter().filter(|token| !token.normalized).copied().collect();
    let odd = raw.iter().any(|token| token.single_word)
        || (raw.iter().any(|token| token.rstrip)
            && raw.iter().any(|token| token.content.starts_with(char::is_whitespace)));
    if raw.is_empty() || odd {
        return None;
    }
    let starts: Vec<bool> = raw.iter().map(|token| !token.lstrip).collect();
    let automaton = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(raw.iter().map(|token| token.content.as_bytes()))
        .ok()?;
    starts.contains(&true).then_some(Added { automaton, starts })
}

fn words(file: &File, tokens: &[&AddedToken]) -> Option<Words> {
    let model = &file.model;
    let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    let plain = model.kind.as_deref().is_none_or(|kind| kind == "BPE")
        && model.dropout.is_none_or(|p| p == 0.0)
        && affixes.iter().all(|affix| affix.as_deref().is_none_or(str::is_empty));
    // No added token may lie across the cut, take the space, or start right behind it.
    let clear = tokens.iter().all(|token| {
        let takes_more = token.lstrip || token.rstrip || token.single_word;
        let in_the_way = token.content.contains([' ', SPACE_MARK])
            || token.content.starts_with(|c: char| c.is_ascii_alphabetic());
        !takes_more && !in_the_way
    });
    if !plain || !clear {
        return None;
    }
    byte_level(file).or_else(|| sentence_piece(file))
}

/// Byte-level BPE: merges stay within pre-tokens, and these end between letter and space.
fn byte_level(file: &File) -> Option<Words> {
    let normalizer = kind(&file.normalizer);
    let letters = std::array::from_fn(|byte| u8::try_from(byte).is_ok_and(|byte| byte.is_ascii_alphabetic()));
    // Composition joins nothing to a space.
    let harmless = normalizer.is_none() || normalizer == Some("NFC");
    (harmless && patterns::end_before_spaces(&file.pre_tokenizer))
        .then_some(Words { letters, drop_space: false })
}

/// BPE over whole texts: where no entry of the vocabulary holds a letter before the mark of a space, no
/// merge can join them, and merges on both sides know nothing of each other.
fn sentence_piece(file: &File) -> Option<Words> {
    let prepends = prepends(&file.normalizer, &file.pre_tokenizer)?;
    if file.model.ignore_merges == Some(true) {
        return None;
    }
    let vocab: HashMap<&str, &Value> =
        file.model.vocab.as_object()?.iter().map(|(k, v)| (k.as_str(), v)).collect();
    // Bytes stand in for unknown characters; were they merged, their text would not show it.
    let merges_bytes = file.model.merges.iter().any(|merge| {
        let holds = |part: &str| part.starts_with("<0x") && part.ends_with('>') && part.len() == 6;
        match merge {
            Value::String(pair) => pair.split(' ').any(holds),
            pair => pair.as_array().is_some_and(|p| p.iter().filter_map(Value::as_str).any(holds)),
        }
    });
    let mut mark = [0; 4];
    if merges_bytes || !vocab.contains_key(&*SPACE_MARK.encode_utf8(&mut mark)) {
        return None;
    }
    let mut letters = [false; 256];
    for byte in (0u8..128).filter(u8::is_ascii_alphabetic) {
        let letter = char::from(byte).to_string();
        letters[usize::from(byte)] = vocab.contains_key(letter.as_str());
    }
    for entry in vocab.keys() {
        for (at, _) in entry.match_indices(SPACE_MARK) {
            if let Some(before) = at.checked_sub(1).and_then(|before| entry.as_bytes().get(before)) {
                letters[usize::from(*before)] = false;
            }
        }
    }
    letters.contains(&true).then_some(Words { letters, drop_space: prepends })
}

/// For a tokenizer that marks spaces and does no more before BPE: does it put a space before a text?
fn prepends(normalizer: &Value, pre_tokenizer: &Value) -> Option<bool> {
    let steps = match kind(normalizer) {
        None => Vec::new(),
        Some("Sequence") => normalizer.get("normalizers")?.as_array()?.iter().collect(),
        Some(_) => vec![normalizer],
    };
    let (mut marks, mut prepends) = (false, false);
    let mark = SPACE_MARK.to_string();
    for step in steps {
        match kind(step) {
            Some("Prepend") if !marks && step.get("prepend")? == mark.as_str() => prepends = true,
            Some("Replace") => {
                let spaces = step.get("pattern")?.get("String")? == " ";
                if !spaces || step.get("content")? != mark.as_str() {
                    return None;
                }
                marks = true;
            }
            _ => return None,
        }
    }
    match kind(pre_tokenizer) {
        None => marks.then_some(prepends),
        Some("Metaspace") if !marks && !prepends => {
            let whole = pre_tokenizer.get("split")? == false;
            let marked = pre_tokenizer.get("replacement")? == mark.as_str();
            let scheme = pre_tokenizer.get("prepend_scheme")?.as_str()?;
            (whole && marked).then_some(scheme != "never")
        }
        Some(_) => None,
    }
}

fn kind(step: &Value) -> Option<&str> {
    step.get("type")?.as_str()
}
