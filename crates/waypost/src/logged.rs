//! The decision file, line by line: what the gateway appended for later.
//!
//! Reads plain and gzipped files and standard input, holds one line at a time, and counts what it cannot read. Fields it
//! does not know are no matter. Called by `replay` and `report`.

use crate::data::{not_json, open, unpacked};
use crate::error::Error;
use crate::lines::{self, Line as Next};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use waypost_router::{Asked, Recalled};

/// Longest line, in bytes: a body of the usual limit and its Decision, with room for a higher limit.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// Lines that cannot be read and are shown.
const SHOWN: usize = 5;

/// A line of the file.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) decision: &'a RawValue,
    /// Milliseconds before the first token and per token, of each candidate that was observed.
    #[serde(default)]
    pub(crate) observed: HashMap<Arc<str>, (f64, f64)>,
    #[serde(default)]
    pub(crate) exact: Exact,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What was remembered of the conversation; absent where that is not known.
    #[serde(default, deserialize_with = "present")]
    pub(crate) memory: Option<Option<Recalled>>,
    #[serde(borrow)]
    pub(crate) request: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Recalled>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Line<'_> {
    /// The headers as they came: each character stands for a byte. `None` where they cannot be headers.
    pub(crate) fn headers(&self) -> Option<HeaderMap> {
        let pair = |(name, value): (&String, &String)| {
            let bytes = value.chars().map(u8::try_from).collect::<Result<Vec<u8>, _>>().ok()?;
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(bytes).ok()?))
        };
        self.headers.iter().map(pair).collect()
    }
}

/// Numbers to the last digit.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Exact {
    pub(crate) confidence: Option<f32>,
    pub(crate) qualities: Option<HashMap<Arc<str>, f32>>,
}

/// A Decision as it was written, as far as it is read again.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Recorded {
    pub(crate) id: String,
    pub(crate) at_unix_ms: u64,
    pub(crate) path: String,
    pub(crate) policy: Option<Arc<str>>,
    pub(crate) split: Option<Arc<str>>,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) confidence: Option<f32>,
    pub(crate) tier: Option<String>,
    pub(crate) encoder: Option<Asked>,
    pub(crate) classifier_error: Option<String>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) conversation: Option<Conversation>,
    pub(crate) shadow: Vec<Shadowed>,
    pub(crate) plan: Vec<Planned>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) fallback: Option<String>,
    pub(crate) classify_ms: f64,
    pub(crate) ttft_ms: Option<f64>,
    pub(crate) total_ms: f64,
    pub(crate) status: u16,
    pub(crate) outcome: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
    pub(crate) cost_usd: Option<f64>,
}

/// A contestant of an auto policy.
#[derive(Debug, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) model: Arc<str>,
    pub(crate) quality: f32,
    pub(crate) cost_usd: Option<f64>,
}

/// The conversation of a request.
#[derive(Debug, Deserialize)]
pub(crate) struct Conversation {
    pub(crate) key: String,
    pub(crate) turn: String,
}

/// What a policy in shadow would have done.
#[derive(Debug, Deserialize)]
pub(crate) struct Shadowed {
    pub(crate) policy: Arc<str>,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) agrees: bool,
    pub(crate) cost_usd: Option<f64>,
    pub(crate) error: Option<String>,
}

/// A model of the plan.
#[derive(Debug, Deserialize)]
pub(crate) struct Planned {
    pub(crate) model: Arc<str>,
}

impl Recorded {
    /// The model that the request was to go to first.
    pub(crate) fn first(&self) -> Option<&Arc<str>> {
        self.plan.first().map(|planned| &planned.model)
    }

    /// Whether the client got no whole answer, for which it is not to blame.
    pub(crate) fn failed(&self) -> bool {
        self.status >= 500 || self.outcome.as_deref() == Some("broken")
    }
}

/// Lines that could not be read.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    pub(crate) lines: usize,
    reasons: Vec<String>,
}

impl Unread {
    pub(crate) fn note(&mut self, number: usize, reason: &str) {
        self.lines += 1;
        if self.reasons.len() < SHOWN {
            self.reasons.push(format!("line {number}: {reason}"));
        }
    }

