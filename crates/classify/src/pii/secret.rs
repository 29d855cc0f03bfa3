//! Secrets: keys and tokens by their issuers' shapes, private keys, and values assigned to "password" and the like.
//!
//! Placeholders (`<token>`, `your_api_key`, `****`, `$TOKEN`) are no secrets.

use super::kind::{Kind, Span};
use super::spot::Spot;

/// Longest secret that is marked as a whole.
const MAX_SECRET: usize = 4096;
/// Shortest assigned value that counts.
const MIN_ASSIGNED: usize = 6;

/// Prefix, and the least number of characters behind it, as the issuers document them.
const SHAPES: &[(&str, usize)] = &[
    ("sk-ant-", 20),
    ("sk-proj-", 20),
    ("sk-or-", 20),
    ("sk-svcacct-", 20),
    ("sk-lf-", 20),
    ("sk-", 20),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("rk_test_", 16),
    ("pk_live_", 16),
    ("whsec_", 20),
    ("AKIA", 16),
    ("ASIA", 16),
    ("ABIA", 16),
    ("ACCA", 16),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("ghr_", 30),
    ("github_pat_", 22),
    ("glpat-", 20),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("xoxa-", 16),
    ("xoxr-", 16),
    ("xoxs-", 16),
    ("xapp-", 16),
    ("AIza", 35),
    ("ya29.", 20),
    ("GOCSPX-", 20),
    ("hf_", 30),
    ("npm_", 30),
    ("pypi-", 40),
    ("dckr_pat_", 20),
    ("SG.", 40),
    ("shpat_", 30),
    ("shpss_", 30),
    ("sq0atp-", 20),
    ("sq0csp-", 30),
    ("dop_v1_", 40),
    ("gsk_", 30),
    ("xai-", 40),
    ("r8_", 30),
    ("pplx-", 30),
    ("nvapi-", 40),
    ("tskey-", 20),
    ("lin_api_", 30),
    ("AGE-SECRET-KEY-1", 40),
    ("EAACEdEose0cBA", 10),
    ("key-", 32),
    ("PMAK-", 40),
    ("secret_", 32),
    ("ntn_", 40),
    ("figd_", 30),
    ("hvs.", 20),
];

/// A key or token at the token, told by its shape.
pub(crate) fn shaped(spot: &Spot<'_>) -> Option<Span> {
    let rest = &spot.text[spot.start()..];
    // A quick look at the first byte spares most words the list.
    if !matches!(
        rest.as_bytes()[0],
        b's' | b'r'
            | b'p'
            | b'w'
            | b'A'
            | b'g'
            | b'x'
            | b'y'
            | b'G'
            | b'h'
            | b'n'
            | b'd'
            | b'S'
            | b'l'
            | b't'
            | b'E'
            | b'e'
            | b'k'
            | b'P'
            | b'f'
    ) || matches!(spot.byte_before(spot.start()), b'-' | b'_' | b'.')
    {
        return None;
    }
    if rest.starts_with("eyJ") {
        return jwt(spot, rest);
    }
    let &(prefix, least) = SHAPES.iter().find(|(prefix, _)| rest.starts_with(prefix))?;
    let body = rest[prefix.len()..]
        .bytes()
        .take(MAX_SECRET)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        .count();
    let body = rest[prefix.len()..prefix.len() + body].trim_end_matches(['.', '-', '_']);
    // AWS ids have exactly their length, in capitals.
    let exact = prefix.len() == 4 && least == 16;
    if body.len() < least || exact && (body.len() != 16 || body.bytes().any(|b| b.is_ascii_lowercase())) {
        return None;
    }
    let random = is_random(body);
    (random || prefix.len() > 4 && body.bytes().any(|b| b.is_ascii_digit())).then(|| {
        spot.span(spot.start() + prefix.len() + body.len(), Kind::Secret, if random { 0.97 } else { 0.6 })
    })
}

/// Letters and digits mixed, few words: what a generator prints, not what a human names.
fn is_random(body: &str) -> bool {
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    let words = body
        .split(['-', '_', '.'])
        .filter(|w| w.len() > 2 && w.bytes().all(|b| b.is_ascii_lowercase()))
        .count();
    digits >= 2 && words < 3 && !is_placeholder(body)
}

/// `eyJ….eyJ….signature`
fn jwt(spot: &Spot<'_>, rest: &str) -> Option<Span> {
    let length = rest
        .bytes()
        .take(MAX_SECRET)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        .count();
    let token = rest[..length].trim_end_matches('.');
    let mut parts = token.split('.');
    let long = parts.next()?.len() >= 12 && parts.next()?.starts_with("eyJ");
    long.then(|| spot.span(spot.start() + token.len(), Kind::Secret, 0.97))
}

