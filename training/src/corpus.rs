//! The built-in training set: which rows of the public data sets teach which label, and how hard they are held to be.
//!
//! The mapping is a set of decisions, listed in `models/README.md`. Groups are named `family:part`; validation holds out
//! whole families. Called by `main`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use waypost_classify::train::Random;
use waypost_classify::{Builtin, Error};

use crate::{own, roughen, tasks, templates};

/// Prompts made from each template.
const EXPANSIONS: usize = 8;
/// Rows taken from one group for one label.
const GROUP_CAP: usize = 1200;
const SEED: u64 = 7;
/// One row in this many is kept from training in the validation run.
const FAMILIAR_SHARE: u32 = 12;

/// A text with every label that is known of it, as indices into the built-in label orders.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) task: Option<u32>,
    pub(crate) complexity: Option<u32>,
    pub(crate) difficulty: Option<f32>,
    pub(crate) domain: Option<u32>,
    pub(crate) safety: Option<u32>,
    /// `family:part`; validation holds out whole families.
    pub(crate) group: String,
    /// Kept from training while validating, to see what familiar traffic looks like.
    pub(crate) familiar: bool,
}

impl Row {
    pub(crate) fn new(text: String, group: String) -> Self {
        // Both versions of a prompt fall on the same side: the careless one is a copy of the row with another text.
        let familiar = crc32fast::hash(text.as_bytes()).is_multiple_of(FAMILIAR_SHARE);
        Self {
            text,
            group,
            familiar,
            task: None,
            complexity: None,
            difficulty: None,
            domain: None,
            safety: None,
        }
    }

    /// The label for a built-in classifier.
    pub(crate) fn label(&self, builtin: Builtin) -> Option<u32> {
        match builtin {
            Builtin::Task => self.task,
            Builtin::Complexity => self.complexity,
            Builtin::Domain => self.domain,
            Builtin::Safety => self.safety,
        }
    }

    /// The part of the group by which validation holds out.
    pub(crate) fn family(&self) -> &str {
        self.group.split(':').next().unwrap_or_default()
    }
}

/// Everything there is to train on: public rows from `data`, our own from `here` (the folder `training`).
pub(crate) fn rows(data: &Path, here: &Path) -> Result<Vec<Row>, Error> {
    let mut set = Set::default();
    task_type(&mut set, data)?;
    banking(&mut set, data)?;
    signals(&mut set, data)?;
    domains(&mut set, data)?;
    outcomes(&mut set, data)?;
    jailbreaks(&mut set, data)?;
    let mut rows = set.rows;
    let mut random = Random(SEED);
    for row in own::prompts(&here.join("prompts"))? {
        let text = roughen::rough(&row.text, &mut random);
        rows.push(Row { text, ..row.clone() });
        rows.push(row);
    }
    rows.extend(own::composed(here)?);
    rows.extend(tasks::prompts(here, &["tasks.txt", "tasks2.txt"])?);
    rows.extend(templated(here)?);
    let mut safety = Vec::new();
    for file in ["prompts.txt", "long.txt", "frames.txt", "overrides.txt", "fluent.txt"] {
        safety.extend(own::safety(&here.join("safety").join(file))?);
    }
    rows.extend(own::framed(&safety, &read(&here.join("safety/goals.txt"))?, &mut random));
    Ok(rows)
}

#[derive(Default)]
struct Set {
    counts: BTreeMap<(String, String), usize>,
    rows: Vec<Row>,
}

impl Set {
    /// Adds a row unless its group is full; a label may be `-`.
    fn add(&mut self, text: &str, group: &str, task: &str, complexity: &str, difficulty: Option<f32>) {
        let count = self.counts.entry((group.to_owned(), format!("{task}/{complexity}"))).or_default();
        *count += 1;
        let row = Row {
            task: index(Builtin::Task, task),
            complexity: index(Builtin::Complexity, complexity),
            difficulty,
            safety: Some(0),
            ..Row::new(text.to_owned(), group.to_owned())
        };
        if *count <= GROUP_CAP && (row.task.is_some() || row.complexity.is_some() || difficulty.is_some()) {
            self.rows.push(row);
        }
    }
}

fn index(builtin: Builtin, name: &str) -> Option<u32> {
    builtin.labels().iter().position(|known| *known == name).map(|at| at as u32)
}

