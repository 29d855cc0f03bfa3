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
        let weights = trainer.train(&prepared, &everything, &Options::default());
        write(&out.join(format!("{}.safetensors", head.name())), &weights.to_file(temperature, &[]))?;
        report.print();
        metrics.insert(head.name(), report);
    }
    let text = serde_json::to_string_pretty(&metrics)?;
    write(&out.join("metrics.json"), (text + "\n").as_bytes())?;
    Ok(())
}

/// Leaves each family out in turn; returns the figures and the temperature fitted on what was never seen.
fn validate(trainer: &Trainer, head: Head, prepared: &Prepared) -> (Report, f32) {
    let options = Options::default();
    let family = |at: usize| prepared.examples[at].group.split(':').next().unwrap_or_default();
    let families: BTreeSet<&str> = (0..prepared.examples.len()).map(family).collect();
    let mut report = Report::new(head);
    report.count(&prepared.examples);
    let mut unseen: Vec<Scored> = Vec::new();
    let mut difficulties = Vec::new();
    for held in families {
        let (test, train): (Vec<usize>, Vec<usize>) =
            (0..prepared.examples.len()).partition(|&at| family(at) == held);
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
