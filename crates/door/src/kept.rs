//! What is kept of a request for the decision file: enough to decide it again, bit for bit.
//!
//! Bodies only where the configuration asks for them; of headers only those that name a policy or a conversation, and
//! never a key. Written by the ticket when a request settles; read by `waypost replay`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use waypost_router::{Decision, Recalled, session_headers};

/// A request, as far as it is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    body: Bytes,
    headers: Vec<(&'static str, String)>,
}

impl Kept {
    /// Keeps `body` and the headers that say what is wanted and in which conversation. What a split goes by may be a
    /// secret and is not kept: the Decision names the arm.
    pub(crate) fn new(headers: &HeaderMap, body: &Bytes) -> Self {
        let names = session_headers().iter().copied().chain([crate::route::POLICY_HEADER]);
        let kept = names.filter_map(|name| Some((name, chars(headers.get(name)?))));
        Self { body: body.clone(), headers: kept.collect() }
    }
}

/// The bytes of a header as characters of the same number, which gives them back whatever they are.
fn chars(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

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
        /// Of a conversation: null where nothing was remembered.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<Option<&'a Recalled>>,
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
        memory: kept.and(decision.conversation.as_ref()).map(|conversation| conversation.recalled.as_ref()),
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

struct Headers<'a>(&'a [(&'static str, String)]);

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
    use waypost_router::Conversation;

    fn kept(body: &'static str) -> Kept {
        Kept { body: Bytes::from(body), headers: vec![("x-session-id", "s".to_owned())] }
    }

    #[test]
    fn headers_are_kept_byte_for_byte_and_only_those_that_are_no_secret() {
        let mut headers = HeaderMap::new();
        let bytes: Vec<u8> = (32..127).chain(128..=255).collect();
        headers.insert("x-session-id", HeaderValue::from_bytes(&bytes).unwrap());
        headers.insert("x-goog-api-key", HeaderValue::from_static("secret"));
        let kept = Kept::new(&headers, &Bytes::from("{}"));
        let line = line(&Decision::default(), Some(&kept)).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let names: Vec<_> = line["headers"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["x-session-id"]);
        let value = line["headers"]["x-session-id"].as_str().unwrap();
        assert_eq!(value.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn what_was_remembered_is_kept_of_conversations_also_where_it_was_nothing() {
        let memory = |recalled, kept: Option<&Kept>| {
            let conversation = Conversation { key: 1, turn: "next", had: None, extra_usd: 0.0, recalled };
            let line =
                line(&Decision { conversation: Some(conversation), ..Decision::default() }, kept).unwrap();
            let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
            line.get("memory").cloned()
        };
        let recalled =
            Recalled { model: "m".into(), cached_tokens: 7, spent_usd: 0.1, extra_usd: 1e-7, at_ms: 5 };
        let written = memory(Some(recalled.clone()), Some(&kept("{}"))).unwrap();
        assert_eq!(serde_json::from_value::<Recalled>(written).unwrap(), recalled);
        assert_eq!(memory(None, Some(&kept("{}"))), Some(serde_json::Value::Null));
        assert_eq!(memory(None, None), None, "no use without the request");
        let plain = line(&Decision::default(), Some(&kept("{}"))).unwrap();
        assert!(!String::from_utf8(plain).unwrap().contains("memory"), "no conversation");
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
