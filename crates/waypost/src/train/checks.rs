//! What makes labelled rows teach the wrong thing: leaks, repeats, contradictions, rare and look-alike labels.
//!
//! Only warns; whoever owns the rows decides. Pure. Called by `train`.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash as _, Hasher as _};

use crate::data::Row;

/// Fewer rows than this teach a label little.
const FEW_ROWS: usize = 5;
/// The commonest label may have this many times the rows of the rarest.
const IMBALANCE: usize = 20;
/// A word in this share of a label's rows gives the label away.
const NEARLY_ALL: f64 = 0.9;
/// Unless it is in more than this share of the others.
const HARDLY_ANY: f64 = 0.02;
/// Shorter label names occur in texts by chance.
const MIN_NAME_CHARS: usize = 3;
/// A word in nearly all rows is in one of these first ones.
const LOOKED_AT: usize = 10;
/// Names shown of a list.
const SHOWN: usize = 8;
/// Words that only one label has, shown at most.
const MAX_IDS: usize = 5;

/// What the checks look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labelled<'a> {
    pub(crate) rows: &'a [Row],
    /// The label names, sorted.
    pub(crate) names: &'a [String],
    /// Per row, the index of its label.
    pub(crate) labels: &'a [u32],
    /// Per row, equal for rows with the same normalised text.
    pub(crate) groups: &'a [u32],
}

/// Everything worth a warning, a sentence each.
pub(crate) fn warnings(data: Labelled<'_>) -> Vec<String> {
    let counts = counts(data.names.len(), data.labels);
    let mut out: Vec<String> = Vec::new();
    out.extend(few(data.names, &counts));
    out.extend(imbalance(data.names, &counts));
    out.extend(look_alikes(data.names));
    out.extend(repeats(data));
    let normal: Vec<String> = data.rows.iter().map(|row| normalised(&row.text)).collect();
    out.extend(named(data, &normal, &counts));
    out.extend(ids(data, &normal, &counts));
    out
}

/// Rows per label.
pub(crate) fn counts(names: usize, labels: &[u32]) -> Vec<usize> {
    let mut counts = vec![0; names];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    counts
}

/// Per text, a number that is equal for texts that differ in case, spacing and punctuation only.
pub(crate) fn groups<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let mut known: HashMap<u64, u32> = HashMap::new();
    let group = |text: &str| {
        let mut hasher = DefaultHasher::new();
        normalised(text).hash(&mut hasher);
        let next = known.len() as u32;
        *known.entry(hasher.finish()).or_insert(next)
    };
    texts.map(group).collect()
}

/// Lower-case words with one space between them, and one around all; the text itself where it has no words.
fn normalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        out.push(' ');
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    if out.is_empty() {
        return text.trim().to_owned();
    }
    out.push(' ');
    out
}

fn few(names: &[String], counts: &[usize]) -> Option<String> {
    let few: Vec<&str> =
        names.iter().zip(counts).filter(|(_, n)| **n < FEW_ROWS).map(|(l, _)| l.as_str()).collect();
    (!few.is_empty())
        .then(|| format!("{} with fewer than {FEW_ROWS} rows: {}", count(few.len(), "label"), list(&few)))
}

fn imbalance(names: &[String], counts: &[usize]) -> Option<String> {
    let most = (0..names.len()).max_by_key(|&label| counts[label])?;
    let least = (0..names.len()).min_by_key(|&label| counts[label])?;
    let (more, fewer) = (counts[most], counts[least]);
    (more >= fewer * IMBALANCE).then(|| {
        format!(
            "unbalanced: '{}' has {more} rows, '{}' {fewer}; rare labels will be given too seldom",
            names[most], names[least]
        )
    })
}

fn look_alikes(names: &[String]) -> Vec<String> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut out = Vec::new();
    for name in names {
        match seen.entry(normalised(name)) {
            Entry::Occupied(other) => {
                out.push(format!(
                    "labels '{}' and '{name}' differ in case, spacing or punctuation only",
                    other.get()
                ));
            }
            Entry::Vacant(place) => {
                place.insert(name);
            }
        }
    }
    out.truncate(SHOWN);
    out
}

