//! Postal codes outside an address: after "zip" or "PLZ", after a US state, or in the British or Canadian form.
//!
//! Those inside an address are part of the address, which the tagger finds.

use super::context::Context;
use super::kind::{Kind, Span};
use super::run::Run;
use super::spot::Spot;
use super::token::Shape;

/// How far back "zip" may stand, in bytes.
const REACH: usize = 24;

/// A postal code of digits (with two letters behind, in the Netherlands) at the run's start.
pub(crate) fn numeric(spot: &Spot<'_>, run: &Run) -> Option<Span> {
    if run.plus || run.paren || matches!(spot.byte_before(run.start), b'-' | b'.' | b'/' | b'$' | b'#') {
        return None;
    }
    let said = spot.said(Context::ZIP, REACH);
    let state = spot.near(-1).is_some_and(|t| t.shape == Shape::Upper && t.entry.context.has(Context::STATE));
    let dashed =
        run.groups().get(1).is_some_and(|g| matches!(g.separator, b'-' | b' ')) && run.groups().len() == 2;
    let mut end = match run.lengths::<2>() {
        [5, 4] | [5, 3] | [2, 3] | [3, 2] | [3, 4] if dashed && said => run.end(2),
        [5, 4] if dashed && state => run.end(2),
        [3..=7, _] if said => run.end(1),
        [5, _] if state => run.end(1),
        _ => return None,
    };
    if spot.goes_on(end) {
        return None;
    }
    // 7412 SL
    let letters = spot.text.as_bytes().get(end..end + 3).unwrap_or_default();
    if run.end(1) == end
        && letters.first() == Some(&b' ')
        && letters[1..].iter().all(u8::is_ascii_uppercase)
        && !spot.byte(end + 3).is_ascii_alphanumeric()
        && run.lengths::<1>() == [4]
    {
        end += 3;
    }
    Some(Span::new(run.start, end, Kind::ZipCode, if said { 0.9 } else { 0.7 }))
}

/// `SW1A 1AA`, `K1A 0B1` at the token.
pub(crate) fn lettered(spot: &Spot<'_>) -> Option<Span> {
    let (first, second) = (spot.word().as_bytes(), spot.near(1)?);
    let end = second.end as usize;
    if first.len() > 4
        || first.len() < 2
        || second.end - second.start != 3
        || spot.byte(spot.token().end as usize) != b' '
    {
        return None;
    }
    let said = spot.said(Context::ZIP, REACH);
    let inward = spot.text.get(second.range())?.as_bytes();
    let pattern = |word: &[u8]| -> Vec<u8> {
        word.iter()
            .map(|b| match b {
                b'A'..=b'Z' => b'A',
                b'a'..=b'z' if said => b'A',
                b'0'..=b'9' => b'0',
                _ => b'?',
            })
            .collect()
    };
    let outward = pattern(first);
    let british = pattern(inward) == b"0AA"
        && matches!(&outward[..], b"A0" | b"A00" | b"AA0" | b"AA00" | b"A0A" | b"AA0A");
    let canadian = pattern(inward) == b"0A0" && outward == b"A0A" && !b"DFIOQUWZ".contains(&first[0]);
    if !(british || canadian) || spot.goes_on(end) {
        return None;
    }
    Some(spot.span(end, Kind::ZipCode, if said { 0.95 } else { 0.7 }))
}
