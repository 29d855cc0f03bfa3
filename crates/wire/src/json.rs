//! A strict JSON scanner that borrows: it validates every byte once and hands out positions.
//!
//! It never builds a tree and never allocates. It is stricter than most parsers where parsers disagree,
//! because Waypost must read a body exactly as the upstream will: lone surrogates, numbers of absurd
//! length and nesting past [`MAX_DEPTH`] are errors. Called by the request view only.

use crate::rawstr::RawStr;

/// Deepest nesting accepted. The same bound as `serde_json`'s, far above any real request.
pub const MAX_DEPTH: u32 = 127;
/// Longest number literal accepted, in bytes. The longest useful double has fewer than 800 digits.
pub const MAX_NUMBER_BYTES: usize = 1024;

/// What is wrong with a body, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    /// Offset of the first byte that cannot stand.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// The kind of the next value, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// A digit or `-`
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// A cursor over a body that is known to be UTF-8.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    pos: usize,
    depth: u32,
}

/// Result of a scanning step.
pub type Scan<T> = Result<T, JsonError>;

impl<'a> Scanner<'a> {
    /// Starts at the first byte of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, pos: 0, depth: 0 }
    }

    /// Current byte offset.
    #[must_use]
    pub fn pos(&self) -> usize {
        self.pos
    }

    /// An error at the current offset.
    #[must_use]
    pub fn error(&self, what: &'static str) -> JsonError {
        JsonError { at: self.pos, what }
    }

    /// Everything from the current offset on.
    #[must_use]
    pub fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn peek_byte(&self) -> Option<u8> {
        self.bytes().get(self.pos).copied()
    }

    /// Skips white space.
    pub fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek_byte() {
            self.pos += 1;
        }
    }

    /// The kind of the next value, white space skipped.
    ///
    /// # Errors
    /// When no value can start here.
    pub fn kind(&mut self) -> Scan<Kind> {
        self.space();
        match self.peek_byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("expected a value, found the end of the body")),
        }
    }

    /// True when nothing but white space is left.
    pub fn at_end(&mut self) -> bool {
        self.space();
        self.pos == self.text.len()
    }

    /// Takes `byte` if it comes next after white space.
    pub fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek_byte() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    /// Enters an object or array whose opening byte is `open`.
    ///
    /// # Errors
    /// When `open` does not come next or the nesting is too deep.
    pub fn enter(&mut self, open: u8, what: &'static str) -> Scan<()> {
        if !self.take(open) {
            return Err(self.error(what));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nesting deeper than 127 levels"));
        }
        Ok(())
    }

    /// After [`Scanner::enter`]: is there a first member, or does `close` follow at once?
    pub fn first(&mut self, close: u8) -> bool {
        if self.take(close) {
            self.depth -= 1;
            return false;
        }
        true
    }

    /// After a member: true when a comma follows (its offset is `pos() - 1`), false when `close` ends it.
    ///
    /// # Errors
    /// When neither follows.
    pub fn more(&mut self, close: u8) -> Scan<bool> {
        if self.take(b',') {
            return Ok(true);
        }
        if self.take(close) {
            self.depth -= 1;
            return Ok(false);
        }
        Err(self.error(if close == b'}' { "expected ',' or '}'" } else { "expected ',' or ']'" }))
    }

    /// Walks an object: `member` gets each key and must consume its value.
    ///
    /// # Errors
    /// Broken JSON, or whatever `member` says.
    pub fn object<E: From<JsonError>>(
        &mut self,
        mut member: impl FnMut(&mut Self, RawStr<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.enter(b'{', "expected an object")?;
        let mut more = self.first(b'}');
        while more {
            let key = self.key()?;
            member(self, key)?;
            more = self.more(b'}')?;
        }
        Ok(())
    }

    /// An object key and its colon.
    ///
    /// # Errors
    /// When no key stands here.
    pub fn key(&mut self) -> Scan<RawStr<'a>> {
        self.space();
        if self.peek_byte() != Some(b'"') {
            return Err(self.error("expected a key in double quotes"));
        }
        let key = self.string()?;
        if !self.take(b':') {
            return Err(self.error("expected ':' after a key"));
        }
        self.space();
        Ok(key)
    }

    /// A string, as the raw text between its quotes.
    ///
    /// # Errors
    /// Unterminated, a bare control character, a bad escape, or a lone surrogate.
    pub fn string(&mut self) -> Scan<RawStr<'a>> {
        self.space();
        if self.peek_byte() != Some(b'"') {
            return Err(self.error("expected a string"));
        }
        self.pos += 1;
        let start = self.pos;
        let mut escaped = false;
        loop {
            self.pos += plain(&self.bytes()[self.pos..]);
            match self.peek_byte() {
                Some(b'"') => {
                    let raw = RawStr::new(&self.text[start..self.pos], escaped);
                    self.pos += 1;
                    return Ok(raw);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.error("control character inside a string (escape it)")),
                None => return Err(self.error("unterminated string")),
            }
            escaped = true;
        }
    }

    /// One escape sequence; the cursor stands on its backslash.
    fn escape(&mut self) -> Scan<()> {
        match self.bytes().get(self.pos + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.pos += 2;
                Ok(())
            }
            Some(b'u') => {
                let unit = self.hex4(self.pos + 2)?;
                if (0xDC00..0xE000).contains(&unit) {
                    return Err(self.error("lone surrogate in a \\u escape"));
                }
                if (0xD800..0xDC00).contains(&unit) {
                    let follows = self.bytes().get(self.pos + 6..self.pos + 8) == Some(b"\\u");
                    if !follows || !(0xDC00..0xE000).contains(&self.hex4(self.pos + 8)?) {
                        return Err(self.error("lone surrogate in a \\u escape"));
                    }
                    self.pos += 6;
                }
                self.pos += 6;
                Ok(())
            }
            _ => Err(self.error("invalid escape in a string")),
        }
    }

    fn hex4(&self, at: usize) -> Scan<u32> {
        let digits = self.bytes().get(at..at + 4).unwrap_or_default();
        let valid = digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit);
        std::str::from_utf8(digits)
            .ok()
            .filter(|_| valid)
            .and_then(|d| u32::from_str_radix(d, 16).ok())
            .ok_or_else(|| self.error("\\u needs four hexadecimal digits"))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// When something else stands here.
    pub fn boolean(&mut self) -> Scan<bool> {
        self.space();
        if self.text[self.pos..].starts_with("true") {
            self.pos += 4;
            Ok(true)
        } else {
            self.literal("false").map(|()| false)
        }
    }

    fn literal(&mut self, word: &'static str) -> Scan<()> {
        if self.text[self.pos..].starts_with(word) {
            self.pos += word.len();
            Ok(())
        } else {
            Err(self.error("expected a value"))
        }
    }

    /// A number, as its literal text.
    ///
    /// # Errors
    /// Not a JSON number, or longer than [`MAX_NUMBER_BYTES`].
    pub fn number(&mut self) -> Scan<&'a str> {
        self.space();
        let start = self.pos;
        self.pos += usize::from(self.peek_byte() == Some(b'-'));
        match self.peek_byte() {
            Some(b'0') => self.pos += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error("expected a digit")),
        }
        if self.peek_byte() == Some(b'.') {
            self.pos += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek_byte() {
            self.pos += 1;
            self.pos += usize::from(matches!(self.peek_byte(), Some(b'+' | b'-')));
            self.some_digits()?;
        }
        if self.pos - start > MAX_NUMBER_BYTES {
            self.pos = start;
            return Err(self.error("number longer than 1024 bytes"));
        }
        Ok(&self.text[start..self.pos])
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek_byte() {
            self.pos += 1;
        }
    }

    fn some_digits(&mut self) -> Scan<()> {
        let before = self.pos;
        self.digits();
        if self.pos == before {
            return Err(self.error("expected a digit"));
        }
        Ok(())
    }

    /// Validates and skips one value of any kind.
    ///
    /// # Errors
    /// Whatever is wrong inside it.
    pub fn skip(&mut self) -> Scan<()> {
        match self.kind()? {
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Bool => self.boolean().map(drop),
            Kind::Null => self.literal("null"),
            Kind::Object => self.object(|s, _| s.skip()),
            Kind::Array => {
                self.enter(b'[', "expected an array")?;
                let mut more = self.first(b']');
                while more {
                    self.skip()?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
        }
    }
}

/// Bytes in which the end of plain text is looked for word by word: in text with line breaks the next escape is near.
const NEAR: usize = 64;

/// How many bytes of a string's inside stand for themselves, up to a quote, a backslash or a control character.
pub(crate) fn plain(bytes: &[u8]) -> usize {
    let (words, _) = bytes[..bytes.len().min(NEAR)].as_chunks();
    let found =
        words.iter().map(|word| special(u64::from_le_bytes(*word))).enumerate().find(|(_, s)| *s != 0);
    if let Some((word, special)) = found {
        return word * size_of::<u64>() + special.trailing_zeros() as usize / 8;
    }
    let near = size_of_val(words);
    let rest = &bytes[near..];
    let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    near + control_character(&rest[..end]).unwrap_or(end)
}

/// A word of eight bytes in which the lowest bit that is set is the highest of the first byte that ends plain text. Those
/// above it say nothing: a subtraction borrows upwards.
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | is(b'"') | is(b'\\')) & HIGH
}

