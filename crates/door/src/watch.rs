//! What passes by, looked at: token usage, events, and whether a stream said that it is complete.
//!
//! Of a stream of events it knows where whole events end; of a JSON answer that comes in pieces it keeps the end only, since
//! that is where engines put the usage. It never changes a byte. Fed by whoever passes an answer on.

use waypost_wire::{SseReader, Usage};

/// Kept of a JSON answer for its usage, in bytes: what engines write after it is far shorter.
const JSON_TAIL_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Watch {
    kind: Kind,
    usage: Option<Usage>,
    events: u64,
    done: bool,
}

#[derive(Debug)]
enum Kind {
    Events(SseReader),
    /// The answer's last bytes so far.
    Json(Vec<u8>),
}

impl Watch {
    /// Of a stream of server-sent events.
    #[must_use]
    pub fn of_events() -> Self {
        Self::new(Kind::Events(SseReader::new()))
    }

    /// Of a JSON answer.
    #[must_use]
    pub fn of_json() -> Self {
        Self::new(Kind::Json(Vec::new()))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, usage: None, events: 0, done: false }
    }

    /// Looks at the next bytes. Returns how many of them belong to complete events: 0 where they lie within one. Of JSON
    /// that is none, ever.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        match &mut self.kind {
            Kind::Events(reader) => reader.feed(bytes, |event| {
                self.usage = Usage::find(event).or(self.usage);
                self.events += 1;
                self.done |= event == b"[DONE]";
            }),
            Kind::Json(tail) => {
                let bytes = &bytes[bytes.len().saturating_sub(JSON_TAIL_BYTES)..];
                let over = (tail.len() + bytes.len()).saturating_sub(JSON_TAIL_BYTES);
                tail.drain(..over);
                tail.extend_from_slice(bytes);
                0
            }
        }
    }

    /// Usage as reported last, once it has passed by.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match &self.kind {
            Kind::Events(_) => self.usage,
            Kind::Json(tail) => Usage::find(tail),
        }
    }

    /// Complete events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The stream has said `[DONE]`.
    #[must_use]
    pub fn done(&self) -> bool {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_cut_anywhere_tells_its_usage_and_where_whole_events_end() {
        let stream = b"data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";
        for size in 1..stream.len() {
            let (mut watch, mut seen, mut whole) = (Watch::of_events(), 0, 0);
            for piece in stream.chunks(size) {
                let ends = watch.feed(piece);
                whole = if ends > 0 { seen + ends } else { whole };
                seen += piece.len();
            }
            assert_eq!((whole, watch.events(), watch.done()), (stream.len(), 2, true), "{size}");
            assert_eq!(watch.usage().map(|usage| usage.total()), Some(7), "{size}");
        }
    }

    #[test]
    fn a_json_answer_of_any_length_tells_its_usage_and_only_its_end_is_kept() {
        let mut answer = br#"{"data":["#.to_vec();
        answer.resize(3 * JSON_TAIL_BYTES, b' ');
        answer.extend_from_slice(br#"],"usage":{"prompt_tokens":3}}"#);
        for size in [1000, JSON_TAIL_BYTES + 1, answer.len()] {
            let mut watch = Watch::of_json();
            for piece in answer.chunks(size) {
                assert_eq!(watch.feed(piece), 0);
                let Kind::Json(tail) = &watch.kind else { panic!("it was made for JSON") };
                assert!(tail.len() <= JSON_TAIL_BYTES);
            }
            assert_eq!(watch.usage().map(|usage| usage.prompt_tokens), Some(3), "{size}");
        }
    }
}
