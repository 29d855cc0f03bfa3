//! The file of outcomes: what is in it already, and one row more after each answer.
//!
//! Every row is written whole and handed to the system at once, so that a stop loses at most the answers under way. A
//! last line that was torn is cut off. Part of `collect`.

use super::key;
use crate::data::MAX_LINE_BYTES;
use crate::error::Error;
use crate::lines::{self, Line};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// By the right answer.
pub(super) const BY_ANSWER: &str = "answer";
/// By a regular expression that the prompt's row has; rows of any command may have one.
pub(super) const BY_OWN_REGEX: &str = "regex";
const JUDGE: &str = "judge:";
const REGEX: &str = "regex:";

/// By this model.
pub(super) fn by_judge(name: &str) -> String {
    format!("{JUDGE}{name}")
}

/// By this regular expression, all alike.
pub(super) fn by_regex(regex: &str) -> String {
    format!("{REGEX}{regex}")
}

/// The option that scores so.
fn option(scored_by: &str) -> String {
    match (scored_by.strip_prefix(JUDGE), scored_by.strip_prefix(REGEX)) {
        (Some(name), _) => format!("--judge {name}"),
        (_, Some(regex)) => format!("--regex {regex}"),
        _ => "neither --judge nor --regex".to_owned(),
    }
}

/// One answer of one model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row<'a> {
    pub(super) prompt: Cow<'a, str>,
    pub(super) model: Cow<'a, str>,
    pub(super) score: f64,
    /// [`BY_ANSWER`], [`BY_OWN_REGEX`], or the option's name and value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scored_by: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<Cow<'a, str>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rows {
    file: File,
    path: PathBuf,
    done: HashSet<u64>,
    unsaid: u64,
}

