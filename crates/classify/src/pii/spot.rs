//! One place in a text as a scanner sees it: the token it stands on, its neighbours, and what was said before.
//!
//! Scanners are plain functions from a [`Spot`] to a span or nothing; they keep no state.

use super::context::{Context, Recent};
use super::kind::{Kind, Span};
use super::token::{Shape, Token};

/// A token and its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'t> {
    /// The text looked at.
    pub(crate) text: &'t str,
    /// All its tokens.
    pub(crate) tokens: &'t [Token],
    /// Which token we stand on.
    pub(crate) index: usize,
    /// What was said before this token.
    pub(crate) recent: &'t Recent,
}

impl<'t> Spot<'t> {
    /// The token we stand on.
    pub(crate) fn token(&self) -> Token {
        self.tokens[self.index]
    }

    /// First byte of the token.
    pub(crate) fn start(&self) -> usize {
        self.token().start as usize
    }

    /// The text of the token.
    pub(crate) fn word(&self) -> &'t str {
        &self.text[self.token().range()]
    }

    /// The token `steps` further on, or before when negative.
    pub(crate) fn near(&self, steps: isize) -> Option<Token> {
        self.tokens.get(self.index.checked_add_signed(steps)?).copied()
    }

    /// The text of the token `steps` away, or "".
    pub(crate) fn near_word(&self, steps: isize) -> &'t str {
        self.near(steps).map_or("", |token| &self.text[token.range()])
    }

    /// The byte at `at`, or 0 outside the text.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    /// The byte before `at`, or 0 at the start.
    pub(crate) fn byte_before(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(0, |at| self.byte(at))
    }

    /// Whether `context` was said at most `reach` bytes before the token.
    pub(crate) fn said(&self, context: Context, reach: usize) -> bool {
        self.recent.within(context, self.start(), reach)
    }

    /// The first `count` tokens at or after byte `at`, on the same line.
    pub(crate) fn following(&self, at: usize, count: usize) -> impl Iterator<Item = Token> + 't {
        let rest = &self.tokens[self.index..];
        let skip = rest.iter().take_while(|t| (t.start as usize) < at).count();
        rest[skip..].iter().copied().take(count).take_while(|t| t.shape != Shape::Newline)
    }

    /// Whether one of the `count` words after byte `at` says `context`.
    pub(crate) fn says_after(&self, context: Context, at: usize, count: usize) -> bool {
        self.following(at, count).any(|token| token.entry.context.has(context))
    }

    /// Whether a word, number or path goes on at `at`, so that what ends here is only a part.
    pub(crate) fn goes_on(&self, at: usize) -> bool {
        let (byte, next) = (self.byte(at), self.byte(at + 1));
        byte.is_ascii_alphanumeric()
            || byte == b'_'
            || (matches!(byte, b'.' | b'-' | b'/' | b',' | b':') && next.is_ascii_digit())
    }

    /// A span from the token's start to `end`.
    pub(crate) fn span(&self, end: usize, kind: Kind, confidence: f32) -> Span {
        Span::new(self.start(), end, kind, confidence)
    }
}
