//! The figures that `models/metrics.json` and the model card quote.
//!
//! Pure bookkeeping over scored examples. Called by `main`.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

use std::collections::BTreeMap;

use serde::Serialize;
use waypost_classify::train::Example;
use waypost_classify::{Head, Scored, calibration_error};

/// What was measured for one head.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    head: &'static str,
    #[serde(skip)]
    labels: &'static [&'static str],
    /// Training rows per label: from public data, from our templates.
    rows: BTreeMap<&'static str, (usize, usize)>,
    /// Held-out family: rows, accuracy, and the commonest mistake.
    families: BTreeMap<String, Family>,
    source_held_out_accuracy: f32,
    source_held_out_mean_of_families: f32,
    source_held_out_macro_f1: f32,
    source_held_out_ece: f32,
    recall: BTreeMap<&'static str, f32>,
    temperature: f32,
    iid_accuracy: f32,
    iid_ece: f32,
    /// Rank correlation of predicted and true difficulty on held-out families.
    difficulty_rank_correlation: Option<f32>,
}

#[derive(Debug, Serialize)]
struct Family {
    rows: usize,
    accuracy: f32,
    commonest_mistake: String,
}

impl Report {
    pub(crate) fn new(head: Head) -> Self {
        Self {
            head: head.name(),
            labels: head.labels(),
            rows: BTreeMap::new(),
            families: BTreeMap::new(),
            source_held_out_accuracy: 0.0,
            source_held_out_mean_of_families: 0.0,
            source_held_out_macro_f1: 0.0,
            source_held_out_ece: 0.0,
            recall: BTreeMap::new(),
            temperature: 1.0,
            iid_accuracy: 0.0,
            iid_ece: 0.0,
            difficulty_rank_correlation: None,
        }
    }

    pub(crate) fn count(&mut self, examples: &[Example]) {
        for example in examples {
            if let Some(label) = example.label {
                let entry = self.rows.entry(self.labels[label]).or_default();
                if example.group.starts_with("own:") { entry.1 += 1 } else { entry.0 += 1 }
            }
        }
    }

    pub(crate) fn family(&mut self, name: &str, scored: &[Scored]) {
        if scored.is_empty() {
            return;
        }
        let mut mistakes: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for s in scored.iter().filter(|s| best(s) != s.label) {
            *mistakes.entry((s.label, best(s))).or_default() += 1;
        }
        let worst = mistakes.into_iter().max_by_key(|(_, count)| *count);
        let name_of = |((right, taken), count): ((usize, usize), usize)| {
            format!("{} taken for {} ({count})", self.labels[right], self.labels[taken])
        };
        let family = Family {
            rows: scored.len(),
            accuracy: accuracy(scored),
            commonest_mistake: worst.map(name_of).unwrap_or_default(),
        };
        self.families.insert(name.to_owned(), family);
    }

    pub(crate) fn unseen(&mut self, scored: &[Scored], temperature: f32, difficulties: &[(f32, f32)]) {
        // The hand-written prompts are not a source in the wild: they stay out of the headline.
        let public: Vec<&Family> =
            self.families.iter().filter(|(name, _)| *name != "own").map(|(_, f)| f).collect();
        let rows: usize = public.iter().map(|f| f.rows).sum();
        let right: f32 = public.iter().map(|f| f.accuracy * f.rows as f32).sum();
        self.source_held_out_accuracy = right / rows.max(1) as f32;
        self.source_held_out_mean_of_families =
            public.iter().map(|f| f.accuracy).sum::<f32>() / public.len().max(1) as f32;
        self.source_held_out_macro_f1 = self.macro_f1(scored);
        self.source_held_out_ece = calibration_error(scored, temperature);
        self.temperature = temperature;
        self.difficulty_rank_correlation = (!difficulties.is_empty()).then(|| rank_correlation(difficulties));
    }

    pub(crate) fn iid(&mut self, scored: &[Scored], temperature: f32) {
        self.iid_accuracy = accuracy(scored);
        self.iid_ece = calibration_error(scored, temperature);
    }

    /// Mean F1 over the labels that occur, rows weighted by family; fills `recall` on the way.
    fn macro_f1(&mut self, scored: &[Scored]) -> f32 {
        let mut f1 = Vec::new();
        for (label, name) in self.labels.iter().enumerate() {
            let sum = |test: &dyn Fn(&Scored) -> bool| {
                scored.iter().filter(|s| test(s)).map(|s| s.weight).sum::<f32>()
            };
            let actual = sum(&|s| s.label == label);
            if actual == 0.0 {
                continue;
            }
            let hit = sum(&|s| s.label == label && best(s) == label);
            let predicted = sum(&|s| best(s) == label);
            self.recall.insert(name, hit / actual);
            f1.push(2.0 * hit / (actual + predicted));
        }
        f1.iter().sum::<f32>() / f1.len().max(1) as f32
    }

    pub(crate) fn print(&self) {
        println!("\n## {}", self.head);
        println!("rows {:?}", self.rows);
        for (name, f) in &self.families {
            println!("  without {name:<16} {:>6} rows  {:.3}  {}", f.rows, f.accuracy, f.commonest_mistake);
        }
        println!(
            "source held out: accuracy {:.3}, mean of families {:.3}, macro-F1 {:.3}, ECE {:.3} at temperature {:.2}",
            self.source_held_out_accuracy,
            self.source_held_out_mean_of_families,
            self.source_held_out_macro_f1,
            self.source_held_out_ece,
            self.temperature
        );
        println!("recall {:?}", self.recall);
        println!("iid: accuracy {:.3}, ECE {:.3}", self.iid_accuracy, self.iid_ece);
        println!("difficulty, rank correlation on unseen sources: {:?}", self.difficulty_rank_correlation);
    }
}

fn best(scored: &Scored) -> usize {
    scored.logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(index, _)| index)
}

fn accuracy(scored: &[Scored]) -> f32 {
    scored.iter().filter(|s| best(s) == s.label).count() as f32 / scored.len().max(1) as f32
}

/// Spearman's rho.
fn rank_correlation(pairs: &[(f32, f32)]) -> f32 {
    let (left, right): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
    let (left, right) = (ranks(&left), ranks(&right));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    (dot(&left, &right) / (dot(&left, &left) * dot(&right, &right)).sqrt()) as f32
}

/// Ranks, ties sharing their mean.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut out = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = start as f64 + (group.len() as f64 - 1.0) / 2.0;
        group.iter().for_each(|&at| out[at] = rank);
        start += group.len();
    }
    out
}
