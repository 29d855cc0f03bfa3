//! An outcome model from the bytes of its file.
//!
//! Large tensors are used where they lie. A file that is damaged, of another format, or learned with other classifiers is
//! refused by name. Called through [`OutcomeModel::open`].

use std::sync::Arc;

use bytes::Bytes;

use super::neighbours::{MAX_NEIGHBOURS, WIDTH};
use super::table::{BANDS, cells};
use super::terms::BUCKETS;
use super::{Amount, BRANCH, FORMAT, Linear, MAX_MODELS, Neighbours, OutcomeModel, Parts, Table, TermHead};
use crate::error::Error;
use crate::features::{CUES_FROM, DENSE};
use crate::model_file::ModelFile;
use crate::prompt::Builtin;

/// Most prompts whose expectations are kept.
pub(crate) const MAX_SAMPLE: usize = 256;

impl OutcomeModel {
    /// Opens an outcomes file; `shown` is how errors name it and `engine` the fingerprint of the engine it must fit.
    ///
    /// # Errors
    /// If the file is damaged, foreign, or learned with another encoder or other built-in classifiers.
    pub fn open(shown: &str, bytes: &Bytes, engine: &str) -> Result<Self, Error> {
        let file = ModelFile::open(shown, bytes, FORMAT)?;
        let fail = |what: &str| Error::model(shown, format!("{what} cannot be read"));
        let models: Vec<Arc<str>> = serde_json::from_str(file.text("models")?).map_err(|_| fail("models"))?;
        let parts: Parts = serde_json::from_str(file.text("parts")?).map_err(|_| fail("parts"))?;
        if models.is_empty() || models.len() > MAX_MODELS || !parts.sound() {
            return Err(Error::model(shown, "names no models or too many, or has weights out of range"));
        }
        if file.text("engine")? != engine {
            return Err(Error::model(
                shown,
                "was learned with another encoder or other classifiers; train it again with this version",
            ));
        }
        let count = models.len();
        // The metadata says what there is: a file that lost its tensors must not pass for one without.
        let has = |part: &str| file.text(part).is_ok();
        let terms = has("terms").then(|| term_head(&file, shown, count)).transpose()?;
        let cues = has("cues").then(|| linear(&file, CUES, DENSE - CUES_FROM, count)).transpose()?;
        let dense = has("branch").then(|| linear(&file, ENCODER, BRANCH.width(), count)).transpose()?;
        if has("branch") && file.text("branch")? != BRANCH.name() {
            return Err(fail("the encoder's branch"));
        }
        let neighbours = has("neighbours").then(|| neighbours(&file, shown, count)).transpose()?;
        Ok(Self {
            means: file.floats("means", &[count])?,
            table: Table {
                models: count,
                edges: edges(&file)?,
                cells: file.floats("table", &[cells(), count])?,
            },
            cues,
            terms,
            encoder: dense,
            neighbours,
            parts,
            tokens: amount(&file, ("tokens", "tokens_table"), count)?,
            latency: amount(&file, ("latency_ms", "latency_table"), count)?,
            advice: file.text("advice")?.to_owned(),
            sample: sample(&file, shown, count)?,
            models,
        })
    }
}

/// Names of a linear part's tensors: means, factors, weights.
pub(crate) type Names = [&'static str; 3];
/// Of the part over cues.
pub(crate) const CUES: Names = ["cue_means", "cue_factors", "cue_weights"];
/// Of the part over the encoder's output.
pub(crate) const ENCODER: Names = ["encoder_means", "encoder_factors", "encoder_weights"];

/// Number of inputs that the built-in classifiers give: a probability a label, and difficulty.
fn labels() -> usize {
    [Builtin::Domain, Builtin::Task, Builtin::Complexity].iter().map(|b| b.labels().len()).sum::<usize>() + 1
}

fn linear(file: &ModelFile<'_>, names: Names, others: usize, models: usize) -> Result<Linear, Error> {
    let inputs = labels() + others;
    Ok(Linear {
        models,
        means: file.floats(names[0], &[inputs])?,
        factors: file.floats(names[1], &[inputs])?,
        weights: file.floats(names[2], &[inputs, models])?,
    })
}

/// Bounded as training bounds it.
fn sample(file: &ModelFile<'_>, shown: &str, models: usize) -> Result<Vec<f32>, Error> {
    let rows = file.text("sample")?.parse().ok().filter(|rows| *rows <= MAX_SAMPLE);
    let rows = rows.ok_or_else(|| Error::model(shown, "the number of its sample is out of range"))?;
    file.floats("sample", &[rows, models])
}

fn edges(file: &ModelFile<'_>) -> Result<[f32; BANDS - 1], Error> {
    let read = file.floats("edges", &[BANDS - 1])?;
    Ok(std::array::from_fn(|at| read[at]))
}

/// A mean of zero stands for "not known": the format has no number for it.
fn amount(
    file: &ModelFile<'_>,
    (means, table): (&'static str, &'static str),
    models: usize,
) -> Result<Option<Amount>, Error> {
    if file.text(means).is_err() {
        return Ok(None);
    }
    let known = |mean: f32| if mean > 0.0 { mean } else { f32::NAN };
    Ok(Some(Amount {
        means: file.floats(means, &[models])?.into_iter().map(known).collect(),
        table: Table { models, edges: edges(file)?, cells: file.floats(table, &[cells(), models])? },
    }))
}

fn term_head(file: &ModelFile<'_>, shown: &str, models: usize) -> Result<TermHead, Error> {
    let fail = || Error::model(shown, "the number of terms is out of range");
    let rows: usize = file.text("terms")?.parse().map_err(|_| fail())?;
    if rows > BUCKETS {
        return Err(fail());
    }
    let bits = file.int8("term_buckets", &[BUCKETS / 8])?;
    let (rarity, scales) = (file.floats("term_rarity", &[rows])?, file.floats("term_scales", &[models])?);
    let [unknown] = file.floats("term_unknown", &[1])?[..] else { return Err(fail()) };
    let weights = file.int8("term_weights", &[rows, models])?;
    TermHead::new(&bits, (rarity, unknown), weights, scales).ok_or_else(fail)
}

fn neighbours(file: &ModelFile<'_>, shown: &str, models: usize) -> Result<Neighbours, Error> {
    let fail = |what: &str| Error::model(shown, format!("{what} of neighbours is out of range"));
    let count: usize = file.text("neighbours")?.parse().map_err(|_| fail("the number"))?;
    if count == 0 || count > MAX_NEIGHBOURS {
        return Err(fail("the number"));
    }
    Ok(Neighbours {
        models,
        centre: file.floats("neighbour_centre", &[WIDTH])?,
        rows: file.int8("neighbour_rows", &[count, WIDTH])?,
        pulls: file.floats("neighbour_pulls", &[count, models])?,
        outcomes: file.int8("neighbour_outcomes", &[count, models])?,
    })
}
