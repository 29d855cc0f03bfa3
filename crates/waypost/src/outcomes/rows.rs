//! Rows of outcomes: which model was asked what, and how good its answer was.
//!
//! One row a prompt and model. Rows of the same prompt are brought together; the same prompt and model twice is averaged.
//! Called by `train --outcomes` and `eval --outcomes`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use waypost_classify::outcomes::MAX_MODELS;
use waypost_classify::train::outcomes::Outcomes;

use crate::data::{self, Cell, LeftOut, Refused, Sink, Wanted};
use crate::error::Error;
use crate::train::checks;

/// The field that names the model when the user names none.
pub(crate) const MODEL_FIELD: &str = "model";
/// Names under which a prompt, a score and a source are looked for when the user names none.
const PROMPTS: [&str; 2] = ["prompt", "text"];
const SCORES: [&str; 2] = ["correct", "score"];
const SOURCES: [&str; 2] = ["source", "group"];
/// Most completion tokens or prompt tokens of a request.
const MAX_TOKENS: f64 = 1e7;
/// Longest time a request may have taken.
const MAX_LATENCY_MS: f64 = 1e8;

/// Which fields hold what; `None` for the usual names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) prompt: Option<&'a str>,
    pub(crate) model: &'a str,
    pub(crate) score: Option<&'a str>,
    pub(crate) source: Option<&'a str>,
}

/// One row.
#[derive(Debug, Clone, Copy)]
struct Entry {
    prompt: u32,
    model: u32,
    score: f32,
    tokens: Option<f32>,
    latency_ms: Option<f32>,
}

/// The rows of a file.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    /// The distinct prompts, in the order of the file.
    pub(crate) prompts: Vec<String>,
    /// Where each comes from, if it says.
    pub(crate) sources: Vec<Option<String>>,
    /// Tokens of each prompt, if it says; NaN otherwise.
    pub(crate) prompt_tokens: Vec<f32>,
    pub(crate) left_out: LeftOut,
    models: Vec<String>,
    entries: Vec<Entry>,
    known_prompts: HashMap<String, u32>,
    known_models: HashMap<String, u32>,
    bytes: usize,
}

impl Sheet {
    /// Reads a file.
    ///
    /// # Errors
    /// As `data::scan`.
    pub(crate) fn read(file: &Path, fields: Fields<'_>) -> Result<Self, Error> {
        let mut sheet = Self::default();
        data::scan(file, &mut Taking { sheet: &mut sheet, fields })?;
        sheet.known_prompts = HashMap::new();
        Ok(sheet)
    }

    /// Number of rows read.
    pub(crate) fn rows(&self) -> usize {
        self.entries.len()
    }

    /// The models of the file and how many rows each has, by name.
    pub(crate) fn models(&self) -> BTreeMap<&str, usize> {
        let mut counts = vec![0; self.models.len()];
        self.entries.iter().for_each(|entry| counts[entry.model as usize] += 1);
        self.models.iter().map(String::as_str).zip(counts).collect()
    }

