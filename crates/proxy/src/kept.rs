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
        headers: Option<Headers<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RawValue>,
    }
    let request = kept.map(|kept| serde_json::from_slice(&kept.body)).transpose()?;
    let observed = (!decision.candidates.is_empty()).then_some(Observed(decision));
    serde_json::to_vec(&Line {
        decision,
        observed,
        headers: kept.map(|kept| Headers(&kept.headers)),
        request,
    })
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
