//! Our own prompts: the hand-written files, and prompts composed from hand-written passages and instructions.
//!
//! Formats: `training/README.md`. Called by `corpus`.

use std::path::{Path, PathBuf};

use waypost_classify::train::Random;
use waypost_classify::{Builtin, Error};

use crate::corpus::{Row, read};

/// Prompts composed for each label from the passages.
const COMPOSED_PER_LABEL: usize = 1100;
const SEED: u64 = 11;

/// The domain codes of the files, in the order of the domain labels.
const DOMAINS: [&str; 14] =
    ["bio", "bus", "che", "cs", "eco", "eng", "hea", "his", "law", "mat", "oth", "phi", "phy", "psy"];
/// The complexity letters, in the order of the complexity labels.
const COMPLEXITIES: &str = "CRKFDNL";

/// The hand-written prompts of one folder, sorted by file.
pub(crate) fn prompts(folder: &Path) -> Result<Vec<Row>, Error> {
    let mut out = Vec::new();
    for path in text_files(folder)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut task = None;
        for line in read(&path)?.lines() {
            if let Some(header) = section(line) {
                task = Some(label(Builtin::Task, header)?);
            } else if let Some(mut row) = prompt_line(line) {
                row.task = task;
                row.group = format!("own:{name}");
                row.safety = Some(0);
                out.push(row);
            }
        }
    }
    Ok(out)
}

/// The safety prompts: `[kind/detail]` sections, one prompt a line.
pub(crate) fn safety(path: &Path) -> Result<Vec<Row>, Error> {
    let mut out = Vec::new();
    let mut current = None;
    for line in read(path)?.lines().filter(|l| !l.is_empty()) {
        if let Some(header) = section(line).filter(|h| h.contains('/')) {
            let kind = header.split('/').next().unwrap_or_default();
            current = Some((label(Builtin::Safety, kind)?, format!("ownsafe:{header}")));
        } else if let Some((kind, group)) = current.as_ref().filter(|_| !line.starts_with("# ")) {
            out.push(Row { safety: Some(*kind), ..Row::new(unescape(line), group.clone()) });
        }
    }
    Ok(out)
}

/// Jailbreak frames around goals: the frame is what is taught, so every goal fits.
pub(crate) fn framed(rows: &[Row], goals: &str, random: &mut Random) -> Vec<Row> {
    let goals: Vec<&str> = goals.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let fill = |row: &Row| {
        let goal = goals[random.below(goals.len())];
        Row { text: row.text.replace("{goal}", goal), ..row.clone() }
    };
    rows.iter().map(fill).collect()
}

/// Prompts about a given text, composed from `passages.txt` and `instructions.txt`.
pub(crate) fn composed(folder: &Path) -> Result<Vec<Row>, Error> {
    let passages = passages(&read(&folder.join("passages.txt"))?);
    let mut random = Random(SEED);
    let mut out = Vec::new();
    for (task, wordings) in instructions(&read(&folder.join("instructions.txt"))?)? {
        let own = own_part(task);
        for _ in 0..COMPOSED_PER_LABEL {
            let passage = &passages[random.below(passages.len())];
            let specific: Vec<&String> =
                passage.parts.iter().filter(|(part, _)| *part == own).map(|(_, text)| text).collect();
            let generic = &wordings[random.below(wordings.len())];
            let specific = (!specific.is_empty()).then(|| specific[random.below(specific.len())].as_str());
            // A question stands alone as often as inside a wording; the other labels use both kinds alike.
            let (side, instruction) = match (own, specific) {
                ('q', Some(question)) if random.unit() < 0.4 => (None, question.to_owned()),
                ('q', Some(question)) => (generic.side, generic.text.replace("{q}", question)),
                (_, Some(specific)) if random.unit() < 0.35 => (None, specific.to_owned()),
                _ => (generic.side, generic.text.clone()),
            };
            let text = lay_out(&instruction, &passage.text, side, &mut random);
            out.push(Row {
                task: Some(task),
                // The passages are few: mostly they teach what is asked, not what it is about.
                domain: (random.unit() < 0.2).then_some(passage.domain),
                safety: Some(0),
                ..Row::new(text, "compose:passages".to_owned())
            });
        }
    }
    Ok(out)
}

