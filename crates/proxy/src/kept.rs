//! What is kept of a request for the decision file: enough to decide it again, bit for bit.
//!
//! Bodies only where the configuration asks for them; of headers only those that decisions go by, and never a key.
//! Written by the ticket when a request settles; read by `waypost replay`.

use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use waypost_config::{Classifier, Snapshot, SplitBy};
use waypost_router::{Decision, session_headers};

/// A request, as far as it is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    body: Bytes,
    headers: Vec<(String, String)>,
}

impl Kept {
    /// Keeps `body` and the headers that a policy of `snapshot` may go by.
    pub(crate) fn new(snapshot: &Snapshot, headers: &HeaderMap, body: &Bytes) -> Self {
        let mut names: Vec<&str> = session_headers().to_vec();
        names.push(crate::way::POLICY_HEADER);
        for policy in &snapshot.policies {
            if let Classifier::Split(split) = &policy.classifier
                && let SplitBy::Header(name) = &split.by
                && !SECRET_HEADERS.contains(&&**name)
            {
                names.push(name);
            }
        }
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let headers =
            names.into_iter().filter_map(|name| value(name).map(|value| (name.to_owned(), value))).collect();
        Self { body: body.clone(), headers }
    }
}

/// Traffic may be split by a key, but a key is never written down.
const SECRET_HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"];

/// A line of the decision file.
pub(crate) fn line(decision: &Decision, kept: Option<&Kept>) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Line<'a> {
        decision: &'a Decision,
        #[serde(skip_serializing_if = "Option::is_none")]
        observed: Option<Observed<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exact: Option<Exact<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        headers: Option<Headers<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RawValue>,
    }
    // A body that serde_json does not take costs the request, not the Decision.
    let request = kept.and_then(|kept| serde_json::from_slice(&kept.body).ok());
    let observed = (!decision.candidates.is_empty()).then_some(Observed(decision));
    let mut line = serde_json::to_vec(&Line {
        decision,
        observed,
        exact: kept.and_then(|_| Exact::of(decision)),
        headers: kept.map(|kept| Headers(&kept.headers)),
        request,
    })?;
    // Line breaks in JSON are blanks between its tokens: those of a body written over several lines.
    line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    Ok(line)
}

/// What a Decision shows to four decimals and is decided by to the last: of servers that are not asked again.
#[derive(Serialize)]
struct Exact<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qualities: Option<Qualities<'a>>,
}

impl<'a> Exact<'a> {
    fn of(decision: &'a Decision) -> Option<Self> {
        let qualities = (!decision.candidates.is_empty()).then_some(Qualities(decision));
        let exact = Self { confidence: decision.confidence, qualities };
        (exact.confidence.is_some() || exact.qualities.is_some()).then_some(exact)
    }
}

struct Qualities<'a>(&'a Decision);

impl Serialize for Qualities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.candidates.iter().map(|c| (&c.model, c.quality)))
    }
}

struct Headers<'a>(&'a [(String, String)]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The latencies that the decision went by.
struct Observed<'a>(&'a Decision);

impl Serialize for Observed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for candidate in &self.0.candidates {
            if let Some(line) = candidate.observed {
                map.serialize_entry(&candidate.model, &line)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(body: &'static str) -> Kept {
        Kept { body: Bytes::from(body), headers: vec![("x-session-id".to_owned(), "s".to_owned())] }
    }

    #[test]
    fn a_body_over_several_lines_is_kept_on_one() {
        let decision = Decision { confidence: Some(0.123_456), ..Decision::default() };
        let line = line(&decision, Some(&kept("{\r\n  \"messages\": [\"a\\nb\"]\n}"))).unwrap();
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["request"]["messages"][0], "a\nb");
        assert_eq!(line["headers"]["x-session-id"], "s");
        let exact = line["exact"]["confidence"].as_f64().map(|value| value as f32);
        assert_eq!(exact, Some(0.123_456), "to the last bit, where the Decision shows four digits");
        assert_eq!(line["decision"]["confidence"], 0.1235);
    }

    #[test]
    fn a_decision_is_written_without_its_request_where_that_is_not_kept_or_no_json() {
        for kept in [None, Some(kept("{\"a\": \u{1}}"))] {
            let line = line(&Decision { id: "7".to_owned(), ..Decision::default() }, kept.as_ref()).unwrap();
            let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!((&line["decision"]["id"], line.get("request")), (&"7".into(), None));
        }
    }
}
