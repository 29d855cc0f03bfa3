//! What a single value in the file can be: text, number, duration, size, URL, secret.
//!
//! Each kind parses from the text of a scalar, says what it expects when it does not, and writes its
//! own default for the schema. No YAML, no variables: `raw` has dealt with both before.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::snapshot::Secret;

mod guard;
mod objective;
mod picking;
mod words;

pub(crate) use guard::{Attack, OnFailure};
pub(crate) use objective::Objective;
pub(crate) use picking::{Form, PrefixSource};
pub(crate) use words::{Builtin, Capability, CompatV1, DoorTls, Sticky};

/// Longest duration accepted: far beyond any use, and safe to add to any clock.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// The kind of a value in the file.
pub(crate) trait Leaf: Clone {
    /// Its name in the docs table, and its `format` in the JSON schema.
    const KIND: &'static str;
    /// What a YAML editor may find there.
    const JSON_TYPES: &'static [&'static str] = &["string"];
    /// Never quoted in messages.
    const SECRET: bool = false;

    /// The value, or what is wrong with the text, as the end of a sentence that starts with it.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as a user would write it.
    fn to_json(&self) -> Value;
}

/// A name, label or id: not empty, blanks around it dropped (as v1 does for policies), fit for a header.
impl Leaf for String {
    const KIND: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("contains a control character".to_owned());
        }
        Ok(text.to_owned())
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// Text of any kind, kept as it is written: an example, a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

/// Longest such text, in bytes: as much as the encoder looks at.
const MAX_TEXT_BYTES: usize = 8 * KIB;

impl Leaf for Text {
    const KIND: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is empty".to_owned());
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(format!("is longer than {MAX_TEXT_BYTES} bytes"));
        }
        Ok(Self(text.to_owned()))
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// May be empty: then no `Authorization` header is sent.
impl Leaf for Secret {
    const KIND: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        // A trailing newline is the usual trace of `kubectl create secret --from-file`.
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err("contains a control character".to_owned());
        }
        Ok(Self::new(text))
    }

    fn to_json(&self) -> Value {
        json!("")
    }
}

impl Leaf for bool {
    const KIND: &'static str = "true or false";
    const JSON_TYPES: &'static [&'static str] = &["boolean", "string"];

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is neither `true` nor `false`".to_owned()),
        }
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl Leaf for u64 {
    const KIND: &'static str = "whole number";
    const JSON_TYPES: &'static [&'static str] = &["integer", "string"];

    fn parse(text: &str) -> Result<Self, String> {
        text.trim().replace('_', "").parse().map_err(|_| "is not a whole number such as `100`".to_owned())
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// May be below zero.
impl Leaf for i64 {
    const KIND: &'static str = "whole number";
    const JSON_TYPES: &'static [&'static str] = &["integer", "string"];

    fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .replace('_', "")
            .parse()
            .map_err(|_| "is not a whole number such as `10` or `-1`".to_owned())
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl Leaf for f64 {
    const KIND: &'static str = "number";
    const JSON_TYPES: &'static [&'static str] = &["number", "string"];

    fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .parse()
            .ok()
            .filter(|number: &Self| number.is_finite())
            .ok_or_else(|| "is not a number such as `0.25`".to_owned())
    }

    fn to_json(&self) -> Value {
        match self.fract() == 0.0 {
            true => json!(*self as i64),
            false => json!(self),
        }
    }
}

impl Leaf for SocketAddr {
    const KIND: &'static str = "address";

    fn parse(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| "is not an IP address with a port, such as `0.0.0.0:8084`".to_owned())
    }

    fn to_json(&self) -> Value {
        json!(self.to_string())
    }
}

/// Where a door listens, if it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

impl Leaf for Listen {
    const KIND: &'static str = "address or `off`";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "off" {
            return Ok(Self(None));
        }
        SocketAddr::parse(text).map(|address| Self(Some(address))).map_err(|problem| problem + ", or `off`")
    }

    fn to_json(&self) -> Value {
        self.0.map_or_else(|| json!("off"), |address| address.to_json())
    }
}

impl Leaf for Duration {
    const KIND: &'static str = "duration";
    const JSON_TYPES: &'static [&'static str] = &["string", "number"];

    fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        scaled(text, &UNITS, 1.0)
            .and_then(|seconds| Self::try_from_secs_f64(seconds).ok())
            .filter(|duration| *duration <= MAX_DURATION)
            .ok_or_else(|| {
                "is not a duration such as `250ms`, `2s`, `5m` or plain seconds (at most 30 days)".to_owned()
            })
    }

    fn to_json(&self) -> Value {
        let millis = self.subsec_millis();
        json!(match millis {
            0 => format!("{}s", self.as_secs()),
            _ => format!("{}ms", self.as_millis()),
        })
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Size(pub(crate) usize);

/// Bytes in a KiB.
pub(crate) const KIB: usize = 1024;
/// Bytes in a MiB.
pub(crate) const MIB: usize = 1024 * KIB;

impl Leaf for Size {
    const KIND: &'static str = "size";
    const JSON_TYPES: &'static [&'static str] = &["string", "integer"];

    fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, f64); 7] = [
            ("KiB", 1024.0),
            ("MiB", 1_048_576.0),
            ("GiB", 1_073_741_824.0),
            ("KB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("B", 1.0),
        ];
        scaled(text, &UNITS, 1.0)
            .filter(|bytes| bytes.fract() == 0.0 && *bytes <= 1e15)
            .map(|bytes| Self(bytes as usize))
            .ok_or_else(|| "is not a size such as `10MiB`, `64KiB` or plain bytes".to_owned())
    }

    fn to_json(&self) -> Value {
        json!(match self.0 {
            bytes if bytes > 0 && bytes % MIB == 0 => format!("{}MiB", bytes / MIB),
            bytes if bytes > 0 && bytes % KIB == 0 => format!("{}KiB", bytes / KIB),
            bytes => format!("{bytes}"),
        })
    }
}

