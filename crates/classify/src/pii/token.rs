//! Cuts a text into words, numbers, single punctuation marks and line breaks.
//!
//! Offsets are bytes and always on character boundaries. Each token carries what both the scanners and the tagger ask for
//! again and again: its shape, its folded hash and its entries in the lexicon.

use super::fold::Folded;
use super::lexicon::{Entry, Lexicon};
use crate::hash;

const WORD_SEED: u64 = 0x7069_6900;

/// What a token looks like. The order is baked into the trained features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shape {
    /// A single mark.
    Punct,
    /// One or more line breaks.
    Newline,
    /// `word`
    Lower,
    /// `Word`
    Capital,
    /// `WORD`
    Upper,
    /// `W`
    Initial,
    /// `camelCase`
    Mixed,
    /// A word of a script without case.
    Caseless,
    /// `4b`, `B12`
    Alphanumeric,
    /// One to three digits.
    Digits,
    /// Four digits.
    Digits4,
    /// Five digits.
    Digits5,
    /// Six digits and more.
    DigitsLong,
}

/// One token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    /// First byte.
    pub(crate) start: u32,
    /// After the last byte.
    pub(crate) end: u32,
    /// Hash of the folded word, or of the mark.
    pub(crate) word: u64,
    /// What the lexicon knows.
    pub(crate) entry: Entry,
    /// What it looks like.
    pub(crate) shape: Shape,
    /// Whether white space stands before it.
    pub(crate) spaced: bool,
}

impl Token {
    /// Where it lies.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether it has a digit first.
    pub(crate) fn is_number(&self) -> bool {
        self.shape as u8 >= Shape::Digits as u8
    }
}

/// The hash a word has as a token.
pub(crate) fn word_hash(word: &str) -> u64 {
    hash::bytes(WORD_SEED, Folded::new(word).as_bytes())
}

/// Cuts `text`, which must be shorter than 4 GiB, into `tokens`.
pub(crate) fn tokenise(text: &str, lexicon: &Lexicon, tokens: &mut Vec<Token>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut spaced = true;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        if byte == b'\n' || byte == b'\r' {
            while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            tokens.push(Token {
                start: start as u32,
                end: at as u32,
                word: word_hash("\n"),
                entry: Entry::default(),
                shape: Shape::Newline,
                spaced,
            });
            spaced = true;
            continue;
        }
        if byte == b' ' || byte == b'\t' {
            at += 1;
            spaced = true;
            continue;
        }
        at = word_end(text, at);
        if at > start {
            let word = &text[start..at];
            let folded = hash::bytes(WORD_SEED, Folded::new(word).as_bytes());
            let shape = shape(word);
            let entry = if shape == Shape::DigitsLong { Entry::default() } else { lexicon.get(folded) };
            tokens.push(Token { start: start as u32, end: at as u32, word: folded, entry, shape, spaced });
            spaced = false;
            continue;
        }
        let mark = text[start..].chars().next().unwrap_or('\0');
        at = start + mark.len_utf8();
        if mark.is_whitespace() {
            spaced = true;
            continue;
        }
        let word = hash::bytes(WORD_SEED, &bytes[start..at]);
        let entry = Entry::default();
        tokens.push(Token { start: start as u32, end: at as u32, word, entry, shape: Shape::Punct, spaced });
        spaced = false;
    }
}

/// End of the run of letters and digits that begins at `at`; `at` itself if there is none.
fn word_end(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
            at += 1;
        }
        if bytes.get(at).is_none_or(u8::is_ascii) {
            return at;
        }
        match text[at..].chars().next() {
            Some(c) if c.is_alphanumeric() || is_mark(c) => at += c.len_utf8(),
            _ => return at,
        }
    }
}

/// Combining accents, and the vowel signs of Indic scripts, which belong to the word they stand in.
fn is_mark(character: char) -> bool {
    matches!(character as u32, 0x300..0x370 | 0x93A..=0x94F | 0x200C..=0x200D)
}

fn shape(word: &str) -> Shape {
    let (mut upper, mut lower, mut digits, mut other, mut first_upper) = (0, 0, 0, 0, false);
    if word.is_ascii() {
        for &byte in word.as_bytes() {
            match byte {
                b'0'..=b'9' => digits += 1,
                b'A'..=b'Z' => upper += 1,
                _ => lower += 1,
            }
        }
        first_upper = word.as_bytes()[0].is_ascii_uppercase();
    } else {
        for (at, c) in word.chars().enumerate() {
            if c.is_ascii_digit() {
                digits += 1;
            } else if c.is_uppercase() {
                upper += 1;
                first_upper |= at == 0;
            } else if c.is_lowercase() {
                lower += 1;
            } else {
                other += 1;
            }
        }
    }
    match (upper, lower, digits) {
        (0, 0, 1..=3) if other == 0 => Shape::Digits,
        (0, 0, 4) if other == 0 => Shape::Digits4,
        (0, 0, 5) if other == 0 => Shape::Digits5,
        (0, 0, 6..) if other == 0 => Shape::DigitsLong,
        (_, _, 1..) => Shape::Alphanumeric,
        (0, 0, _) => Shape::Caseless,
        (0, ..) => Shape::Lower,
        (1, 0, _) => Shape::Initial,
        (_, 0, _) => Shape::Upper,
        (1, ..) if first_upper => Shape::Capital,
        // McDonald, DeVries: two capitals, the first one first.
        (2, 3.., _) if first_upper => Shape::Capital,
        _ => Shape::Mixed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(String, Shape)> {
        let mut tokens = Vec::new();
        tokenise(text, &Lexicon::default(), &mut tokens);
        tokens.iter().map(|t| (text[t.range()].to_owned(), t.shape)).collect()
    }

    #[test]
    fn words_numbers_marks_and_lines() {
        use Shape::*;
        let found = words("Dr. Ana O'Neil\r\n 12a, 10115 Łódź — x");
        let shapes: Vec<Shape> = found.iter().map(|w| w.1).collect();
        assert_eq!(
            shapes,
            [
                Capital,
                Punct,
                Capital,
                Initial,
                Punct,
                Capital,
                Newline,
                Alphanumeric,
                Punct,
                Digits5,
                Capital,
                Punct,
                Lower
            ]
        );
        assert_eq!(found[6].0, "\r\n ");
        assert_eq!(
            words("McDonald iPhone NATO 日本 नमस्ते").iter().map(|w| w.1).collect::<Vec<_>>(),
            [Capital, Mixed, Upper, Caseless, Caseless]
        );
    }

    #[test]
    fn a_word_hashes_the_same_in_any_case() {
        assert_eq!(word_hash("JOSÉ"), word_hash("jose"));
    }
}
