//! Expands the hand-written prompt templates into training examples.
//!
//! `{a|b}` picks an alternative, `{slot}` takes a filler from `slots.txt`, both may nest one level. A share of the
//! results is roughened the way people type: lower case, a greeting, a missing full stop, a typo. Called by `corpus`.

use std::collections::BTreeMap;

use waypost_classify::train::Random;

/// Fillers by slot name.
pub(crate) type Slots = BTreeMap<String, Vec<String>>;

/// One section of a template file.
pub(crate) struct Section {
    /// Task label or `-`.
    pub(crate) task: String,
    /// Complexity label or `-`.
    pub(crate) complexity: String,
    /// Difficulty of its prompts.
    pub(crate) difficulty: f32,
    /// The templates.
    pub(crate) lines: Vec<String>,
}

/// Nesting allowed in a template, which also ends a template that names itself.
const MAX_DEPTH: usize = 4;
const OPENINGS: [&str; 10] = [
    "Please ",
    "Hi! ",
    "Hello, ",
    "Hey, ",
    "Quick question: ",
    "ok so ",
    "I need your help. ",
    "Hi there, ",
    "Pls ",
    "One more thing: ",
];

/// Reads `slots.txt`.
pub(crate) fn read_slots(text: &str) -> Slots {
    let mut slots = Slots::new();
    let mut name = String::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with("# ")) {
        match line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            Some(next) => next.clone_into(&mut name),
            None => slots.entry(name.clone()).or_default().push(line.replace("\\n", "\n")),
        }
    }
    slots
}

/// Reads a template file.
pub(crate) fn read_sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with("# ")) {
        let header = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')).map(|l| l.split(" | "));
        if let Some(parts) = header {
            let parts: Vec<&str> = parts.collect();
            if let [task, complexity, difficulty] = parts[..] {
                sections.push(Section {
                    task: task.to_owned(),
                    complexity: complexity.to_owned(),
                    difficulty: difficulty.parse().unwrap_or(0.3),
                    lines: Vec::new(),
                });
                continue;
            }
        }
        if let Some(section) = sections.last_mut() {
            section.lines.push(line.replace("\\n", "\n"));
        }
    }
    sections
}

/// One prompt from one template.
pub(crate) fn expand(template: &str, slots: &Slots, random: &mut Random) -> String {
    let mut out = String::new();
    fill(template, slots, random, MAX_DEPTH, &mut out);
    out
}

/// The prompt as somebody in a hurry might type it.
pub(crate) fn roughen(mut text: String, greet: bool, random: &mut Random) -> String {
    if greet && random.unit() < 0.12 {
        text.insert_str(0, OPENINGS[random.below(OPENINGS.len())]);
    }
    if random.unit() < 0.15 {
        text = text.to_lowercase();
    }
    if random.unit() < 0.2 {
        text.truncate(text.trim_end_matches(['.', '?', '!', ':']).len());
    }
    if random.unit() < 0.08 {
        swap_letters(&mut text, random);
    }
    text
}

fn fill(template: &str, slots: &Slots, random: &mut Random, depth: usize, out: &mut String) {
    let mut rest = template;
    while let Some((before, body, after)) = next_group(rest) {
        out.push_str(before);
        match slots.get(body) {
            Some(fillers) => out.push_str(&fillers[random.below(fillers.len())]),
            None if depth > 0 && body.contains('|') => {
                let options = alternatives(body);
                fill(options[random.below(options.len())], slots, random, depth - 1, out);
            }
            // Not a slot: braces that belong to the prompt.
            None => {
                out.push('{');
                out.push_str(body);
                out.push('}');
            }
        }
        rest = after;
    }
    out.push_str(rest);
}

/// Splits at the first balanced `{...}`.
fn next_group(text: &str) -> Option<(&str, &str, &str)> {
    let open = text.find('{')?;
    let mut depth = 0_usize;
    for (at, c) in text[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..open], &text[open + 1..open + at], &text[open + at + 1..]));
        }
    }
    None
}

/// Splits at the `|` that are not inside a nested group.
fn alternatives(body: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (0_usize, 0, Vec::new());
    for (at, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                out.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&body[start..]);
    out
}

fn swap_letters(text: &mut String, random: &mut Random) {
    let mut chars: Vec<char> = text.chars().collect();
    if chars.len() > 8 {
        let at = 1 + random.below(chars.len().min(60) - 3);
        if chars[at].is_alphabetic() && chars[at + 1].is_alphabetic() {
            chars.swap(at, at + 1);
        }
    }
    *text = chars.into_iter().collect();
}
