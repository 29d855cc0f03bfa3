//! The latest requests as they arrived, kept only if asked for: proof of what a gateway in front really sent.
//!
//! Bounded in number and bytes. This is the one place that keeps prompts, which is why it is off by default.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use parking_lot::Mutex;
use serde::Serialize;

/// Requests kept.
pub(crate) const MAX_RECORDED: usize = 512;
/// Bytes of body kept; the latest request is kept whatever its size.
const MAX_RECORDED_BYTES: usize = 64 * 1024 * 1024;

/// A request as it arrived.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Recorded {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers; names in lower case, a name repeated as often as it was sent.
    pub headers: Vec<(String, String)>,
    /// Its body, byte for byte; in JSON as base64.
    #[serde(rename = "body_base64", serialize_with = "base64")]
    pub body: Bytes,
}

fn base64<S: serde::Serializer>(body: &Bytes, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&STANDARD.encode(body))
}

/// The ring of recorded requests.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    latest: VecDeque<Recorded>,
    bytes: usize,
}

impl Recorder {
    pub(crate) fn push(&self, head: &Parts, body: Bytes) {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
        let recorded = Recorded {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            headers: headers.collect(),
            body,
        };
        let ring = &mut *self.0.lock();
        ring.bytes += recorded.body.len();
        ring.latest.push_back(recorded);
        while ring.latest.len() > 1 && (ring.latest.len() > MAX_RECORDED || ring.bytes > MAX_RECORDED_BYTES) {
            let oldest = ring.latest.pop_front();
            ring.bytes -= oldest.map_or(0, |r| r.body.len());
        }
    }

    /// The latest requests, oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<Recorded> {
        let ring = self.0.lock();
        let skip = ring.latest.len().saturating_sub(count);
        ring.latest.iter().skip(skip).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(recorder: &Recorder, body: Bytes) {
        let (head, ()) = http::Request::new(()).into_parts();
        recorder.push(&head, body);
    }

    #[test]
    fn it_is_bounded_in_number() {
        let recorder = Recorder::default();
        for i in 0..MAX_RECORDED + 5 {
            push(&recorder, Bytes::from(i.to_string()));
        }
        let all = recorder.last(usize::MAX);
        assert_eq!(all.len(), MAX_RECORDED);
        assert_eq!(recorder.last(2)[0].body, all[MAX_RECORDED - 2].body);
    }

    #[test]
    fn it_is_bounded_in_bytes() {
        let recorder = Recorder::default();
        let large = Bytes::from(vec![0; MAX_RECORDED_BYTES / 2 + 1]);
        push(&recorder, large.clone());
        push(&recorder, large);
        assert_eq!(recorder.last(9).len(), 1);
    }
}
