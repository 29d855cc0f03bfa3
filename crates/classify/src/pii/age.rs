//! Ages: "34 years old", "just turned 54", "age: 40", "I'm 28 and".
//!
//! A twenty-year-old house has no personal data: things that are old are told apart by the noun behind.

use super::context::Context;
use super::kind::{Kind, Span};
use super::lexicon::List;
use super::spot::Spot;
use super::token::Shape;

/// Oldest believable age in years.
const MAX_AGE: u32 = 119;

/// The age at the token: the number itself, without "years old".
pub(crate) fn find(spot: &Spot<'_>) -> Option<Span> {
    let word = spot.word();
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let suffix = &word[digits..];
    let age: u32 = word[..digits].parse().ok().filter(|&age| age <= MAX_AGE && digits > 0 && digits <= 3)?;
    let end = spot.start() + digits;
    let before = spot.byte_before(spot.start());
    if matches!(before, b'$' | b'.' | b'/' | b'#' | b'+')
        || matches!(spot.byte(end), b'%' | b'/') && suffix.is_empty() && !said_year(spot)
    {
        return None;
    }
    let confidence = match suffix {
        "yo" | "yr" | "yrs" | "y" => (!is_object(spot, 1)).then_some(0.8)?,
        // 34M, 28f: as people write it in forums, beside "I" or another age.
        "M" | "F" | "m" | "f" => (matches!(before, b'(' | b'[') && age > 12).then_some(0.75)?,
        "" => plain(spot, age)?,
        _ => return None,
    };
    Some(spot.span(end, Kind::Age, confidence))
}

fn said_year(spot: &Spot<'_>) -> bool {
    spot.near_word(2) == "o"
}

fn plain(spot: &Spot<'_>, age: u32) -> Option<f32> {
    let end = spot.token().end as usize;
    if let Some(confidence) = years_old(spot) {
        return confidence;
    }
    if spot.goes_on(end) || spot.says_after(Context::UNIT, end, 1) {
        return None;
    }
    let previous = spot.near(-1).map(|t| t.entry.context).unwrap_or_default();
    let colon = matches!(spot.near_word(-1), ":" | "=" | "is" | "of" | "was");
    let earlier = spot.near(-2).map(|t| t.entry.context).unwrap_or_default();
    let quoted = spot.near_word(-1) == "\"" || spot.near_word(-1) == ":" && spot.near_word(-2) == "\"";
    let key = spot.near(-3).map(|t| t.entry.context).unwrap_or_default();
    let labelled = previous.has(Context::AGE)
        || colon
            && earlier.has(Context::AGE)
            && !(spot.near_word(-1) == "of" && spot.near_word(-2).ends_with('s'))
        || quoted && key.has(Context::AGE);
    if labelled {
        return Some(0.9);
    }
    let next = spot.near(1).map(|t| t.entry.context).unwrap_or_default();
    let ends = spot.near(1).is_none_or(|t| t.shape == Shape::Newline)
        || matches!(
            spot.near_word(1),
            "." | "," | "!" | "?" | ";" | ")" | "and" | "now" | "today" | "next" | "years" | "this"
        )
        || next.has(Context::HUMAN);
    // "turned 54", "turns 40 in May", but not "turned 3 pages".
    if previous.has(Context::TURNED)
        || matches!(spot.near_word(-1), "just" | "be") && earlier.has(Context::TURNED)
    {
        return (ends && age > 0).then_some(0.85);
    }
    if ends && spot.near_word(-1) == "at" && matches!(spot.near_word(-2), "retired" | "died" | "married") {
        return Some(0.7);
    }
    // Maria (34): as newspapers do.
    let marks = (spot.near_word(-1), spot.near_word(1));
    let named = spot.near(-2).is_some_and(|t| {
        t.shape == Shape::Capital
            && t.entry.on(List::First.bit() | List::Last.bit())
            && !t.entry.on(List::Common.bit())
    });
    if named && (10..=105).contains(&age) {
        match marks {
            ("(", ")") => return Some(0.55),
            // Also a house number: "Via Monica, 34, Bari".
            (",", ",") => return Some(0.45),
            _ => {}
        }
    }
    // I'm 34, im 34: without a unit behind.
    let i_am = matches!(spot.near_word(-1), "m" | "am")
        && matches!(spot.near_word(-2), "'" | "’" | "I" | "i")
        || matches!(spot.near_word(-1), "im" | "Im" | "she" | "he");
    let is = matches!(spot.near_word(-1), "is" | "s") && spot.near(-2).is_some_and(is_relative);
    if (i_am && ends || is && ends && spot.near_word(-1) == "is")
        && (10..=110).contains(&age)
        && spot.near_word(-1) != "she"
        && spot.near_word(-1) != "he"
    {
        return Some(0.65);
    }
    None
}

/// Somebody whose age one tells: "my wife is 40".
fn is_relative(token: super::token::Token) -> bool {
    token.entry.context.has(Context::HUMAN)
}

/// `34 years old`, `34-year-old`, `34 y/o`, `34 years of age`; `Some(None)` when it is an old thing.
fn years_old(spot: &Spot<'_>) -> Option<Option<f32>> {
    let mut at = 1;
    if spot.near_word(at) == "-" {
        at += 1;
    }
    if !spot.near(at).is_some_and(|t| t.entry.context.has(Context::YEARS)) {
        return None;
    }
    let unit = spot.near_word(at);
    at += 1;
    while matches!(spot.near_word(at), "-" | "/") {
        at += 1;
    }
    let old = spot.near(at).is_some_and(|t| t.entry.context.has(Context::OLD)) || spot.near_word(at) == "o";
    let of_age = spot.near_word(at) == "of" && spot.near_word(at + 1) == "age";
    match () {
        () if unit == "yo" && !is_object(spot, at) => Some(Some(0.8)),
        () if of_age => Some(Some(0.9)),
        () if old => Some((!is_object(spot, at + 1)).then_some(if spot.near_word(at + 1) == "." {
            0.75
        } else {
            0.85
        })),
        () => Some(None),
    }
}

/// Whether one of the next two words is a thing, or a thing was the subject just before.
fn is_object(spot: &Spot<'_>, at: isize) -> bool {
    let thing = |steps: isize| spot.near(steps).is_some_and(|t| t.entry.context.has(Context::OBJECT));
    let human = spot.near(at).is_some_and(|t| t.entry.context.has(Context::HUMAN));
    !human && (thing(at) || thing(at + 1) || thing(-1) || thing(-2) || thing(-3))
}