    /// For a person; empty if all could be read.
    pub(crate) fn shown(&self) -> String {
        let lines = if self.lines == 1 { "line" } else { "lines" };
        match self.lines {
            0 => String::new(),
            n => format!("{n} {lines} could not be read: {}\n", self.reasons.join("; ")),
        }
    }
}

/// A decision file that is open.
pub(crate) struct Log {
    input: BufReader<Box<dyn Read>>,
    name: String,
    line: Vec<u8>,
    number: usize,
    found: bool,
    broken: Option<io::Error>,
    pub(crate) unread: Unread,
}

impl Log {
    /// Opens the file; `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let input = match path.to_str() {
            Some("-") => unpacked(io::stdin()),
            _ => open(path),
        };
        let input = input.map_err(failed)?;
        let name = path.display().to_string();
        Ok(Self {
            input,
            name,
            line: Vec::new(),
            number: 0,
            found: false,
            broken: None,
            unread: Unread::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The next line that is not empty, with its number; `None` at the end, or where it cannot be read further.
    pub(crate) fn next(&mut self) -> Option<(usize, &[u8])> {
        loop {
            self.number += 1;
            match lines::next(&mut self.input, MAX_LINE_BYTES, &mut self.line) {
                Err(error) => {
                    self.broken = Some(error);
                    return None;
                }
                Ok(Next::End) => return None,
                Ok(Next::TooLong) => {
                    self.found = true;
                    self.unread.note(self.number, &format!("longer than {MAX_LINE_BYTES} bytes"));
                }
                Ok(Next::Whole) if self.line.trim_ascii().is_empty() => {}
                Ok(Next::Whole) => {
                    self.found = true;
                    return Some((self.number, &self.line));
                }
            }
        }
    }

    /// Whether the last line was the file's last, as for one whose packing is cut off it is not.
    ///
    /// # Errors
    /// Why it could not be read further, and from which line.
    pub(crate) fn whole(&self) -> Result<(), Error> {
        self.broken.as_ref().map_or(Ok(()), |error| {
            let (name, line) = (&self.name, self.number);
            Err(Error::Data(format!("{name}: cannot be read from line {line} on: {error}")))
        })
    }

    /// That nothing could be made of it, and why.
    pub(crate) fn nothing(&self, what: &str) -> Error {
        let unread = self.unread.shown();
        let reason = match self.found {
            false => "it is empty",
            true => unread.trim_end(),
        };
        Error::Data(format!("{}: {what}; {reason}", self.name))
    }
}

/// Reads a line and the Decision in it.
///
/// # Errors
/// Why it is none, without repeating what it holds.
pub(crate) fn read(line: &[u8]) -> Result<(Line<'_>, Recorded), String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| match error.is_data() {
        true => "no line of a decision file".to_owned(),
        false => not_json(&error),
    })?;
    let recorded = serde_json::from_str(line.decision.get()).map_err(|error| match error.is_data() {
        true => "its `decision` is none of this version".to_owned(),
        false => not_json(&error),
    })?;
    Ok((line, recorded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_new_is_no_matter() {
        let text = br#"{"decision": {"id": "a", "new": 1, "plan": [{"model": "m", "reason": "label"}], "encoder": "late",
            "status": 502}, "exact": {"confidence": 0.1234567}, "request": {"messages": []}, "more": 1, "memory": null,
            "headers": {"x-session-id": "caf\u00c3\u00a9"}}"#;
        let (line, recorded) = read(text).unwrap();
        assert_eq!(
            (line.request.map(RawValue::get), line.exact.confidence),
            (Some(r#"{"messages": []}"#), Some(0.123_456_7))
        );
        assert_eq!(
            (recorded.first().map(|m| &**m), recorded.encoder, recorded.failed()),
            (Some("m"), Some(Asked::Late), true)
        );
        assert_eq!(
            (line.memory.clone(), line.headers().unwrap()["x-session-id"].as_bytes()),
            (Some(None), "café".as_bytes())
        );
        let (older, _) = read(br#"{"decision": {}, "headers": {"x-session-id": "\u4e00"}}"#).unwrap();
        assert_eq!((older.memory.clone(), older.headers()), (None, None));
        for bad in [&b"{}"[..], b"[", b"{\"decision\": 5}", b"{\"decision\": {\"id\": 5}}"] {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
