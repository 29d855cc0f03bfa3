//! WordPiece: cuts a normalised word into vocabulary ids by greedy longest match.
//!
//! A piece lies in its table's slot with its id, so that a look-up touches one line of memory. Never allocates per word.
//! Called by `features` and the encoder.

use std::collections::HashMap;

use crate::error::Error;
use crate::hash;
use crate::words::Word;

/// Id given to a word that the vocabulary cannot spell.
pub(crate) const UNK: u16 = 100;
/// Prefix of a piece that continues a word.
const CONTINUATION: &[u8] = b"##";
const SLOT_BITS: u32 = 16;
const ID_BITS: u32 = 16;
/// Most bytes of a piece that lies in its slot: what id and length leave of 128 bits.
const SHORT: usize = 13;

/// A vocabulary, ready for look-ups.
#[derive(Debug)]
pub(crate) struct WordPiece {
    count: usize,
    /// A piece's key above its id; 0 where there is none. Open addressing.
    slots: Vec<u128>,
    /// The few pieces of more than [`SHORT`] bytes, by whether they continue a word.
    long: [HashMap<&'static [u8], u16>; 2],
    longest: usize,
}

impl WordPiece {
    /// Reads a vocabulary: one piece per line, the line number is the id.
    pub(crate) fn new(file: &str, text: &'static [u8]) -> Result<Self, Error> {
        let count = text.iter().filter(|&&byte| byte == b'\n').count();
        if count <= usize::from(UNK) || count > 1 << (SLOT_BITS - 1) || text.last() != Some(&b'\n') {
            return Err(Error::model(file, format!("{count} vocabulary lines")));
        }
        let mut this = Self { count, slots: vec![0; 1 << SLOT_BITS], long: Default::default(), longest: 1 };
        for (id, line) in (0..count as u16).zip(text.split(|&byte| byte == b'\n')) {
            // "##" itself is an ordinary entry made of two marks.
            let (continued, piece) = match line.strip_prefix(CONTINUATION) {
                Some(rest) if !rest.is_empty() => (true, rest),
                _ => (false, line),
            };
            this.longest = this.longest.max(piece.len());
            if piece.len() > SHORT {
                this.long[usize::from(continued)].entry(piece).or_insert(id);
                continue;
            }
            let key = Start::of(piece).key(piece.len(), continued);
            let mut slot = slot_of(key);
            while this.slots[slot] != 0 {
                slot = next_slot(slot);
            }
            this.slots[slot] = key << ID_BITS | u128::from(id);
        }
        Ok(this)
    }

    /// How many pieces there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Fills `pieces` with the ids of `word`; an unspellable word is one [`UNK`].
    pub(crate) fn encode(&self, word: Word<'_>, pieces: &mut Vec<u16>) {
        pieces.clear();
        let mut rest = word.text.as_bytes();
        while !rest.is_empty() && !word.overlong {
            let continued = !pieces.is_empty();
            let Some((id, length)) = self.longest(continued, rest) else { break };
            pieces.push(id);
            rest = &rest[length..];
        }
        if !rest.is_empty() {
            pieces.clear();
            pieces.push(UNK);
        }
    }

    /// The longest piece that `text` begins with, and its length. Pieces are whole characters, and so is what follows one.
    fn longest(&self, continued: bool, text: &[u8]) -> Option<(u16, usize)> {
        for length in (SHORT + 1..=text.len().min(self.longest)).rev() {
            if let Some(id) = self.long[usize::from(continued)].get(&text[..length]) {
                return Some((*id, length));
            }
        }
        let start = Start::of(text);
        (1..=text.len().min(SHORT))
            .rev()
            .find_map(|length| Some((self.find(start.key(length, continued))?, length)))
    }

    fn find(&self, key: u128) -> Option<u16> {
        let mut slot = slot_of(key);
        loop {
            let entry = self.slots[slot];
            if entry >> ID_BITS == key {
                return Some(entry as u16);
            }
            if entry == 0 {
                return None;
            }
            slot = next_slot(slot);
        }
    }
}

/// The first bytes of a text, from which the key of each piece it may begin with is cut.
#[derive(Clone, Copy)]
struct Start(u128);

impl Start {
    fn of(text: &[u8]) -> Self {
        let mut bytes = [0; 16];
        let length = text.len().min(SHORT);
        bytes[..length].copy_from_slice(&text[..length]);
        Self(u128::from_le_bytes(bytes))
    }

    /// The piece of `length` bytes, 1 to [`SHORT`]; the length and whether it continues a word stand above them.
    fn key(self, length: usize, continued: bool) -> u128 {
        let kind = (length as u128) << 1 | u128::from(continued);
        self.0 & ((1 << (8 * length)) - 1) | kind << (8 * SHORT)
    }
}

fn slot_of(key: u128) -> usize {
    (hash::join(key as u64, (key >> 64) as u64) >> (64 - SLOT_BITS)) as usize
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