    /// The outcomes of these models, which become the columns, of the prompts that any of them was asked, and which those
    /// prompts are.
    ///
    /// # Errors
    /// If the file has no row of one of the models.
    pub(crate) fn outcomes(&self, models: &[String]) -> Result<(Outcomes, Vec<usize>), String> {
        let place = |name: &String| {
            let here = || self.models().into_keys().collect::<Vec<_>>().join(", ");
            self.known_models
                .get(name)
                .ok_or_else(|| format!("no row of model '{name}'; there are {}", here()))
        };
        let mut column = vec![None; self.models.len()];
        for (at, name) in models.iter().enumerate() {
            column[*place(name)? as usize] = Some(at);
        }
        let cells = self.prompts.len() * models.len();
        let (mut quality, mut tokens, mut latency) = (Mean::new(cells), Mean::new(cells), Mean::new(cells));
        for entry in &self.entries {
            let Some(at) = column[entry.model as usize] else { continue };
            let at = entry.prompt as usize * models.len() + at;
            quality.add(at, Some(entry.score));
            tokens.add(at, entry.tokens);
            latency.add(at, entry.latency_ms);
        }
        let (quality, tokens, latency_ms) = (quality.values(), tokens.values(), latency.values());
        let width = models.len();
        let asked = |prompt: &usize| quality[prompt * width..][..width].iter().any(|q| !q.is_nan());
        let prompts: Vec<usize> = (0..self.prompts.len()).filter(asked).collect();
        let of_asked = |values: &[f32]| -> Vec<f32> {
            prompts.iter().flat_map(|prompt| values[prompt * width..][..width].iter().copied()).collect()
        };
        let some =
            |values: &[f32]| if values.iter().all(|v| v.is_nan()) { Vec::new() } else { of_asked(values) };
        let outcomes = Outcomes {
            models: models.to_vec(),
            quality: of_asked(&quality),
            tokens: some(&tokens),
            latency_ms: some(&latency_ms),
            groups: checks::groups(prompts.iter().map(|&prompt| self.prompts[prompt].as_str())),
            sources: self.numbered_sources(&prompts),
        };
        Ok((outcomes, prompts))
    }

    /// The contestants: those named, or all of the file.
    ///
    /// # Errors
    /// If there are fewer than two, or more than an outcome model holds.
    pub(crate) fn contestants(&self, named: &[String]) -> Result<Vec<String>, String> {
        let all: Vec<String> = self.models().into_keys().map(str::to_owned).collect();
        let mut chosen = if named.is_empty() { all } else { named.to_vec() };
        let given = chosen.len();
        chosen.sort_unstable();
        chosen.dedup();
        match chosen.len() {
            n if n < given => Err("--models names a model twice".to_owned()),
            0 | 1 => Err(format!("only model '{}'; routing needs two", chosen.join(""))),
            n if n > MAX_MODELS => {
                Err(format!("{n} models, more than {MAX_MODELS}; choose some with --models"))
            }
            _ => Ok(chosen),
        }
    }

    /// A number for each prompt's source; empty if none has one.
    fn numbered_sources(&self, prompts: &[usize]) -> Vec<u32> {
        if self.sources.iter().all(Option::is_none) {
            return Vec::new();
        }
        let mut known: HashMap<Option<&str>, u32> = HashMap::new();
        let number = |prompt: &usize| {
            let next = known.len() as u32;
            *known.entry(self.sources[*prompt].as_deref()).or_insert(next)
        };
        prompts.iter().map(number).collect()
    }

    fn prompt(&mut self, text: String) -> u32 {
        let next = self.prompts.len() as u32;
        if let Some(&known) = self.known_prompts.get(&text) {
            return known;
        }
        self.bytes += 2 * text.len();
        self.prompts.push(text.clone());
        self.sources.push(None);
        self.prompt_tokens.push(f32::NAN);
        self.known_prompts.insert(text, next);
        next
    }

    fn model(&mut self, name: String) -> u32 {
        let next = self.models.len() as u32;
        if let Some(&known) = self.known_models.get(&name) {
            return known;
        }
        self.models.push(name.clone());
        self.known_models.insert(name, next);
        next
    }
}

/// Means of what is known, cell by cell.
struct Mean {
    sums: Vec<f32>,
    counts: Vec<u16>,
}

impl Mean {
    fn new(cells: usize) -> Self {
        Self { sums: vec![0.0; cells], counts: vec![0; cells] }
    }

    fn add(&mut self, at: usize, value: Option<f32>) {
        if let Some(value) = value.filter(|_| self.counts[at] < u16::MAX) {
            self.sums[at] += value;
            self.counts[at] += 1;
        }
    }

    fn values(self) -> Vec<f32> {
        let mean = |(sum, count): (f32, u16)| if count == 0 { f32::NAN } else { sum / f32::from(count) };
        self.sums.into_iter().zip(self.counts).map(mean).collect()
    }
}

