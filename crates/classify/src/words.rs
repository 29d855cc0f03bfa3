//! Splits text into normalised words the way BERT's uncased basic tokenizer does.
//!
//! Cleans control characters, isolates CJK ideographs and punctuation, strips accents, lower-cases. It streams: one word
//! at a time in a reused buffer, never a copy of the text. Called by `features`; a test in `wordpiece` compares it with
//! the reference implementation.

use unicode_categories::UnicodeCategories;
use unicode_normalization::char::decompose_canonical;

/// A longer word becomes `[UNK]`, as in the reference WordPiece.
pub(crate) const MAX_WORD_CHARS: usize = 100;

/// One normalised word or punctuation mark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word<'a> {
    /// Lower-cased, without accents; cut at [`MAX_WORD_CHARS`].
    pub(crate) text: &'a str,
    /// The word was longer than [`MAX_WORD_CHARS`].
    pub(crate) overlong: bool,
}

/// Calls `sink` for every word of `text` in order; `buffer` is scratch space.
pub(crate) fn for_each_word(text: &str, buffer: &mut String, sink: impl FnMut(Word<'_>)) {
    let mut builder = Builder { buffer, chars: 0, sink };
    builder.buffer.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_alphanumeric() {
            let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            builder.run(&text[at..at + length]);
            at += length;
        } else if byte < 0x80 {
            builder.ascii(byte);
            at += 1;
        } else {
            let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { break };
            builder.unicode(c);
            at += c.len_utf8();
        }
    }
    builder.flush();
}

struct Builder<'b, F: FnMut(Word<'_>)> {
    buffer: &'b mut String,
    chars: usize,
    sink: F,
}

impl<F: FnMut(Word<'_>)> Builder<'_, F> {
    fn ascii(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            self.flush();
        } else if byte.is_ascii_punctuation() {
            self.alone(char::from(byte));
        }
        // What is left are control characters, which the reference deletes.
    }

    fn unicode(&mut self, c: char) {
        if c == '\u{fffd}' || (c.is_other() && !c.is_whitespace()) {
            return;
        }
        if c.is_whitespace() {
            return self.flush();
        }
        let ideograph = is_cjk(c);
        if ideograph {
            self.flush();
        }
        decompose_canonical(c, |part| {
            if part.is_mark_nonspacing() {
                return;
            }
            for lower in part.to_lowercase() {
                if is_punctuation(lower) { self.alone(lower) } else { self.push(lower) }
            }
        });
        if ideograph {
            self.flush();
        }
    }

    /// Letters and digits of ASCII.
    fn run(&mut self, run: &str) {
        let (from, room) = (self.buffer.len(), MAX_WORD_CHARS.saturating_sub(self.chars));
        self.buffer.push_str(&run[..run.len().min(room)]);
        self.buffer[from..].make_ascii_lowercase();
        self.chars += run.len();
    }

    fn push(&mut self, c: char) {
        if self.chars < MAX_WORD_CHARS {
            self.buffer.push(c);
        }
        self.chars += 1;
    }

    fn alone(&mut self, c: char) {
        self.flush();
        self.push(c);
        self.flush();
    }

    fn flush(&mut self) {
        if self.chars > 0 {
            (self.sink)(Word { text: self.buffer, overlong: self.chars > MAX_WORD_CHARS });
            self.buffer.clear();
            self.chars = 0;
        }
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || (!c.is_ascii() && c.is_punctuation())
}

/// The ideograph blocks named by BERT's reference tokenizer.
fn is_cjk(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}
