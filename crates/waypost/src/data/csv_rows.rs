//! Rows of a CSV file with a header line.
//!
//! A record is bounded like a line of JSON: an open quotation mark must not swallow the file. Called by `data`.

use std::borrow::Cow;
use std::cell::Cell as Counter;
use std::io::{self, Read};
use std::rc::Rc;

use super::{Cell, MAX_FIELDS_SHOWN, MAX_LINE_BYTES, Reading};
use crate::error::Error;

/// What the parser may read ahead of a record.
const READ_AHEAD_BYTES: usize = 8 * 1024;

pub(super) fn read(reading: &mut Reading<'_>, input: impl Read) -> Result<(), Error> {
    let since_record = Rc::new(Counter::new(0));
    let guarded = Guarded { input, since_record: Rc::clone(&since_record) };
    let mut parser =
        csv::ReaderBuilder::new().flexible(true).buffer_capacity(READ_AHEAD_BYTES).from_reader(guarded);
    let header = parser.headers().map_err(|e| failed(reading, e, 1))?.clone();
    since_record.set(0);
    reading.names.extend(header.iter().take(MAX_FIELDS_SHOWN).map(str::to_owned));
    check_header(reading, &header)?;
    let place = |name: &str| header.iter().position(|column| column == name);
    let mut record = csv::ByteRecord::new();
    loop {
        let line = parser.position().line() as usize;
        match parser.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(failed(reading, error, line)),
        }
        since_record.set(0);
        let line = record.position().map_or(line, |at| at.line() as usize);
        if record.len() != header.len() {
            let [fields, columns] = [record.len(), header.len()];
            reading.skip(line, &format!("{fields} fields, the header names {columns}"));
            continue;
        }
        reading.row(line, |name| match place(name).and_then(|at| record.get(at)) {
            None => Cell::Absent,
            Some(bytes) => std::str::from_utf8(bytes)
                .map_or(Cell::Other("not UTF-8"), |text| Cell::Text(Cow::Borrowed(text))),
        })?;
    }
}

/// A wrong column name is wrong for every row: better said at once.
fn check_header(reading: &Reading<'_>, header: &csv::StringRecord) -> Result<(), Error> {
    for (name, option) in [(reading.fields.text, "--text-field"), (reading.fields.label, "--label-field")] {
        match header.iter().filter(|column| *column == name).count() {
            0 => return Err(reading.no_field(name, option)),
            1 => {}
            _ => return Err(reading.fatal(&format!("two columns are called '{name}'"))),
        }
    }
    Ok(())
}

fn failed(reading: &Reading<'_>, error: csv::Error, line: usize) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => reading.fatal(&format!(
            "the record at line {line} is longer than {MAX_LINE_BYTES} bytes; is a quotation mark left open?"
        )),
        csv::ErrorKind::Io(source) => Error::File { path: reading.file.into(), source },
        csv::ErrorKind::Utf8 { .. } => reading.fatal("the header is not UTF-8"),
        other => reading.fatal(&format!("line {line}: {other:?}")),
    }
}

/// Fails when too much was read without a record coming to its end.
struct Guarded<R> {
    input: R,
    since_record: Rc<Counter<usize>>,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_record.get() > MAX_LINE_BYTES + READ_AHEAD_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.input.read(buffer)?;
        self.since_record.set(self.since_record.get() + read);
        Ok(read)
    }
}
