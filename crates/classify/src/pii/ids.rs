//! Numbers a government, bank, clinic or road office gave a person.
//!
//! Where a number has check digits they must fit; where it has none, a word such as "passport" must stand before it.

use super::checks;
use super::context::Context;
use super::kind::{Kind, Span};
use super::run::{Run, value};
use super::spot::Spot;

/// How far back the telling word may stand, in bytes.
const REACH: usize = 48;

/// A US social security number or ITIN: 3-2-4 digits in the ranges that are issued.
pub(crate) fn ssn(spot: &Spot<'_>, run: &Run) -> Option<Span> {
    let said = spot.said(Context::SSN, REACH);
    let count = match run.lengths::<4>() {
        [3, 2, 4, 0] if matches!(run.separator(3)?, b'-' | b' ' | b'.') => 3,
        [9, 0, 0, 0] if said => 1,
        _ => return None,
    };
    let digits = run.digits(spot.text, count)?;
    let end = run.end(count);
    let before = spot.byte_before(run.start);
    if run.plus || run.paren || spot.goes_on(end) || matches!(before, b'-' | b'.' | b'/') {
        return None;
    }
    let (area, group, serial) = (value(&digits[..3]), value(&digits[3..5]), value(&digits[5..]));
    if area >= 900 && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99) {
        return Some(Span::new(run.start, end, Kind::NationalId, if said { 0.9 } else { 0.7 }));
    }
    if matches!(area, 0 | 666 | 900..) || group == 0 || serial == 0 {
        // Never issued, but who says "my SSN is" means it.
        return said.then(|| Span::new(run.start, end, Kind::UsSsn, 0.5));
    }
    let dashed = count == 3 && run.groups()[1].separator == b'-';
    let confidence = match (said, dashed) {
        (true, _) => 0.97,
        (false, true) => 0.85,
        (false, false) if count == 3 && !spot.said(Context::PHONE, REACH) => 0.4,
        _ => return None,
    };
    Some(Span::new(run.start, end, Kind::UsSsn, confidence))
}

/// Digits-only numbers with check digits: CPF, PESEL, NHS, Aadhaar, personnummer.
pub(crate) fn checked(spot: &Spot<'_>, run: &Run) -> Option<Span> {
    if run.plus || run.paren || matches!(spot.byte_before(run.start), b'-' | b'.' | b'/' | b'=') {
        return None;
    }
    let said = spot.said(Context::NATIONAL, REACH);
    let total = run.groups().len();
    let lengths = run.lengths::<5>();
    let separators: [u8; 3] = std::array::from_fn(|at| run.groups().get(at + 1).map_or(0, |g| g.separator));
    let digits = |count: usize| run.digits(spot.text, count);
    let (count, confidence) = match lengths {
        [3, 3, 3, 2, 0] if separators == *b"..-" && checks::cpf(&digits(4)?) => (4, 0.97),
        [11, 0, ..] if said && (checks::cpf(&digits(1)?) || checks::pesel(&digits(1)?)) => (1, 0.9),
        [3, 3, 4, 0, 0] if said && checks::nhs(&digits(3)?) => (3, 0.9),
        [10, 0, ..] if said && checks::nhs(&digits(1)?) => (1, 0.8),
        [4, 4, 4, 0, 0] if run.separator(3)? == b' ' && aadhaar(&digits(3)?) => {
            (3, if said { 0.95 } else { 0.65 })
        }
        [12, 0, ..] if said && aadhaar(&digits(1)?) => (1, 0.9),
        [6 | 8, 4, 0, ..] if total == 2 && separators[0] == b'-' && personnummer(&digits(2)?) => {
            (2, if said { 0.95 } else { 0.7 })
        }
        _ => return None,
    };
    let end = run.end(count);
    (!spot.goes_on(end)).then(|| Span::new(run.start, end, Kind::NationalId, confidence))
}

fn aadhaar(digits: &[u8]) -> bool {
    digits[0] > 1 && checks::verhoeff(digits)
}

/// Sweden's: a date, then four digits; Luhn over the last ten.
fn personnummer(digits: &[u8]) -> bool {
    let ten = &digits[digits.len() - 10..];
    (1..=12).contains(&value(&ten[2..4])) && (1..=91).contains(&value(&ten[4..6])) && checks::luhn(ten)
}

