//! Whole lines on their way into a file: many at a time, and after a failure from the start of a line on.
//!
//! What the file does not take is gone and counted; it is not tried again, because it would stand in the way of what
//! comes next. Part of `file`.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Batch<W> {
    out: W,
    lines: Vec<u8>,
    /// When the first of them came.
    since: Option<Instant>,
    /// The last thing written is a piece of a line.
    torn: bool,
}

/// Lines that were lost, and why.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) lines: u64,
    pub(crate) error: io::Error,
}

impl<W: Write> Batch<W> {
    /// `torn` says that the file ends in the middle of a line.
    pub(crate) fn new(out: W, torn: bool) -> Self {
        Self { out, lines: Vec::new(), since: None, torn }
    }

    /// Takes a line with its line break.
    pub(crate) fn put(&mut self, line: &[u8]) {
        self.since.get_or_insert_with(Instant::now);
        self.lines.extend_from_slice(line);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// How long the first line may still wait, where none waits longer than `most`.
    pub(crate) fn due_in(&self, most: Duration) -> Duration {
        self.since.map_or(most, |since| most.saturating_sub(since.elapsed()))
    }

    /// Writes all lines.
    ///
    /// # Errors
    /// When the file did not take them all; those are gone.
    pub(crate) fn write(&mut self) -> Result<(), Lost> {
        let lines = std::mem::take(&mut self.lines);
        if self.since.take().is_none() {
            return Ok(());
        }
        if self.torn {
            let lost = |error| Lost { lines: count(&lines), error };
            self.out.write_all(b"\n").map_err(lost)?;
            self.torn = false;
        }
        let mut rest = &lines[..];
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(n) if n > 0 => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                failed => {
                    let written = &lines[..lines.len() - rest.len()];
                    self.torn = written.last().is_some_and(|last| *last != b'\n');
                    let error = failed.err().unwrap_or_else(|| ErrorKind::WriteZero.into());
                    return Err(Lost { lines: count(rest), error });
                }
            }
        }
        Ok(())
    }
}

/// Lines that end in `bytes`.
fn count(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    #[derive(Default)]
    struct Disk {
        holds: Vec<u8>,
        room: usize,
        calls: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.holds.extend_from_slice(&bytes[..taken]);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_together_and_only_when_there_are_some() {
        let mut batch = Batch::new(Disk { room: 100, ..Disk::default() }, false);
        ["a\n", "b\n", "c\n"].iter().for_each(|line| batch.put(line.as_bytes()));
        assert_eq!(batch.bytes(), 6);
        batch.write().unwrap();
        batch.write().unwrap();
        assert_eq!((batch.out.calls, &batch.out.holds[..]), (1, &b"a\nb\nc\n"[..]));
    }

    #[test]
    fn a_torn_line_costs_itself_and_no_other() {
        let mut batch = Batch::new(Disk { room: 5, ..Disk::default() }, false);
        ["one\n", "two\n", "three\n"].iter().for_each(|line| batch.put(line.as_bytes()));
        assert_eq!(batch.write().unwrap_err().lines, 2);
        batch.put(b"four\n");
        let lost = batch.write().unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (1, ErrorKind::StorageFull));
        batch.out.room = 100;
        batch.put(b"five\n");
        batch.put(b"six\n");
        batch.write().unwrap();
        assert_eq!(String::from_utf8(batch.out.holds).unwrap(), "one\nt\nfive\nsix\n");
    }

    #[test]
    fn a_line_break_is_not_begun_with_where_none_is_missing() {
        let mut batch = Batch::new(Disk { room: 2, ..Disk::default() }, false);
        batch.put(b"a\n");
        batch.put(b"b\n");
        assert_eq!(batch.write().unwrap_err().lines, 1);
        batch.out.room = 100;
        batch.put(b"c\n");
        batch.write().unwrap();
        assert_eq!(batch.out.holds, b"a\nc\n");
    }
}
