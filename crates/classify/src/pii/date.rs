//! Calendar dates, written with digits or with a month's name, and years in a personal context.
//!
//! "born 12 May 1990" is sure, "12 May 1990" likely, "in 1776" is history and stays below the threshold.

use super::context::Context;
use super::kind::{Kind, Span};
use super::run::{Group, Run, value};
use super::spot::Spot;
use super::token::Shape;

/// How far back "born" may stand, in bytes.
const REACH: usize = 40;
/// A full date that nothing explains.
const PLAIN: f32 = 0.6;
/// Beside "born", "birthday".
const PERSONAL: f32 = 0.95;
/// Below any sensible threshold, for those who want all.
const WEAK: f32 = 0.35;

/// `1990-05-12 10:00`, `12/5/1990`, `12.05.1990` at the run's start.
pub(crate) fn numeric(spot: &Spot<'_>, run: &Run) -> Option<Span> {
    let separator = run.separator(3).filter(|s| matches!(s, b'-' | b'/' | b'.'))?;
    if run.plus || run.paren || matches!(spot.byte_before(run.start), b'/' | b'-' | b'.' | b'_' | b'=') {
        return None;
    }
    let groups = run.groups();
    let number =
        |at: usize| run.digits(spot.text, at + 1).map_or(0, |d| value(&d[d.len() - groups[at].len()..]));
    let (year, month, day) = match run.lengths::<3>() {
        [4, 1..=2, 1..=2] => {
            (number_of(spot, &groups[0]), number_of(spot, &groups[1]), number_of(spot, &groups[2]))
        }
        [1..=2, 1..=2, 4] => {
            ordered(number_of(spot, &groups[2]), number_of(spot, &groups[0]), number_of(spot, &groups[1]))
        }
        // Two-digit years are versions and fractions too, so the rest must look like a date.
        [1..=2, 1..=2, 2] if separator == b'/' || spot.said(Context::BIRTH, REACH) => {
            ordered(1900 + number(2), number(0), number(1))
        }
        _ => return None,
    };
    let end = with_time(spot, run.end(3));
    let cut = spot.goes_on(end) && !(end == run.end(3) && spot.byte(end) == b' ');
    if !(1000..=2199).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) || cut {
        return None;
    }
    let log = spot.byte_before(run.start) == b'[' || spot.says_after(Context::LOG, end, 4);
    let confidence = match () {
        () if spot.said(Context::BIRTH, REACH) => PERSONAL,
        () if log || year < 1900 => WEAK,
        () => PLAIN,
    };
    Some(Span::new(run.start, end, Kind::DateTime, confidence))
}

