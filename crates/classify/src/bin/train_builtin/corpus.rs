//! The built-in training set: which rows of the public data sets teach which label, and how hard they are held to be.
//!
//! The mapping is a set of decisions, listed in `models/README.md`. Groups are named `family:part`; validation holds out
//! whole families. Called by `main`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use waypost_classify::train::{Example, Random};
use waypost_classify::{Error, Head};

use crate::templates;

const SLOTS: &str = include_str!("../../../data/slots.txt");
const TASK_TEMPLATES: &str = include_str!("../../../data/templates.txt");
const COMPLEXITY_TEMPLATES: &str = include_str!("../../../data/complexity.txt");
/// Prompts made from each template.
const EXPANSIONS: usize = 12;
/// Rows taken from one group for one label.
const GROUP_CAP: usize = 1200;
const SEED: u64 = 7;

/// Everything there is to train `head` on.
pub(crate) fn examples(head: Head, data: &Path) -> Result<Vec<Example>, Error> {
    let mut set = Set { head, counts: BTreeMap::new(), examples: Vec::new() };
    task_type(&mut set, data)?;
    banking(&mut set, data)?;
    own(&mut set);
    if head == Head::Complexity {
        signals(&mut set, data)?;
        domains(&mut set, data)?;
        outcomes(&mut set, data)?;
    }
    Ok(set.examples)
}

struct Set {
    head: Head,
    counts: BTreeMap<(String, String), usize>,
    examples: Vec<Example>,
}

impl Set {
    /// Adds a row unless its group is full; `label` may be `-`.
    fn add(&mut self, text: &str, group: &str, label: &str, difficulty: Option<f32>) {
        let difficulty = difficulty.filter(|_| self.head == Head::Complexity);
        let label_index = self.head.labels().iter().position(|known| *known == label);
        let count = self.counts.entry((group.to_owned(), label.to_owned())).or_default();
        *count += 1;
        if *count > GROUP_CAP || (label_index.is_none() && difficulty.is_none()) {
            return;
        }
        self.examples.push(Example {
            text: text.to_owned(),
            label: label_index,
            difficulty,
            group: group.to_owned(),
        });
    }

    /// Adds a row that has a label for each head.
    fn add_both(&mut self, text: &str, group: &str, task: &str, complexity: &str, difficulty: f32) {
        let label = if self.head == Head::Task { task } else { complexity };
        self.add(text, group, label, Some(difficulty));
    }
}

fn task_type(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in rows(data, "task_type.jsonl.gz")? {
        let (text, label, source) = (field(&row, "text"), field(&row, "label"), field(&row, "source"));
        let part = source.split_once(':').map_or(source, |(_, part)| part);
        let group = group_of(part);
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
        set.add_both(text, &group, label, complexity, difficulty);
    }
    Ok(())
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
    for row in rows(data, "banking77.jsonl")?.iter().step_by(16) {
        let text = field(row, "text");
        let task = if text.contains('?') { "Open QA" } else { "-" };
        set.add_both(text, "banking:banking77", task, "Contextual-Knowledge", 0.25);
    }
    Ok(())
}

fn own(set: &mut Set) {
    let slots = templates::read_slots(SLOTS);
    let mut random = Random(SEED);
    for section in [TASK_TEMPLATES, COMPLEXITY_TEMPLATES].into_iter().flat_map(templates::read_sections) {
        let label = if set.head == Head::Task { &section.task } else { &section.complexity };
        let group = format!("own:{label}");
        let greet = !matches!(section.task.as_str(), "Chatbot" | "Other") && section.complexity != "Few-Shot";
        for line in &section.lines {
            for _ in 0..EXPANSIONS {
                let text =
                    templates::roughen(templates::expand(line, &slots, &mut random), greet, &mut random);
                set.add(&text, &group, label, Some(section.difficulty));
            }
        }
    }
}

fn signals(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in rows(data, "complexity_signals.jsonl")? {
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
        set.add(text, group, label, Some(difficulty));
    }
    Ok(())
}

fn domains(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in rows(data, "domain.jsonl.gz")? {
        let (label, source) = (field(&row, "label"), field(&row, "source"));
        if !(source.starts_with("TIGER") || source.starts_with("lm-sys")) || label == "other" {
            continue;
        }
        let group = if source.starts_with("TIGER") { "mmlupro:" } else { "mmlu:" };
        let complexity = if label == "math" { "Reasoning" } else { "Domain-Knowledge" };
        // Every third row keeps this source from swamping the rest.
        if field(&row, "text").len().is_multiple_of(3) {
            set.add(field(&row, "text"), &format!("{group}{label}"), complexity, None);
        }
    }
    Ok(())
}

/// How many models failed a question is how hard it is.
fn outcomes(set: &mut Set, data: &Path) -> Result<(), Error> {
    for row in rows(data, "outcomes_mmlu_pro.jsonl.gz")?.iter().step_by(4) {
        let outcome = field(row, "correct");
        let wrong = outcome.bytes().filter(|b| *b == b'0').count() as f32 / outcome.len().max(1) as f32;
        set.add(stem(field(row, "text")), "mmlupro-outcome:difficulty", "-", Some(wrong));
    }
    for row in rows(data, "outcomes_routellm.jsonl.gz")?.iter().step_by(6) {
        let difficulty = match (row["strong"].as_u64(), row["weak"].as_u64()) {
            (Some(1), Some(1)) => 0.2,
            (Some(1), Some(0)) => 0.55,
            (Some(0), Some(1)) => 0.5,
            _ => 0.85,
        };
        set.add(stem(field(row, "text")), "routellm-outcome:difficulty", "-", Some(difficulty));
    }
    Ok(())
}

/// A question without its answer options: real prompts have none.
fn stem(text: &str) -> &str {
    text.find("\nA. ").map_or(text, |at| &text[..at])
}

fn field<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

fn rows(data: &Path, name: &str) -> Result<Vec<Value>, Error> {
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
    text.lines().map(parse).collect()
}
