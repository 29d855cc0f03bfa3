//! Trains the classifiers that ship inside the binary: `make models` calls it.
//!
//! Reads the public data sets and the static table, validates by leaving whole source families out, fits the
//! temperature on those unseen sources, and writes the two heads with `metrics.json`. Nothing else calls it.

mod corpus;
mod report;
mod templates;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use report::Report;
use waypost_classify::train::{Options, Prepared, Random, Trainer};
use waypost_classify::{Error, Head, Scored, fit_temperature};

/// One example in this many is held out for the in-distribution figure.
const IID_SHARE: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (data, out) = arguments()?;
    let vocab: &'static [u8] = read(&out.join("vocab.txt"))?.leak();
    let table: &'static [u8] = read(&out.join("static.safetensors"))?.leak();
    let mut metrics = BTreeMap::new();
    for head in [Head::Task, Head::Complexity] {
        let trainer = Trainer::new(head, vocab, table)?;
        let prepared = trainer.prepare(corpus::examples(head, &data)?);
        let (report, temperature) = validate(&trainer, head, &prepared);
        let everything: Vec<usize> = (0..prepared.examples.len()).collect();
        let weights = trainer.train(&prepared, &everything, &opts());
        dev(&trainer, head, &weights);
        if std::env::var("DRY").is_err() { write(&out.join(format!("{}.safetensors", head.name())), &weights.to_file(temperature, &[]))?; }
        report.print();
        metrics.insert(head.name(), report);
    }
    let text = serde_json::to_string_pretty(&metrics)?;
    if std::env::var("DRY").is_err() { write(&out.join("metrics.json"), (text + "\n").as_bytes())?; }
    Ok(())
}

/// Leaves each family out in turn; returns the figures and the temperature fitted on what was never seen.
fn validate(trainer: &Trainer, head: Head, prepared: &Prepared) -> (Report, f32) {
    let options = opts();
    let family = |at: usize| prepared.examples[at].group.split(':').next().unwrap_or_default();
    let families: BTreeSet<&str> = (0..prepared.examples.len()).map(family).collect();
    let mut report = Report::new(head);
    report.count(&prepared.examples);
    let mut unseen: Vec<Scored> = Vec::new();
    let mut difficulties = Vec::new();
    for held in families {
        let (test, train): (Vec<usize>, Vec<usize>) = (0..prepared.examples.len()).partition(|&at| family(at) == held);
        let weights = trainer.train(prepared, &train, &options);
        difficulties.extend(trainer.difficulties(&weights, prepared, &test));
        let mut scored = trainer.score(&weights, prepared, &test);
        // Families count by the square root of their size, as in training.
        let weight = 1.0 / (scored.len().max(1) as f32).sqrt();
        scored.iter_mut().for_each(|s| s.weight = weight);
        report.family(held, &scored);
        unseen.extend(scored);
    }
    let temperature = fit_temperature(&unseen);
    report.unseen(&unseen, temperature, &difficulties);

    let mut random = Random(options.seed);
    let (test, train): (Vec<usize>, Vec<usize>) =
        (0..prepared.examples.len()).partition(|_| random.below(IID_SHARE) == 0);
    let weights = trainer.train(prepared, &train, &options);
    report.iid(&trainer.score(&weights, prepared, &test), temperature);
    (report, temperature)
}

fn arguments() -> Result<(PathBuf, PathBuf), Error> {
    let mut options: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut words = std::env::args().skip(1);
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        options.insert(key, value.into());
    }
    match (options.remove("--data"), options.remove("--out")) {
        (Some(data), Some(out)) if options.is_empty() => Ok((data, out)),
        _ => Err(Error::Data("usage: waypost-train-builtin --data DIRECTORY --out DIRECTORY".into())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.display().to_string(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::Io { path: path.display().to_string(), source })
}

fn env(k: &str, d: f32) -> f32 { std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d) }
fn opts() -> Options {
    let d = Options::default();
    Options { epochs: env("EP", d.epochs as f32) as usize, rate_sparse: env("RS", d.rate_sparse), rate_dense: env("RD", d.rate_dense), l2: env("L2", d.l2), dropout: env("DO", d.dropout), smoothing: env("SM", d.smoothing), group_power: env("GP", d.group_power), own_boost: env("OB", d.own_boost), seed: d.seed }
}
fn dev(trainer: &Trainer, head: Head, weights: &waypost_classify::train::Weights) {
    let mut ex = Vec::new();
    let col = if head == Head::Task {0} else {1};
    for line in std::fs::read_to_string("crates/classify/tests/prompts.tsv").unwrap().lines().filter(|l| !l.starts_with('#')) {
        let f: Vec<&str> = line.split('\t').collect();
        if let Some(label) = head.labels().iter().position(|l| *l == f[col]) { if f[0] != "Unknown" {
            ex.push(waypost_classify::train::Example { text: f[2].replace("\\n", "\n"), label: Some(label), difficulty: None, group: "dev".into() }); } }
    }
    let n = ex.len();
    let p = trainer.prepare(ex);
    let s = trainer.score(weights, &p, &(0..n).collect::<Vec<_>>());
    let mut right = 0; let mut nll = 0.0;
    for s in &s { let b = s.logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0; if b == s.label { right += 1; }
      let m = s.logits.iter().copied().fold(f32::MIN, f32::max); let z: f32 = s.logits.iter().map(|l| (l-m).exp()).sum(); nll -= s.logits[s.label] - m - z.ln(); }
    println!("DEV {} {}/{} nll {:.3}", head.name(), right, n, nll / n as f32);
}