/// A PEM private key at the dash we stand on: to its end line, or as far as it goes.
pub(crate) fn private_key(spot: &Spot<'_>) -> Option<Span> {
    let rest = &spot.text[spot.start()..];
    let head = rest.strip_prefix("-----BEGIN ")?;
    let (name, body) = head.split_once("-----")?;
    if name.len() > 40 || !name.contains("PRIVATE KEY") {
        return None;
    }
    let begin = rest.len() - body.len();
    let end = body
        .find("-----END ")
        .and_then(|at| body[at + 9..].find("-----").map(|close| begin + at + 9 + close + 5))
        .unwrap_or_else(|| {
            begin
                + body.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"+/=\r\n\\ ".contains(b)).count()
        });
    Some(spot.span(spot.start() + end, Kind::Secret, 0.99))
}

/// The value after `password:`, `API_KEY=`, `my password is`, at a word that names a secret.
pub(crate) fn assigned(spot: &Spot<'_>) -> Option<Span> {
    let after = &spot.text[spot.token().end as usize..];
    let (value, spoken) = after_sign(after)?;
    let start = value.as_ptr() as usize - spot.text.as_ptr() as usize;
    let quote = value.bytes().next().filter(|b| matches!(b, b'"' | b'\'' | b'`'));
    let start = start + usize::from(quote.is_some());
    let value = &spot.text[start..];
    let end = value
        .char_indices()
        .take(MAX_SECRET)
        .find(|(_, c)| c.is_whitespace() || quote.map_or(",;)<>\"'`".contains(*c), |q| *c == char::from(q)))
        .map_or_else(
            || value.len().min(value.char_indices().nth(MAX_SECRET).map_or(value.len(), |(at, _)| at)),
            |(at, _)| at,
        );
    let value = value[..end].trim_end_matches(['.', '!', '?', ':']);
    let digit = value.bytes().any(|b| b.is_ascii_digit());
    let letter = value.chars().any(char::is_alphabetic);
    let mark = value.bytes().any(|b| b"!@#$%^&*_-+=~/".contains(&b));
    let both_cases = value.chars().any(char::is_lowercase) && value.chars().skip(1).any(char::is_uppercase);
    let code = value.contains(['(', '[', '{', '$', '<'])
        || value.contains("::")
        || value.contains("process.env")
        || value.contains("os.");
    if value.chars().count() < MIN_ASSIGNED || is_placeholder(value) || code && quote.is_none() {
        return None;
    }
    let confidence = match () {
        () if value.len() >= 16 && digit && letter && !value.contains('.') => 0.9,
        () if digit && letter => {
            if spoken {
                0.75
            } else {
                0.8
            }
        }
        () if spoken => (mark && both_cases).then_some(0.55)?,
        () if quote.is_some() && letter && (mark || both_cases) && !value.contains(' ') => 0.6,
        () => return None,
    };
    Some(Span::new(start, start + value.len(), Kind::Secret, confidence))
}

/// What stands after `:`, `=`, `is`; and whether it was said rather than assigned.
fn after_sign(after: &str) -> Option<(&str, bool)> {
    let after = after.trim_start_matches(['"', '\'', '`']);
    let blank = |rest: &'_ str| -> usize { rest.len() - rest.trim_start_matches([' ', '\t']).len() };
    let rest = &after[blank(after)..];
    for (sign, spoken) in [
        (":=", false),
        ("=>", false),
        ("==", true),
        (":", false),
        ("=", false),
        ("is:", true),
        ("is ", true),
        ("was ", true),
    ] {
        if let Some(value) = rest.strip_prefix(sign) {
            return (sign != "==").then(|| (&value[blank(value)..], spoken));
        }
    }
    None
}

/// What documentation writes instead of a secret.
fn is_placeholder(value: &str) -> bool {
    let first = value.bytes().next().unwrap_or(0);
    let lower = value.to_ascii_lowercase();
    value.bytes().all(|b| b == first)
        || matches!(first, b'<' | b'$' | b'%' | b'{' | b'[')
        || value.contains("...")
        || value.contains('…')
        || value.contains("***")
        || [
            "your",
            "xxxx",
            "example",
            "placeholder",
            "changeme",
            "redacted",
            "1234567890abcdef",
            "todo",
            "secret-",
            "string",
        ]
        .iter()
        .any(|word| lower.contains(word))
}
