//! Payment card numbers: issuer prefix, length, Luhn.
//!
//! A number that passes all three needs no context; a mistyped one is believed only beside the word "card".

use super::checks;
use super::context::Context;
use super::kind::{Kind, Span};
use super::run::{Run, value};
use super::spot::Spot;

/// How far back "card" may stand, in bytes.
const REACH: usize = 64;

/// A card number at the run's start.
pub(crate) fn find(spot: &Spot<'_>, run: &Run) -> Option<Span> {
    if run.plus || run.paren {
        return None;
    }
    (1..=run.groups().len().min(5)).rev().find_map(|count| with_groups(spot, run, count))
}

fn with_groups(spot: &Spot<'_>, run: &Run, count: usize) -> Option<Span> {
    if count > 1 && !(matches!(run.separator(count)?, b' ' | b'-') && is_layout(run, count)) {
        return None;
    }
    let digits = run.digits(spot.text, count)?;
    let end = run.end(count);
    if !(12..=19).contains(&digits.len()) || spot.goes_on(end) && spot.byte(end) != b'/' {
        return None;
    }
    let (issued, valid) = (is_issued(&digits), checks::luhn(&digits));
    let near = spot.said(Context::CARD, REACH) || spot.says_after(Context::CARD, end, 4);
    let thing = spot.said(Context::THING, 24);
    let confidence = match (issued, valid, near) {
        (true, true, true) => 0.99,
        // One 13-digit article number in ten passes Luhn by chance; longer ones seldom also have an issuer's prefix.
        (true, true, false) if digits.len() > 13 && !thing => 0.9,
        (true, true, false) => 0.45,
        (false, true, true) => 0.75,
        // Mistyped or made up, but meant as a card.
        (true, false, true) if digits.len() > 13 => 0.6,
        (false, false, true) if digits.len() == 16 => 0.5,
        _ => return None,
    };
    Some(Span::new(run.start, end, Kind::CreditCard, confidence))
}

/// Groups of four, or the 4-6-5 and 4-6-4 of Amex and Diners.
fn is_layout(run: &Run, count: usize) -> bool {
    let groups = &run.groups()[..count];
    matches!((count, run.lengths::<3>()), (3, [4, 6, 4..=5]))
        || groups[..count - 1].iter().all(|g| g.len() == 4) && groups[count - 1].len() <= 4
}

/// Issuer prefixes and lengths, ISO/IEC 7812 as the networks publish them.
fn is_issued(digits: &[u8]) -> bool {
    let prefix = |length: usize| value(&digits[..length]);
    let length = digits.len();
    match prefix(4) {
        4000..=4999 => matches!(length, 13 | 16 | 19),
        5100..=5599 | 2221..=2720 => length == 16,
        3400..=3499 | 3700..=3799 | 1800 | 2131 => length == 15,
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => (14..=19).contains(&length),
        3528..=3589 => (16..=19).contains(&length),
        6011 | 6440..=6599 | 6200..=6299 | 8100..=8171 => (16..=19).contains(&length),
        2200..=2204 => (16..=19).contains(&length),
        604 | 5018 | 5020 | 5038 | 5612 | 5893 | 6304 | 6390 | 6759..=6763 => (12..=19).contains(&length),
        _ => false,
    }
}
