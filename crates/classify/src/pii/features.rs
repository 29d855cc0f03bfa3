//! Which tokens the tagger looks at, and what it sees of them: words, shapes, affixes, lexicon entries, neighbours.
//!
//! Training and detection call this very code, so they cannot drift apart. Feature numbers are hashes and baked into the
//! weights: any change here needs a new `models/pii.safetensors`.

use std::sync::LazyLock;

use super::fold::Folded;
use super::lexicon::List;
use super::token::{Shape, Token, word_hash};
use crate::hash;

/// Features of one token at most.
pub(crate) const MAX_FEATURES: usize = 40;
/// Tokens after a cue word that are looked at even in lower case.
const CUE_REACH: usize = 4;
/// Small words between two candidates that are looked at too.
const MAX_GAP: usize = 3;

const NAMES: u16 = List::First.bit()
    | List::Last.bit()
    | List::Place.bit()
    | List::Country.bit()
    | List::Nrp.bit()
    | List::Title.bit()
    | List::Job.bit()
    | List::Street.bit()
    | List::Unit.bit()
    | List::OrgEnd.bit()
    | List::Org.bit();

/// Texts of fewer tokens are looked at after every cue; longer ones only where they use no capitals.
const SHORT: usize = 80;

/// Marks the tokens worth tagging: capitalised, numbers, in a name list, after a cue, and small words between such.
/// `taken` says which tokens a scanner has already explained.
pub(crate) fn candidates(tokens: &[Token], taken: &[bool], manner: Manner, wanted: &mut Vec<bool>) {
    wanted.clear();
    wanted.resize(tokens.len(), false);
    let cues = manner.lower || tokens.len() < SHORT;
    let mut cue = 0;
    // Where the current run began, where its last candidate is, and whether any of it can be a name.
    let (mut begun, mut last, mut telling) = (0, None, false);
    for (at, token) in tokens.iter().enumerate() {
        let common = token.entry.on(List::Common.bit());
        let listed = token.entry.on(NAMES) && !(common && token.shape == Shape::Lower && cue == 0);
        let cased = matches!(token.shape, Shape::Capital | Shape::Upper | Shape::Initial | Shape::Mixed);
        let number =
            matches!(token.shape, Shape::Alphanumeric | Shape::Digits | Shape::Digits4 | Shape::Digits5);
        let cued = cue > 0 && !matches!(token.shape, Shape::Punct | Shape::Newline);
        // In "ana sindodfield" the second word is in no list at all.
        let unknown = token.shape == Shape::Lower && token.entry.lists == 0 && manner.lower;
        if !taken[at] && (listed || cased || number || cued || unknown) && !in_identifier(tokens, at) {
            wanted[at] = true;
            match last.filter(|last| at - last <= MAX_GAP + 1 && !taken[last + 1..at].contains(&true)) {
                Some(last) => wanted[last + 1..at].fill(true),
                None => {
                    close(wanted, begun, last, telling);
                    (begun, telling) = (at, false);
                }
            }
            last = Some(at);
            let ordinary = token.entry.on(List::Common.bit() | List::Term.bit());
            let opens = token.shape == Shape::Capital && ordinary && starts_sentence(tokens, at);
            telling |= listed || cased && !opens || cued && !common && !number;
        }
        // A dot after "Mr" belongs to it.
        let abbreviated = token.shape == Shape::Punct && at > 0 && wanted[at - 1];
        let short = abbreviated
            && (tokens[at - 1].shape == Shape::Initial
                || tokens[at - 1].entry.on(List::Title.bit() | List::OrgEnd.bit()));
        if short && !taken[at] {
            wanted[at] = true;
        }
        cue = if cues && token.entry.on(List::Cue.bit()) { CUE_REACH } else { cue.saturating_sub(1) };
    }
    close(wanted, begun, last, telling);
    widen(tokens, taken, wanted);
}

/// Adds the small words before a run ("university of", "unit", "van der") and behind it ("road", "ltd") that begin or end
/// a name in lower case.
fn widen(tokens: &[Token], taken: &[bool], wanted: &mut [bool]) {
    const BEFORE: u16 = List::Link.bit() | List::Unit.bit() | List::Street.bit() | List::OrgWord.bit();
    const BEHIND: u16 = List::Street.bit() | List::OrgEnd.bit() | List::OrgWord.bit() | List::Unit.bit();
    let fits = |at: usize, lists: u16| !taken[at] && tokens[at].entry.on(lists);
    for at in (1..tokens.len()).rev() {
        if wanted[at] && !wanted[at - 1] {
            (0..at)
                .rev()
                .take(MAX_GAP)
                .take_while(|&before| fits(before, BEFORE))
                .for_each(|before| wanted[before] = true);
        }
    }
    for at in 1..tokens.len() {
        if wanted[at - 1] && !wanted[at] && fits(at, BEHIND) {
            wanted[at] = true;
        }
    }
}

/// Takes back a run in which nothing can be a name: bare numbers, the first words of sentences.
fn close(wanted: &mut [bool], begun: usize, last: Option<usize>, telling: bool) {
    if let (Some(last), false) = (last, telling) {
        wanted[begun..=last].fill(false);
    }
}

/// Whether the token is part of a name in code: `OPENAI_API_KEY`.
fn in_identifier(tokens: &[Token], at: usize) -> bool {
    let joined = |token: &Token| token.shape == Shape::Punct && token.word == underscore();
    let before = at > 0 && !tokens[at].spaced && joined(&tokens[at - 1]);
    before || tokens.get(at + 1).is_some_and(|next| !next.spaced && joined(next))
}