/// A sheet that takes rows.
struct Taking<'a> {
    sheet: &'a mut Sheet,
    fields: Fields<'a>,
}

/// The named field, or the usual ones.
fn names<'a>(named: Option<&'a str>, usual: &[&'a str]) -> Vec<&'a str> {
    named.map_or_else(|| usual.to_vec(), |name| vec![name])
}

impl Sink for Taking<'_> {
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let Fields { prompt, model, score, source } = self.fields;
        let mut wanted = vec![
            Wanted { names: names(prompt, &PROMPTS), option: "--prompt-field", in_every_row: true },
            Wanted { names: vec![model], option: "--model-field", in_every_row: true },
            Wanted { names: names(score, &SCORES), option: "--score-field", in_every_row: true },
        ];
        if let Some(source) = source {
            wanted.push(Wanted { names: vec![source], option: "--source-field", in_every_row: false });
        }
        wanted
    }

    fn take<'v>(&mut self, _line: usize, get: &dyn Fn(&str) -> Cell<'v>) -> Result<(), Refused> {
        let Fields { prompt, model, score, source } = self.fields;
        let (field, cell) = first(&names(prompt, &PROMPTS), get);
        let text = data::usable_text(field, cell)?;
        let model = data::usable_name(model, get(model))?;
        let (field, cell) = first(&names(score, &SCORES), get);
        let score = usable_score(field, cell)?;
        let amount = |field: &str, most: f64| usable_amount(field, get(field), most);
        let tokens = amount("completion_tokens", MAX_TOKENS)?;
        let prompt_tokens = amount("prompt_tokens", MAX_TOKENS)?;
        let latency_ms = amount("latency_ms", MAX_LATENCY_MS)?;
        let sheet = &mut self.sheet;
        let prompt = sheet.prompt(text);
        let at = prompt as usize;
        if let Some(tokens) = prompt_tokens {
            sheet.prompt_tokens[at] = tokens;
        }
        if sheet.sources[at].is_none() {
            sheet.sources[at] = data::usable_source(first(&names(source, &SOURCES), get).1);
        }
        let model = sheet.model(model);
        sheet.entries.push(Entry { prompt, model, score, tokens, latency_ms });
        data::within_limits(sheet.entries.len(), sheet.bytes)
    }

    fn left_out(&mut self) -> &mut LeftOut {
        &mut self.sheet.left_out
    }
}

/// The first of the fields that a row has; the first of all if it has none.
fn first<'n, 'v>(names: &[&'n str], get: &dyn Fn(&str) -> Cell<'v>) -> (&'n str, Cell<'v>) {
    for name in names {
        match get(name) {
            Cell::Absent => {}
            cell => return (name, cell),
        }
    }
    (names[0], Cell::Absent)
}

/// Right or wrong, or a number from 0 to 1.
fn usable_score(field: &str, cell: Cell<'_>) -> Result<f32, String> {
    let text = match cell {
        Cell::Absent => return Err(format!("no field '{field}'")),
        Cell::Flag(right) => return Ok(f32::from(u8::from(right))),
        Cell::Other(kind) => return Err(format!("'{field}' is {kind}, not a number from 0 to 1")),
        Cell::Number(number) => number,
        Cell::Text(text) => match text.trim() {
            "true" | "True" => return Ok(1.0),
            "false" | "False" => return Ok(0.0),
            other => other.to_owned(),
        },
    };
    match text.parse::<f32>() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        Ok(_) => Err(format!("'{field}' is {text}, outside 0 to 1")),
        Err(_) => Err(format!("'{field}' is not a number from 0 to 1")),
    }
}

