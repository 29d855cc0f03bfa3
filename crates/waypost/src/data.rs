//! Labelled rows from a file of JSON Lines or CSV, plain or gzipped: what `train` and `eval` learn from and judge by.
//!
//! Bounded in rows, in bytes a line and in bytes altogether. A row that cannot be used is left out and named with its line
//! and reason; a file of which no row can be used is an error that says why. Never guesses a field's name.

mod csv_rows;
mod scan;

use std::path::Path;

use crate::error::Error;
pub(crate) use scan::{Cell, LeftOut, Refused, Sink, Wanted, open, scan, unpacked};

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
    pub(crate) left_out: LeftOut,
    bytes: usize,
}

impl Table {
    /// Adds the usable rows of `file`.
    ///
    /// # Errors
    /// When the file cannot be read, a field occurs in no row, a limit is passed, or nothing is usable.
    pub(crate) fn read(&mut self, file: &Path, fields: Fields<'_>) -> Result<(), Error> {
        scan(file, &mut Labelled { table: self, fields })
    }
}

/// Rows with a text and a label, on their way into a table.
struct Labelled<'a> {
    table: &'a mut Table,
    fields: Fields<'a>,
}

impl Sink for Labelled<'_> {
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let Fields { text, label, source, source_is_wanted } = self.fields;
        let mut wanted = vec![
            Wanted { names: vec![text], option: "--text-field", in_every_row: true },
            Wanted { names: vec![label], option: "--label-field", in_every_row: true },
        ];
        if let Some(source) = source.filter(|_| source_is_wanted) {
            wanted.push(Wanted { names: vec![source], option: "--source-field", in_every_row: false });
        }
        wanted
    }

    fn take<'v>(&mut self, line: usize, get: &dyn Fn(&str) -> Cell<'v>) -> Result<(), Refused> {
        let Fields { text, label, source, .. } = self.fields;
        let text = usable_text(text, get(text))?;
        let label = usable_name(label, get(label))?;
        let source = source.and_then(|field| usable_source(get(field)));
        self.table.bytes += text.len() + label.len() + source.as_ref().map_or(0, String::len);
        self.table.rows.push(Row { text, label, source, line });
        within_limits(self.table.rows.len(), self.table.bytes)
    }

    fn left_out(&mut self) -> &mut LeftOut {
        &mut self.table.left_out
    }
}

/// Whether so many rows of so much text may still be held.
pub(crate) fn within_limits(rows: usize, bytes: usize) -> Result<(), Refused> {
    if rows > MAX_ROWS {
        return Err(Refused::File(format!("more than {MAX_ROWS} rows; take a sample")));
    }
    if bytes > MAX_TOTAL_BYTES {
        return Err(Refused::File(format!("more than {MAX_TOTAL_BYTES} bytes of text; take a sample")));
    }
    Ok(())
}

/// The text of a row, or why it cannot be used.
pub(crate) fn usable_text(field: &str, cell: Cell<'_>) -> Result<String, String> {
    match cell {
        Cell::Absent => Err(format!("no field '{field}'")),
        Cell::Number(_) => Err(format!("'{field}' is a number, not a string")),
        Cell::Flag(_) => Err(format!("'{field}' is true or false, not a string")),
        Cell::Other(kind) => Err(format!("'{field}' is {kind}, not a string")),
        Cell::Text(text) if text.trim().is_empty() => Err(format!("'{field}' is empty")),
        Cell::Text(text) if text.len() > MAX_TEXT_BYTES => {
            Err(format!("'{field}' has {} bytes, more than {MAX_TEXT_BYTES}", text.len()))
        }
        Cell::Text(text) => Ok(text.into_owned()),
    }
}

/// A label or another name, or why it cannot be used.
pub(crate) fn usable_name(field: &str, cell: Cell<'_>) -> Result<String, String> {
    let name = match cell {
        Cell::Absent => return Err(format!("no field '{field}'")),
        Cell::Flag(_) => return Err(format!("'{field}' is true or false, not a string or a number")),
        Cell::Other(kind) => return Err(format!("'{field}' is {kind}, not a string or a number")),
        Cell::Number(number) => number,
        Cell::Text(text) => text.into_owned(),
    };
    if name.trim().is_empty() {
        return Err(format!("'{field}' is empty"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("'{field}' has {} bytes, more than {MAX_NAME_BYTES}", name.len()));
    }
    Ok(name)
}

/// Where a row comes from, if it says.
pub(crate) fn usable_source(cell: Cell<'_>) -> Option<String> {
    match cell {
        Cell::Text(name) if !name.is_empty() => Some(name.into_owned()),
        Cell::Number(name) => Some(name),
        Cell::Text(_) | Cell::Absent | Cell::Flag(_) | Cell::Other(_) => None,
    }
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

#[cfg(test)]
mod tests;
