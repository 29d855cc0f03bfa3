//! `waypost train`: labelled rows in, a trained folder out.
//!
//! Measured on rows held out, calibrated on others, then trained again on all. Each text is encoded once. The same rows
//! and seed give the same bytes, whatever the machine is called or the clock says. Called by `main`.

mod card;
pub(crate) mod checks;
mod folder;
mod outcomes;
mod outcomes_card;
mod progress;
mod rows;
mod split;
mod thresholds;

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use waypost_classify::encoder::Branch;
use waypost_classify::train::{
    DenseOptions, GateOptions, Metrics, Options, Prepared, Recipe, Target, Trained, fit_gates, train,
};
use waypost_classify::{Base, FILE_NAME, Gates};

use crate::cli::Train;
use crate::data::Row;
use crate::error::Error;
use crate::eval::plot;
use card::Findings;
use folder::Folder;
use progress::Progress;
use rows::Data;
use split::Split;

/// Largest share of calibration texts the encoder may be asked for. Twice the default: a user's labels lie closer together
/// than the built-in ones, and on 77 bank intents this gains a point of accuracy.
const MAX_ESCALATED: f32 = 0.3;
/// Weight of the encoder unless the calibration texts clearly speak for another: on 360 bank messages it was 8 points better
/// than what 72 of them chose.
const USUAL_WEIGHT: f32 = 0.6;
/// Calibration texts below which the encoder is always asked: so few teach the n-grams little, and say little about where
/// they may be believed. Of 360 bank messages a cap cost a tenth of the right answers.
const MIN_GATED: usize = 500;
/// Up to so many labels both trainings run at once; n-gram weights and their state take a megabyte a label.
const MAX_LABELS_AT_ONCE: usize = 250;

pub(crate) fn run(options: &Train) -> Result<(), Error> {
    match (&options.data, &options.outcomes) {
        (Some(data), _) => {
            let models = (!options.models.is_empty()).then_some("--models");
            if let Some(stray) = options.outcome.given().or(models) {
                return Err(Error::Usage(format!("{stray} is for --outcomes, not for --data")));
            }
            classifier(options, data)
        }
        (None, Some(file)) => outcomes::run(options, file),
        (None, None) => Err(Error::Internal("neither --data nor --outcomes".to_owned())),
    }
}

fn classifier(options: &Train, file: &Path) -> Result<(), Error> {
    let progress = Progress::start();
    let folder = Folder::begin(&options.out, folder::CLASSIFIER)?;
    let table = rows::read(options, file, &progress)?;
    let data = Data::of(&table.rows, file)?;
    let split = split::split(data.split_rows(), options.seed);
    let warnings = data.warnings(&split);
    warnings.iter().for_each(|warning| progress.note(&format!("warning: {warning}")));

    let base = Base::embedded()?;
    let prepared = prepare(&base, &table.rows, !options.no_encoder, &progress)?;
    let recipe = Recipe {
        labels: data.names.len(),
        measures: false,
        linear: Options { seed: options.seed, ..Options::default() },
        dense: DenseOptions { seed: options.seed, ..DenseOptions::default() },
        taught: None,
    };
    let targets = data.targets();
    let all: Vec<usize> = (0..table.rows.len()).collect();
    let passes = recipe.linear.epochs + if options.no_encoder { 0 } else { recipe.dense.epochs };
    let to_keep = all.len();
    progress.phase(
        format!("training on {} rows to measure, on {to_keep} to keep", split.train.len()),
        2 * passes,
    );
    let [part, whole] = train_both(&prepared, &targets, [&split.train, &all], &recipe, &progress)?;

    progress.phase("calibrating", 0);
    let gates = calibrate(&part, &prepared, &targets, &split);
    let judge = |gates: &Gates| part.outcomes(&prepared, &targets, &split.test, gates);
    let outcomes = judge(&gates);
    let findings = Findings {
        name: options.name.clone().unwrap_or_else(|| folder.name()),
        file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        rows: table.rows.len(),
        skipped: table.left_out.rows,
        names: &data.names,
        counts: checks::counts(data.names.len(), &data.labels),
        split: &split,
        sources: &data.sources,
        warnings: &warnings,
        metrics: Metrics::of(&outcomes),
        ngram: Metrics::of(&judge(&gates.never_asking())),
        both: (!options.no_encoder).then(|| Metrics::of(&judge(&gates.always_asking()))),
        gates: &gates,
        floor: thresholds::floor(&outcomes),
        thresholds: (0..data.names.len()).map(|label| thresholds::one_vs_rest(&outcomes, label)).collect(),
        encoder: base.encoder().fingerprint(),
        seed: options.seed,
    };
    progress.phase("writing", 0);
    write(&folder, &findings, &whole, &base)?;
    folder.finish()?;
    progress.finish(&findings.summary(&options.out));
    Ok(())
}

