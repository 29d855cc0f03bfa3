//! `waypost train --outcomes`: which model did well on what in, a folder for `auto` policies out.
//!
//! Measured on prompts held out, whole sources where rows name three or more, then learnt again from all. Each prompt is
//! encoded once. The same rows and seed give the same bytes. Called by `train`.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::thread::available_parallelism;

use bytes::Bytes;
use waypost_classify::train::Random;
use waypost_classify::train::outcomes::{FOLDS, Fitted, Outcomes, Read, fit};
use waypost_classify::{Engine, OUTCOMES_FILE, OutcomeModel, Prompt};

use super::folder::{self, Folder};
use super::outcomes_card::{Findings, Held};
use super::progress::Progress;
use crate::cli::Train;
use crate::error::Error;
use crate::outcomes::{Asked, Fields, Judged, MODEL_FIELD, Measured, Sheet, picture, prices_for, summary};

/// Share of prompts the figures are measured on.
const TEST_SHARE: f64 = 0.2;
/// A held-out source may have this many times that share.
const TOO_MUCH: f64 = 1.8;
/// Fewer sources cannot be held out.
const MIN_SOURCES: usize = 3;
/// Fewer prompts than this, with every outcome known, are not measured on.
const MIN_TESTED: usize = 5;
/// Fewer prompts than this, answered by two models at least, teach nothing about who does better on what.
const MIN_PROMPTS: usize = 20;
/// Most prompts learnt from; what they are read into takes some kilobytes each.
const MAX_PROMPTS: usize = 50_000;

pub(super) fn run(options: &Train, file: &Path) -> Result<(), Error> {
    let progress = Progress::start();
    let folder = Folder::begin(&options.out, folder::OUTCOMES)?;
    progress.phase(format!("reading {}", file.display()), 0);
    let of_file = |what: String| Error::Data(format!("{}: {what}", file.display()));
    let sheet = Sheet::read(file, fields(options))?;
    let left_out = sheet.left_out.shown();
    if !left_out.is_empty() {
        progress.note(left_out.trim_end());
    }
    let models = sheet.contestants(&options.models).map_err(of_file)?;
    let prices = prices_for(&models, &options.outcome.prices, options.outcome.config.as_deref())?;
    let (outcomes, prompts) = sheet.outcomes(&models).map_err(of_file)?;
    enough(&outcomes).map_err(of_file)?;
    let asked = Asked { sheet: &sheet, outcomes: &outcomes, prompts: &prompts, prices: prices.as_deref() };
    let learnt = chosen(outcomes.len(), options.seed);
    if learnt.len() < outcomes.len() {
        progress.note(&format!("warning: {} of {} prompts are learnt from", learnt.len(), outcomes.len()));
    }

    let engine = Engine::embedded()?;
    let read = read(&engine, asked, !options.no_encoder, &progress)?;
    let learning = Learning { engine: &engine, asked, read: &read, seed: options.seed, progress: &progress };
    let mut held = Vec::new();
    if let Some((rows, sources)) = by_source(asked, &learnt, options.seed) {
        let how = format!("by source ({})", sources.join(", "));
        held.extend(learning.measure(&learnt, &rows, how)?);
    }
    let rows = at_random(&outcomes, &learnt, options.seed);
    held.extend(learning.measure(&learnt, &rows, "at random".to_owned())?);
    let whole = learning.fit(&learnt, "all")?;

    progress.phase("writing", 0);
    let findings = Findings {
        name: folder.name(),
        file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        rows: sheet.rows(),
        skipped: sheet.left_out.rows,
        prompts: learnt.len(),
        outcomes: &outcomes,
        learnt: &learnt,
        priced: prices.is_some(),
        whole: &whole,
        held: &held,
        encoder: engine.encoder().fingerprint(),
        seed: options.seed,
    };
    write(&folder, &findings)?;
    folder.finish()?;
    let measured = held.first().map_or_else(
        || "too few prompts whose outcomes are all known to measure anything".to_owned(),
        |held| summary(&held.measured, &held.how),
    );
    progress.finish(&format!(
        "{}: {} models; {measured}\n{}",
        options.out.display(),
        models.len(),
        whole.advice
    ));
    crate::print(&findings.report())
}

/// Whether there is anything to compare models by.
///
/// # Errors
/// Says how many prompts there are and how many are needed.
fn enough(outcomes: &Outcomes) -> Result<(), String> {
    let answered = |row: &usize| outcomes.row(*row).iter().filter(|quality| !quality.is_nan()).count();
    let found = (0..outcomes.len()).filter(|row| answered(row) >= 2).count();
    match found < MIN_PROMPTS {
        true => Err(format!(
            "{found} of {} prompts have outcomes of two models or more; {MIN_PROMPTS} are needed to learn from",
            outcomes.len()
        )),
        false => Ok(()),
    }
}

fn fields(options: &Train) -> Fields<'_> {
    Fields {
        prompt: options.outcome.prompt_field.as_deref(),
        model: options.outcome.model_field.as_deref().unwrap_or(MODEL_FIELD),
        score: options.outcome.score_field.as_deref(),
        source: options.source_field.as_deref(),
    }
}

fn write(folder: &Folder, findings: &Findings<'_>) -> Result<(), Error> {
    folder.write(OUTCOMES_FILE, &findings.whole.file)?;
    folder.write("metrics.json", findings.metrics_json().as_bytes())?;
    folder.write("README.md", findings.card().as_bytes())?;
    folder.write("curve.json", findings.curve_json().as_bytes())?;
    if let Some(held) = findings.held.first() {
        folder.write("curve.svg", picture(&findings.name, &held.measured).as_bytes())?;
    }
    Ok(())
}

