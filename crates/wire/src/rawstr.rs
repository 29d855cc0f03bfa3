//! A JSON string as it stands on the wire, decoded only when and as far as it is needed.
//!
//! It never copies unless an escape forces it to, and never more than the caller's bound. Called by the
//! request view and by whoever reads prompt text.

use crate::json::plain;
use std::borrow::Cow;

/// The text between the quotes of a JSON string that the scanner has validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawStr<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> RawStr<'a> {
    pub(crate) fn new(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// Length on the wire, in bytes.
    #[must_use]
    pub fn raw_len(&self) -> usize {
        self.raw.len()
    }

    /// The whole string, decoded; borrowed when it holds no escape.
    #[must_use]
    pub fn decode(&self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut out = String::with_capacity(self.raw.len());
        decode_into(self.raw, &mut out);
        Cow::Owned(out)
    }

    /// True when it decodes to `text`, without allocating in the usual case.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        if self.escaped { self.decode() == text } else { self.raw == text }
    }

    /// Appends at most about `max` bytes of it to `out`: all of it, or its head and its tail with a
    /// line break between. The instruction of a long prompt stands at either end, seldom in the middle.
    pub fn push_head_tail(&self, max: usize, out: &mut String) {
        if self.raw.len() <= max {
            self.push(self.raw, out);
            return;
        }
        let half = max / 2;
        let head = cut_before(self.raw, half);
        let tail = cut_after(self.raw, self.raw.len() - half);
        self.push(&self.raw[..head], out);
        out.push('\n');
        self.push(&self.raw[tail..], out);
    }

    fn push(&self, raw: &str, out: &mut String) {
        if self.escaped {
            decode_into(raw, out);
        } else {
            out.push_str(raw);
        }
    }
}

/// The last offset at or before `at` that splits neither a character nor an escape.
fn cut_before(raw: &str, at: usize) -> usize {
    let mut at = raw.floor_char_boundary(at);
    if let Some(start) = escape_across(raw, at) {
        at = start;
    }
    at
}

/// The first offset at or after `at` that splits neither a character nor an escape.
fn cut_after(raw: &str, at: usize) -> usize {
    let at = raw.ceil_char_boundary(at);
    match escape_across(raw, at) {
        Some(start) if raw.as_bytes().get(start + 1) == Some(&b'u') => (start + 6).min(raw.len()),
        Some(start) => (start + 2).min(raw.len()),
        None => at,
    }
}

/// The start of the escape sequence that spans offset `at`, if one does.
fn escape_across(raw: &str, at: usize) -> Option<usize> {
    let bytes = raw.as_bytes();
    // An escape is at most six bytes, so a backslash that matters lies within five before the cut.
    (at.saturating_sub(5)..at).find(|&start| {
        if bytes[start] != b'\\' {
            return false;
        }
        let run = bytes[..start].iter().rev().take_while(|b| **b == b'\\').count();
        let length = if bytes.get(start + 1) == Some(&b'u') { 6 } else { 2 };
        run % 2 == 0 && at < start + length
    })
}

/// Decodes validated escapes; a surrogate half left alone by a cut becomes U+FFFD.
fn decode_into(raw: &str, out: &mut String) {
    let mut rest = raw;
    loop {
        // Whatever is not plain in a validated string is an escape.
        let (text, escape) = rest.split_at(plain(rest.as_bytes()));
        out.push_str(text);
        let Some(after) = escape.get(1..) else { return };
        let (decoded, used) = match after.as_bytes().first() {
            Some(b'n') => ('\n', 1),
            Some(b't') => ('\t', 1),
            Some(b'r') => ('\r', 1),
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{c}', 1),
            Some(b'u') => unicode(after),
            Some(other) if other.is_ascii() => (*other as char, 1),
            _ => (char::REPLACEMENT_CHARACTER, 0),
        };
        out.push(decoded);
        rest = after.get(used..).unwrap_or_default();
    }
}

/// Decodes `uXXXX` (and a following `\uXXXX` for a pair); returns the character and the bytes used.
fn unicode(after: &str) -> (char, usize) {
    let unit = |at: usize| after.get(at..at + 4).and_then(|d| u32::from_str_radix(d, 16).ok());
    let Some(high) = unit(1) else {
        return (char::REPLACEMENT_CHARACTER, after.len());
    };
    if (0xD800..0xDC00).contains(&high) {
        if after.get(5..7) == Some("\\u")
            && let Some(low) = unit(7).filter(|low| (0xDC00..0xE000).contains(low))
        {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
        }
        return (char::REPLACEMENT_CHARACTER, 5);
    }
    (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 5)
}

#[cfg(test)]
mod tests {
    use crate::json::Scanner;

    fn raw(json: &str) -> super::RawStr<'_> {
        Scanner::new(json).string().unwrap()
    }

    proptest::proptest! {
        #[test]
        fn decodes_as_serde_json_does(text in "\\PC{0,40}[\"\\\\\n\t\u{1F600}é]{0,6}\\PC{0,10}") {
            for json in [serde_json::to_string(&text).unwrap(), ascii_json(&text)] {
                let expected: String = serde_json::from_str(&json).unwrap();
                let decoded = raw(&json).decode();
                proptest::prop_assert_eq!(decoded.as_ref(), expected.as_str());
            }
        }

        #[test]
        fn head_and_tail_never_split_a_character_or_an_escape(text in "[a\n\\\\\"é\u{1F600}]{0,80}", max in 0_usize..60) {
            for json in [serde_json::to_string(&text).unwrap(), ascii_json(&text)] {
                let mut out = String::new();
                raw(&json).push_head_tail(max, &mut out);
                let (head, tail) = out.split_once('\n').unwrap_or((&out, ""));
                if !text.contains('\n') && raw(&json).raw_len() > max {
                    // A cut may leave the replacement of half a pair, never half an escape.
                    let head = head.trim_end_matches(char::REPLACEMENT_CHARACTER);
                    proptest::prop_assert!(text.starts_with(head), "{head:?} of {text:?}");
                    let tail = tail.trim_start_matches(char::REPLACEMENT_CHARACTER);
                    proptest::prop_assert!(text.ends_with(tail));
                }
            }
        }
    }

    /// JSON with every non-ASCII character written as `\uXXXX`.
    fn ascii_json(text: &str) -> String {
        let mut out = String::from("\"");
        for unit in text.encode_utf16() {
            match unit {
                0x22 => out.push_str("\\\""),
                0x5c => out.push_str("\\\\"),
                0x20..0x7f => out.push(unit as u8 as char),
                _ => out.push_str(&format!("\\u{unit:04x}")),
            }
        }
        out.push('"');
        out
    }
}