/// Texts that occur more than once, and those that do so with different labels.
fn repeats(data: Labelled<'_>) -> Vec<String> {
    let mut first: HashMap<u32, usize> = HashMap::new();
    let (mut again, mut against) = ((0, None), (0, None));
    for (at, group) in data.groups.iter().enumerate() {
        let earlier = match first.entry(*group) {
            Entry::Occupied(earlier) => *earlier.get(),
            Entry::Vacant(place) => {
                place.insert(at);
                continue;
            }
        };
        let place = if data.labels[earlier] == data.labels[at] { &mut again } else { &mut against };
        place.0 += 1;
        place.1.get_or_insert((earlier, at));
    }
    let line = |at: usize| data.rows[at].line;
    let name = |at: usize| &data.names[data.labels[at] as usize];
    let mut out = Vec::new();
    if let (n, Some((a, b))) = again {
        out.push(format!(
            "{} the text of another (case, spacing and punctuation aside), such as lines {} and {}; repeats stay on one side of the split, or the figures would flatter",
            verb(n, "row repeats", "rows repeat"), line(a), line(b)
        ));
    }
    if let (n, Some((a, b))) = against {
        out.push(format!(
            "{} another row in its label: the same text is '{}' in line {} and '{}' in line {}",
            verb(n, "row contradicts", "rows contradict"),
            name(a),
            line(a),
            name(b),
            line(b)
        ));
    }
    out
}

/// Labels whose name stands in nearly all of their texts.
fn named(data: Labelled<'_>, normal: &[String], counts: &[usize]) -> Option<String> {
    let names: Vec<String> = data.names.iter().map(|name| normalised(name)).collect();
    let mut hits = vec![0; names.len()];
    for (text, &label) in normal.iter().zip(data.labels) {
        let name = &names[label as usize];
        hits[label as usize] +=
            usize::from(name.trim().chars().count() >= MIN_NAME_CHARS && text.contains(&**name));
    }
    let leaks =
        |&label: &usize| counts[label] >= FEW_ROWS && hits[label] as f64 >= NEARLY_ALL * counts[label] as f64;
    let leaking: Vec<&str> = (0..names.len()).filter(leaks).map(|label| data.names[label].as_str()).collect();
    (!leaking.is_empty()).then(|| {
        format!(
            "possible leak: the name of {} stands in nearly all of its own texts: {}",
            count(leaking.len(), "label"),
            list(&leaking)
        )
    })
}

/// Words with digits that nearly all rows of one label have and hardly any other row.
fn ids(data: Labelled<'_>, normal: &[String], counts: &[usize]) -> Vec<String> {
    let mut looked = vec![0; data.names.len()];
    let mut hits: HashMap<&str, HashMap<u32, usize>> = HashMap::new();
    for (text, &label) in normal.iter().zip(data.labels) {
        if looked[label as usize] < LOOKED_AT {
            looked[label as usize] += 1;
            hits.extend(words(text).map(|word| (word, HashMap::new())));
        }
    }
    for (text, &label) in normal.iter().zip(data.labels) {
        let mut found: Vec<&str> = words(text).collect();
        found.sort_unstable();
        found.dedup();
        for word in found {
            if let Some(labels) = hits.get_mut(word) {
                *labels.entry(label).or_default() += 1;
            }
        }
    }
    let mut out = Vec::new();
    for (word, labels) in hits {
        let all: usize = labels.values().sum();
        for (label, own) in labels {
            let total = counts[label as usize];
            let others = (data.rows.len() - total).max(1) as f64;
            if total >= FEW_ROWS
                && own as f64 >= NEARLY_ALL * total as f64
                && (all - own) as f64 <= HARDLY_ANY * others
            {
                let name = &data.names[label as usize];
                out.push(format!("possible leak: '{word}' stands in {own} of the {total} texts of '{name}' and hardly anywhere else"));
            }
        }
    }
    out.sort_unstable();
    out.truncate(MAX_IDS);
    out
}