fn task_type(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in json_rows(data, "task_type.jsonl.gz")? {
        let (text, label, source) = (field(&row, "text"), field(&row, "label"), field(&row, "source"));
        let part = source.split_once(':').map_or(source, |(_, part)| part);
        let group = group_of(part);
        if !says_what(part, text) {
            continue;
        }
        // A question about a text that is not there teaches nothing about needing context.
        let passage = text.len() > 300 || group.starts_with("dolly");
        let (complexity, difficulty) = match (label, group.split(':').next().unwrap_or_default()) {
            ("Closed QA" | "Summarization" | "Extraction", _) if passage => ("Contextual-Knowledge", 0.3),
            ("Closed QA" | "Summarization" | "Extraction", _) => ("-", 0.25),
            ("Chatbot", "roleplay") => ("Creativity", 0.35),
            ("Chatbot", _) => ("No-Label-Reason", 0.03),
            ("Other", "bbh") => ("Reasoning", 0.45),
            ("Other", _) => ("No-Label-Reason", 0.03),
            ("Text Generation", "arena") => ("Creativity", 0.5),
            ("Text Generation" | "Brainstorming", "dolly") => ("Creativity", 0.3),
            ("Code Generation", _) => ("Domain-Knowledge", 0.45),
            ("Open QA", "dolly" | "triviaqa") => ("Domain-Knowledge", 0.25),
            ("Open QA", _) => ("Reasoning", 0.4),
            _ => ("-", 0.25),
        };
        set.add(text, &group, label, complexity, Some(difficulty));
    }
    Ok(())
}

/// Whether a person could tell the label: some natural instructions were cut to a first sentence that asks nothing, and one
/// task that goes by Rewrite asks which of several queries is badly formed.
fn says_what(part: &str, text: &str) -> bool {
    const EMPTY: [&str; 3] =
        ["you will be given a sentence.", "you are given a sentence.", "along with a change aspect."];
    const TELLING: [&str; 3] = ["reconize", "recognize", "should change"];
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    !part.starts_with("task674") && (!says(&EMPTY) || says(&TELLING))
}

/// `family:part` of a `task_type` source.
fn group_of(part: &str) -> String {
    if let Some(template) = part.strip_prefix("t0/") {
        return format!("t0:{}", template.split('_').next().unwrap_or_default());
    }
    let families = [
        ("dolly-", "dolly"),
        ("task", "sni"),
        ("clinc-", "clinc"),
        ("mbpp", "mbpp"),
        ("codegen", "codegen"),
        ("roleplay", "roleplay"),
        ("triviaqa", "triviaqa"),
        ("personality", "personality"),
        ("creative_writing", "arena"),
    ];
    let family =
        families.iter().find(|(prefix, _)| part.starts_with(prefix)).map_or("bbh", |(_, family)| family);
    format!("{family}:{part}")
}

/// Bank customers' questions: about the service they use, so they ask for background that only the operator has.
fn banking(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in json_rows(data, "banking77.jsonl")?.iter().step_by(16) {
        let text = field(row, "text");
        let task = if text.contains('?') { "Open QA" } else { "-" };
        set.add(text, "banking:banking77", task, "Contextual-Knowledge", Some(0.25));
    }
    Ok(())
}

/// Prompts expanded from our templates; they teach task and complexity.
fn templated(here: &Path) -> Result<Vec<Row>, Error> {
    let slots = templates::read_slots(&read(&here.join("slots.txt"))?);
    let mut random = Random(SEED);
    let mut out = Vec::new();
    for file in ["templates.txt", "complexity.txt"] {
        for section in templates::read_sections(&read(&here.join(file))?) {
            let greet =
                !matches!(section.task.as_str(), "Chatbot" | "Other") && section.complexity != "Few-Shot";
            for line in &section.lines {
                for _ in 0..EXPANSIONS {
                    let text =
                        templates::roughen(templates::expand(line, &slots, &mut random), greet, &mut random);
                    out.push(Row {
                        task: index(Builtin::Task, &section.task),
                        complexity: index(Builtin::Complexity, &section.complexity),
                        difficulty: Some(section.difficulty),
                        safety: Some(0),
                        ..Row::new(text, "template:own".to_owned())
                    });
                }
            }
        }
    }
    Ok(out)
}

fn signals(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in json_rows(data, "complexity_signals.jsonl")? {
        let (text, source, labels) = (field(&row, "text"), field(&row, "source"), &row["labels"]);
        let number = |key: &str| labels[key].as_f64().map(|n| n as f32);
        let kind = labels["constraint_kind"].as_str().unwrap_or_default();
        let subcategory = labels["subcategory"].as_str().unwrap_or_default();
        let (group, label, difficulty) = match source {
            "Podtech-AI/IFEval" => {
                ("ifeval:ifeval", "Constraint", 0.3 + 0.08 * number("constraint_count").unwrap_or(1.0))
            }
            s if s.starts_with("YJiangcm") => {
                let count = number("constraint_count").unwrap_or(0.0);
                let stated = count > 0.0 && matches!(kind, "format" | "style" | "mixed" | "content");
                ("followbench:followbench", if stated { "Constraint" } else { "-" }, 0.3 + 0.06 * count)
            }
            s if s.ends_with("few-shot-composed") => ("fewshot:composed", "Few-Shot", 0.45),
            "openai/grade-school-math" => (
                "gsm8k:gsm8k",
                "Reasoning",
                (0.15 + 0.08 * number("reasoning_steps").unwrap_or(3.0)).min(0.9),
            ),
            s if s.starts_with("suzgunmirac") => ("bbh:zero-shot", "Reasoning", 0.5),
            _ if subcategory == "math" => ("arena:math", "Reasoning", 0.85),
            _ if subcategory == "coding" => ("arena:coding", "Domain-Knowledge", 0.75),
            _ => continue, // arena's creative prompts come with task_type
        };
        set.add(text, group, "-", label, Some(difficulty));
    }
    Ok(())
}

