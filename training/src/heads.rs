//! Fits and writes the heads of the built-in classifiers.
//!
//! One encoder was fine-tuned without some families of sources: `validate` trains heads without them too and learns from their
//! rows when to believe which tier. Another was fine-tuned on everything: `train` fits the heads that ship on it. Called by `main`.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

use std::collections::BTreeMap;
use std::path::Path;

use waypost_classify::encoder::Branch;
use waypost_classify::train::{
    DenseOptions, GateOptions, Options, Prepared, Random, Recipe, Target, Trained, fit_gates, train as fit,
};
use waypost_classify::{Base, Builtin, Error, Gates};

use crate::corpus::Row;
use crate::report::Report;
use crate::{balance, dev, roughen, safety_gates};

const THREADS: usize = 2;
/// Families with fewer familiar rows are not reported on their own.
const MIN_SHOWN: usize = 80;
const SEED: u64 = 5;
/// What a row without a label of its own counts, where tier 1 teaches tier 0.
const UNLABELLED_WEIGHT: f32 = 0.5;
/// Most of the validation rows that may be escalated; as many of them are from unseen sources as from familiar ones. For
/// safety tier 0 is the weaker judge, and missing an attack is what must not happen.
const ESCALATED: f32 = 0.29;
const ESCALATED_FOR_SAFETY: f32 = 0.28;

/// What both runs share: the rows, the development prompts, and what both tiers see of them.
struct Lesson<'a> {
    rows: &'a [Row],
    dev: Vec<Row>,
    data: Prepared,
    base: Base,
    /// Where the roughened versions of the development prompts begin, in the order of `dev`.
    rough_from: usize,
}

impl<'a> Lesson<'a> {
    fn new(rows: &'a [Row], here: &Path, models: &Path, encoder: &Path) -> Result<Self, Error> {
        let leak = |path: &Path| -> Result<&'static [u8], Error> { Ok(bytes(path)?.leak()) };
        let shared = |name: &str| leak(&models.join(name));
        let base = Base::open(shared("vocab.txt")?, shared("static.safetensors")?, leak(encoder)?)?;
        let dev = dev::rows(here)?;
        let mut random = Random(SEED);
        let rough: Vec<String> = dev.iter().map(|row| roughen::rough(&row.text, &mut random)).collect();
        let given = rows.iter().chain(&dev).map(|row| row.text.as_str());
        let texts: Vec<&str> = given.chain(rough.iter().map(String::as_str)).collect();
        println!("{} rows, {} development prompts", rows.len(), dev.len());
        let data = Prepared::new(&base, &texts, Some(Branch::Prompt), THREADS, &|_| {})?;
        Ok(Self { rows, rough_from: rows.len() + dev.len(), dev, data, base })
    }

    fn targets(&self, builtin: Builtin) -> Vec<Target> {
        let weights = balance::weights(self.rows, builtin);
        let taught = self.rows.iter().zip(weights).map(|(row, weight)| target(row, builtin, weight));
        let judged = self.dev.iter().map(|row| target(row, builtin, 1.0));
        taught.chain(judged).chain(self.dev.iter().map(|_| Target::default())).collect()
    }

    fn known(&self, targets: &[Target]) -> Vec<usize> {
        let known = |&at: &usize| targets[at].label.is_some() || targets[at].difficulty.is_some();
        (0..self.rows.len()).filter(known).collect()
    }

    fn unlabelled(&self, targets: &[Target]) -> Vec<usize> {
        let silent = |&at: &usize| targets[at].label.is_none() && targets[at].difficulty.is_none();
        (0..self.rows.len()).filter(silent).collect()
    }

    /// Trains on the rows at `chosen`; tier 0 also learns what tier 1 makes of the rows at `unlabelled`.
    fn fit(&self, builtin: Builtin, targets: &[Target], chosen: &[usize], unlabelled: Vec<usize>) -> Trained {
        let recipe = Recipe {
            labels: builtin.labels().len(),
            measures: builtin == Builtin::Complexity,
            linear: Options::default(),
            dense: DenseOptions { epochs: 10, ..DenseOptions::default() },
            // What a prompt is about can be read off any prompt; what it asks for cannot be read off an exam question.
            taught: (builtin == Builtin::Domain).then_some((unlabelled, UNLABELLED_WEIGHT)),
        };
        fit(&self.data, targets, chosen, &recipe, &|_, _| {})
    }

    /// The share of development prompts whose label stays when case, spacing and letters go astray.
    fn stability(&self, trained: &Trained, gates: &Gates) -> f64 {
        let pairs = (0..self.dev.len()).map(|at| (self.rows.len() + at, self.rough_from + at));
        let label = |at: usize| trained.label(&self.data, at, gates);
        let same = pairs.filter(|&(clean, rough)| label(clean) == label(rough)).count();
        same as f64 / self.dev.len().max(1) as f64
    }

    /// The development prompts by file.
    fn dev_groups(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, row) in self.dev.iter().enumerate() {
            groups.entry(row.group.as_str()).or_default().push(self.rows.len() + at);
        }
        groups
    }
}

/// Gates by classifier.
type AllGates = BTreeMap<String, Gates>;

