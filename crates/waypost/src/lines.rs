//! Bounded text from a stream of any length: a line at a time, or all of standard input.
//!
//! A longer line is skipped whole and told of, never held. Called by commands that read what they are fed.

use crate::error::Error;
use std::io::{self, BufRead, Read as _};

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The line is in the buffer, without its line break.
    Whole,
    /// It was longer than allowed and is gone.
    TooLong,
    /// There are no more.
    End,
}

/// Reads the next line into `line`, which holds at most `max` bytes and a line break.
pub(crate) fn next(input: &mut impl BufRead, max: usize, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let read = input.take(max as u64 + 1).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(Line::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > max {
        line.clear();
        return skip_line(input).map(|()| Line::TooLong);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Line::Whole)
}

/// All of standard input, at most `max` bytes.
///
/// # Errors
/// If it is longer, or not UTF-8.
pub(crate) fn all(max: usize) -> Result<String, Error> {
    let mut bytes = Vec::new();
    io::stdin().take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(Error::Usage(format!("standard input holds more than {max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::Usage("standard input is not UTF-8".to_owned()))
}

/// Moves past the next line break.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let found = buffer.iter().position(|b| *b == b'\n');
        let (used, done) = (found.map_or(buffer.len(), |at| at + 1), found.is_some() || buffer.is_empty());
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, max: usize) -> Vec<Option<String>> {
        // A small buffer, so that lines cross its edge.
        let mut input = io::BufReader::with_capacity(3, text.as_bytes());
        let mut line = Vec::new();
        let mut out = Vec::new();
        loop {
            match next(&mut input, max, &mut line).unwrap() {
                Line::Whole => out.push(Some(String::from_utf8(line.clone()).unwrap())),
                Line::TooLong => out.push(None),
                Line::End => return out,
            }
        }
    }

    #[test]
    fn lines_up_to_the_limit_are_whole_and_longer_ones_are_skipped() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(all("abcd\nabcde\r\n\nabcdef", 5), [some("abcd"), None, some(""), None]);
        assert_eq!(all("abcde\nabcd", 5), [some("abcde"), some("abcd")]);
        assert_eq!(all("abcdefghijkl\nx\n", 5), [None, some("x")]);
        assert_eq!(all("", 5), []);
    }
}
