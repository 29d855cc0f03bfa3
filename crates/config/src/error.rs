//! The one error of this crate: where, what, and the line it happened on.
//!
//! Never shows a secret: the excerpt hides what follows `api_key:` and the user part of a URL, and
//! values of variables are never quoted. Made by `load_str` and `load_file`, shown by the CLI.

use serde_saphyr::Location;

use crate::nearest::hint;
use crate::substitute::unmask;

/// Keys at the top of LLM Router v2's file, which is not read as it is.
const V2_KEYS: [&str; 3] = ["general", "functions", "workflow"];
/// Longest excerpt shown, in characters.
const MAX_EXCERPT_CHARS: usize = 160;

/// Why a configuration was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.render())]
pub struct Error {
    /// Name of the file, as given by the caller.
    pub file: String,
    /// 1-based line and column, where one can be named.
    pub position: Option<(u64, u64)>,
    /// What is wrong, and what was probably meant.
    pub message: String,
    /// The line of the file, secrets hidden, cut to a readable width around the column.
    pub excerpt: Option<String>,
    /// What the operating system said, when the file could not be read.
    #[source]
    pub source: Option<std::io::Error>,
}

impl Error {
    /// 1-based line of the fault, where one can be named.
    pub fn line(&self) -> Option<u64> {
        self.position.map(|(line, _)| line)
    }

    /// 1-based column of the fault, where one can be named.
    pub fn column(&self) -> Option<u64> {
        self.position.map(|(_, column)| column)
    }

    pub(crate) fn at(file: &str, text: &str, fault: Fault) -> Self {
        let (line, column) = (fault.location.line(), fault.location.column());
        if line == 0 {
            return Self::whole_file(file, fault.message);
        }
        let index = usize::try_from(line - 1).unwrap_or(usize::MAX);
        let excerpt = text.lines().nth(index).filter(|line| !fault.secret && !line.trim().is_empty());
        Self {
            file: file.to_owned(),
            position: Some((line, column)),
            message: fault.message,
            excerpt: excerpt.map(redact),
            source: None,
        }
    }

    pub(crate) fn whole_file(file: &str, message: String) -> Self {
        Self { file: file.to_owned(), position: None, message, excerpt: None, source: None }
    }

    pub(crate) fn read(file: &str, what: &str, source: std::io::Error) -> Self {
        Self { source: Some(source), ..Self::whole_file(file, what.to_owned()) }
    }

    fn render(&self) -> String {
        let Some((line, column)) = self.position else {
            let source = self.source.as_ref().map(|s| format!(": {s}"));
            return format!("{}: {}{}", self.file, self.message, source.unwrap_or_default());
        };
        let mut out = format!("{}:{line}:{column}: {}", self.file, self.message);
        if let Some(excerpt) = &self.excerpt {
            let gutter = " ".repeat(line.to_string().len());
            let (shown, caret) = window(excerpt, column);
            out.push_str(&format!("\n{gutter} |\n{line} | {shown}\n{gutter} | {caret}^"));
        }
        out
    }
}

/// Something wrong at a place: what the inside of the crate passes around.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) location: Location,
    pub(crate) message: String,
    /// The line holds a secret: show no excerpt.
    pub(crate) secret: bool,
}

impl Fault {
    pub(crate) fn new(location: Location, message: impl Into<String>) -> Self {
        Self { location, message: message.into(), secret: false }
    }
}