/// Numbers with letters: DNI, NIE, codice fiscale, NINO, PAN.
pub(crate) fn lettered(spot: &Spot<'_>) -> Option<Span> {
    let word = spot.word().as_bytes();
    let end = spot.token().end as usize;
    let said = spot.said(Context::NATIONAL, REACH);
    let upper = word.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if spot.goes_on(end) || matches!(spot.byte_before(spot.start()), b'_' | b'-' | b'/' | b'=') {
        return None;
    }
    let confidence = match word.len() {
        9 if checks::dni(word) => {
            if said {
                0.97
            } else if upper {
                0.85
            } else {
                0.4
            }
        }
        9 if nino(word) => {
            if said {
                0.97
            } else if upper {
                0.8
            } else {
                0.4
            }
        }
        16 if checks::codice_fiscale(word) => 0.97,
        // India's PAN: the fourth letter is the kind of holder.
        10 if shape(word, b"AAAAA0000A") && b"PCFHABTLJG".contains(&word[3]) => {
            if said {
                0.9
            } else {
                0.6
            }
        }
        2 if upper => return spaced_nino(spot),
        _ => return None,
    };
    Some(spot.span(end, Kind::NationalId, confidence))
}

fn shape(word: &[u8], shape: &[u8]) -> bool {
    word.len() == shape.len()
        && word
            .iter()
            .zip(shape)
            .all(|(b, s)| if *s == b'A' { b.is_ascii_uppercase() } else { b.is_ascii_digit() })
}

/// Britain's national insurance number, HMRC NIM39110.
fn nino(word: &[u8]) -> bool {
    let upper: Vec<u8> = word.to_ascii_uppercase();
    shape(&upper, b"AA000000A")
        && !upper[..2].iter().any(|b| b"DFIQUV".contains(b))
        && upper[1] != b'O'
        && !matches!(&upper[..2], b"BG" | b"GB" | b"KN" | b"NK" | b"NT" | b"TN" | b"ZZ")
        && matches!(upper[8], b'A'..=b'D')
}

fn spaced_nino(spot: &Spot<'_>) -> Option<Span> {
    let piece = spot.text.as_bytes().get(spot.start()..spot.start() + 13)?;
    let packed: Vec<u8> = piece.iter().copied().filter(|b| *b != b' ').collect();
    let end = spot.start() + 13;
    (nino(&packed) && [2, 5, 8, 11].iter().all(|&at| piece[at] == b' ') && !spot.goes_on(end))
        .then(|| spot.span(end, Kind::NationalId, 0.9))
}

/// A number that only the word before it explains: passport, driving licence, account, patient.
pub(crate) fn said(spot: &Spot<'_>) -> Option<Span> {
    let start = spot.start();
    if matches!(spot.byte_before(start), b'/' | b'.' | b'_' | b'-' | b'$' | b'=' | b'#')
        && !spot.near_word(-1).starts_with('#')
    {
        return None;
    }
    let bytes = spot.text.as_bytes();
    let mut end = start;
    let mut digits = 0;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'A'..=b'Z' | b'a'..=b'z' => {}
            b'-' if bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric) => {}
            _ => break,
        }
        end += 1;
    }
    let length = end - start;
    if digits < 5 || !(5..=22).contains(&length) || spot.goes_on(end) || matches!(spot.byte(end), b'@' | b'%')
    {
        return None;
    }
    let said = |context: Context| spot.recent.last(context, start, REACH);
    let numbered = spot.said(Context::NUMBER, 24);
    let thing = spot.said(Context::THING, 24);
    let licence = said(Context::LICENSE).filter(|_| said(Context::DRIVER).is_some());
    let passport = said(Context::PASSPORT).filter(|_| (6..=10).contains(&length));
    // "sort code" and "account reference" are accounts for all that.
    let close = spot.said(Context::ACCOUNT, 14);
    let account = said(Context::ACCOUNT)
        .filter(|_| digits + 2 >= length && (6..=17).contains(&digits) && (close || !thing));
    let candidates = [
        (licence, Kind::UsDriverLicense, 0.85),
        (passport, Kind::Passport, 0.8),
        (said(Context::MEDICAL).filter(|_| numbered), Kind::MedicalRecord, 0.75),
        (account, Kind::BankNumber, if numbered || close { 0.75 } else { 0.5 }),
        (said(Context::NATIONAL).filter(|_| digits >= 7 && numbered && !thing), Kind::NationalId, 0.65),
    ];
    // The word said last decides.
    let (_, kind, confidence) = candidates.into_iter().filter(|c| c.0.is_some()).max_by_key(|c| c.0)?;
    Some(spot.span(end, kind, confidence))
}