impl Rows {
    /// Opens or makes the file; `each` is told of the rows in it.
    ///
    /// # Errors
    /// When it cannot be opened, another process has it, or it holds something else or rows scored otherwise.
    pub(super) fn open(path: &Path, scored_by: &str, mut each: impl FnMut(&Row<'_>)) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        lock(&file, path)?;
        let (mut done, mut unsaid) = (HashSet::new(), 0);
        let (mut line, mut whole_bytes, mut number) = (Vec::new(), 0_u64, 0_usize);
        let mut input = BufReader::new(&file);
        loop {
            number += 1;
            let next = lines::next(&mut input, MAX_LINE_BYTES, &mut line).map_err(failed)?;
            let end = input.stream_position().map_err(failed)?;
            let row = match next {
                Line::End => break,
                Line::Whole if line.trim_ascii().is_empty() => continue,
                Line::Whole => serde_json::from_slice::<Row<'_>>(&line).ok(),
                Line::TooLong => None,
            };
            match row {
                Some(row) => {
                    match row.scored_by.as_deref() {
                        Some(by) if by != scored_by && by != BY_OWN_REGEX => {
                            return Err(Error::Usage(format!(
                                "{}:{number}: scored with {}, now with {}; scores of both kinds do not mix: go on as before, or choose another --out",
                                path.display(),
                                option(by),
                                option(scored_by)
                            )));
                        }
                        Some(_) => {}
                        None => unsaid += 1,
                    }
                    done.insert(key(&row.model, &row.prompt));
                    each(&row);
                    whole_bytes = end;
                }
                // Only a last line may be torn.
                None if input.get_ref().metadata().map_err(failed)?.len() == end => break,
                None => {
                    return Err(Error::Data(format!(
                        "{}:{number}: no row of outcomes; --out goes on with a file that `collect` began",
                        path.display()
                    )));
                }
            }
        }
        let length = file.metadata().map_err(failed)?.len();
        if whole_bytes < length {
            file.set_len(whole_bytes).map_err(failed)?;
        }
        if whole_bytes > 0 {
            file.seek(SeekFrom::Start(whole_bytes - 1)).map_err(failed)?;
            let mut last = [0];
            std::io::Read::read_exact(&mut file, &mut last).map_err(failed)?;
            if last != *b"\n" {
                file.write_all(b"\n").map_err(failed)?;
            }
        }
        Ok(Self { file, path: path.to_owned(), done, unsaid })
    }

    /// Rows found that do not say how they were scored.
    pub(super) fn unsaid(&self) -> u64 {
        self.unsaid
    }

    pub(super) fn has(&self, model: &str, prompt: &str) -> bool {
        self.done.contains(&key(model, prompt))
    }

    /// Appends a row.
    pub(super) fn append(&mut self, row: &Row<'_>) -> Result<(), Error> {
        let mut line = serde_json::to_vec(row).map_err(std::io::Error::from)?;
        line.push(b'\n');
        // The file is not buffered: one call, one row.
        self.file.write_all(&line).map_err(|source| Error::File { path: self.path.clone(), source })
    }
}

/// Two commands would ask everything twice.
fn lock(file: &File, path: &Path) -> Result<(), Error> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            Error::Usage(format!("{}: another `waypost collect` is writing this file", path.display()))
        }
        TryLockError::Error(source) => Error::File { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: &str) -> Row<'_> {
        Row {
            prompt: prompt.into(),
            model: "m".into(),
            score: 1.0,
            scored_by: Some("answer".into()),
            prompt_tokens: Some(7),
            completion_tokens: None,
            latency_ms: Some(1.5),
            source: None,
        }
    }

    #[test]
    fn a_file_is_gone_on_with_and_a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        Rows::open(&path, BY_ANSWER, |_| panic!("there is none")).unwrap().append(&row("a\nb")).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            whole,
            "{\"prompt\":\"a\\nb\",\"model\":\"m\",\"score\":1.0,\"scored_by\":\"answer\",\"prompt_tokens\":7,\"latency_ms\":1.5}\n"
        );
        for tail in
            ["", "{\"prompt\":\"c\",\"mod", "\n\n", "{\"prompt\":\"c\",\"model\":\"m\",\"score\":0.5}"]
        {
            std::fs::write(&path, format!("{whole}{tail}")).unwrap();
            let mut scores = Vec::new();
            let mut rows = Rows::open(&path, BY_ANSWER, |row| scores.push(row.score)).unwrap();
            assert!(rows.has("m", "a\nb") && !rows.has("n", "a\nb"));
            assert_eq!(rows.has("m", "c"), tail.ends_with("0.5}"));
            rows.append(&row("d")).unwrap();
            drop(rows);
            let mut again = 0;
            Rows::open(&path, BY_ANSWER, |_| again += 1).unwrap();
            assert_eq!(again, scores.len() + 1, "{tail}");
        }
        std::fs::write(&path, format!("other\n{whole}")).unwrap();
        assert!(
            Rows::open(&path, BY_ANSWER, |_| {}).unwrap_err().to_string().contains("out.jsonl:1: no row")
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("other\n{whole}"), "left as it was");
    }

    #[test]
    fn scores_of_two_kinds_are_not_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let by = |by: &'static str| Row { scored_by: Some(by.into()), ..row("a") };
        let open = |by: &str| Rows::open(&path, by, |_| {});
        let mut rows = open(BY_ANSWER).unwrap();
        [by(BY_ANSWER), by(BY_OWN_REGEX), Row { scored_by: None, ..row("b") }]
            .iter()
            .for_each(|row| rows.append(row).unwrap());
        assert!(open(BY_ANSWER).unwrap_err().to_string().contains("another `waypost collect`"), "it is open");
        drop(rows);
        assert_eq!(open(BY_ANSWER).unwrap().unsaid(), 1);
        let error = open(&by_judge("referee")).unwrap_err().to_string();
        assert!(
            error.contains("out.jsonl:1: scored with neither") && error.contains("--judge referee"),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
        open(&by_regex("a+")).unwrap().append(&by("regex:a+")).unwrap();
        assert!(open(&by_regex("a+")).is_ok());
        assert!(
            open(&by_regex("b+"))
                .unwrap_err()
                .to_string()
                .contains("scored with --regex a+, now with --regex b+")
        );
    }
}