/// Words of a normalised text that look like identifiers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| word.len() >= MIN_NAME_CHARS && word.bytes().any(|b| b.is_ascii_digit()))
}

/// `a, b, c and 4 more`.
pub(crate) fn list(names: &[&str]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `1 label`, `2 labels`.
pub(crate) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn verb(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(rows: &[(&str, &str)]) -> Vec<String> {
        let rows: Vec<Row> = rows
            .iter()
            .enumerate()
            .map(|(at, (text, label))| Row {
                text: (*text).into(),
                label: (*label).into(),
                source: None,
                line: at + 1,
            })
            .collect();
        let mut names: Vec<String> = rows.iter().map(|row| row.label.clone()).collect();
        names.sort();
        names.dedup();
        let labels: Vec<u32> =
            rows.iter().map(|r| names.iter().position(|n| *n == r.label).unwrap() as u32).collect();
        let groups = groups(rows.iter().map(|row| row.text.as_str()));
        warnings(Labelled { rows: &rows, names: &names, labels: &labels, groups: &groups })
    }

    fn has(said: &[String], wanted: &str) {
        assert!(said.iter().any(|text| text.contains(wanted)), "{wanted} in {said:#?}");
    }

    #[test]
    fn sound_rows_are_passed_without_a_word() {
        let mut rows = Vec::new();
        let texts: Vec<String> = (0..20).map(|n| format!("text {}", "so ".repeat(n))).collect();
        texts.iter().enumerate().for_each(|(at, text)| rows.push((text.as_str(), ["x", "y"][at % 2])));
        assert_eq!(said(&rows), Vec::<String>::new());
    }

    #[test]
    fn rare_unbalanced_and_look_alike_labels_are_named() {
        let texts: Vec<String> = (0..120).map(|n| "go ".repeat(n + 1)).collect();
        let mut rows: Vec<(&str, &str)> = texts.iter().map(|text| (text.as_str(), "refund me")).collect();
        rows.extend([("once", "Refund_me"), ("twice over", "Refund_me")]);
        let said = said(&rows);
        has(&said, "1 label with fewer than 5 rows: Refund_me");
        has(&said, "'refund me' has 120 rows, 'Refund_me' 2");
        has(&said, "labels 'Refund_me' and 'refund me' differ in case");
    }

    #[test]
    fn repeats_and_contradictions_are_shown_with_their_lines() {
        let said = said(&[
            ("Hello, you!", "x"),
            ("other", "y"),
            ("hello   YOU", "x"),
            ("Other.", "x"),
            ("👍", "x"),
            ("👎", "y"),
        ]);
        has(
            &said,
            "1 row repeats the text of another (case, spacing and punctuation aside), such as lines 1 and 3",
        );
        has(
            &said,
            "1 row contradicts another row in its label: the same text is 'y' in line 2 and 'x' in line 4",
        );
    }

    #[test]
    fn a_text_that_says_its_label_is_a_leak() {
        let texts: Vec<String> = (0..60)
            .map(|n| match n % 3 {
                0 => format!("#card_lost# {}", "no ".repeat(n)),
                1 => format!("queue-Q77: {}", "what ".repeat(n)),
                _ => format!("none {}", "at all ".repeat(n)),
            })
            .collect();
        let rows: Vec<(&str, &str)> =
            texts.iter().enumerate().map(|(at, t)| (t.as_str(), ["card_lost", "b", "c"][at % 3])).collect();
        let said = said(&rows);
        has(&said, "the name of 1 label stands in nearly all of its own texts: card_lost");
        has(&said, "'q77' stands in 20 of the 20 texts of 'b' and hardly anywhere else");
        assert_eq!(said.len(), 2, "{said:?}");
    }
}
