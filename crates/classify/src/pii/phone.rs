//! Telephone numbers: international, North American, and national formats with or without a telling word nearby.
//!
//! A country code or a North American grouping stands alone; anything looser needs "call", "tel", "Handy" and the like.

use super::context::Context;
use super::kind::{Kind, Span};
use super::run::{Group, Run, value};
use super::spot::Spot;

/// How far back "phone" may stand, in bytes.
const REACH: usize = 48;
/// ITU-T E.164: at most 15 digits.
const MAX_DIGITS: usize = 15;

/// A telephone number at the run's start.
pub(crate) fn find(spot: &Spot<'_>, run: &Run) -> Option<Span> {
    let before = spot.byte_before(run.start);
    if before.is_ascii_alphanumeric()
        || matches!(before, b'.' | b'-' | b'_' | b'/' | b'$' | b'=' | b'#' | b'^')
    {
        return None;
    }
    let count = (1..=run.groups().len()).rev().find(|&count| fits(spot, run, count))?;
    let near = spot.said(Context::PHONE, REACH) || spot.says_after(Context::PHONE, run.end(count), 4);
    let thing = spot.said(Context::THING, 16) || spot.says_after(Context::UNIT, run.end(count), 1);
    let digits = run.digits(spot.text, count)?;
    let mut confidence = confidence(run, count, &digits, near)?;
    if thing && !run.plus {
        confidence *= 0.5;
    }
    Some(Span::new(run.start, with_extension(spot, run.end(count)), Kind::PhoneNumber, confidence))
}

/// Whether the first groups could be one number, and the text does not go on.
fn fits(spot: &Spot<'_>, run: &Run, count: usize) -> bool {
    let end = run.end(count);
    let digits: usize = run.groups()[..count].iter().map(Group::len).sum();
    let extension = matches!(spot.byte(end), b'x' | b'X');
    (6..=MAX_DIGITS + 2).contains(&digits) && (extension || !spot.goes_on(end)) && spot.byte(end) != b'%'
}

fn confidence(run: &Run, count: usize, digits: &[u8], near: bool) -> Option<f32> {
    let groups = &run.groups()[..count];
    let mixed = groups.iter().skip(1).any(|g| g.separator == b'/');
    if run.plus {
        let plausible = (8..=MAX_DIGITS).contains(&digits.len()) && is_country(digits) && !mixed;
        return plausible.then_some(if digits[0] == 1 && !is_american(&digits[1..]) { 0.7 } else { 0.95 });
    }
    // "0.011 0.052" are decimals: dots separate all groups or none.
    let dots = groups.iter().skip(1).filter(|g| g.separator == b'.').count();
    if dots > 0 && dots + 1 < count && !run.paren {
        return None;
    }
    if let Some(confidence) = american(run, count, digits) {
        return Some(if near { 0.97 } else { confidence });
    }
    let international = digits.starts_with(&[0, 0]) && is_country(&digits[2..]);
    if international && (10..=17).contains(&digits.len()) {
        return Some(if near || count > 2 { 0.9 } else { 0.6 });
    }
    if digits.len() > 13 {
        return None;
    }
    // 01.23.45.67.89, 0157 548 89, (030) 123456
    let small = groups.iter().skip(1).all(|g| (2..=8).contains(&g.len()));
    let pairs = count == 5 && groups.iter().all(|g| g.len() == 2) && digits[0] == 0;
    let national =
        small && digits[0] == 0 && count > 1 && (9..=11).contains(&digits.len()) && groups[0].len() > 1;
    let paren = run.paren && small && count > 1 && (2..=5).contains(&groups[0].len()) && digits.len() >= 8;
    if near {
        // Groups of one digit are no number as people write it, save a trunk prefix.
        let readable = count == 1 || groups.iter().filter(|g| g.len() == 1).count() <= 1;
        return (readable && digits.len() >= 7 && !mixed || pairs || national).then_some(0.85);
    }
    match () {
        () if pairs => Some(0.9),
        () if national => Some(0.65),
        () if paren => Some(0.7),
        () => None,
    }
}

/// The grouping 3-3-4 of the North American numbering plan, with or without the 1.
fn american(run: &Run, count: usize, digits: &[u8]) -> Option<f32> {
    let (lengths, own) = match run.lengths::<4>() {
        [1, 3, 3, 4] if digits[0] == 1 && count == 4 => (true, &digits[1..]),
        [3, 3, 3, 4] if digits.starts_with(&[0, 0, 1]) && count == 4 => (true, &digits[3..]),
        [3, 3, 4, _] if count == 3 => (true, digits),
        _ => (false, digits),
    };
    if !lengths || !is_american(own) {
        return None;
    }
    let separator = run.groups()[count - 1].separator;
    Some(match separator {
        b'-' => 0.85,
        b'.' => 0.8,
        b' ' if run.paren => 0.85,
        b' ' => 0.6,
        _ => return None,
    })
}

/// Area code and exchange do not begin with 0 or 1 (NANPA).
fn is_american(digits: &[u8]) -> bool {
    digits.len() == 10 && digits[0] > 1 && digits[3] > 1
}

/// Assigned country codes, ITU-T E.164.
fn is_country(digits: &[u8]) -> bool {
    let Some(code) = digits.get(..3).map(value) else { return false };
    // One digit (1, 7), two digits, and the blocks of three-digit codes.
    matches!(code / 10,
        10..=19 | 70..=79
        | 20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98
        | 21..=26 | 29 | 35 | 37 | 38 | 42 | 50 | 59 | 67..=69 | 80 | 85 | 87 | 88 | 96 | 97 | 99)
}

/// `x123`, ` ext. 123` behind a number belongs to it.
fn with_extension(spot: &Spot<'_>, end: usize) -> usize {
    let rest = spot.text.get(end..).unwrap_or_default();
    let trimmed = rest.trim_start_matches([' ', ',']);
    let tail = ["extension ", "ext. ", "ext.", "ext ", "ext", "x", "X"].into_iter().find_map(|mark| {
        let tail = trimmed.strip_prefix(mark)?;
        tail.starts_with(|c: char| c.is_ascii_digit()).then_some(tail)
    });
    let Some(tail) = tail else { return end };
    let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
    let stop = spot.text.len() - tail.len() + digits;
    if digits <= 6 && !spot.byte(stop).is_ascii_alphanumeric() { stop } else { end }
}
