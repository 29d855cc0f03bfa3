//! An outcome model from the bytes of its file.
//!
//! Large tensors are used where they lie. A file that is damaged, of another format, or made for another encoder is
//! refused by name. Called through [`OutcomeModel::open`].

use std::sync::Arc;

use bytes::Bytes;

use super::neighbours::MAX_NEIGHBOURS;
use super::table::{BANDS, cells};
use super::{Amount, FORMAT, MAX_MODELS, Neighbours, OutcomeModel, Parts, Table};
use crate::encoder::HIDDEN;
use crate::encoder_head::EncoderHead;
use crate::error::Error;
use crate::head::LinearHead;
use crate::model_file::ModelFile;

impl OutcomeModel {
    /// Opens an outcomes file; `shown` is how errors name it and `encoder` the fingerprint of the encoder it must fit.
    ///
    /// # Errors
    /// If the file is damaged, foreign, or made for another encoder.
    pub fn open(shown: &str, bytes: &Bytes, encoder: &str) -> Result<Self, Error> {
        let file = ModelFile::open(shown, bytes, FORMAT)?;
        let fail = |what: &str| Error::model(shown, format!("{what} cannot be read"));
        let models: Vec<Arc<str>> = serde_json::from_str(file.text("models")?).map_err(|_| fail("models"))?;
        let parts: Parts = serde_json::from_str(file.text("parts")?).map_err(|_| fail("parts"))?;
        if models.is_empty() || models.len() > MAX_MODELS || !parts.sound() {
            return Err(Error::model(shown, "names no models or too many, or has weights out of range"));
        }
        if file.text("encoder")? != encoder {
            return Err(Error::model(
                shown,
                "was trained on another encoder; train it again with this version",
            ));
        }
        let count = models.len();
        // The metadata says what there is: a file that lost its tensors must not pass for one without.
        let has = |part: &str| file.text(part).is_ok();
        let linear = has("ngrams").then(|| LinearHead::open(&file, count)).transpose()?;
        let head = has("branch").then(|| EncoderHead::open(&file, shown, count, encoder)).transpose()?;
        let neighbours = has("neighbours").then(|| neighbours(&file, shown, count)).transpose()?;
        Ok(Self {
            means: file.floats("means", &[count])?,
            table: Table {
                models: count,
                edges: edges(&file)?,
                cells: file.floats("table", &[cells(), count])?,
            },
            linear,
            encoder: head,
            neighbours,
            parts,
            tokens: amount(&file, ("tokens", "tokens_table"), count)?,
            latency: amount(&file, ("latency_ms", "latency_table"), count)?,
            advice: file.text("advice")?.to_owned(),
            models,
        })
    }
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

fn neighbours(file: &ModelFile<'_>, shown: &str, models: usize) -> Result<Neighbours, Error> {
    let fail = |what: &str| Error::model(shown, format!("{what} of neighbours is out of range"));
    let count: usize = file.text("neighbours")?.parse().map_err(|_| fail("the number"))?;
    if count == 0 || count > MAX_NEIGHBOURS {
        return Err(fail("the number"));
    }
    let [temperature, prior] = file.floats("neighbour_scales", &[2])?[..] else {
        return Err(fail("the scale"));
    };
    if temperature <= 0.0 || prior < 0.0 {
        return Err(fail("the scale"));
    }
    Ok(Neighbours {
        models,
        centre: file.floats("neighbour_centre", &[HIDDEN])?,
        rows: file.int8("neighbour_rows", &[count, HIDDEN])?,
        outcomes: file.int8("neighbour_outcomes", &[count, models])?,
        temperature,
        prior,
    })
}
