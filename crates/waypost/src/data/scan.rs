//! One file of rows, whatever they hold: JSON Lines or CSV, plain or gzipped, each row given to a [`Sink`].
//!
//! Bounded in bytes a line. A row that the sink refuses is left out and named with its line and reason; a file of which
//! no row can be used is an error that says why. Never guesses a field's name. Called by `data` and by `outcomes`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

use super::{MAX_LINE_BYTES, csv_rows, not_json};
use crate::error::Error;
use crate::lines::{self, Line};

/// Rows left out that are shown one by one.
const SHOWN: usize = 20;
/// Names of fields kept for messages.
pub(super) const MAX_FIELDS_SHOWN: usize = 40;
const READ_BUFFER_BYTES: usize = 256 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A value as far as a row is concerned.
pub(crate) enum Cell<'a> {
    Absent,
    Text(Cow<'a, str>),
    Number(String),
    Flag(bool),
    /// Something that cannot be used, in words.
    Other(&'static str),
}

/// A field that rows are to have, under one of some names.
pub(crate) struct Wanted<'a> {
    /// The first is the one that messages speak of.
    pub(crate) names: Vec<&'a str>,
    /// The option that chooses another.
    pub(crate) option: &'static str,
    /// Without it a row cannot be used; otherwise it need only occur in the file.
    pub(crate) in_every_row: bool,
}

/// Why a row was not taken.
pub(crate) enum Refused {
    /// This row cannot be used, for this reason.
    Row(String),
    /// The whole file cannot.
    File(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Row(reason)
    }
}

/// What becomes of the rows.
pub(crate) trait Sink {
    /// The fields rows are to have.
    fn wanted(&self) -> Vec<Wanted<'_>>;
    /// Takes the row that begins at `line`, whose fields `get` gives.
    fn take<'v>(&mut self, line: usize, get: &dyn Fn(&str) -> Cell<'v>) -> Result<(), Refused>;
    /// Where the rows that were not taken are noted.
    fn left_out(&mut self) -> &mut LeftOut;
}

/// Rows that were left out.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// How many.
    pub(crate) rows: usize,
    /// The first of them: file, line, reason.
    pub(crate) reasons: Vec<String>,
}

impl LeftOut {
    /// For a person; empty if nothing was left out.
    pub(crate) fn shown(&self) -> String {
        if self.rows == 0 {
            return String::new();
        }
        let rows = if self.rows == 1 { "row" } else { "rows" };
        let mut text = format!("{} {rows} left out:\n", self.rows);
        self.reasons.iter().for_each(|reason| text.push_str(&format!("  {reason}\n")));
        if self.rows > self.reasons.len() {
            text.push_str(&format!("  and {} more\n", self.rows - self.reasons.len()));
        }
        text
    }
}

/// Gives every row of `file` to the sink.
///
/// # Errors
/// When the file cannot be read, a wanted field occurs in no row, the sink refuses the file, or nothing is usable.
pub(crate) fn scan(file: &Path, sink: &mut dyn Sink) -> Result<(), Error> {
    let io = |source| Error::File { path: file.to_owned(), source };
    let shown = file.display().to_string();
    let found = vec![false; sink.wanted().len()];
    let before = sink.left_out().rows;
    let mut reading = Reading { sink, file: &shown, names: BTreeSet::new(), found, taken: 0 };
    let mut input = open(file).map_err(io)?;
    if is_csv(file, &mut input).map_err(io)? {
        csv_rows::read(&mut reading, input)?;
    } else {
        reading.json_lines(&mut input)?;
    }
    reading.check_fields(before)
}

/// One file on its way into the sink.
pub(super) struct Reading<'a> {
    pub(super) sink: &'a mut dyn Sink,
    pub(super) file: &'a str,
    /// Names of fields that were met, for messages.
    pub(super) names: BTreeSet<String>,
    /// Which of the wanted fields were met.
    found: Vec<bool>,
    taken: usize,
}