/// When to believe which tier, from the calibration rows.
fn calibrate(part: &Trained, data: &Prepared, targets: &[Target], split: &Split) -> Gates {
    let budget =
        GateOptions { escalated: MAX_ESCALATED, usual_weight: Some(USUAL_WEIGHT), ..GateOptions::default() };
    let gates = fit_gates(part, data, targets, &split.calibration, &budget);
    if gates.encoder_weight == 0.0 {
        // Its word would not count: asking would only cost time.
        gates.never_asking()
    } else if split.calibration.len() < MIN_GATED {
        gates.always_asking()
    } else {
        gates
    }
}

fn write(folder: &Folder, findings: &Findings<'_>, trained: &Trained, base: &Base) -> Result<(), Error> {
    let labels: Vec<&str> = findings.names.iter().map(String::as_str).collect();
    let notes = [("rows", findings.rows.to_string()), ("seed", findings.seed.to_string())];
    let file = trained.to_file(base, &findings.name, &labels, findings.gates, &notes);
    folder.write(FILE_NAME, &file)?;
    folder.write("labels.json", findings.labels_json().as_bytes())?;
    folder.write("metrics.json", findings.metrics_json().as_bytes())?;
    folder.write("README.md", findings.card().as_bytes())?;
    folder.write("reliability.svg", plot::reliability(&findings.name, &findings.metrics).as_bytes())?;
    folder.write("confusion.svg", plot::confusion(&findings.name, &labels, &findings.metrics).as_bytes())
}

/// Trains on a part, to measure, and on all rows, to keep: at the same time, unless the weights would fill the memory.
fn train_both(
    data: &Prepared,
    targets: &[Target],
    chosen: [&[usize]; 2],
    recipe: &Recipe,
    progress: &Progress,
) -> Result<[Trained; 2], Error> {
    let done = AtomicUsize::new(0);
    let fit = |chosen: &[usize]| {
        train(data, targets, chosen, recipe, &|_, _| progress.at(done.fetch_add(1, Ordering::Relaxed) + 1))
    };
    if recipe.labels > MAX_LABELS_AT_ONCE {
        return Ok(chosen.map(fit));
    }
    std::thread::scope(|scope| {
        let part = scope.spawn(|| fit(chosen[0]));
        let whole = fit(chosen[1]);
        let part =
            part.join().map_err(|_| Error::Internal("training failed; this is a defect".to_owned()))?;
        Ok([part, whole])
    })
}

/// What both tiers see of each text; the encoder is most of the time that training takes.
fn prepare(base: &Base, rows: &[Row], encoder: bool, progress: &Progress) -> Result<Prepared, Error> {
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let threads = available_parallelism().map_or(1, NonZero::get);
    progress.phase(
        format!("{} {} texts", if encoder { "encoding" } else { "reading" }, texts.len()),
        texts.len(),
    );
    let branch = encoder.then_some(Branch::Sentence);
    Ok(Prepared::new(base, &texts, branch, threads, &|done| progress.at(done))?)
}
