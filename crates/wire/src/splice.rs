//! Surgical edits of a body: the client's own bytes, with only what must change exchanged.
//!
//! Nothing is copied but the new pieces; the rest stays in the client's buffer and goes out as slices
//! of it. Called by the doors when they forward a request.

use bytes::Bytes;
use smallvec::SmallVec;
use std::ops::Range;

/// One change: the bytes of `range` give way to `with`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Byte range in the original body.
    pub range: Range<usize>,
    /// What stands there afterwards.
    pub with: Bytes,
}

/// Two edits leave at most five pieces.
const PIECES: usize = 5;
/// The edits of one request.
pub type Edits = SmallVec<[Edit; 2]>;

/// A body in pieces, cheap to clone for a retry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments {
    pieces: SmallVec<[Bytes; PIECES]>,
    len: usize,
}

impl Segments {
    /// `body` with `edits` applied. Edits must not overlap; their order does not matter.
    #[must_use]
    pub fn new(body: &Bytes, mut edits: Edits) -> Self {
        // An insertion comes before a removal at the same place.
        edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let mut out = Self::default();
        let mut from = 0;
        for edit in edits {
            debug_assert!(edit.range.start >= from, "edits overlap");
            out.push(body.slice(from..edit.range.start.max(from)));
            from = edit.range.end.max(from);
            out.push(edit.with);
        }
        out.push(body.slice(from..));
        out
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Total length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order; none is empty.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> + use<> {
        self.pieces.into_iter()
    }

    /// All of it in one buffer.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_edited_bytes_change() {
        let body = Bytes::from_static(b"{\"a\": 1 , \"b\":2}");
        let edits = smallvec::smallvec![
            Edit { range: 14..15, with: Bytes::from_static(b"33") },
            Edit { range: 6..7, with: Bytes::new() },
        ];
        let out = Segments::new(&body, edits);
        assert_eq!(out.to_vec(), b"{\"a\":  , \"b\":33}");
        assert_eq!(out.len(), out.to_vec().len());
        assert_eq!(Segments::new(&body, SmallVec::new()).to_vec(), &body[..]);
    }
}
