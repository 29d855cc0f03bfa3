//! Entity-level precision, recall and F1 per kind, exact and by overlap, and false alarms on harmless prompts.
//!
//! The whole detector is measured, scanners included, at its default threshold.

use std::collections::BTreeMap;

use crate::example::Example;
use crate::pii::{Detector, Kind};

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    gold: usize,
    found: usize,
    exact: usize,
    gold_hit: usize,
    found_hit: usize,
}

/// Prints a table for `examples`, counting spans of at least `min_confidence`.
pub(crate) fn report(name: &str, detector: &Detector, min_confidence: f32, examples: &[&Example]) {
    let mut counts: BTreeMap<Kind, Counts> = BTreeMap::new();
    for example in examples {
        let found = detector.find_above(&example.text, min_confidence);
        for gold in &example.gold {
            let count = counts.entry(gold.2).or_default();
            count.gold += 1;
            count.exact +=
                usize::from(found.iter().any(|s| s.kind == gold.2 && s.start == gold.0 && s.end == gold.1));
            count.gold_hit +=
                usize::from(found.iter().any(|s| s.kind == gold.2 && s.start < gold.1 && gold.0 < s.end));
        }
        for span in &found {
            let count = counts.entry(span.kind).or_default();
            count.found += 1;
            count.found_hit += usize::from(
                example.gold.iter().any(|g| g.2 == span.kind && span.start < g.1 && g.0 < span.end),
            );
        }
    }
    println!("\n{name}: {} texts, confidence from {min_confidence}", examples.len());
    println!(
        "{:<20}{:>6}{:>7}{:>9}{:>7}{:>7}{:>9}{:>7}{:>7}",
        "kind", "gold", "found", "exact P", "R", "F1", "overl. P", "R", "F1"
    );
    let mut sum = Counts::default();
    for (kind, count) in &counts {
        line(kind.name(), count);
        sum.gold += count.gold;
        sum.found += count.found;
        sum.exact += count.exact;
        sum.gold_hit += count.gold_hit;
        sum.found_hit += count.found_hit;
    }
    line("all", &sum);
}

/// Prints what was missed (`-`) and what was wrongly found (`+`), for those who improve the model.
pub(crate) fn errors(detector: &Detector, examples: &[&Example]) {
    for example in examples {
        let found = detector.find(&example.text);
        let missed = example.gold.iter().filter(|g| !found.iter().any(|s| (s.start, s.end, s.kind) == **g));
        let wrong = found.iter().filter(|s| !example.gold.contains(&(s.start, s.end, s.kind)));
        let marks: Vec<String> = missed
            .map(|g| format!("-{} {:?}", g.2.name(), &example.text[g.0..g.1]))
            .chain(wrong.map(|s| {
                format!("+{} {:?} {:.2}", s.kind.name(), &example.text[s.start..s.end], s.confidence)
            }))
            .collect();
        if !marks.is_empty() {
            println!("{:?}\n      {}", example.text, marks.join("  "));
        }
    }
}

fn line(name: &str, count: &Counts) {
    let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f32 / whole as f32 };
    let f1 = |p: f32, r: f32| if p + r == 0.0 { 0.0 } else { 2.0 * p * r / (p + r) };
    let (p, r) = (share(count.exact, count.found), share(count.exact, count.gold));
    let (op, or) = (share(count.found_hit, count.found), share(count.gold_hit, count.gold));
    println!(
        "{name:<20}{:>6}{:>7}{p:>9.3}{r:>7.3}{:>7.3}{op:>9.3}{or:>7.3}{:>7.3}",
        count.gold,
        count.found,
        f1(p, r),
        f1(op, or)
    );
}

/// Prints how many of `prompts` raise an alarm, per kind and for kinds that identify somebody.
pub(crate) fn alarms(name: &str, detector: &Detector, prompts: &[String]) {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut identifying = 0;
    for prompt in prompts {
        let found = detector.find(prompt);
        let mut seen: Vec<Kind> = found.iter().map(|span| span.kind).collect();
        seen.sort();
        seen.dedup();
        identifying += usize::from(seen.iter().any(|kind| kind.identifies()));
        for kind in seen {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let per_thousand = |count: usize| count as f32 * 1000.0 / prompts.len().max(1) as f32;
    println!(
        "\n{name}: {} prompts; with an identifying kind: {:.1} per 1,000",
        prompts.len(),
        per_thousand(identifying)
    );
    for (kind, count) in kinds {
        println!("  {:<20}{:>8.1}", kind.name(), per_thousand(count));
    }
}