/// Subjects of exam questions; the other sources of the file only say what their task says already.
fn domains(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in json_rows(data, "domain.jsonl.gz")? {
        let (text, label, source) = (field(&row, "text"), field(&row, "label"), field(&row, "source"));
        let exam = source.starts_with("TIGER") || source.starts_with("lm-sys");
        let family = match source.split('/').next().unwrap_or_default() {
            "TIGER-AI-Lab" => "mmlupro",
            "lm-sys" => "mmlu",
            "OckBench" => "mbpp",
            "teknium1" => "codegen",
            "mosaicml" => "triviaqa",
            "clinc" => "clinc",
            _ => "gsm8k",
        };
        // Every third exam question also teaches complexity: more would swamp the other sources.
        let complexity = match label {
            _ if !exam || label == "other" || !text.len().is_multiple_of(3) => None,
            "math" => index(Builtin::Complexity, "Reasoning"),
            _ => index(Builtin::Complexity, "Domain-Knowledge"),
        };
        let group = format!("{family}:{label}");
        set.rows.push(Row {
            domain: index(Builtin::Domain, label),
            complexity,
            ..Row::new(text.to_owned(), group)
        });
    }
    Ok(())
}

/// Attacks seen in the wild. The harmless rows of that file repeat `task_type`, which is harmless as a whole.
fn jailbreaks(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in json_rows(data, "jailbreak.jsonl.gz")? {
        if field(&row, "label") == "jailbreak" {
            let text = field(&row, "text").to_owned();
            set.rows.push(Row { safety: Some(1), ..Row::new(text, "wild:jailbreak".to_owned()) });
        }
    }
    Ok(())
}

/// How many models failed a question is how hard it is.
fn outcomes(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in json_rows(data, "outcomes_mmlu_pro.jsonl.gz")?.iter().step_by(12) {
        let outcome = field(row, "correct");
        let wrong = outcome.bytes().filter(|b| *b == b'0').count() as f32 / outcome.len().max(1) as f32;
        set.add(stem(field(row, "text")), "mmlupro-outcome:difficulty", "-", "-", Some(wrong));
    }
    for row in json_rows(data, "outcomes_routellm.jsonl.gz")?.iter().step_by(18) {
        let difficulty = match (row["strong"].as_u64(), row["weak"].as_u64()) {
            (Some(1), Some(1)) => 0.2,
            (Some(1), Some(0)) => 0.55,
            (Some(0), Some(1)) => 0.5,
            _ => 0.85,
        };
        set.add(stem(field(row, "text")), "routellm-outcome:difficulty", "-", "-", Some(difficulty));
    }
    Ok(())
}

/// A question without its answer options: real prompts have none.
fn stem(text: &str) -> &str {
    text.find("\nA. ").map_or(text, |at| &text[..at])
}

/// A text file of ours.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.display().to_string(), source })
}

fn field<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

fn json_rows(data: &Path, name: &str) -> Result<Vec<Value>, Error> {
    let path = data.join(name);
    let io = |source| Error::Io { path: path.display().to_string(), source };
    let raw = std::fs::read(&path).map_err(io)?;
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(&raw[..]).read_to_string(&mut text).map_err(io)?;
    } else {
        text = String::from_utf8(raw).map_err(|_| Error::Data(format!("{} is not UTF-8", path.display())))?;
    }
    let parse =
        |line| serde_json::from_str(line).map_err(|e| Error::Data(format!("{}: {e}", path.display())));
    text.split('\n').filter(|line| !line.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_ask_nothing_are_dropped() {
        let sentence = "Two genes were found.";
        assert!(!says_what(
            "task1448_x",
            &format!("In this task, you will be given a sentence.\n{sentence}")
        ));
        assert!(says_what(
            "task1448_x",
            &format!(
                "In this task, you will be given a sentence. You need to recognize the gene.\n{sentence}"
            )
        ));
        assert!(!says_what("task674_x", "find out the query which is not well-formed"));
        assert!(says_what("dolly-open_qa", "Why is the sky blue?"));
    }
}