impl From<serde_saphyr::Error> for Fault {
    /// The parser's errors, reworded where a user can be told more than it knows.
    fn from(error: serde_saphyr::Error) -> Self {
        use serde_saphyr::Error as Yaml;
        let error = error.without_snippet();
        let message = match error {
            Yaml::SerdeUnknownField { field, expected, .. } => {
                let key = unmask(field);
                match V2_KEYS.contains(&&*key) {
                    true => format!(
                        "`{key}` belongs to NVIDIA LLM Router v2's config.yml; `waypost import nvidia-v2 FILE` makes a \
                         configuration of it"
                    ),
                    false => format!("unknown key `{key}`{}", either(field, expected)),
                }
            }
            Yaml::SerdeUnknownVariant { variant, expected, .. } => {
                format!("unknown value `{}`{}", unmask(variant), either(variant, expected))
            }
            Yaml::SerdeMissingField { field, .. } => format!("missing key `{field}`"),
            Yaml::DuplicateMappingKey { key: Some(key), .. } => {
                format!("key `{}` is given twice", unmask(key))
            }
            Yaml::Unexpected { expected, .. } => match *expected {
                "sequence start" => "a list belongs here: `[a, b]`, or lines that start with `- `".to_owned(),
                "mapping start" => "`key: value` pairs belong here".to_owned(),
                "string scalar" => "a single value belongs here".to_owned(),
                other => format!("{other} expected here"),
            },
            Yaml::NullIntoString { .. } => "a value is missing here".to_owned(),
            Yaml::MultipleDocuments { .. } => {
                "a second YAML document starts here; the file must hold one".to_owned()
            }
            other => without_position(&unmask(&other.to_string())).to_owned(),
        };
        Self::new(error.location().unwrap_or(Location::UNKNOWN), message)
    }
}

/// A suggestion, or all there is to choose from.
fn either(word: &str, expected: &[&'static str]) -> String {
    match hint(word, expected.iter().copied()) {
        empty if empty.is_empty() => format!("; possible here: {}", expected.join(", ")),
        suggestion => suggestion,
    }
}

/// A message of the YAML parser, which ends it with the position that ours begin with.
#[must_use]
pub fn without_position(message: &str) -> &str {
    message.split_once(" at line ").map_or(message, |(what, _)| what)
}

/// Hides what may be secret in a line or a value of the file; columns stay as they are.
pub(crate) fn redact(line: &str) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    let text: String = chars.iter().map(char::to_ascii_lowercase).collect();
    let position = |byte: usize| text[..byte].chars().count();
    for (at, key) in text.match_indices("api_key") {
        let start = position(at + key.len());
        let colon = chars[start..].iter().position(|c| *c == ':');
        let value = start + colon.map_or(0, |colon| colon + 1);
        for c in chars[value..].iter_mut().take_while(|c| !matches!(c, ',' | '}')) {
            if !c.is_whitespace() {
                *c = '*';
            }
        }
    }
    for (at, slashes) in text.match_indices("//") {
        let start = position(at + slashes.len());
        let end = chars[start..]
            .iter()
            .position(|c| matches!(c, '/' | ' ' | '"' | '\'' | ','))
            .map_or(chars.len(), |end| start + end);
        if let Some(user) = chars[start..end].iter().rposition(|c| *c == '@') {
            chars[start..start + user].fill('*');
        }
    }
    chars.into_iter().collect()
}

/// The part of a long line around `column`, and the blanks that put a caret under it.
fn window(line: &str, column: u64) -> (String, String) {
    let at = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
    let start = match line.chars().count() > MAX_EXCERPT_CHARS {
        true => at.saturating_sub(MAX_EXCERPT_CHARS / 2),
        false => 0,
    };
    let shown = line
        .chars()
        .skip(start)
        .take(MAX_EXCERPT_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    (shown, " ".repeat(at - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_hide_secrets_and_keep_columns() {
        let line = "- {api_key: nvapi-123, url: http://me:pw@host/x}";
        assert_eq!(redact(line), "- {api_key: *********, url: http://*****@host/x}");
        assert_eq!(redact("  API_KEY: \"a b\""), "  API_KEY: ** **");
    }

    #[test]
    fn a_long_line_is_cut_around_the_column() {
        let line = "x".repeat(1000);
        let (shown, caret) = window(&line, 500);
        assert_eq!(shown.len(), MAX_EXCERPT_CHARS);
        assert_eq!(caret.len(), MAX_EXCERPT_CHARS / 2);
    }
}
