//! Lines in the order of arrival: the gateway writes them in the order in which answers ended.
//!
//! A window of bounded size is put in order; what ended still later comes as late as it stands. Called by `replay`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Lines held.
const WINDOW_LINES: usize = 4096;
/// Bytes held.
const WINDOW_BYTES: usize = 256 * 1024 * 1024;

/// When a request arrived, the Decision's id to tell those of one moment apart, and the line.
type Held = Reverse<(u64, String, usize, Vec<u8>)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Order {
    heap: BinaryHeap<Held>,
    bytes: usize,
}

impl Order {
    /// Takes a line in.
    pub(super) fn put(&mut self, at_ms: u64, id: String, number: usize, line: Vec<u8>) {
        self.bytes += line.len();
        self.heap.push(Reverse((at_ms, id, number, line)));
    }

    /// The earliest line, once the window is full or, with `all`, whatever is held.
    pub(super) fn take(&mut self, all: bool) -> Option<(usize, Vec<u8>)> {
        if !all && self.heap.len() <= WINDOW_LINES && self.bytes <= WINDOW_BYTES {
            return None;
        }
        let Reverse((_, _, number, line)) = self.heap.pop()?;
        self.bytes -= line.len();
        Some((number, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_by_arrival() {
        let mut order = Order::default();
        let mut out = Vec::new();
        for i in 0..20_000_u64 {
            // Neighbours in threes arrive the other way round.
            let at = i / 3 * 3 + 2 - i % 3;
            order.put(at, format!("{at:08}"), i as usize, vec![]);
            out.extend(order.take(false));
        }
        while let Some(line) = order.take(true) {
            out.push(line);
        }
        assert_eq!(out.len(), 20_000);
        assert_eq!(out[..6].iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 1, 0, 5, 4, 3]);
        assert!(out.windows(2).all(|pair| pair[0].0 / 3 <= pair[1].0 / 3));
    }
}
