//! What chat templates take from Python: `json.dumps`, `str` of a float, `strftime`.
//!
//! Written so that the bytes equal those of Hugging Face's template environment. Called by the template.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use std::fmt::Write;

/// Deepest value that is written out.
const MAX_DEPTH: usize = 128;

/// The filter `tojson`: `json.dumps` with `ensure_ascii=False`.
pub(crate) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let _: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let item = if indent.is_some() { "," } else { ", " };
    let (item, colon) = match separators.as_deref() {
        Some([item, colon]) => (item.as_str(), colon.as_str()),
        _ => (item, ": "),
    };
    let mut dump = Dump { out: String::new(), indent, item, colon, sort_keys };
    dump.value(value, 0)?;
    Ok(dump.out)
}

struct Dump<'a> {
    out: String,
    indent: Option<usize>,
    item: &'a str,
    colon: &'a str,
    sort_keys: bool,
}

impl Dump<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "a value nests too deep for tojson"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list('[', ']', items.len(), depth, |dump, n| dump.value(&items[n], depth + 1))?;
            }
            ValueKind::Map => self.map(value, depth)?,
            kind => {
                let what = format!("a value of kind {kind} is not JSON");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        self.list('{', '}', keys.len(), depth, |dump, n| {
            match keys[n].as_str() {
                Some(key) => dump.string(key),
                None => {
                    dump.out.push('"');
                    dump.value(&keys[n], depth + 1)?;
                    dump.out.push('"');
                }
            }
            dump.out.push_str(dump.colon);
            dump.value(&value.get_item(&keys[n])?, depth + 1)
        })
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        length: usize,
        depth: usize,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for n in 0..length {
            if n > 0 {
                self.out.push_str(self.item);
            }
            self.line(depth + 1);
            each(self, n)?;
        }
        if length > 0 {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent.min(MAX_DEPTH) * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' => {
                    // Writing to a string cannot fail.
                    let _ = write!(self.out, "\\u{:04x}", c as u32);
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// What `str` makes of a value that is printed: `{{ value }}`.
pub(crate) fn print(out: &mut minijinja::Output, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        return out.write_str(text).map_err(Error::from);
    }
    let mut text = String::new();
    if !value.is_undefined() {
        repr(value, 0, &mut text)?;
    }
    out.write_str(&text).map_err(Error::from)
}

fn repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value nests too deep to be printed"));
    }
    match value.kind() {
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            out.push('[');
            for (n, item) in value.try_iter()?.enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                repr(&item, depth + 1, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (n, key) in value.try_iter()?.enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                repr(&key, depth + 1, out)?;
                out.push_str(": ");
                repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// A string as `repr` quotes it: in double quotes if that spares escapes.
fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            // Writing to a string cannot fail.
            c if c < ' ' || ('\u{7f}'..='\u{a0}').contains(&c) => drop(write!(out, "\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// A number as Python prints it: floats by their shortest digits, with an exponent from 1e16 and below 1e-4.
pub(crate) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() };
    }
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = float.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// The global `strftime_now`, in UTC, the zone of containers.
pub(crate) fn strftime_now(format: &str) -> Result<String, Error> {
    strftime(jiff::Timestamp::now(), format)
}

fn strftime(now: jiff::Timestamp, format: &str) -> Result<String, Error> {
    let now = now.to_zoned(jiff::tz::TimeZone::UTC);
    let failed = |e: jiff::Error| Error::new(ErrorKind::InvalidOperation, e.to_string());
    jiff::fmt::strtime::format(format, &now).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_python_prints_them() {
        let cases = [
            (0.0, "0.0"),
            (-1.0, "-1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1.25e-5, "1.25e-05"),
        ];
        for (float, text) in cases {
            assert_eq!(number(&Value::from(float)), text);
        }
        assert_eq!(number(&Value::from(u64::MAX)), "18446744073709551615");
    }

    #[test]
    fn dates_have_the_forms_that_templates_ask_for() {
        let at = jiff::Timestamp::from_second(1_735_689_600).unwrap();
        assert_eq!(strftime(at, "%d %b %Y").unwrap(), "01 Jan 2025");
        assert_eq!(strftime(at, "%B %d, %Y %H:%M").unwrap(), "January 01, 2025 00:00");
        assert!(strftime(at, "%").is_err());
    }
}
