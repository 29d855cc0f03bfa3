//! The rule part: one walk over the tokens that hands each to the scanners its first bytes and shape call for.
//!
//! Order matters where shapes overlap: what can be proven (checksums, ranges) comes before what is only likely.

use super::age;
use super::bank;
use super::card;
use super::coin;
use super::context::{Context, Recent};
use super::date;
use super::ids;
use super::kind::Span;
use super::net;
use super::phone;
use super::run::Run;
use super::secret;
use super::spot::Spot;
use super::token::{Shape, Token};
use super::web;
use super::zip;

/// Spans found in `tokens` of `text`, in order of their start except that an e-mail address may begin before the last.
pub(crate) fn scan(text: &str, tokens: &[Token], most: usize, spans: &mut Vec<Span>) {
    let mut recent = Recent::new();
    let mut done = 0;
    for (index, token) in tokens.iter().enumerate() {
        if token.start as usize >= done {
            let spot = Spot { text, tokens, index, recent: &recent };
            if let Some(span) = at(&spot).filter(|span| span.end > span.start) {
                done = span.end;
                spans.push(span);
                if spans.len() >= most {
                    return;
                }
            }
        }
        recent.say(token.entry.context, token.end);
    }
}

fn at(spot: &Spot<'_>) -> Option<Span> {
    let token = spot.token();
    match token.shape {
        Shape::Newline | Shape::Caseless => None,
        Shape::Punct => mark(spot),
        Shape::Digits | Shape::Digits4 | Shape::Digits5 | Shape::DigitsLong => number(spot),
        Shape::Alphanumeric => alphanumeric(spot),
        _ => word(spot),
    }
}

fn mark(spot: &Spot<'_>) -> Option<Span> {
    match spot.byte(spot.start()) {
        b'@' => web::email(spot),
        b'-' => secret::private_key(spot),
        b'+' if spot.byte(spot.start() + 1).is_ascii_digit() || spot.byte(spot.start() + 1) == b'(' => {
            phone::find(spot, &Run::read(spot.text, spot.start())?)
        }
        b'(' if spot.byte(spot.start() + 1).is_ascii_digit() => {
            phone::find(spot, &Run::read(spot.text, spot.start())?).filter(|span| spot.byte(span.end) != b')')
        }
        b':' if spot.byte(spot.start() + 1) == b':' => net::hex(spot),
        _ => None,
    }
}

fn number(spot: &Spot<'_>) -> Option<Span> {
    let start = spot.start();
    let before = spot.byte_before(start);
    if before == b'_' || before.is_ascii_alphanumeric() {
        return None;
    }
    // Short numbers in prose: an age, a day, or nothing.
    let next = spot.byte(spot.token().end as usize);
    if spot.token().shape == Shape::Digits
        && !next.is_ascii_punctuation()
        && !spot.byte(spot.token().end as usize + 1).is_ascii_digit()
    {
        return date::named(spot).or_else(|| age::find(spot)).or_else(|| {
            // 7412 SL and the like need the word "zip".
            spot.said(Context::ZIP, 24).then(|| zip::numeric(spot, &Run::read(spot.text, start)?))?
        });
    }
    let run = Run::read(spot.text, start)?;
    net::v4(spot)
        .or_else(|| (next == b':' || next == b'-').then(|| net::hex(spot))?)
        .or_else(|| date::numeric(spot, &run))
        .or_else(|| ids::ssn(spot, &run))
        .or_else(|| ids::checked(spot, &run))
        .or_else(|| card::find(spot, &run))
        .or_else(|| date::named(spot))
        .or_else(|| zip::numeric(spot, &run))
        .or_else(|| phone_or_said(spot, &run))
        .or_else(|| age::find(spot))
        .or_else(|| date::year_or_weekday(spot))
}

/// A number beside both "phone" and "account" is what stands nearer.
fn phone_or_said(spot: &Spot<'_>, run: &Run) -> Option<Span> {
    match (phone::find(spot, run), ids::said(spot)) {
        (Some(phone), Some(said))
            if phone.confidence <= said.confidence && !spot.said(Context::PHONE, 16) =>
        {
            Some(said)
        }
        (phone, said) => phone.or(said),
    }
}

fn alphanumeric(spot: &Spot<'_>) -> Option<Span> {
    let token = spot.token();
    let length = (token.end - token.start) as usize;
    let next = spot.byte(token.end as usize);
    let long = || (length >= coin::MIN_LENGTH).then(|| coin::find(spot))?;
    let digit_first = spot.byte(spot.start()).is_ascii_digit();
    bank::iban(spot)
        .or_else(long)
        .or_else(|| secret::shaped(spot))
        .or_else(|| (length <= 4 && matches!(next, b':' | b'-')).then(|| net::hex(spot))?)
        .or_else(|| ids::lettered(spot))
        .or_else(|| zip::lettered(spot))
        .or_else(|| (digit_first && length <= 4).then(|| date::named(spot).or_else(|| age::find(spot)))?)
        // (898)666-3621x0135 without the parenthesis: the last group carries the extension.
        .or_else(|| digit_first.then(|| phone::find(spot, &Run::read(spot.text, spot.start())?))?)
        .or_else(|| ids::said(spot))
}

fn word(spot: &Spot<'_>) -> Option<Span> {
    let token = spot.token();
    let length = (token.end - token.start) as usize;
    let next = spot.byte(token.end as usize);
    let context = token.entry.context;
    if context.has(Context::WEEKDAY) {
        return date::year_or_weekday(spot);
    }
    let when = |wanted: bool, scanner: fn(&Spot<'_>) -> Option<Span>| wanted.then(|| scanner(spot)).flatten();
    when(context.as_month().is_some(), date::named)
        .or_else(|| when(matches!(next, b':' | b'.'), web::url))
        .or_else(|| when(next == b':' && length <= 4, net::hex))
        .or_else(|| when(matches!(next, b'-' | b'_' | b'.') || length >= 20, secret::shaped))
        .or_else(|| when(length >= coin::MIN_LENGTH, coin::find))
        .or_else(|| when(context.has(Context::SECRET), secret::assigned))
        // AB 12 34 56 C
        .or_else(|| when(token.shape == Shape::Upper && length == 2, ids::lettered))
}
