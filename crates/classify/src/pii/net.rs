//! IPv4, IPv6 and MAC addresses.
//!
//! Loopback, masks and version numbers with four parts stay below the threshold.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::context::Context;
use super::kind::{Kind, Span};
use super::spot::Spot;

/// Longest text form of an IPv6 address (RFC 4291), with an embedded IPv4 address.
const MAX_TEXT: usize = 45;

/// An IPv4 address at the token, which is a number.
pub(crate) fn v4(spot: &Spot<'_>) -> Option<Span> {
    let start = spot.start();
    if spot.byte(spot.token().end as usize) != b'.' {
        return None;
    }
    let before = spot.byte_before(start);
    if before.is_ascii_alphanumeric() || matches!(before, b'.' | b'-' | b'_') {
        return None;
    }
    let rest = &spot.text.as_bytes()[start..];
    let end = start + rest.iter().take(16).take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    let text = spot.text.get(start..end)?.trim_end_matches('.');
    let end = start + text.len();
    let address: Ipv4Addr = text.parse().ok()?;
    let next = spot.byte(end);
    if next.is_ascii_alphabetic()
        || next == b'_'
        || next == b'-' && spot.byte(end + 1).is_ascii_alphanumeric()
    {
        return None;
    }
    let said = spot.said(Context::IP, 32);
    let version = spot.said(Context::THING, 16) && !said;
    let confidence = match address.octets() {
        [0 | 127 | 255, ..] | [169, 254, ..] | [224..=254, ..] => 0.3,
        _ if version => 0.3,
        // 1.2.3.4 is a section number as often.
        octets if octets.iter().all(|&o| o < 10) && !said => 0.4,
        _ if address.is_private() => 0.6,
        _ => 0.95,
    };
    Some(spot.span(end, Kind::IpAddress, confidence))
}

/// An IPv6 or MAC address at the token.
pub(crate) fn hex(spot: &Spot<'_>) -> Option<Span> {
    let start = spot.start();
    let before = spot.byte_before(start);
    if before.is_ascii_alphanumeric() || matches!(before, b'_' | b':' | b'.' | b'-') {
        return None;
    }
    let rest = &spot.text.as_bytes()[start..];
    let length = rest
        .iter()
        .take(MAX_TEXT + 1)
        .take_while(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'-'))
        .count();
    let text = spot.text.get(start..start + length)?;
    if spot.byte(start + length).is_ascii_alphanumeric() || spot.byte(start + length) == b'_' {
        return None;
    }
    if let Some(span) = mac(spot, text) {
        return Some(span);
    }
    let text = text.trim_end_matches(['.', '-']);
    let text = if text.ends_with("::") { text } else { text.trim_end_matches(':') };
    let address: Ipv6Addr = text.parse().ok()?;
    let groups = text.split(':').filter(|g| !g.is_empty()).count();
    let digits = text.bytes().any(|b| b.is_ascii_digit());
    // `a::b` is a path in C++ and Rust; `::1` is everybody's.
    if groups < 2 || !digits || groups < 3 && text.len() < 7 {
        return None;
    }
    let local = address.is_loopback() || address.is_unspecified();
    Some(spot.span(start + text.len(), Kind::IpAddress, if local { 0.3 } else { 0.95 }))
}

/// `00:1a:2b:3c:4d:5e` or with dashes.
fn mac(spot: &Spot<'_>, text: &str) -> Option<Span> {
    let separator = *text.as_bytes().get(2)?;
    let fits = text.len() == 17
        && matches!(separator, b':' | b'-')
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at % 3 == 2 { byte == separator } else { byte.is_ascii_hexdigit() });
    let void = text.bytes().all(|b| matches!(b, b'0' | b'f' | b'F' | b':' | b'-'));
    // 12-34-56-78-90-12 could be any number.
    let sure = separator == b':' || text.bytes().any(|b| b.is_ascii_alphabetic());
    (fits && !void && sure).then(|| spot.span(spot.start() + 17, Kind::MacAddress, 0.9))
}