/// The first byte that may not stand in a string unescaped. Whole blocks are looked at without a
/// branch per byte, which the compiler turns into vector code: 20 times faster on long prompts.
fn control_character(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 64;
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let is_control = |b: &u8| *b < 0x20;
    let clean = |block: &[u8; BLOCK]| !block.iter().fold(false, |seen, b| seen | is_control(b));
    let whole = blocks.iter().take_while(|block| clean(block)).count() * BLOCK;
    if whole == bytes.len() - rest.len() && !rest.iter().any(is_control) {
        return None;
    }
    bytes[whole..].iter().position(is_control).map(|at| whole + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Scan<()> {
        let mut scanner = Scanner::new(text);
        scanner.skip()?;
        if scanner.at_end() { Ok(()) } else { Err(scanner.error("trailing bytes")) }
    }

    #[test]
    fn agrees_with_serde_json_on_what_is_json() {
        let good =
            ["{}", "[]", " null ", "-0.5e+10", r#""\ud83d\ude00""#, r#"{"a":[1,{"b":"\n"}],"c":true}"#];
        for text in good {
            assert!(whole(text).is_ok(), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        }
        let bad = [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "01",
            "1.",
            "+1",
            "tru",
            "\"\u{1}\"",
            r#""\x""#,
            r#""\ud83d""#,
            r#""\udc00""#,
            r#""\u12g4""#,
            "{'a':1}",
            "[1 2]",
            "nul",
            "{\"a\":1,}",
        ];
        for text in bad {
            assert!(whole(text).is_err(), "{text}");
        }
    }

    #[test]
    fn control_characters_are_found_wherever_they_stand() {
        for length in [0, 1, 63, 64, 65, 200] {
            let clean = vec![b'x'; length];
            assert_eq!(control_character(&clean), None);
            for at in 0..length {
                let mut bytes = clean.clone();
                bytes[at] = 0x1f;
                assert_eq!(control_character(&bytes), Some(at));
            }
        }
    }

    #[test]
    fn plain_text_ends_where_it_does() {
        let ends = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        let mut random = 7_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        };
        for length in (0..200).cycle().take(20_000) {
            // Mostly plain, with what lies beside the limits.
            let bytes: Vec<u8> = (0..length)
                .map(|_| match next() {
                    at @ 0..6 => [0x00, 0x1f, 0x20, b'"', b'\\', 0x80][usize::from(at)],
                    byte if ends(byte) => byte + 0x60,
                    byte => byte,
                })
                .collect();
            let expected = bytes.iter().position(|byte| ends(*byte)).unwrap_or(bytes.len());
            assert_eq!(plain(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn bombs_are_named_not_run() {
        let deep = "[".repeat(10_000);
        assert_eq!(whole(&deep).unwrap_err().what, "nesting deeper than 127 levels");
        let long = "1".repeat(1 << 20);
        assert_eq!(whole(&long).unwrap_err().what, "number longer than 1024 bytes");
    }

    proptest::proptest! {
        #[test]
        fn never_accepts_what_serde_json_refuses(text in r#"[\[\]{}",:a0-9\\u\-\.eE tfn]{0,24}"#) {
            if whole(&text).is_ok() {
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
