//! The prompts that models are asked, and how their answers are scored.
//!
//! Read like all rows, bounded. A prompt that stands twice is asked once. Part of `collect`.

use super::key;
use crate::data::{
    Cell, LeftOut, MAX_TEXT_BYTES, Refused, Sink, Wanted, scan, usable_source, usable_text, within_limits,
};
use crate::error::Error;
use regex::{Regex, RegexBuilder};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Fields that prompts are looked for in.
const PROMPT_FIELDS: [&str; 3] = ["prompt", "text", "question"];
/// The field of a row's own regular expression.
const REGEX_FIELD: &str = "regex";
/// Largest compiled regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A prompt.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) scoring: Scoring,
    pub(super) source: Option<String>,
}

/// What an answer is held against.
#[derive(Debug, Clone)]
pub(super) enum Scoring {
    /// The right answer.
    Answer(String),
    /// It is to be found in the answer: that of the command.
    Regex(Arc<Regex>),
    /// The same: the row's own.
    OwnRegex(Arc<Regex>),
}

/// The prompts of a file.
#[derive(Debug)]
pub(super) struct Prompts<'a> {
    pub(super) rows: Vec<Prompt>,
    pub(super) left_out: LeftOut,
    prompt_field: Option<&'a str>,
    answer_field: &'a str,
    regex: Option<Arc<Regex>>,
    seen: HashSet<u64>,
    bytes: usize,
}

impl<'a> Prompts<'a> {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or holds no prompt that can be scored.
    pub(super) fn read(
        file: &Path,
        prompt_field: Option<&'a str>,
        answer_field: &'a str,
        regex: Option<&str>,
    ) -> Result<Self, Error> {
        let regex =
            regex.map(compile).transpose().map_err(|problem| Error::Usage(format!("--regex: {problem}")))?;
        let mut prompts = Self {
            rows: Vec::new(),
            left_out: LeftOut::default(),
            prompt_field,
            answer_field,
            regex,
            seen: HashSet::new(),
            bytes: 0,
        };
        scan(file, &mut prompts)?;
        Ok(prompts)
    }

    fn prompt_fields(&self) -> Vec<&'a str> {
        self.prompt_field.map_or_else(|| PROMPT_FIELDS.to_vec(), |field| vec![field])
    }

    fn scoring<'v>(&self, get: &dyn Fn(&str) -> Cell<'v>) -> Result<Scoring, String> {
        match (get(REGEX_FIELD), &self.regex) {
            (Cell::Text(regex), _) if !regex.is_empty() => {
                let own = compile(&regex).map(Scoring::OwnRegex);
                own.map_err(|problem| format!("'{REGEX_FIELD}': {problem}"))
            }
            (_, Some(regex)) => Ok(Scoring::Regex(Arc::clone(regex))),
            (_, None) => answer(self.answer_field, get(self.answer_field)).map(Scoring::Answer),
        }
    }
}

impl Sink for Prompts<'_> {
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let mut wanted =
            vec![Wanted { names: self.prompt_fields(), option: "--prompt-field", in_every_row: true }];
        if self.regex.is_none() {
            wanted.push(Wanted {
                names: vec![self.answer_field, REGEX_FIELD],
                option: "--answer-field",
                in_every_row: true,
            });
        }
        wanted
    }

    fn take<'v>(&mut self, _: usize, get: &dyn Fn(&str) -> Cell<'v>) -> Result<(), Refused> {
        let fields = self.prompt_fields();
        let field =
            fields.iter().copied().find(|field| !matches!(get(field), Cell::Absent)).unwrap_or(fields[0]);
        let text = usable_text(field, get(field))?;
        let scoring = self.scoring(get)?;
        if !self.seen.insert(key("", &text)) {
            return Err(Refused::Row("the prompt stands in the file before".to_owned()));
        }
        self.bytes += text.len();
        self.rows.push(Prompt { text, scoring, source: usable_source(get("source")) });
        within_limits(self.rows.len(), self.bytes)
    }

    fn left_out(&mut self) -> &mut LeftOut {
        &mut self.left_out
    }
}

fn answer(field: &str, cell: Cell<'_>) -> Result<String, String> {
    match cell {
        Cell::Absent => Err(format!("no field '{field}'")),
        Cell::Other(kind) => Err(format!("'{field}' is {kind}, not a string or a number")),
        Cell::Number(number) => Ok(number),
        Cell::Flag(flag) => Ok(flag.to_string()),
        Cell::Text(text) if text.trim().is_empty() => Err(format!("'{field}' is empty")),
        Cell::Text(text) if text.len() > MAX_TEXT_BYTES => {
            Err(format!("'{field}' has {} bytes, more than {MAX_TEXT_BYTES}", text.len()))
        }
        Cell::Text(text) => Ok(text.into_owned()),
    }
}

fn compile(regex: &str) -> Result<Arc<Regex>, String> {
    let built = RegexBuilder::new(regex).size_limit(MAX_REGEX_BYTES).build();
    built.map(Arc::new).map_err(|error| error.to_string())
}