/// A number of bytes as it is written in the file, such as `10MiB`, for options of commands.
///
/// # Errors
/// Says what is wrong, as the end of a sentence that starts with the text.
pub fn parse_size(text: &str) -> Result<usize, String> {
    Size::parse(text).map(|size| size.0)
}

/// A decimal number with one of `units` behind it, or bare and then times `bare`.
fn scaled(text: &str, units: &[(&str, f64)], bare: f64) -> Option<f64> {
    let text = text.trim();
    let (digits, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, bare));
    let digits = digits.trim_end();
    // `f64` also reads `inf`, `1e9` and `-1`; none of them is what a user means here.
    let plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    plain.then(|| digits.parse::<f64>().ok()).flatten().map(|number| number * factor)
}

/// Where a model runs: scheme, host, port and an optional path prefix, without `/v1` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl(pub(crate) String);

impl Leaf for BaseUrl {
    const KIND: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let uri = http_url(text)?;
        if uri.query().is_some() {
            return Err("has a query; give only scheme, host, port and path".to_owned());
        }
        // Request paths such as `/v1/chat/completions` are appended, so `/v1` must not stand twice.
        let base = text.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        Ok(Self(base.trim_end_matches('/').to_owned()))
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// The address of a classifier, used as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FullUrl(pub(crate) String);

impl Leaf for FullUrl {
    const KIND: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        http_url(text).map(|_| Self(text.to_owned()))
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// An absolute `http` or `https` URL with a host, and nothing in it that has no place there.
fn http_url(text: &str) -> Result<http::Uri, String> {
    let wrong = |what: &dyn Display| Err(format!("is not a usable URL: {what}"));
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.contains('#') {
        return wrong(&"it has a fragment (`#`)");
    }
    let uri: http::Uri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => return wrong(&error),
    };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return wrong(&format!("scheme `{other}`; only http and https")),
        None => return wrong(&"no scheme; write `http://` or `https://` first"),
    }
    let Some(authority) = uri.authority() else {
        return wrong(&"no host");
    };
    if authority.as_str().contains('@') {
        return wrong(&"it holds a user name; use `api_key`");
    }
    if authority.host().is_empty() {
        return wrong(&"no host");
    }
    let port_text = authority.as_str().strip_prefix(authority.host());
    if port_text.is_some_and(|port| !port.is_empty()) && authority.port_u16().is_none_or(|p| p == 0) {
        return wrong(&"the port is not between 1 and 65535");
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [("250ms", 250), ("2s", 2000), ("5m", 300_000), ("1.5", 1500), ("1h", 3_600_000)];
        for (text, millis) in cases {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "inf", "1e9", "1 d", "31000000", "2 s s", "1.2.3s"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [("10MiB", 10 << 20), ("64KiB", 64 << 10), ("1 KB", 1000), ("17", 17), ("5B", 5)];
        for (text, bytes) in cases {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "0.3B", "1e3", "9999999GiB"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn base_urls_lose_v1_and_slashes_only_at_the_end() {
        let cases = [
            ("http://a:8000", "http://a:8000"),
            ("http://a:8000/", "http://a:8000"),
            ("http://a/v1/", "http://a"),
            ("https://a/proxy/v1", "https://a/proxy"),
            ("http://a/v1/b", "http://a/v1/b"),
            ("http://[::1]:80/v1", "http://[::1]:80"),
        ];
        for (text, base) in cases {
            assert_eq!(BaseUrl::parse(text), Ok(BaseUrl(base.to_owned())), "{text}");
        }
        let wrong = [
            "",
            "a:8000",
            "a",
            "/v1",
            "ftp://a",
            "http://",
            "http://:80",
            "http://u:p@a",
            "http://a?x=1",
            "http://a#f",
            "http://a:99999",
            "http://a:0",
            "http://a:",
            "http://a b",
        ];
        for text in wrong {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_read_back_as_written() {
        for duration in [Duration::ZERO, Duration::from_millis(250), Duration::from_secs(900)] {
            let text = duration.to_json();
            assert_eq!(Duration::parse(text.as_str().unwrap()), Ok(duration));
        }
        for size in [Size(10 << 20), Size(64 << 10), Size(1001)] {
            assert_eq!(Size::parse(size.to_json().as_str().unwrap()), Ok(size));
        }
    }
}
