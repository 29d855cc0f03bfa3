//! Rows of a CSV file with a header line.
//!
//! A record is bounded like a line of JSON: an open quotation mark must not swallow the file. Called by `data`.

use std::borrow::Cow;
use std::cell::Cell as Counter;
use std::io::{self, Read};
use std::rc::Rc;

use super::MAX_LINE_BYTES;
use super::scan::{Cell, MAX_FIELDS_SHOWN, Reading};
use crate::error::Error;

/// How an open quotation mark is spoken of.
const LEFT_OPEN: &str = "is a quotation mark left open?";

/// What the parser may read ahead of a record.
const READ_AHEAD_BYTES: usize = 8 * 1024;

pub(super) fn read(reading: &mut Reading<'_>, input: impl Read) -> Result<(), Error> {
    let (since_record, quotes) = (Rc::new(Counter::new(0)), Rc::new(Counter::new(0)));
    let guarded = Guarded { input, since_record: Rc::clone(&since_record), quotes: Rc::clone(&quotes) };
    let mut parser =
        csv::ReaderBuilder::new().flexible(true).buffer_capacity(READ_AHEAD_BYTES).from_reader(guarded);
    let header = parser.headers().map_err(|e| failed(reading, e, 1))?.clone();
    since_record.set(0);
    reading.names.extend(header.iter().take(MAX_FIELDS_SHOWN).map(str::to_owned));
    check_header(reading, &header)?;
    let place = |name: &str| header.iter().position(|column| column == name);
    let mut record = csv::ByteRecord::new();
    // Where the latest record began, and whether its last field, which an open mark would have run to the end, has lines.
    let mut latest = (1, false);
    loop {
        let line = parser.position().line() as usize;
        match parser.read_byte_record(&mut record) {
            Ok(true) => {}
            // What an open quotation mark swallowed to the end was many rows: better none than a few of them.
            Ok(false) if latest.1 && quotes.get() % 2 == 1 => {
                return Err(reading.fatal(&format!(
                    "line {} and all that follow it are one record; {LEFT_OPEN}",
                    latest.0
                )));
            }
            Ok(false) => return Ok(()),
            Err(error) => return Err(failed(reading, error, line)),
        }
        since_record.set(0);
        let line = record.position().map_or(line, |at| at.line() as usize);
        latest = (line, record.iter().next_back().is_some_and(|field| field.contains(&b'\n')));
        if record.len() != header.len() {
            let (columns, fields) = (header.len(), if record.len() == 1 { "field" } else { "fields" });
            let open = if latest.1 { format!("; {LEFT_OPEN}") } else { String::new() };
            reading.skip(line, &format!("{} {fields}, the header names {columns}{open}", record.len()));
            continue;
        }
        reading.row(line, &|name| match place(name).and_then(|at| record.get(at)) {
            None => Cell::Absent,
            Some(bytes) => std::str::from_utf8(bytes)
                .map_or(Cell::Other("not UTF-8"), |text| Cell::Text(Cow::Borrowed(text))),
        })?;
    }
}

/// A wrong column name is wrong for every row: better said at once.
fn check_header(reading: &Reading<'_>, header: &csv::StringRecord) -> Result<(), Error> {
    for wanted in reading.sink.wanted().iter().filter(|wanted| wanted.in_every_row) {
        let times = |name: &&str| header.iter().filter(|column| column == name).count();
        match wanted.names.iter().map(times).max().unwrap_or_default() {
            0 if header.len() == 1 && header.iter().any(|only| only.contains([';', '\t'])) => {
                return Err(reading.fatal("its header has no comma; columns are separated by commas in CSV"));
            }
            0 => return Err(reading.no_field(wanted.names[0], wanted.option)),
            1 => {}
            _ => return Err(reading.fatal(&format!("two columns are called '{}'", wanted.names[0]))),
        }
    }
    Ok(())
}

fn failed(reading: &Reading<'_>, error: csv::Error, line: usize) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => reading
            .fatal(&format!("the record at line {line} is longer than {MAX_LINE_BYTES} bytes; {LEFT_OPEN}")),
        csv::ErrorKind::Io(source) => Error::File { path: reading.file.into(), source },
        csv::ErrorKind::Utf8 { .. } => reading.fatal("the header is not UTF-8"),
        other => reading.fatal(&format!("line {line}: {other:?}")),
    }
}

/// Fails when too much was read without a record coming to its end; counts quotation marks.
struct Guarded<R> {
    input: R,
    since_record: Rc<Counter<usize>>,
    quotes: Rc<Counter<usize>>,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_record.get() > MAX_LINE_BYTES + READ_AHEAD_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.input.read(buffer)?;
        self.since_record.set(self.since_record.get() + read);
        let quotes = buffer[..read].iter().filter(|byte| **byte == b'"').count();
        self.quotes.set(self.quotes.get() + quotes);
        Ok(read)
    }
}