fn number_of(spot: &Spot<'_>, group: &Group) -> u32 {
    spot.text.get(group.start..group.end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Day and month come in either order.
fn ordered(year: u32, first: u32, second: u32) -> (u32, u32, u32) {
    if first > 12 {
        (year, second, first)
    } else if second > 12 {
        (year, first, second)
    } else {
        (year, second.max(1), first)
    }
}

/// ` 18:19:22`, `T10:00Z`, ` at 5:30 pm` behind a date.
fn with_time(spot: &Spot<'_>, end: usize) -> usize {
    let digits = |at: usize| {
        usize::from(spot.byte(at).is_ascii_digit())
            + usize::from(spot.byte(at).is_ascii_digit() && spot.byte(at + 1).is_ascii_digit())
    };
    if !matches!(spot.byte(end), b' ' | b'T') {
        return end;
    }
    let mut at = end + 1;
    let hours = digits(at);
    if hours == 0 || spot.byte(at + hours) != b':' || digits(at + hours + 1) != 2 {
        return end;
    }
    at += hours + 3;
    if spot.byte(at) == b':' && digits(at + 1) == 2 {
        at += 3;
        if matches!(spot.byte(at), b'.' | b',') && spot.byte(at + 1).is_ascii_digit() {
            at += 1;
            while spot.byte(at).is_ascii_digit() {
                at += 1;
            }
        }
    }
    match spot.byte(at) {
        b'Z' => at + 1,
        b'+' | b'-' if digits(at + 1) == 2 => {
            let minutes = if spot.byte(at + 3) == b':' { at + 4 } else { at + 3 };
            if digits(minutes) == 2 { minutes + 2 } else { at + 3 }
        }
        _ => at,
    }
}

/// `12th of May, 1990`, `May 12, 1990`, `12. Mai 1990`, `May 1990` at the token.
pub(crate) fn named(spot: &Spot<'_>) -> Option<Span> {
    let words = Words { spot, at: 0 };
    let (day, month_at) = if spot.token().is_number() || spot.token().shape == Shape::Alphanumeric {
        let (day, next) = words.day(0)?;
        (Some(day), words.skip(next, &[".", "de", "of", "DE", "-", "/"]))
    } else {
        (None, 0)
    };
    words.month(month_at)?;
    let mut at = month_at + 1;
    if spot.near_word(at) == "." {
        at += 1;
    }
    let mut end = spot.near(at - 1)?.end as usize;
    let day = day.or_else(|| {
        let (day, next) = words.day(at)?;
        end = spot.near(next - 1)?.end as usize;
        at = next;
        Some(day)
    });
    let year_at = words.skip(at, &[",", "de", "del", "of", "-", "/"]);
    let year = words.year(year_at);
    if year.is_some() {
        end = spot.near(year_at)?.end as usize;
    }
    let personal = spot.said(Context::BIRTH, REACH);
    let confidence = match (day, year) {
        (_, Some(..1900)) => WEAK,
        (Some(_), Some(_)) | (None, Some(_)) | (Some(_), None) if personal => PERSONAL,
        (Some(_), Some(_)) => PLAIN,
        // "may 5" and "march 3" are verbs as often; a bare month is nothing.
        (Some(_), None) | (None, Some(_)) => WEAK,
        (None, None) => return None,
    };
    Some(spot.span(end, Kind::DateTime, confidence))
}

/// A year beside "born", or a day of the week.
pub(crate) fn year_or_weekday(spot: &Spot<'_>) -> Option<Span> {
    let token = spot.token();
    let end = token.end as usize;
    if token.entry.context.has(Context::WEEKDAY) && token.shape == Shape::Capital {
        return Some(spot.span(end, Kind::DateTime, WEAK));
    }
    let year = Words { spot, at: 0 }.year(0).filter(|year| (1900..2100).contains(year))?;
    if spot.goes_on(end) || matches!(spot.byte_before(spot.start()), b'-' | b'/' | b'.' | b'$' | b'#' | b'=')
    {
        return None;
    }
    let before = spot.near_word(-1);
    if spot.said(Context::BIRTH, 24) && year < 2030 {
        return Some(spot.span(end, Kind::DateTime, 0.7));
    }
    matches!(before, "in" | "In" | "since" | "Since" | "during" | "During")
        .then(|| spot.span(end, Kind::DateTime, WEAK))
}

/// Reads parts of a date off the tokens at and after the spot.
struct Words<'s, 't> {
    spot: &'s Spot<'t>,
    at: isize,
}

impl Words<'_, '_> {
    fn word(&self, at: isize) -> &str {
        self.spot.near_word(self.at + at)
    }

    /// A day's number, with or without its ordinal; and where it ends.
    fn day(&self, at: isize) -> Option<(u32, isize)> {
        let word = self.word(at);
        let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let known = matches!(
            &word[digits.len()..],
            "" | "st" | "nd" | "rd" | "th" | "er" | "ST" | "ND" | "RD" | "TH"
        );
        let day = digits.parse().ok().filter(|day| (1..=31).contains(day) && known && digits.len() <= 2)?;
        Some((day, at + 1))
    }

    fn month(&self, at: isize) -> Option<u32> {
        self.spot.near(at)?.entry.context.as_month()
    }

    fn year(&self, at: isize) -> Option<u32> {
        let word = self.word(at);
        word.parse().ok().filter(|year| (1000..2200).contains(year) && word.len() == 4)
    }

    /// Steps over one or two small words.
    fn skip(&self, at: isize, small: &[&str]) -> isize {
        let step = |at: isize| if small.contains(&self.word(at)) { at + 1 } else { at };
        step(step(at))
    }
}
