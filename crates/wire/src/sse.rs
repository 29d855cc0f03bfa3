//! A reader of server-sent events that survives bytes split anywhere.
//!
//! It looks on while bytes pass by: it hands out the data of each complete event and says up to where
//! the bytes seen so far are whole events. It never changes a byte and holds at most
//! [`MAX_EVENT_BYTES`] of an event that spans chunks. Called by the relay.

/// Longest event kept while it is incomplete, in bytes. A longer one is passed on but not read.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// State between two chunks of a stream.
#[derive(Debug, Default)]
pub struct SseReader {
    /// The unfinished line, when a chunk ended inside one.
    line: Vec<u8>,
    /// Data of the unfinished event.
    data: Vec<u8>,
    has_data: bool,
    /// Bytes of the current event seen so far, line ends included.
    event_bytes: usize,
    /// The current event is longer than the bound: its data is not handed out.
    oversized: bool,
    /// The last byte was a carriage return, so a line feed that follows belongs to it.
    after_cr: bool,
    /// A byte order mark may still stand at the very start.
    started: bool,
}

impl SseReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next bytes; `on_event` gets the data of every event completed by them.
    ///
    /// Returns how many bytes of `chunk` belong to complete events: 0 when the chunk lies within one
    /// event, `chunk.len()` when it ends exactly between two.
    pub fn feed(&mut self, chunk: &[u8], mut on_event: impl FnMut(&[u8])) -> usize {
        let mut boundary = 0;
        let mut pos = 0;
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            if chunk[0] == b'\n' {
                pos = 1;
                // The line feed belongs to the line end before it, which may have ended an event. It is
                // not counted, so that a cut inside a line end changes nothing.
                boundary = usize::from(self.event_bytes == 0);
            }
        }
        while let Some(hit) = memchr::memchr2(b'\n', b'\r', &chunk[pos..]) {
            let end = pos + hit;
            let mut next = end + 1;
            self.count(next - pos);
            if chunk[end] == b'\r' {
                match chunk.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if self.line.is_empty() {
                self.finish_line(&chunk[pos..end], &mut on_event);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&chunk[pos..end]);
                self.finish_line(&line, &mut on_event);
                line.clear();
                self.line = line;
            }
            if self.event_bytes == 0 {
                boundary = next;
            }
            pos = next;
        }
        let rest = &chunk[pos..];
        self.count(rest.len());
        if self.oversized {
            // Only whether the line is empty still matters.
            self.line.truncate(1);
        }
        if !rest.is_empty() && (!self.oversized || self.line.is_empty()) {
            let keep = if self.oversized { &rest[..1] } else { rest };
            self.line.extend_from_slice(keep);
        }
        boundary
    }

    /// True when bytes of an unfinished event have been seen.
    #[must_use]
    pub fn mid_event(&self) -> bool {
        self.event_bytes > 0
    }

    fn count(&mut self, bytes: usize) {
        self.event_bytes += bytes;
        if self.event_bytes > MAX_EVENT_BYTES && !self.oversized {
            self.oversized = true;
            self.data = Vec::new();
        }
    }

    fn finish_line(&mut self, line: &[u8], on_event: &mut impl FnMut(&[u8])) {
        let line = if self.started { line } else { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            if self.has_data && !self.oversized {
                on_event(&self.data);
            }
            self.data.clear();
            self.has_data = false;
            self.oversized = false;
            self.event_bytes = 0;
            return;
        }
        let Some(value) = line.strip_prefix(b"data").filter(|_| !self.oversized) else {
            return;
        };
        let value = match value.first() {
            None => value,
            Some(b':') => value[1..].strip_prefix(b" ").unwrap_or(&value[1..]),
            Some(_) => return, // a field whose name merely starts with "data"
        };
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All events, and the bytes that lie in complete events, of a stream cut at the given sizes.
    fn read(stream: &[u8], sizes: &[usize]) -> (Vec<Vec<u8>>, usize) {
        let mut reader = SseReader::new();
        let (mut events, mut whole, mut pos, mut turn) = (Vec::new(), 0, 0, 0);
        while pos < stream.len() {
            let size =
                sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(1).clamp(1, stream.len() - pos);
            let boundary = reader.feed(&stream[pos..pos + size], |data| events.push(data.to_vec()));
            if boundary > 0 {
                whole = pos + boundary;
            }
            assert_eq!(reader.mid_event(), whole < pos + size, "at {}", pos + size);
            pos += size;
            turn += 1;
        }
        (events, whole)
    }

    #[test]
    fn fields_comments_and_line_ends_follow_the_standard() {
        let stream = b"\xEF\xBB\xBFdata: a\r\n\r\n: ping\n\ndata:b\ndata: c\nid: 7\n\nevent: x\rdata: d\r\rdata\n\ndatax: no\n\ndata: open";
        let (events, whole) = read(stream, &[stream.len()]);
        assert_eq!(events, [&b"a"[..], b"b\nc", b"d", b""]);
        assert_eq!(&stream[whole..], b"data: open");
    }

    #[test]
    fn an_oversized_event_passes_unread_and_the_next_is_read() {
        let mut stream = b"data: ".to_vec();
        stream.resize(MAX_EVENT_BYTES + 4096, b'x');
        stream.extend_from_slice(b"\n\ndata: next\n\n");
        let mut reader = SseReader::new();
        let mut events = Vec::new();
        for chunk in stream.chunks(60_000) {
            reader.feed(chunk, |data| events.push(data.to_vec()));
            assert!(reader.line.len() <= MAX_EVENT_BYTES);
        }
        assert_eq!(events.len(), 1);
        assert_eq!(events[0], b"next");
    }

    proptest::proptest! {
        #[test]
        fn chunking_never_changes_what_is_read(
            stream in "(data: ?[a-c]{0,3}(\n|\r\n|\r)|: c\n|\n|\r\n|\r|x){0,12}",
            sizes in proptest::collection::vec(1_usize..5, 1..6),
        ) {
            let whole = read(stream.as_bytes(), &[stream.len().max(1)]);
            let cut = read(stream.as_bytes(), &sizes);
            proptest::prop_assert_eq!(&whole.0, &cut.0);
            // A stream that ends in "\r" may or may not be followed by "\n"; both boundaries are right.
            proptest::prop_assert_eq!(whole.1, cut.1);
        }
    }
}