/// Whether a capital at `at` says nothing.
fn starts_sentence(tokens: &[Token], at: usize) -> bool {
    at == 0 || matches!(tokens[at - 1].shape, Shape::Punct | Shape::Newline)
}

/// What holds for the whole text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Hardly any capital in it, so that small letters say nothing.
    pub(crate) lower: bool,
}

impl Manner {
    /// Looks at all tokens.
    pub(crate) fn of(tokens: &[Token]) -> Self {
        let count = |wanted: fn(Shape) -> bool| tokens.iter().filter(|t| wanted(t.shape)).count();
        let capitals = count(|s| matches!(s, Shape::Capital | Shape::Upper));
        let words = count(|s| s == Shape::Lower) + capitals;
        Self { lower: capitals * 25 < words }
    }
}

/// A neighbour reduced to what features use.
#[derive(Clone, Copy)]
struct View {
    word: u64,
    shape: u64,
    lists: u64,
}

/// Hashes of the features of token `at`. Training hides some words behind a random hash, so that unknown words are
/// practised; detection hides none.
pub(crate) fn extract(
    text: &str,
    tokens: &[Token],
    at: usize,
    manner: Manner,
    hidden: impl Fn(usize) -> Option<u64>,
    features: &mut [u64; MAX_FEATURES],
) -> usize {
    let edge = View { word: 7, shape: 31, lists: 0 };
    let view = |steps: isize| -> View {
        let Some(index) = at.checked_add_signed(steps).filter(|&i| i < tokens.len()) else { return edge };
        let token = &tokens[index];
        let mask = hidden(index);
        let word = if token.shape == Shape::DigitsLong { 11 } else { mask.unwrap_or(token.word) };
        let lists = if mask.is_some() { 0 } else { u64::from(token.entry.lists) };
        View { word, shape: token.shape as u64 | u64::from(token.spaced) << 4, lists }
    };
    let (p2, p1, here, n1, n2) = (view(-2), view(-1), view(0), view(1), view(2));
    let word = Folded::new(&text[tokens[at].range()]);
    let letters = word.as_bytes();
    let affix = |from: usize, to: usize| hash::bytes(1, letters.get(from..to).unwrap_or(letters));
    let tail = |length: usize| affix(letters.len().saturating_sub(length), letters.len());
    let shape = |view: View| view.shape & 15;
    let lists = |view: View| view.lists << 5 | view.shape;
    let lower = u64::from(manner.lower);
    let line_start = at == 0 || tokens[at - 1].shape == Shape::Newline;
    let key = key_of_line(tokens, at);
    let length = letters.len().min(12) as u64;
    let mut count = 0;
    let mut add = |value: u64| {
        let id = count as u64 + 1;
        features[count] = hash::join(id.wrapping_mul(0x9E37_79B9_7F4A_7C15), value);
        count += 1;
    };
    let pair = hash::join;
    add(0);
    add(here.word);
    add(p1.word);
    add(n1.word);
    add(p2.word);
    add(n2.word);
    add(pair(p1.word, lists(here)));
    add(pair(n1.word, lists(here)));
    add(pair(p2.word, p1.word));
    add(pair(n1.word, n2.word));
    add(pair(here.word, shape(n1)));
    add(affix(0, 2));
    add(affix(0, 3));
    add(tail(2));
    add(tail(3));
    add(tail(4));
    add(pair(tail(3), shape(here)));
    add(lists(here) << 1 | lower);
    add(lists(p1));
    add(lists(n1));
    add(pair(lists(p1), lists(here)));
    add(pair(lists(here), lists(n1)));
    add(pair(pair(lists(p1), lists(here)), lists(n1)));
    add(pair(here.shape << 10 | p1.shape << 5 | n1.shape, p2.shape << 5 | n2.shape));
    add(here.shape << 10 | p1.shape << 5 | n1.shape);
    add(pair(pair(p2.word, p1.word), lists(here)));
    add(u64::from(line_start) << 20 | lists(here) << 21 | lower);
    add(pair(key, shape(here)));
    add(pair(key, lists(here)));
    add(pair(view(-3).word, lists(here)));
    add(pair(lists(n1), lists(n2)));
    add(pair(lists(p2), lists(p1)));
    add(length << 4 | shape(here));
    add(pair(p1.word, n1.word));
    add(pair(n2.word, lists(here)));
    count
}

/// The word before the nearest colon on this line or the line before: the name of a form's field.
fn key_of_line(tokens: &[Token], at: usize) -> u64 {
    let mut lines = 0;
    for back in (at.saturating_sub(8)..at).rev() {
        let token = &tokens[back];
        if token.shape == Shape::Newline {
            lines += 1;
            if lines > 1 {
                break;
            }
        }
        if token.shape == Shape::Punct && token.word == colon() && back > 0 {
            let mut name = back - 1;
            // "name": in JSON.
            while name > 0 && tokens[name].shape == Shape::Punct {
                name -= 1;
            }
            return tokens[name].word;
        }
    }
    13
}

/// The hash of `:` as a token.
fn colon() -> u64 {
    static COLON: LazyLock<u64> = LazyLock::new(|| word_hash(":"));
    *COLON
}

/// The hash of `_` as a token.
fn underscore() -> u64 {
    static UNDERSCORE: LazyLock<u64> = LazyLock::new(|| word_hash("_"));
    *UNDERSCORE
}
