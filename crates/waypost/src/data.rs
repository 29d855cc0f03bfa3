//! Labelled rows from a file of JSON Lines or CSV, plain or gzipped: what `train` and `eval` learn from and judge by.
//!
//! Bounded in rows, in bytes a line and in bytes altogether. A row that cannot be used is left out and named with its line
//! and reason; a file of which no row can be used is an error that says why. Never guesses a field's name.

mod csv_rows;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::lines::{self, Line};

/// Most rows read from all files of one command.
pub(crate) const MAX_ROWS: usize = 1_000_000;
/// Longest line of JSON, and longest CSV record.
pub(crate) const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Longest text of a row.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Longest label or source.
const MAX_NAME_BYTES: usize = 512;
/// Most text held altogether.
const MAX_TOTAL_BYTES: usize = 2 * 1024 * 1024 * 1024;
/// Rows left out that are shown one by one.
const SHOWN: usize = 20;
/// Names of fields kept for messages.
const MAX_FIELDS_SHOWN: usize = 40;
const READ_BUFFER_BYTES: usize = 256 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Which fields of a row hold what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) text: &'a str,
    pub(crate) label: &'a str,
    /// Where a row comes from; rows without it are fine.
    pub(crate) source: Option<&'a str>,
    /// The user named the source field, so a file without it is an error.
    pub(crate) source_is_wanted: bool,
}

/// A usable row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) label: String,
    pub(crate) source: Option<String>,
    /// Where it begins in its file, from 1.
    pub(crate) line: usize,
}

/// The rows of one or more files, and what was left out.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    /// How many rows were left out.
    pub(crate) skipped: usize,
    /// The first of them: file, line, reason.
    pub(crate) reasons: Vec<String>,
    bytes: usize,
}

impl Table {
    /// Adds the usable rows of `file`.
    ///
    /// # Errors
    /// When the file cannot be read, a field occurs in no row, a limit is passed, or nothing is usable.
    pub(crate) fn read(&mut self, file: &Path, fields: Fields<'_>) -> Result<(), Error> {
        let io = |source| Error::File { path: file.to_owned(), source };
        let before = (self.rows.len(), self.skipped);
        let shown = file.display().to_string();
        let mut reading =
            Reading { table: self, file: &shown, fields, names: BTreeSet::new(), found: [false; 3] };
        let mut input = open(file).map_err(io)?;
        if is_csv(file, &mut input).map_err(io)? {
            csv_rows::read(&mut reading, input)?;
        } else {
            reading.json_lines(&mut input)?;
        }
        reading.check_fields(before)
    }

    /// What was left out, for a person; empty if nothing was.
    pub(crate) fn left_out(&self) -> String {
        if self.skipped == 0 {
            return String::new();
        }
        let rows = if self.skipped == 1 { "row" } else { "rows" };
        let mut text = format!("{} {rows} left out:\n", self.skipped);
        self.reasons.iter().for_each(|reason| text.push_str(&format!("  {reason}\n")));
        if self.skipped > self.reasons.len() {
            text.push_str(&format!("  and {} more\n", self.skipped - self.reasons.len()));
        }
        text
    }
}

