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
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// One answer of one model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row<'a> {
    pub(super) prompt: Cow<'a, str>,
    pub(super) model: Cow<'a, str>,
    pub(super) score: f64,
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
}

impl Rows {
    /// Opens or makes the file; `each` is told of the rows in it.
    ///
    /// # Errors
    /// When it cannot be opened, or holds something else.
    pub(super) fn open(path: &Path, mut each: impl FnMut(&Row<'_>)) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let mut done = HashSet::new();
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
        Ok(Self { file, path: path.to_owned(), done })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: &str) -> Row<'_> {
        Row {
            prompt: prompt.into(),
            model: "m".into(),
            score: 1.0,
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
        Rows::open(&path, |_| panic!("there is none")).unwrap().append(&row("a\nb")).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            whole,
            "{\"prompt\":\"a\\nb\",\"model\":\"m\",\"score\":1.0,\"prompt_tokens\":7,\"latency_ms\":1.5}\n"
        );
        for tail in
            ["", "{\"prompt\":\"c\",\"mod", "\n\n", "{\"prompt\":\"c\",\"model\":\"m\",\"score\":0.5}"]
        {
            std::fs::write(&path, format!("{whole}{tail}")).unwrap();
            let mut scores = Vec::new();
            let mut rows = Rows::open(&path, |row| scores.push(row.score)).unwrap();
            assert!(rows.has("m", "a\nb") && !rows.has("n", "a\nb"));
            assert_eq!(rows.has("m", "c"), tail.ends_with("0.5}"));
            rows.append(&row("d")).unwrap();
            let mut again = 0;
            Rows::open(&path, |_| again += 1).unwrap();
            assert_eq!(again, scores.len() + 1, "{tail}");
        }
        std::fs::write(&path, format!("other\n{whole}")).unwrap();
        assert!(Rows::open(&path, |_| {}).unwrap_err().to_string().contains("out.jsonl:1: no row"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("other\n{whole}"), "left as it was");
    }
}
