//! Text as keywords see it: case folded, white space collapsed, and a mark wherever a word begins or ends.
//!
//! With the marks in both the keyword and the text, "as a whole word" needs no look around a match. Streams bytes
//! without allocating. Called by `rules` for keywords and texts alike.

use std::ops::ControlFlow;

use unicode_categories::UnicodeCategories as _;
use unicode_normalization::char::decompose_canonical;

/// Stands where a word begins or ends; no byte of UTF-8.
const EDGE: u8 = 0xFF;

/// Takes the folded text, byte by byte.
pub(super) trait Sink {
    /// The next byte; breaking ends the text.
    fn put(&mut self, byte: u8) -> ControlFlow<()>;

    /// Whether the rest of the current word makes no difference, so that it may be left out.
    fn is_indifferent(&self) -> bool;
}

/// Feeds the folded form of `text` to `sink`.
pub(super) fn fold(text: &str, sink: &mut impl Sink) {
    let mut folder = Folder { sink, kind: Kind::Space };
    // Whether it was broken off makes no difference to what was found.
    let _ = folder.run(text);
}

/// What kind of character was last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    /// Part of a word.
    Word,
    /// Punctuation, or a character of a script that puts no space between words, which is bounded by nothing.
    Alone,
}

struct Folder<'s, S> {
    sink: &'s mut S,
    kind: Kind,
}

impl<S: Sink> Folder<'_, S> {
    fn run(&mut self, text: &str) -> ControlFlow<()> {
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            let mut read = 1;
            match byte {
                b' ' | b'\t'..=b'\r' => self.space()?,
                _ if is_word(byte) => {
                    self.turn(Kind::Word)?;
                    read = self.word(rest.as_bytes())?;
                }
                0x80.. => {
                    let Some(c) = rest.chars().next() else { break };
                    self.unicode(c)?;
                    read = c.len_utf8();
                }
                _ if byte.is_ascii_control() => {}
                _ => {
                    self.turn(Kind::Alone)?;
                    self.sink.put(byte)?;
                }
            }
            rest = &rest[read..];
        }
        self.turn(Kind::Space)
    }

    /// Part of a word in ASCII; how long it is.
    fn word(&mut self, bytes: &[u8]) -> ControlFlow<(), usize> {
        let length = bytes.iter().position(|byte| !is_word(*byte)).unwrap_or(bytes.len());
        for byte in &bytes[..length] {
            self.sink.put(byte.to_ascii_lowercase())?;
            if self.sink.is_indifferent() {
                break;
            }
        }
        ControlFlow::Continue(length)
    }

    fn unicode(&mut self, c: char) -> ControlFlow<()> {
        if c.is_whitespace() {
            return self.space();
        }
        // Invisible: soft hyphens, joiners, directions.
        if c.is_other_control() || c.is_other_format() {
            return ControlFlow::Continue(());
        }
        if is_unspaced(c) {
            return self.put(c, Kind::Alone);
        }
        // Up and down again makes one of letters that differ in case only: ß and SS, ς and σ.
        let mut flow = ControlFlow::Continue(());
        for lower in c.to_uppercase().flat_map(char::to_lowercase) {
            decompose_canonical(lower, |part| {
                let word = part.is_alphanumeric() || part.is_mark();
                if flow.is_continue() {
                    flow = self.put(part, if word { Kind::Word } else { Kind::Alone });
                }
            });
        }
        flow
    }

    fn put(&mut self, c: char, kind: Kind) -> ControlFlow<()> {
        self.turn(kind)?;
        c.encode_utf8(&mut [0; 4]).bytes().try_for_each(|byte| self.sink.put(byte))
    }

    fn space(&mut self) -> ControlFlow<()> {
        let again = self.kind == Kind::Space;
        self.turn(Kind::Space)?;
        if again { ControlFlow::Continue(()) } else { self.sink.put(b' ') }
    }

    fn turn(&mut self, kind: Kind) -> ControlFlow<()> {
        let edge = (self.kind == Kind::Word) != (kind == Kind::Word);
        self.kind = kind;
        if edge { self.sink.put(EDGE) } else { ControlFlow::Continue(()) }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Han, kana, Thai, Lao, Myanmar and Khmer have no space between words, Korean none before particles: a keyword in them
/// is found anywhere.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF
        | 0x1000..=0x109F
        | 0x1100..=0x11FF
        | 0x1780..=0x17FF
        | 0x3005..=0x3007
        | 0x3040..=0x30FF
        | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xAC00..=0xD7AF
        | 0xF900..=0xFAFF
        | 0xFF66..=0xFF9F
        | 0x20000..=0x323AF)
}
