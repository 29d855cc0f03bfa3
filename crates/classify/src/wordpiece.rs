//! WordPiece: cuts a normalised word into vocabulary ids by greedy longest match.
//!
//! Works on the embedded vocabulary in place: one open-addressing table of ids and one of offsets are all it allocates,
//! once. Never allocates per word. Called by `features`.

use crate::error::Error;
use crate::hash;
use crate::words::Word;

/// Id given to a word that the vocabulary cannot spell.
pub(crate) const UNK: u16 = 100;
const EMPTY: u16 = u16::MAX;
/// Prefix of a piece that continues a word.
const CONTINUATION: &[u8] = b"##";
const SLOT_BITS: u32 = 16;
const SEED_START: u64 = 1;
const SEED_CONTINUED: u64 = 2;

/// A vocabulary, ready for look-ups.
#[derive(Debug)]
pub(crate) struct WordPiece {
    text: &'static [u8],
    /// `offsets[id]..offsets[id + 1]` is the line of piece `id`, newline included.
    offsets: Vec<u32>,
    slots: Vec<u16>,
    longest: usize,
}

impl WordPiece {
    /// Reads a vocabulary: one piece per line, the line number is the id.
    pub(crate) fn new(file: &str, text: &'static [u8]) -> Result<Self, Error> {
        let mut offsets = vec![0];
        offsets
            .extend(text.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at as u32 + 1));
        let count = offsets.len() - 1;
        if count <= usize::from(UNK) || count > 1 << (SLOT_BITS - 1) || text.last() != Some(&b'\n') {
            return Err(Error::model(file, format!("{count} vocabulary lines")));
        }
        let mut this = Self { text, offsets, slots: vec![EMPTY; 1 << SLOT_BITS], longest: 1 };
        for id in 0..count as u16 {
            let (continued, piece) = this.piece(id);
            this.longest = this.longest.max(piece.len());
            let mut slot = slot_of(hash_piece(continued, piece));
            while this.slots[slot] != EMPTY {
                slot = next_slot(slot);
            }
            this.slots[slot] = id;
        }
        Ok(this)
    }

    /// How many pieces there are.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Calls `sink` with the ids of `word`; an unspellable word is one [`UNK`].
    pub(crate) fn encode(&self, word: Word<'_>, pieces: &mut Vec<u16>) {
        pieces.clear();
        let bytes = word.text.as_bytes();
        let mut start = 0;
        while start < bytes.len() && !word.overlong {
            let mut end = bytes.len().min(start + self.longest);
            let found = loop {
                while !word.text.is_char_boundary(end) {
                    end -= 1;
                }
                if end <= start {
                    break None;
                }
                if let Some(id) = self.find(start > 0, &bytes[start..end]) {
                    break Some(id);
                }
                end -= 1;
            };
            let Some(id) = found else { break };
            pieces.push(id);
            start = end;
        }
        if start < bytes.len() {
            pieces.clear();
            pieces.push(UNK);
        }
    }

    fn find(&self, continued: bool, piece: &[u8]) -> Option<u16> {
        let mut slot = slot_of(hash_piece(continued, piece));
        loop {
            let id = self.slots[slot];
            if id == EMPTY {
                return None;
            }
            if self.piece(id) == (continued, piece) {
                return Some(id);
            }
            slot = next_slot(slot);
        }
    }

    /// Whether piece `id` continues a word, and its text without the mark.
    fn piece(&self, id: u16) -> (bool, &'static [u8]) {
        let id = usize::from(id);
        let line = &self.text[self.offsets[id] as usize..self.offsets[id + 1] as usize - 1];
        // "##" itself is an ordinary entry made of two marks.
        match line.strip_prefix(CONTINUATION) {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, line),
        }
    }
}

fn hash_piece(continued: bool, piece: &[u8]) -> u64 {
    hash::bytes(if continued { SEED_CONTINUED } else { SEED_START }, piece)
}

fn slot_of(hash: u64) -> usize {
    (hash >> (64 - SLOT_BITS)) as usize
}

fn next_slot(slot: usize) -> usize {
    (slot + 1) & ((1 << SLOT_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::for_each_word;

    static VOCAB: &[u8] = include_bytes!("../../../models/vocab.txt");

    fn ids(wordpiece: &WordPiece, text: &str) -> Vec<u16> {
        let (mut buffer, mut pieces, mut out) = (String::new(), Vec::new(), Vec::new());
        for_each_word(text, &mut buffer, |word| {
            wordpiece.encode(word, &mut pieces);
            out.extend_from_slice(&pieces);
        });
        out
    }

    /// The golden file holds what the reference tokenizer (PyPI `tokenizers` 0.23.3) gives for texts chosen and drawn
    /// to be awkward: accents, CJK, controls, zero-width characters, every class of punctuation.
    #[test]
    fn agrees_with_the_reference_tokenizer() {
        #[derive(serde::Deserialize)]
        struct Row {
            text: String,
            ids: Vec<u16>,
        }
        let wordpiece = WordPiece::new("vocab.txt", VOCAB).unwrap();
        let mut wrong = Vec::new();
        for line in include_str!("../tests/wordpiece_golden.jsonl").lines() {
            let row: Row = serde_json::from_str(line).unwrap();
            let got = ids(&wordpiece, &row.text);
            if got != row.ids {
                wrong.push((row.text, row.ids, got));
            }
        }
        assert!(wrong.is_empty(), "{} differ: {wrong:#?}", wrong.len());
    }

    #[test]
    fn a_vocabulary_that_is_cut_short_is_refused() {
        let error = WordPiece::new("vocab.txt", &VOCAB[..500]).unwrap_err();
        assert!(error.to_string().contains("vocab.txt"), "{error}");
    }
}
