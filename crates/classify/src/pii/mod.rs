//! Finds personal data in a prompt: typed spans with a confidence, in microseconds, without network or file.
//!
//! Scanners prove what can be proven (checksums, ranges, issuers' prefixes); a small trained tagger finds names, places and
//! addresses. Never logs or keeps text. The router asks [`Detector::find`] and lets policy decide what a kind means.

mod age;
mod bank;
mod card;
mod checks;
mod coin;
pub(crate) mod context;
mod date;
pub(crate) mod features;
pub(crate) mod fold;
mod ids;
mod kind;
pub(crate) mod label;
pub(crate) mod lexicon;
mod net;
mod phone;
mod run;
mod scan;
mod secret;
mod sha256;
mod spot;
mod tagger;
#[cfg(test)]
mod tests;
pub(crate) mod token;
mod web;
pub(crate) mod weights;
mod zip;

use bytes::Bytes;

pub use kind::{Kind, Span};

use crate::error::Error;
use lexicon::Lexicon;
use token::Token;
use weights::Weights;

/// The model's file name, under `models/`.
pub const FILE_NAME: &str = "pii.safetensors";
/// Spans returned at most; what lies behind the last is not looked at.
pub const MAX_SPANS: usize = 256;
/// Bytes looked at from the start of a text, and as many from its end. What lies between is skipped.
pub const WINDOW_BYTES: usize = 12 * 1024;
/// Bytes that [`Detector::find_throughout`] looks at together, with no other limit on spans than that no more fit.
const PIECE_BYTES: usize = 4 * 1024;
/// Bytes that two pieces have in common: more than any span has.
const OVERLAP_BYTES: usize = 512;
/// [`Detector::find`] returns spans of at least this confidence.
pub const MIN_CONFIDENCE: f32 = 0.5;
/// Fainter signs than this are not looked at, even to say how sure one is that there is nothing.
pub const FAINTEST: f32 = 0.05;

/// How sure it is that something among `spans` identifies somebody or is a secret, 0 to 1: [`MIN_CONFIDENCE`] and more is
/// the label `pii`. Wants the spans of [`Detector::find_above`] with [`FAINTEST`].
pub fn strongest(spans: &[Span]) -> f32 {
    spans.iter().filter(|span| span.kind.identifies()).map(|span| span.confidence).fold(0.0, f32::max)
}

static MODEL: &[u8] = include_bytes!("../../../../models/pii.safetensors");

/// Finds personal data. Cheap to share, immutable.
#[derive(Debug)]
pub struct Detector {
    weights: Weights,
    lexicon: Lexicon,
}

impl Detector {
    /// The detector that travels inside the binary.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] if the file was damaged before it was built in.
    pub fn embedded() -> Result<Self, Error> {
        Self::open(&Bytes::from_static(MODEL))
    }

    /// A detector from the bytes of a model file.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] if the file is damaged or of another format.
    pub fn open(bytes: &Bytes) -> Result<Self, Error> {
        let (weights, lexicon) = Weights::open(FILE_NAME, bytes)?;
        Ok(Self { weights, lexicon })
    }

    /// Spans with at least [`MIN_CONFIDENCE`], sorted by start, none overlapping, [`MAX_SPANS`] at most.
    ///
    /// Of texts longer than twice [`WINDOW_BYTES`] only the first and the last [`WINDOW_BYTES`] are looked at.
    pub fn find(&self, text: &str) -> Vec<Span> {
        self.find_above(text, MIN_CONFIDENCE)
    }

    /// As [`Detector::find`] with another least confidence: 0 also returns years, weekdays, loopback addresses and the
    /// like.
    pub fn find_above(&self, text: &str, min_confidence: f32) -> Vec<Span> {
        let mut spans = Vec::new();
        for (offset, window) in windows(text) {
            let before = spans.len();
            spans.extend(self.window(window, min_confidence, MAX_SPANS));
            for span in &mut spans[before..] {
                span.start += offset;
                span.end += offset;
            }
        }
        spans.truncate(MAX_SPANS);
        spans
    }