/// Learns the gates, and writes them and `metrics.json`. The heads of this run are thrown away: neither they nor `encoder`
/// were taught by the sources in `without`.
pub(crate) fn validate(
    rows: &[Row],
    here: &Path,
    (models, encoder, gates): (&Path, &Path, &Path),
    without: &[&str],
) -> Result<(), Box<dyn std::error::Error>> {
    let lesson = Lesson::new(rows, here, models, encoder)?;
    let (mut reports, mut found) = (BTreeMap::new(), AllGates::new());
    for builtin in Builtin::ALL {
        let (gates, report) = validate_one(&lesson, builtin, without);
        reports.insert(builtin.name(), report);
        found.insert(builtin.name().to_owned(), gates);
    }
    write(gates, &serde_json::to_vec_pretty(&found)?)?;
    let text = serde_json::to_string_pretty(&reports)? + "\n";
    Ok(write(&models.join("metrics.json"), text.as_bytes())?)
}

/// Trains on everything, with the encoder that ships, and writes the classifiers with the gates found before.
pub(crate) fn train(
    rows: &[Row],
    here: &Path,
    models: &Path,
    gates: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let lesson = Lesson::new(rows, here, models, &models.join("encoder.safetensors"))?;
    let gates: AllGates = serde_json::from_slice(&bytes(gates)?)?;
    for builtin in Builtin::ALL {
        let targets = lesson.targets(builtin);
        let trained = lesson.fit(builtin, &targets, &lesson.known(&targets), lesson.unlabelled(&targets));
        let gates = gates.get(builtin.name()).ok_or("no gates for a classifier: run validate first")?;
        let file = trained.to_file(&lesson.base, builtin.name(), builtin.labels(), gates, &[]);
        write(&models.join(format!("{}.safetensors", builtin.name())), &file)?;
    }
    Ok(())
}

/// The gates of one classifier, learnt from sources its heads and the encoder were trained without.
fn validate_one(lesson: &Lesson<'_>, builtin: Builtin, without: &[&str]) -> (Gates, Report) {
    let rows = lesson.rows;
    let mut report = Report::new(builtin);
    let mut targets = lesson.targets(builtin);
    let mut unseen: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let (mut familiar, mut taught) = (Vec::new(), Vec::new());
    for at in lesson.known(&targets) {
        let group = rows[at].group.as_str();
        if let Some(family) = without.iter().find(|w| group.starts_with(**w)) {
            unseen.entry(*family).or_default().push(at);
        } else if rows[at].familiar {
            familiar.push(at);
        } else {
            taught.push(at);
        }
    }
    let held = |at: &usize| rows[*at].familiar || without.iter().any(|w| rows[*at].group.starts_with(*w));
    let unlabelled = lesson.unlabelled(&targets).into_iter().filter(|at| !held(at)).collect();
    let trained = lesson.fit(builtin, &targets, &taught, unlabelled);
    weigh(&mut targets, &familiar, unseen.values());
    let judged: Vec<usize> = familiar.iter().chain(unseen.values().flatten()).copied().collect();
    let options = match builtin {
        // Accuracy hardly moves with the gate where nearly all prompts are harmless: the whole budget is used.
        Builtin::Safety => {
            GateOptions { escalated: ESCALATED_FOR_SAFETY, slack: None, ..GateOptions::default() }
        }
        _ => GateOptions { escalated: ESCALATED, ..GateOptions::default() },
    };
    let mut gates = fit_gates(&trained, &lesson.data, &targets, &judged, &options);
    if builtin == Builtin::Safety {
        gates.alarms = safety_gates::alarms(&trained, &lesson.data, &targets, &judged, &gates);
    }
    report.rows(rows, &targets);
    report.part("familiar", &trained, &lesson.data, &targets, &familiar, &gates);
    let mut families: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &at in &familiar {
        families.entry(rows[at].family()).or_default().push(at);
    }
    for (family, at) in families.iter().filter(|(_, at)| at.len() >= MIN_SHOWN) {
        report.part(&format!("familiar {family}"), &trained, &lesson.data, &targets, at, &gates);
    }
    for (family, at) in &unseen {
        report.part(&format!("unseen {family}"), &trained, &lesson.data, &targets, at, &gates);
    }
    for (group, at) in lesson.dev_groups() {
        report.part(group, &trained, &lesson.data, &targets, &at, &gates);
    }
    report.stability(lesson.stability(&trained, &gates));
    report.print(&gates);
    (gates, report)
}

/// Familiar and unseen rows count half each in the gates; families among the unseen by the root of their size.
fn weigh<'a>(
    targets: &mut [Target],
    familiar: &[usize],
    unseen: impl Iterator<Item = &'a Vec<usize>> + Clone,
) {
    for &at in familiar {
        targets[at].weight = 1.0 / familiar.len() as f32;
    }
    let total: f32 = unseen.clone().map(|rows| (rows.len() as f32).sqrt()).sum();
    for rows in unseen {
        let share = (rows.len() as f32).sqrt() / total;
        rows.iter().for_each(|&at| targets[at].weight = share / rows.len() as f32);
    }
}

fn target(row: &Row, builtin: Builtin, weight: f32) -> Target {
    let difficulty = row.difficulty.filter(|_| builtin == Builtin::Complexity);
    Target::new(row.label(builtin), difficulty, weight)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.display().to_string(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::Io { path: path.display().to_string(), source })
}