impl Reading<'_> {
    fn json_lines(&mut self, input: &mut impl BufRead) -> Result<(), Error> {
        let mut line = Vec::new();
        for number in 1.. {
            match self.io(lines::next(input, MAX_LINE_BYTES, &mut line))? {
                Line::End => break,
                Line::TooLong => {
                    self.skip(number, &format!("the line is longer than {MAX_LINE_BYTES} bytes"))
                }
                Line::Whole if line.trim_ascii().is_empty() => {}
                Line::Whole => self.json_line(number, &line)?,
            }
        }
        Ok(())
    }

    fn json_line(&mut self, number: usize, line: &[u8]) -> Result<(), Error> {
        let line = if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
        if number == 1 && line.trim_ascii_start().starts_with(b"[") {
            return Err(
                self.fatal("holds a JSON array; one JSON object a line is expected (JSON Lines), or CSV")
            );
        }
        let object: Map<String, Value> = match serde_json::from_slice(line) {
            Ok(object) => object,
            Err(error) => {
                self.skip(number, &not_json(&error));
                return Ok(());
            }
        };
        for name in object.keys() {
            if self.names.len() < MAX_FIELDS_SHOWN && !self.names.contains(name) {
                self.names.insert(name.clone());
            }
        }
        self.row(number, &|name| match object.get(name) {
            None => Cell::Absent,
            Some(Value::String(text)) => Cell::Text(Cow::Borrowed(text)),
            Some(Value::Number(n)) => Cell::Number(n.to_string()),
            Some(Value::Bool(flag)) => Cell::Flag(*flag),
            Some(Value::Null) => Cell::Other("null"),
            Some(Value::Array(_)) => Cell::Other("a list"),
            Some(Value::Object(_)) => Cell::Other("an object"),
        })
    }

    /// Gives a row to the sink, or notes why it is left out.
    pub(super) fn row<'v>(&mut self, line: usize, get: &dyn Fn(&str) -> Cell<'v>) -> Result<(), Error> {
        if self.found.contains(&false) {
            let met =
                |wanted: &Wanted<'_>| wanted.names.iter().any(|name| !matches!(get(name), Cell::Absent));
            let met: Vec<bool> = self.sink.wanted().iter().map(met).collect();
            self.found.iter_mut().zip(met).for_each(|(found, met)| *found |= met);
        }
        match self.sink.take(line, get) {
            Ok(()) => self.taken += 1,
            Err(Refused::Row(reason)) => self.skip(line, &reason),
            Err(Refused::File(reason)) => return Err(self.fatal(&reason)),
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, line: usize, reason: &str) {
        let reason = format!("{}:{line}: {reason}", self.file);
        let left_out = self.sink.left_out();
        left_out.rows += 1;
        if left_out.reasons.len() < SHOWN {
            left_out.reasons.push(reason);
        }
    }

    /// After the last row: was there anything, and did the fields exist at all?
    fn check_fields(&mut self, skipped: usize) -> Result<(), Error> {
        let missing = |wanted: Vec<Wanted<'_>>, of_rows: bool, found: &[bool]| {
            let lacks = |(wanted, found): &(Wanted<'_>, &bool)| wanted.in_every_row == of_rows && !**found;
            let first = wanted.into_iter().zip(found).find(lacks);
            first.map(|(wanted, _)| (wanted.names[0].to_owned(), wanted.option))
        };
        if let Some((name, option)) = missing(self.sink.wanted(), false, &self.found) {
            return Err(self.no_field(&name, option));
        }
        if self.taken > 0 {
            return Ok(());
        }
        if self.sink.left_out().rows == skipped {
            return Err(self.fatal("holds no rows"));
        }
        if !self.names.is_empty()
            && let Some((name, option)) = missing(self.sink.wanted(), true, &self.found)
        {
            return Err(self.no_field(&name, option));
        }
        let shown = self.sink.left_out().shown();
        Err(self.fatal(&format!("no row can be used; {}", shown.trim_end())))
    }

    pub(super) fn no_field(&self, name: &str, option: &str) -> Error {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        self.fatal(&format!(
            "has no field '{name}'; its fields are: {}. Choose one with {option}",
            names.join(", ")
        ))
    }

    pub(super) fn io<T>(&self, result: std::io::Result<T>) -> Result<T, Error> {
        result.map_err(|source| Error::File { path: self.file.into(), source })
    }

    pub(super) fn fatal(&self, what: &str) -> Error {
        Error::Data(format!("{}: {what}", self.file))
    }
}

/// The file's own bytes or, if they are gzipped, what they unpack to.
pub(crate) fn open(file: &Path) -> std::io::Result<BufReader<Box<dyn Read>>> {
    unpacked(File::open(file)?)
}

/// The bytes of `input` or, if they are gzipped, what they unpack to.
pub(crate) fn unpacked(input: impl Read + 'static) -> std::io::Result<BufReader<Box<dyn Read>>> {
    let mut raw = BufReader::with_capacity(READ_BUFFER_BYTES, input);
    // A pipe may have given one byte so far; no text begins with this one.
    let gzipped = matches!(raw.fill_buf()?, [0x1f] | [0x1f, 0x8b, ..]);
    let unpacked: Box<dyn Read> = match gzipped {
        true => Box::new(MultiGzDecoder::new(raw)),
        false => Box::new(raw),
    };
    Ok(BufReader::with_capacity(READ_BUFFER_BYTES, unpacked))
}

/// By the file's name, or by its first byte where the name says nothing.
fn is_csv(file: &Path, input: &mut impl BufRead) -> std::io::Result<bool> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    if name.ends_with(".csv") {
        return Ok(true);
    }
    if name.ends_with(".jsonl") || name.ends_with(".ndjson") || name.ends_with(".json") {
        return Ok(false);
    }
    let start = input.fill_buf()?;
    let start = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start).trim_ascii_start();
    Ok(!matches!(start.first(), Some(b'{' | b'[')))
}
