//! `${NAME}` and `${NAME:-default}`, such that a value can never change the structure of the file.
//!
//! v1 pastes values into the text before YAML is parsed. Here the references are first *masked*: each
//! character is moved to a private-use code point, so the YAML parser sees a plain word of the same
//! length, in quotes, in flow braces or in comments alike. Only after parsing, inside the scalar they
//! stand in, are they expanded. So line and column stay true, and no value is ever parsed as YAML.
//! Called by `file::parse` (mask), `raw` (expand) and what writes such files (escape).

use std::borrow::Cow;

/// Where ASCII is moved to: plane 15, private use.
const MASK_BASE: u32 = 0xF_0000;

/// One piece of a scalar.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Literal(&'a str),
    Variable {
        name: &'a str,
        default: Option<&'a str>,
    },
    /// `${…}` that is neither form.
    Malformed(&'a str),
}

/// Replaces every reference (and every escaped `$${…}`) by its mask, character for character.
pub(crate) fn mask(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, token, after)) = next_token(rest) {
        out.push_str(before);
        out.extend(token.chars().map(|c| shift(c, true)));
        rest = after;
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A text as the file has to have it so that its `${…}` are not taken for variables.
#[must_use]
pub fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

/// Undoes [`mask`]: what the user wrote.
pub(crate) fn unmask(text: &str) -> String {
    text.chars().map(|c| shift(c, false)).collect()
}

/// Splits unmasked text into literals and references. `$${NAME}` is the literal `${NAME}`.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, token, after)) = next_token(rest) {
        if !before.is_empty() {
            pieces.push(Piece::Literal(before));
        }
        pieces.push(piece(token));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    pieces
}

fn piece(token: &str) -> Piece<'_> {
    if let Some(escaped) = token.strip_prefix('$').filter(|t| t.starts_with('$')) {
        return Piece::Literal(escaped);
    }
    let body = &token[2..token.len() - 1];
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if valid { Piece::Variable { name, default } } else { Piece::Malformed(token) }
}

/// The first `${…}` or `$${…}` that closes on its own line, with what stands before and after it.
fn next_token(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find("${")?;
        let inside = &text[open + 2..];
        match inside.find(['}', '\n']) {
            Some(end) if inside.as_bytes()[end] == b'}' => {
                let close = open + 2 + end + 1;
                let start = if text[..open].ends_with('$') { open - 1 } else { open };
                return Some((&text[..start], &text[start..close], &text[close..]));
            }
            _ => from = open + 2,
        }
    }
}

fn shift(c: char, up: bool) -> char {
    let code = c as u32;
    let shifted = match up {
        true if c.is_ascii() => Some(code + MASK_BASE),
        false if (MASK_BASE..MASK_BASE + 0x80).contains(&code) => Some(code - MASK_BASE),
        _ => None,
    };
    shifted.and_then(char::from_u32).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_keeps_length_and_is_undone() {
        let text = "a: {k: ${KEY:-x: y #z}} # ${C}\nb: $${L} ${open\n";
        let masked = mask(text);
        assert_eq!(masked.chars().count(), text.chars().count());
        assert!(masked.contains("${open"), "an unclosed reference stays text");
        assert_eq!(masked.matches('{').count(), 2);
        assert_eq!(unmask(&masked), text);
    }

    #[test]
    fn splits_references_defaults_and_escapes() {
        assert_eq!(
            pieces("http://${HOST:-a}:$${P}${Q}"),
            [
                Piece::Literal("http://"),
                Piece::Variable { name: "HOST", default: Some("a") },
                Piece::Literal(":"),
                Piece::Literal("${P}"),
                Piece::Variable { name: "Q", default: None },
            ]
        );
        assert_eq!(pieces(&literal("${HOST:-a}")), [Piece::Literal("${HOST:-a}")]);
        assert_eq!(pieces("${a.b}"), [Piece::Malformed("${a.b}")]);
        assert_eq!(pieces("$5 and {x}"), [Piece::Literal("$5 and {x}")]);
    }
}