/// Which part of a passage belongs to a task.
fn own_part(task: u32) -> char {
    match Builtin::Task.labels()[task as usize] {
        "Closed QA" => 'q',
        "Extraction" => 'x',
        "Summarization" => 's',
        "Rewrite" => 'r',
        "Classification" => 'c',
        _ => 'g',
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

struct Wording {
    side: Option<Side>,
    text: String,
}

struct Passage {
    domain: u32,
    text: String,
    parts: Vec<(char, String)>,
}

fn passages(text: &str) -> Vec<Passage> {
    let block = |block: &str| {
        let mut lines = block.lines().skip_while(|l| !l.starts_with("= "));
        let code = lines.next()?.strip_prefix("= ")?.split(' ').next()?;
        let domain = domain(code)?;
        let parts: Vec<(char, String)> =
            lines.filter_map(|l| Some((l.chars().next()?, unescape(l.get(2..)?)))).collect();
        let text = parts.iter().find(|(part, _)| *part == 't')?.1.clone();
        Some(Passage { domain, text, parts })
    };
    text.split("\n\n").filter_map(block).collect()
}

fn instructions(text: &str) -> Result<Vec<(u32, Vec<Wording>)>, Error> {
    let mut out: Vec<(u32, Vec<Wording>)> = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with("# ")) {
        if let Some(header) = section(line) {
            out.push((label(Builtin::Task, header)?, Vec::new()));
        } else if let Some((_, wordings)) = out.last_mut() {
            let (side, text) = match line.split_at_checked(1) {
                Some(("<", rest)) => (Some(Side::Before), rest),
                Some((">", rest)) => (Some(Side::After), rest),
                _ => (None, line),
            };
            wordings.push(Wording { side, text: unescape(text.trim_start()) });
        }
    }
    Ok(out)
}

/// Instruction and passage in one of the layouts people and programs use.
fn lay_out(instruction: &str, passage: &str, side: Option<Side>, random: &mut Random) -> String {
    const MARKS: [(&str, &str); 14] = [
        ("", ""),
        ("", ""),
        ("\"", "\""),
        ("Text: ", ""),
        ("Passage: ", ""),
        ("---\n", "\n---"),
        ("\"\"\"\n", "\n\"\"\""),
        ("Input: ", ""),
        ("<text>", "</text>"),
        ("here it is: ", ""),
        ("Context:\n", ""),
        ("### Input\n", "\n"),
        ("```\n", "\n```"),
        ("> ", ""),
    ];
    const GAPS: [&str; 5] = ["\n\n", "\n", " ", ": ", "\n\n\n"];
    let (open, close) = MARKS[random.below(MARKS.len())];
    let gap = GAPS[random.below(GAPS.len())];
    let passage = shorten(passage, random);
    let before = match side {
        Some(side) => side == Side::Before,
        None => random.unit() < 0.6,
    };
    let mut text = if before {
        let gap = if instruction.ends_with([':', '?', '.', '\n']) && gap == ": " { " " } else { gap };
        format!("{instruction}{gap}{open}{passage}{close}")
    } else {
        let gap = if gap == ": " { "\n" } else { gap };
        format!("{open}{passage}{close}{gap}{instruction}")
    };
    if random.unit() < 0.25 {
        text = text.to_lowercase();
    }
    text
}

/// All of a passage, or its first sentences: real snippets are often short.
fn shorten(passage: &str, random: &mut Random) -> String {
    let ends: Vec<usize> = passage.match_indices(". ").map(|(at, _)| at + 1).collect();
    if ends.len() < 2 || random.unit() < 0.5 {
        return passage.to_owned();
    }
    passage[..ends[random.below(ends.len())]].to_owned()
}

/// `dom XN text`.
fn prompt_line(line: &str) -> Option<Row> {
    let (code, rest) = line.split_once(' ')?;
    let (marks, text) = rest.split_once(' ')?;
    let domain = domain(code)?;
    let complexity = COMPLEXITIES.find(marks.chars().next()?)? as u32;
    let level = marks.chars().nth(1)?.to_digit(10).filter(|d| (1..=5).contains(d))?;
    // Levels 1 to 5 to the middles of five equal parts.
    let difficulty = (level as f32 - 0.5) / 5.0;
    Some(Row {
        domain: Some(domain),
        complexity: Some(complexity),
        difficulty: Some(difficulty),
        ..Row::new(unescape(text), String::new())
    })
}

/// The domain label of a code.
pub(crate) fn domain(code: &str) -> Option<u32> {
    DOMAINS.iter().position(|d| *d == code).map(|at| at as u32)
}

fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[').and_then(|l| l.strip_suffix(']'))
}

pub(crate) fn label(builtin: Builtin, name: &str) -> Result<u32, Error> {
    let found = builtin.labels().iter().position(|l| *l == name);
    found
        .map(|at| at as u32)
        .ok_or_else(|| Error::Data(format!("no {} label is called {name:?}", builtin.name())))
}

pub(crate) fn unescape(text: &str) -> String {
    text.replace("\\n", "\n")
}

fn text_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |source| Error::Io { path: folder.display().to_string(), source };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(io)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    Ok(files)
}