/// A number that a row may have.
fn usable_amount(field: &str, cell: Cell<'_>, most: f64) -> Result<Option<f32>, String> {
    let text = match cell {
        Cell::Absent | Cell::Other("null") => return Ok(None),
        Cell::Flag(_) => return Err(format!("'{field}' is true or false, not a number")),
        Cell::Other(kind) => return Err(format!("'{field}' is {kind}, not a number")),
        Cell::Text(text) if text.trim().is_empty() => return Ok(None),
        Cell::Text(text) => text.trim().to_owned(),
        Cell::Number(number) => number,
    };
    match text.parse::<f64>() {
        Ok(amount) if (0.0..=most).contains(&amount) => Ok(Some(amount as f32)),
        Ok(_) => Err(format!("'{field}' is {text}, outside 0 to {most}")),
        Err(_) => Err(format!("'{field}' is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Fields<'static> = Fields { prompt: None, model: "model", score: None, source: None };

    fn read(name: &str, text: &str) -> Result<Sheet, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        Sheet::read(&file, USUAL)
    }

    #[test]
    fn rows_of_a_prompt_are_brought_together() {
        let json = r#"{"prompt":"p","model":"a","correct":true,"completion_tokens":10,"prompt_tokens":3}
{"text":"q","model":"b","score":0.25,"group":"g"}
{"prompt":"p","model":"b","correct":0,"latency_ms":5}
{"prompt":"p","model":"a","correct":0}"#;
        let sheet = read("d.jsonl", json).unwrap();
        let models = sheet.contestants(&[]).unwrap();
        let (outcomes, prompts) = sheet.outcomes(&models).unwrap();
        assert_eq!((models, prompts), (vec!["a".to_owned(), "b".to_owned()], vec![0, 1]));
        assert_eq!((outcomes.row(0), outcomes.row(1)[1]), (&[0.5, 0.0][..], 0.25));
        assert!(outcomes.row(1)[0].is_nan());
        assert_eq!((outcomes.tokens[0], outcomes.latency_ms[1], sheet.prompt_tokens[0]), (10.0, 5.0, 3.0));
        assert_eq!(sheet.sources, [None, Some("g".to_owned())]);
        let csv = "prompt,model,correct,completion_tokens\np,a,True,10\np,b,0.5,\n";
        let (outcomes, _) = read("d.csv", csv).unwrap().outcomes(&["b".into(), "a".into()]).unwrap();
        assert_eq!(outcomes.row(0), [0.5, 1.0]);
    }

    #[test]
    fn bad_rows_are_named_with_line_and_field() {
        let json = r#"{"prompt":"p","model":"a","correct":1}
{"prompt":"p","model":"a","correct":2}
{"prompt":"p","model":"a","correct":"yes"}
{"prompt":"p","model":"a"}
{"prompt":"p","correct":1}
{"model":"a","correct":1}
{"prompt":"p","model":"a","correct":1,"latency_ms":-1}
{"prompt":"p","model":"a","correct":1,"completion_tokens":"many"}"#;
        let reasons = read("d.jsonl", json).unwrap().left_out.reasons;
        let wanted = [
            ":2: 'correct' is 2, outside 0 to 1",
            ":3: 'correct' is not a number from 0 to 1",
            ":4: no field 'correct'",
            ":5: no field 'model'",
            ":6: no field 'prompt'",
            ":7: 'latency_ms' is -1, outside 0 to 100000000",
            ":8: 'completion_tokens' is not a number",
        ];
        assert_eq!(reasons.len(), wanted.len());
        reasons.iter().zip(wanted).for_each(|(found, wanted)| assert!(found.ends_with(wanted), "{found}"));
        let error = read("d.csv", "prompt,name,correct\np,a,1\n").unwrap_err().to_string();
        assert!(error.contains("has no field 'model'") && error.contains("--model-field"), "{error}");
    }

    #[test]
    fn one_model_is_no_contest_and_unknown_ones_are_named() {
        let sheet = read("d.jsonl", r#"{"prompt":"p","model":"a","correct":1}"#).unwrap();
        assert!(sheet.contestants(&[]).unwrap_err().contains("only model 'a'"));
        let named = sheet.contestants(&["a".into(), "z".into()]).unwrap();
        assert!(sheet.outcomes(&named).unwrap_err().contains("no row of model 'z'; there are a"));
    }
}