/// A value as far as a row is concerned.
enum Cell<'a> {
    Absent,
    Text(Cow<'a, str>),
    Number(String),
    /// Something that cannot be used, in words.
    Other(&'static str),
}

/// One file on its way into the table.
struct Reading<'a> {
    table: &'a mut Table,
    file: &'a str,
    fields: Fields<'a>,
    /// Names of fields that were met, for messages.
    names: BTreeSet<String>,
    /// Whether text, label and source were met.
    found: [bool; 3],
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
        self.row(number, |name| match object.get(name) {
            None => Cell::Absent,
            Some(Value::String(text)) => Cell::Text(Cow::Borrowed(text)),
            Some(Value::Number(n)) => Cell::Number(n.to_string()),
            Some(Value::Null) => Cell::Other("null"),
            Some(Value::Bool(_)) => Cell::Other("true or false"),
            Some(Value::Array(_)) => Cell::Other("a list"),
            Some(Value::Object(_)) => Cell::Other("an object"),
        })
    }

    /// Takes a row, or leaves it out with a reason.
    fn row<'v>(&mut self, line: usize, get: impl Fn(&str) -> Cell<'v>) -> Result<(), Error> {
        let Fields { text, label, source, .. } = self.fields;
        let (text_cell, label_cell) = (get(text), get(label));
        let source_cell = source.map_or(Cell::Absent, &get);
        for (found, cell) in self.found.iter_mut().zip([&text_cell, &label_cell, &source_cell]) {
            *found |= !matches!(cell, Cell::Absent);
        }
        let source = match source_cell {
            Cell::Text(name) if !name.is_empty() => Some(name.into_owned()),
            Cell::Number(name) => Some(name),
            Cell::Text(_) | Cell::Absent | Cell::Other(_) => None,
        };
        match (usable_text(text, text_cell), usable_label(label, label_cell)) {
            (Ok(text), Ok(label)) => self.keep(Row { text, label, source, line }),
            (Err(reason), _) | (_, Err(reason)) => {
                self.skip(line, &reason);
                Ok(())
            }
        }
    }

    fn keep(&mut self, row: Row) -> Result<(), Error> {
        let table = &mut self.table;
        table.bytes += row.text.len() + row.label.len() + row.source.as_ref().map_or(0, String::len);
        table.rows.push(row);
        if self.table.rows.len() > MAX_ROWS {
            return Err(self.fatal(&format!("more than {MAX_ROWS} rows; take a sample")));
        }
        if self.table.bytes > MAX_TOTAL_BYTES {
            return Err(self.fatal(&format!("more than {MAX_TOTAL_BYTES} bytes of text; take a sample")));
        }
        Ok(())
    }

    fn skip(&mut self, line: usize, reason: &str) {
        self.table.skipped += 1;
        if self.table.reasons.len() < SHOWN {
            self.table.reasons.push(format!("{}:{line}: {reason}", self.file));
        }
    }

    /// After the last row: was there anything, and did the fields exist at all?
    fn check_fields(&self, (rows, skipped): (usize, usize)) -> Result<(), Error> {
        if let Some(name) = self.fields.source.filter(|_| self.fields.source_is_wanted && !self.found[2]) {
            return Err(self.no_field(name, "--source-field"));
        }
        if self.table.rows.len() > rows {
            return Ok(());
        }
        if self.table.skipped == skipped {
            return Err(self.fatal("holds no rows"));
        }
        if !self.names.is_empty() {
            for (found, name, option) in [
                (self.found[0], self.fields.text, "--text-field"),
                (self.found[1], self.fields.label, "--label-field"),
            ] {
                if !found {
                    return Err(self.no_field(name, option));
                }
            }
        }
        Err(self.fatal(&format!("no row can be used; {}", self.table.left_out().trim_end())))
    }

    fn no_field(&self, name: &str, option: &str) -> Error {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        self.fatal(&format!(
            "has no field '{name}'; its fields are: {}. Choose one with {option}",
            names.join(", ")
        ))
    }

    fn io<T>(&self, result: std::io::Result<T>) -> Result<T, Error> {
        result.map_err(|source| Error::File { path: self.file.into(), source })
    }

    fn fatal(&self, what: &str) -> Error {
        Error::Data(format!("{}: {what}", self.file))
    }
}

fn usable_text(field: &str, cell: Cell<'_>) -> Result<String, String> {
    match cell {
        Cell::Absent => Err(format!("no field '{field}'")),
        Cell::Number(_) => Err(format!("'{field}' is a number, not a string")),
        Cell::Other(kind) => Err(format!("'{field}' is {kind}, not a string")),
        Cell::Text(text) if text.trim().is_empty() => Err(format!("'{field}' is empty")),
        Cell::Text(text) if text.len() > MAX_TEXT_BYTES => {
            Err(format!("'{field}' has {} bytes, more than {MAX_TEXT_BYTES}", text.len()))
        }
        Cell::Text(text) => Ok(text.into_owned()),
    }
}

fn usable_label(field: &str, cell: Cell<'_>) -> Result<String, String> {
    let label = match cell {
        Cell::Absent => return Err(format!("no field '{field}'")),
        Cell::Other(kind) => return Err(format!("'{field}' is {kind}, not a string or a number")),
        Cell::Number(number) => number,
        Cell::Text(text) => text.into_owned(),
    };
    if label.trim().is_empty() {
        return Err(format!("'{field}' is empty"));
    }
    if label.len() > MAX_NAME_BYTES {
        return Err(format!("'{field}' has {} bytes, more than {MAX_NAME_BYTES}", label.len()));
    }
    Ok(label)
}

/// serde's words, without its "line 1": every line is a document of its own.
pub(crate) fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rfind(" at line ").map_or(&*text, |at| &text[..at]);
    if error.classify() == serde_json::error::Category::Data {
        return format!("not a JSON object: {what}");
    }
    format!("not JSON: {what} at column {}", error.column())
}

/// The file's own bytes or, if they are gzipped, what they unpack to.
fn open(file: &Path) -> std::io::Result<BufReader<Box<dyn Read>>> {
    let mut raw = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(file)?);
    let unpacked: Box<dyn Read> = if raw.fill_buf()?.starts_with(&GZIP_MAGIC) {
        Box::new(MultiGzDecoder::new(raw))
    } else {
        Box::new(raw)
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

#[cfg(test)]
mod tests;
