//! The SSE reader: however a stream is cut, it must read the same events and end at the same boundary,
//! within its memory bound.
//!
//! An input is four chunk sizes, used in turn, and the stream. A byte 0xFF stands for a long run of 'x',
//! so that a short input reaches the bound on the length of an event.
#![no_main]

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use std::alloc::System;
use waypost_wire::SseReader;
use waypost_wire::sse::MAX_EVENT_BYTES;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Four of these fall just short of the bound; what stands around them reaches it to the byte.
const RUN_BYTES: usize = MAX_EVENT_BYTES / 4 - 8;
/// Most runs in one input: enough for an oversized event and a whole one after it.
const MAX_RUNS: usize = 6;
/// Chunk sizes from here on count in pages rather than bytes.
const PAGES_FROM: u8 = 128;
const PAGE_BYTES: usize = 4096;
/// Small chunks read before the rest of a stream follows in one, to keep long streams fast.
const MAX_CHUNKS: usize = 2048;
/// The unfinished line and the data together stay under the bound; a growing buffer holds up to twice
/// its content, and up to three times while it moves.
const MAX_HELD_BYTES: usize = 4 * MAX_EVENT_BYTES;

fuzz_target!(|input: &[u8]| {
    let Some((sizes, packed)) = input.split_first_chunk::<4>() else { return };
    let stream = unpack(packed);
    let whole = read(&stream, |_| stream.len());
    let cut = read(&stream, |turn| match sizes[turn % sizes.len()] {
        _ if turn > MAX_CHUNKS => stream.len(),
        pages @ PAGES_FROM.. => usize::from(pages - PAGES_FROM + 1) * PAGE_BYTES,
        bytes => usize::from(bytes) + 1,
    });
    assert_eq!(whole.boundary, cut.boundary, "boundary");
    assert_eq!(whole.mid_event, cut.mid_event, "mid_event");
    assert!(whole.events == cut.events, "events: {:?} whole, {:?} cut", whole.shape(), cut.shape());
});

fn unpack(packed: &[u8]) -> Vec<u8> {
    let (mut stream, mut runs) = (Vec::new(), 0);
    for &byte in packed {
        if byte == 0xFF && runs < MAX_RUNS {
            stream.resize(stream.len() + RUN_BYTES, b'x');
            runs += 1;
        } else {
            stream.push(byte);
        }
    }
    stream
}

struct Reading {
    events: Vec<Vec<u8>>,
    /// Bytes of the stream that lie in complete events.
    boundary: usize,
    mid_event: bool,
}

impl Reading {
    fn shape(&self) -> Vec<usize> {
        self.events.iter().map(Vec::len).collect()
    }
}

fn read(stream: &[u8], size: impl Fn(usize) -> usize) -> Reading {
    let mut reader = SseReader::new();
    let mut events = Vec::new();
    let (mut boundary, mut pos, mut turn) = (0, 0, 0);
    let mut held = 0;
    while pos < stream.len() {
        let chunk = &stream[pos..stream.len().min(pos + size(turn))];
        let before = HEAP.allocated();
        let mut kept = 0;
        let whole = reader.feed(chunk, |data| {
            let before = HEAP.allocated();
            events.push(data.to_vec());
            kept += HEAP.allocated() as isize - before as isize;
        });
        held += HEAP.allocated() as isize - before as isize - kept;
        assert!(held <= (MAX_HELD_BYTES + 2 * chunk.len()) as isize, "holds {held} bytes");
        assert!(whole <= chunk.len());
        if whole > 0 {
            boundary = pos + whole;
        }
        pos += chunk.len();
        turn += 1;
        assert_eq!(reader.mid_event(), boundary < pos, "at {pos}");
    }
    Reading { events, boundary, mid_event: reader.mid_event() }
}