    /// The spans of all of a text, however long, in order and without overlaps: at most about `most`, for whoever has the
    /// time. A telephone book has many.
    pub fn find_throughout(&self, text: &str, min_confidence: f32, most: usize) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut start = 0;
        while start < text.len() && spans.len() < most {
            let end = text.floor_char_boundary(start + PIECE_BYTES);
            // What begins in the overlap is left to the next piece, which sees all of it.
            let next = if end == text.len() { end } else { cut(text, end) };
            let from = spans.last().map_or(0, |last| last.end);
            let found = self.window(&text[start..end], min_confidence, PIECE_BYTES).into_iter();
            let placed = found.map(|span| Span { start: span.start + start, end: span.end + start, ..span });
            spans.extend(placed.filter(|span| span.start >= from && span.start < next));
            start = next;
        }
        spans
    }

    fn window(&self, text: &str, min_confidence: f32, most: usize) -> Vec<Span> {
        let Prepared { tokens, taken, spans } = prepare(text, &self.lexicon, min_confidence, most);
        let mut tagged = Vec::new();
        tagger::tag(&self.weights, text, &tokens, &taken, (min_confidence, most), &mut tagged);
        merge(spans, tagged)
    }

    /// The scanners alone, to be timed: how many spans they find in the windows of `text`.
    #[doc(hidden)]
    pub fn scan_only(&self, text: &str) -> usize {
        windows(text)
            .map(|(_, window)| prepare(window, &self.lexicon, MIN_CONFIDENCE, MAX_SPANS).spans.len())
            .sum()
    }
}

/// What the scanners leave for the tagger; training prepares its texts with the same code.
pub(crate) struct Prepared {
    /// All tokens.
    pub(crate) tokens: Vec<Token>,
    /// Which of them are explained.
    pub(crate) taken: Vec<bool>,
    /// What the scanners found.
    pub(crate) spans: Vec<Span>,
}

/// Cuts `text` and runs the scanners, until they have about `most` spans.
pub(crate) fn prepare(text: &str, lexicon: &Lexicon, min_confidence: f32, most: usize) -> Prepared {
    let mut tokens = Vec::with_capacity(text.len() / 4);
    token::tokenise(text, lexicon, &mut tokens);
    let mut spans = Vec::new();
    // Weak spans are dropped, so a few more than will be returned are collected.
    scan::scan(text, &tokens, 2 * most, &mut spans);
    spans.retain(|span| span.confidence >= min_confidence);
    let taken = taken(&tokens, &spans);
    Prepared { tokens, taken, spans }
}

/// Both ends of a long text, cut at character boundaries; or all of a short one. With the offset of each.
fn windows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (head, tail) = if text.len() <= 2 * WINDOW_BYTES {
        (text.len(), text.len())
    } else {
        (text.floor_char_boundary(WINDOW_BYTES), text.ceil_char_boundary(text.len() - WINDOW_BYTES))
    };
    let second = (tail < text.len()).then(|| (tail, &text[tail..]));
    [(0, &text[..head])].into_iter().chain(second)
}

/// Where the piece after the one that ends at `end` begins: at a blank, where the overlap has one.
fn cut(text: &str, end: usize) -> usize {
    let begin = text.ceil_char_boundary(end - OVERLAP_BYTES);
    text[begin..end].find(char::is_whitespace).map_or(begin, |blank| begin + blank)
}

/// Which tokens the scanners have explained for good. A postal code or a house number they read as something vague stays
/// open, since it may be part of an address.
fn taken(tokens: &[Token], spans: &[Span]) -> Vec<bool> {
    let mut taken = vec![false; tokens.len()];
    for span in spans.iter().filter(|span| span.kind != Kind::ZipCode) {
        let first = tokens.partition_point(|t| (t.end as usize) <= span.start);
        for (token, taken) in tokens[first..].iter().zip(&mut taken[first..]) {
            if token.start as usize >= span.end {
                break;
            }
            *taken = true;
        }
    }
    taken
}

/// One sorted list without overlaps: what was proven wins over what was tagged, except that an address keeps the postal
/// code inside it.
fn merge(mut scanned: Vec<Span>, tagged: Vec<Span>) -> Vec<Span> {
    scanned.retain(|span| {
        span.kind != Kind::ZipCode
            || !tagged.iter().any(|t| {
                matches!(t.kind, Kind::StreetAddress | Kind::ZipCode)
                    && t.start <= span.start
                    && span.end <= t.end
            })
    });
    let mut all = scanned;
    // E-mail addresses reach back before the sign they were found at.
    all.sort_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    all.dedup_by(|later, kept| {
        let overlap = kept.touches(later);
        if overlap && later.confidence > kept.confidence {
            *kept = *later;
        }
        overlap
    });
    let proven = all.len();
    let mut next = 0;
    for span in tagged {
        while next < proven && all[next].end <= span.start {
            next += 1;
        }
        if next >= proven || !all[next].touches(&span) {
            all.push(span);
        }
    }
    all.sort_by_key(|span| span.start);
    all
}
