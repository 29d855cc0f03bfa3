//! E-mail addresses and web addresses, practical rather than complete RFC 5322 and 3986.
//!
//! Letters of any script are taken in both; what needs quotes or comments is not.

use super::kind::{Kind, Span};
use super::spot::Spot;

/// Longest local part, RFC 5321 section 4.5.3.1.
const MAX_LOCAL: usize = 64;
/// Longest domain, RFC 1035.
const MAX_DOMAIN: usize = 253;
/// A longer web address is cut.
const MAX_URL: usize = 2048;

/// An e-mail address around the `@` we stand on.
pub(crate) fn email(spot: &Spot<'_>) -> Option<Span> {
    let at = spot.start();
    let before = spot.text.get(..at)?;
    let local = before
        .char_indices()
        .rev()
        .take(MAX_LOCAL + 1)
        .take_while(|(_, c)| is_local(*c))
        .last()
        .map(|(start, _)| &before[start..])?;
    let local = local.trim_start_matches([
        '.', '-', '\'', '/', '=', '*', '&', '?', '!', '#', '|', '{', '`', '~', '+', '%', '$', '^',
    ]);
    if local.is_empty() || local.len() > MAX_LOCAL || local.ends_with('.') || local.contains("..") {
        return None;
    }
    let domain = domain(spot.text.get(at + 1..)?)?;
    let end = at + 1 + domain.len();
    let (_, top) = domain.rsplit_once('.')?;
    if !(2..=24).contains(&top.chars().count()) || !top.chars().all(char::is_alphabetic) {
        return None;
    }
    // git@github.com:owner/repository is a place, and so is user@host in a path.
    let remote = local == "git" || spot.byte(end) == b':' && spot.byte(end + 1).is_ascii_alphanumeric();
    let nobody =
        ["noreply", "no-reply", "donotreply", "do-not-reply"].iter().any(|n| local.eq_ignore_ascii_case(n));
    // A file, not a domain: logo@2x.png.
    let file = ["png", "jpg", "svg", "gif", "webp", "js", "ts", "css", "py"].contains(&top);
    let confidence = if remote || nobody || file { 0.3 } else { 0.99 };
    Some(Span::new(at - local.len(), end, Kind::EmailAddress, confidence))
}

fn is_local(c: char) -> bool {
    c.is_alphanumeric() || ".!#$%&'*+-/=?^_`{|}~".contains(c)
}

/// The longest run of dotted labels at the start of `text`; needs at least one dot.
fn domain(text: &str) -> Option<&str> {
    let end = text
        .char_indices()
        .take(MAX_DOMAIN)
        .find(|(_, c)| !(c.is_alphanumeric() || matches!(c, '.' | '-')))
        .map_or_else(
            || text.char_indices().nth(MAX_DOMAIN).map_or(text.len(), |(end, _)| end),
            |(end, _)| end,
        );
    let domain = text[..end].trim_end_matches(['.', '-']);
    let labels = domain.split('.').all(|label| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.len() <= 63
    });
    (labels && domain.contains('.')).then_some(domain)
}

/// A web address at the token: `https://…` or `www.…`.
pub(crate) fn url(spot: &Spot<'_>) -> Option<Span> {
    let start = spot.start();
    let rest = &spot.text[start..];
    let word = spot.word();
    let host_at = if word.eq_ignore_ascii_case("www") && rest.as_bytes().get(3) == Some(&b'.') {
        0
    } else if ["http", "https", "ftp", "ftps", "ssh", "ws", "wss"]
        .iter()
        .any(|s| word.eq_ignore_ascii_case(s))
    {
        rest[word.len()..].starts_with("://").then_some(word.len() + 3)?
    } else {
        return None;
    };
    let end = rest
        .char_indices()
        .take(MAX_URL)
        .find(|(_, c)| c.is_whitespace() || c.is_control() || "<>\"'`{}|\\^".contains(*c))
        .map_or_else(|| rest.char_indices().nth(MAX_URL).map_or(rest.len(), |(end, _)| end), |(end, _)| end);
    let mut address = rest[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_']);
    // A closing bracket belongs to the sentence unless it was opened inside.
    while let Some(shorter) = address.strip_suffix([')', ']']) {
        let opened = address.matches(['(', '[']).count() >= address.matches([')', ']']).count();
        if opened {
            break;
        }
        address = shorter.trim_end_matches(['.', ',']);
    }
    let host = address.get(host_at..)?.split(['/', '?', '#']).next()?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if !host.contains('.') || host.len() < 4 {
        return None;
    }
    Some(spot.span(start + address.len(), Kind::Url, 0.7))
}
