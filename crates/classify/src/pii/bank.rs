//! International bank account numbers, with the length each country uses and the checksum of ISO 13616.

use super::checks;
use super::context::Context;
use super::kind::{Kind, Span};
use super::spot::Spot;

/// Longest IBAN.
const MAX_LENGTH: usize = 34;

/// Country and length, from the SWIFT IBAN registry.
const LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 \
ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 \
LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 \
SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

/// An IBAN at the token, in groups of four or in one piece, in either case.
pub(crate) fn iban(spot: &Spot<'_>) -> Option<Span> {
    let bytes = &spot.text.as_bytes()[spot.start()..];
    let &[a, b, c, d, ..] = bytes else { return None };
    if !(a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let length = length(&[a.to_ascii_uppercase(), b.to_ascii_uppercase()])?;
    let (mut packed, mut kept, mut at) = ([0; MAX_LENGTH], 0, 0);
    while kept < length {
        match bytes.get(at) {
            Some(byte) if byte.is_ascii_alphanumeric() => {
                packed[kept] = *byte;
                kept += 1;
            }
            // Printed form: a space or dash after each four.
            Some(b' ' | b'-') if kept % 4 == 0 && kept > 0 => {}
            _ => return None,
        }
        at += 1;
    }
    let end = spot.start() + at;
    if spot.byte(end).is_ascii_alphanumeric()
        || spot.byte(end) == b'_'
        || spot.byte_before(spot.start()) == b'_'
    {
        return None;
    }
    let digits = packed[..length].iter().filter(|b| b.is_ascii_digit()).count();
    if checks::iban(&packed[..length]) {
        return Some(spot.span(end, Kind::IbanCode, 0.99));
    }
    let meant = spot.said(Context::IBAN, 48) && digits >= 8;
    meant.then(|| spot.span(end, Kind::IbanCode, 0.6))
}

fn length(country: &[u8; 2]) -> Option<usize> {
    LENGTHS
        .split(' ')
        .find(|entry| entry.as_bytes().starts_with(country))
        .and_then(|entry| entry[2..].parse().ok())
}
