//! Public rows: the synthetic PII set (train part) and prompts without personal data, from `--data DIR`.
//!
//! Rows stay where they are; only counts and weights leave this program.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::error::Error;
use crate::example::Example;
use crate::pii::Kind;
use crate::pii::lexicon::{Lexicon, List};
use crate::pii::token::{Shape, tokenise};

/// Rows of a JSON Lines file, gzipped or not.
fn rows(path: &Path) -> Result<Vec<Value>, Error> {
    let fail = |source| Error::Io { path: path.display().to_string(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    if path.extension().is_some_and(|e| e == "gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).map_err(fail)?;
    } else {
        std::io::BufReader::new(file).read_to_string(&mut text).map_err(fail)?;
    }
    text.lines().map(|line| serde_json::from_str(line).map_err(|e| Error::Data(e.to_string()))).collect()
}

/// The train rows of `pii.jsonl`.
pub(crate) fn labelled(data: &Path) -> Result<Vec<Example>, Error> {
    let mut examples = Vec::new();
    for row in rows(&data.join("pii.jsonl"))? {
        if row["split"] != "train" {
            continue;
        }
        let text = row["text"].as_str().unwrap_or_default().to_owned();
        let offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let byte =
            |value: &Value| value.as_u64().and_then(|at| offsets.get(at as usize)).copied().unwrap_or(0);
        let mut gold: Vec<(usize, usize, Kind)> = row["spans"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|span| Some((byte(&span[0]), byte(&span[1]), kind(span[2].as_str()?)?)))
            .filter(|gold| gold.1 > gold.0 && &text[gold.0..gold.1] != "nan")
            .collect();
        gold.sort_by_key(|gold| gold.0);
        let gold = join_addresses(&text, gold);
        examples.push(Example { text, gold, group: format!("public:{}", row["template_id"]) });
    }
    Ok(examples)
}

fn kind(label: &str) -> Option<Kind> {
    match label {
        "GPE" => Some(Kind::Location),
        "DOMAIN_NAME" => Some(Kind::Url),
        other => Kind::from_name(other),
    }
}

/// One address is one span: number, street, city, code and country that follow each other. The set itself has it both ways.
fn join_addresses(text: &str, gold: Vec<(usize, usize, Kind)>) -> Vec<(usize, usize, Kind)> {
    let mut joined: Vec<(usize, usize, Kind)> = Vec::new();
    for span in gold {
        let part = matches!(span.2, Kind::StreetAddress | Kind::Location | Kind::ZipCode);
        if let Some(last) = joined.last_mut() {
            let between = &text[last.1.min(span.0)..span.0];
            if part
                && last.2 == Kind::StreetAddress
                && between.len() < 12
                && between.chars().all(|c| c.is_whitespace() || c == ',')
            {
                last.1 = span.1;
                continue;
            }
        }
        joined.push(span);
    }
    joined
}

/// Prompts of the other public sets, train part.
pub(crate) fn prompts(data: &Path) -> Result<Vec<String>, Error> {
    let mut prompts = Vec::new();
    for file in ["task_type.jsonl.gz", "domain.jsonl.gz", "banking77.jsonl", "clinc150.jsonl"] {
        for row in rows(&data.join(file))? {
            if row["split"] == "train" {
                prompts.extend(row["text"].as_str().map(str::to_owned));
            }
        }
    }
    Ok(prompts)
}

/// Those prompts that hold no name by any list and no unknown capital inside a sentence: sure to have no span.
pub(crate) fn harmless(prompts: &[String], lexicon: &Lexicon, most: usize) -> Vec<Example> {
    let names = [
        List::First,
        List::Last,
        List::Place,
        List::Country,
        List::Nrp,
        List::Org,
        List::Title,
        List::Street,
        List::Job,
    ];
    let names = names.iter().fold(0, |bits, list| bits | list.bit());
    let fits = |text: &&String| {
        let mut tokens = Vec::new();
        tokenise(text, lexicon, &mut tokens);
        (4..200).contains(&tokens.len())
            && tokens.iter().enumerate().all(|(at, token)| {
                let inner = at > 0
                    && tokens[at - 1].shape != Shape::Newline
                    && !matches!(&text[tokens[at - 1].range()], "." | "?" | "!" | ":" | "\"");
                let capital = !matches!(
                    token.shape,
                    Shape::Lower
                        | Shape::Punct
                        | Shape::Newline
                        | Shape::Digits
                        | Shape::Digits4
                        | Shape::Initial
                );
                let known = token.entry.on(List::Common.bit() | List::Term.bit());
                (known || !token.entry.on(names))
                    && (!capital || known || !inner && token.shape == Shape::Capital)
            })
    };
    // Every fifth or so, spread over all files.
    let step = (prompts.len() / (most * 3)).max(1);
    prompts
        .iter()
        .step_by(step)
        .filter(fits)
        .take(most)
        .map(|text| Example { text: text.clone(), gold: Vec::new(), group: format!("prompt:{text}") })
        .collect()
}
