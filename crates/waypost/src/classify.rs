//! `waypost classify`: what a classifier thinks of one prompt, or of each line of standard input.
//!
//! Lines are answered one by one as they come and never gathered. A bad line is answered with its error. Called by `main`.

mod answer;
mod personal;
mod stream;

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::{Map, Value, json};
use waypost_classify::{Builtin, Cascade, Engine, Model, Prompt, Tier, Verdict};

use crate::cli::Classify;
use crate::error::Error;
use crate::lines;
use crate::opened::Opened;
use crate::print;
use answer::Answer;

/// Most text read from standard input, in bytes; also the longest line of `--jsonl`.
const MAX_INPUT_BYTES: usize = 10 * 1024 * 1024;
/// Runner-up labels shown to a person.
const SHOWN: usize = 3;

pub(crate) fn run(options: &Classify) -> Result<(), Error> {
    if options.classifier.as_deref() == Some(personal::NAME) {
        return personal::run(options);
    }
    if options.jsonl {
        return match &options.classifier {
            Some(name) => stream::one(&Opened::named(name)?),
            None => stream::all(&Engine::embedded()?),
        };
    }
    let text = match &options.text {
        Some(text) => text.clone(),
        None => lines::all(MAX_INPUT_BYTES)?,
    };
    let prompt = Prompt { focus: &text, context: "" };
    let mut object = Map::new();
    let mut lines = String::new();
    let mut tell = |name: &str, model: &Model, verdict: &Verdict, micros: f64| {
        let mut value = json!(Answer::new(model, verdict));
        value["micros"] = json!(micros);
        object.insert(name.to_owned(), value);
        describe(name, model, verdict, micros, &mut lines);
    };
    match &options.classifier {
        Some(name) => {
            let opened = Opened::named(name)?;
            let begun = Instant::now();
            let verdict = Cascade::new(opened.base()).classify(opened.model(), &prompt)?;
            tell(opened.model().name(), opened.model(), &verdict, micros(begun));
        }
        None => {
            let engine = Engine::embedded()?;
            let begun = Instant::now();
            let verdicts = Cascade::new(&engine).classify_all(&builtins(&engine), &prompt)?;
            let each = micros(begun) / verdicts.len() as f64;
            for (builtin, verdict) in Builtin::ALL.into_iter().zip(verdicts) {
                tell(builtin.name(), engine.builtin(builtin), &verdict, each);
            }
        }
    }
    if options.json { print(&format!("{}\n", Value::Object(object))) } else { print(&lines) }
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

/// The built-in classifiers, in their order.
fn builtins(engine: &Engine) -> [&Model; 4] {
    Builtin::ALL.map(|builtin| &**engine.builtin(builtin))
}

/// Writing to a string cannot fail.
fn describe(name: &str, model: &Model, verdict: &Verdict, micros: f64, out: &mut String) {
    let labels = model.labels();
    let _ = write!(out, "{name:<11} {}  {:.2}", labels[verdict.label], verdict.confidence);
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
    let asked = match (verdict.tier, verdict.doubt) {
        (Tier::Encoder, Some(doubt)) => format!("encoder asked, {}: ", doubt.name()),
        _ => String::new(),
    };
    let _ = writeln!(out, "   then {}   ({asked}{micros:.0} us)", others.join(", "));
}