/// What both tiers see of each prompt; the encoder is most of the time that training takes.
fn read(engine: &Engine, asked: Asked<'_>, encoder: bool, progress: &Progress) -> Result<Read, Error> {
    let texts: Vec<&str> = (0..asked.outcomes.len()).map(|row| asked.text(row)).collect();
    let threads = available_parallelism().map_or(1, NonZero::get);
    let doing = if encoder { "encoding" } else { "reading" };
    progress.phase(format!("{doing} {} prompts", texts.len()), texts.len());
    Ok(Read::new(engine, &texts, encoder, threads, &|done| progress.at(done))?)
}

/// What learning takes.
struct Learning<'a> {
    engine: &'a Engine,
    asked: Asked<'a>,
    read: &'a Read,
    seed: u64,
    progress: &'a Progress,
}

impl Learning<'_> {
    fn fit(&self, rows: &[usize], what: &str) -> Result<Fitted, Error> {
        self.progress.phase(format!("learning from {what} ({} prompts)", rows.len()), FOLDS);
        let mut told = |fold| self.progress.at(fold);
        Ok(fit(self.engine, self.asked.outcomes, self.read, rows, self.seed, &mut told)?)
    }

    /// Learns from all but the held-out rows, and judges by those; `None` where too few can be judged by.
    fn measure(&self, all: &[usize], held: &[usize], how: String) -> Result<Option<Held>, Error> {
        let tested = self.asked.complete(held);
        let taught: Vec<usize> = all.iter().copied().filter(|row| held.binary_search(row).is_err()).collect();
        let unknown = self.asked.outcomes.means(&taught).iter().any(|mean| mean.is_nan());
        if tested.len() < MIN_TESTED || unknown {
            return Ok(None);
        }
        let fitted = self.fit(&taught, &format!("what is not held out {how}"))?;
        // Judged as it will be loaded.
        let bytes = Bytes::from(fitted.file.clone());
        let model = OutcomeModel::open(OUTCOMES_FILE, &bytes, self.engine.fingerprint())?;
        let judge = |encoder: bool| -> Result<Judged, Error> {
            self.asked.judge(&model, &tested, |row| {
                let prompt = Prompt { focus: self.asked.text(row), context: "" };
                let signals = model.signals(self.engine, &prompt);
                Ok(model.expect(&signals, self.read.encoding(row).filter(|_| encoder)))
            })
        };
        let measured: Measured = judge(true)?.measure(self.seed);
        let tier0 = match model.branch() {
            Some(_) => Some(judge(false)?.measure(self.seed)),
            None => None,
        };
        let (taught, tested) = (taught.len(), tested.len());
        Ok(Some(Held { how, taught, tested, measured, tier0, fitted }))
    }
}

/// The prompts to learn from, rising: all, or a seeded choice.
fn chosen(prompts: usize, seed: u64) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..prompts).collect();
    if prompts > MAX_PROMPTS {
        Random(seed).shuffle(&mut rows);
        rows.truncate(MAX_PROMPTS);
        rows.sort_unstable();
    }
    rows
}

/// Whole sources with about the share of prompts to test, and their names; `None` where there are too few.
fn by_source(asked: Asked<'_>, learnt: &[usize], seed: u64) -> Option<(Vec<usize>, Vec<String>)> {
    let source = |row: usize| asked.sheet.sources[asked.prompts[row]].as_deref().unwrap_or_default();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    learnt.iter().for_each(|&row| *counts.entry(source(row)).or_default() += 1);
    if counts.len() < MIN_SOURCES {
        return None;
    }
    let mut order: Vec<&str> = counts.keys().copied().collect();
    Random(seed).shuffle(&mut order);
    let wanted = TEST_SHARE * learnt.len() as f64;
    let (mut held, mut total) = (Vec::new(), 0);
    for name in order {
        if (total as f64) < wanted && ((total + counts[name]) as f64) <= wanted * TOO_MUCH {
            held.push(name);
            total += counts[name];
        }
    }
    // Prompts that also stand in a source that is taught are no test.
    let taught: std::collections::BTreeSet<u32> = learnt
        .iter()
        .filter(|&&row| !held.contains(&source(row)))
        .map(|&row| asked.outcomes.groups[row])
        .collect();
    let tested = |row: &usize| held.contains(&source(*row)) && !taught.contains(&asked.outcomes.groups[*row]);
    let rows: Vec<usize> = learnt.iter().copied().filter(tested).collect();
    held.sort_unstable();
    let shown = |name: &&str| if name.is_empty() { "(none)".to_owned() } else { (*name).to_owned() };
    (!rows.is_empty()).then(|| (rows, held.iter().map(shown).collect()))
}

/// A share of the prompts; those with the same normalised text stay together.
fn at_random(outcomes: &Outcomes, learnt: &[usize], seed: u64) -> Vec<usize> {
    let mut groups: Vec<u32> = learnt.iter().map(|&row| outcomes.groups[row]).collect();
    groups.sort_unstable();
    groups.dedup();
    Random(seed).shuffle(&mut groups);
    groups.truncate((TEST_SHARE * groups.len() as f64).round() as usize);
    groups.sort_unstable();
    learnt.iter().copied().filter(|&row| groups.binary_search(&outcomes.groups[row]).is_ok()).collect()
}
