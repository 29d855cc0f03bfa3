//! `waypost classify`: what the embedded classifiers think of a prompt.

use crate::cli::{Classify, HeadName};
use crate::error::Error;
use crate::print;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::io::Read;
use std::time::Instant;
use waypost_classify::{Classifier, Head, Prompt, Verdict};

/// Most text read from standard input, in bytes.
const MAX_INPUT_BYTES: u64 = 10 * 1024 * 1024;
/// Runner-up labels shown to a person.
const SHOWN: usize = 3;

pub(crate) fn run(options: &Classify) -> Result<(), Error> {
    let text = match &options.text {
        Some(text) => text.clone(),
        None => read_stdin()?,
    };
    let classifier = Classifier::embedded()?;
    let heads = match options.classifier {
        Some(HeadName::Task) => vec![Head::Task],
        Some(HeadName::Complexity) => vec![Head::Complexity],
        None => vec![Head::Task, Head::Complexity],
    };
    let prompt = Prompt { focus: &text, context: "" };
    let mut object = Map::new();
    let mut lines = String::new();
    for head in heads {
        let begun = Instant::now();
        let verdict = classifier.classify(head, &prompt);
        let micros = begun.elapsed().as_secs_f64() * 1e6;
        object.insert(head.name().to_owned(), to_json(head, &verdict, micros));
        describe(head, &verdict, micros, &mut lines);
    }
    if options.json { print(&format!("{}\n", Value::Object(object))) } else { print(&lines) }
}

fn read_stdin() -> Result<String, Error> {
    let mut bytes = Vec::new();
    std::io::stdin().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_INPUT_BYTES {
        return Err(Error::Usage(format!("standard input holds more than {MAX_INPUT_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::Usage("standard input is not UTF-8".to_owned()))
}

fn to_json(head: Head, verdict: &Verdict, micros: f64) -> Value {
    let probabilities: Map<String, Value> =
        head.labels().iter().zip(&verdict.probabilities).map(|(l, p)| ((*l).to_owned(), json!(p))).collect();
    let mut object = json!({
        "label": head.labels()[verdict.label],
        "confidence": verdict.confidence,
        "probabilities": probabilities,
        "tier": "embedded",
        "micros": micros,
    });
    for (name, value) in [
        ("difficulty", verdict.difficulty.map(Value::from)),
        ("few_shots", verdict.few_shots.map(Value::from)),
        ("constraints", verdict.constraints.map(Value::from)),
    ] {
        if let Some(value) = value {
            object[name] = value;
        }
    }
    object
}

/// Writing to a string cannot fail.
fn describe(head: Head, verdict: &Verdict, micros: f64, out: &mut String) {
    let labels = head.labels();
    let _ = write!(out, "{:<11} {}  {:.2}", head.name(), labels[verdict.label], verdict.confidence);
    if let Some(difficulty) = verdict.difficulty {
        let _ = write!(out, "   difficulty {difficulty:.2}");
    }
    let mut others: Vec<usize> = (0..labels.len()).filter(|i| *i != verdict.label).collect();
    others.sort_by(|a, b| verdict.probabilities[*b].total_cmp(&verdict.probabilities[*a]));
    let others: Vec<_> = others
        .iter()
        .take(SHOWN)
        .map(|i| format!("{} {:.2}", labels[*i], verdict.probabilities[*i]))
        .collect();
    let _ = writeln!(out, "   then {}   ({micros:.0} us)", others.join(", "));
}
