//! Tables for a terminal: columns as wide as their widest cell, numbers to the right.
//!
//! Called by commands that tell a person several rows.

use std::fmt::Write;

/// A table in the making.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns before this one are text.
    text_columns: usize,
}

impl Table {
    /// A table with these headings, the first `text_columns` of them over text.
    pub(crate) fn new(headings: &[&str], text_columns: usize) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()], text_columns }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, two blanks between columns.
    pub(crate) fn shown(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let wide = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| wide(column).unwrap_or(0)).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                // Writing to a string cannot fail.
                let _ = match column < self.text_columns {
                    true => write!(line, "{gap}{cell:<width$}"),
                    false => write!(line, "{gap}{cell:>width$}"),
                };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

/// US dollars, as many digits as it takes.
pub(crate) fn usd(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    match value.abs() {
        0.0 => "$0".to_owned(),
        size if size < 0.01 => format!("{sign}${size:.6}"),
        size if size < 100.0 => format!("{sign}${size:.4}"),
        size => format!("{sign}${size:.2}"),
    }
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// What is not known is a dash.
pub(crate) fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["model", "n"], 1);
        table.row(vec!["é".to_owned(), "1".to_owned()]);
        table.row(vec!["longer".to_owned(), "1000".to_owned()]);
        assert_eq!(table.shown(), "model      n\né          1\nlonger  1000\n");
        let shown = [0.000_123_4, -1.5, 1234.5, 0.0].map(usd);
        assert_eq!(shown, ["$0.000123", "-$1.5000", "$1234.50", "$0"]);
    }
}
