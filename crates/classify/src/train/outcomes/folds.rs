//! Every part fitted on four fifths of the prompts and asked about the last fifth, five times over.
//!
//! What the parts say of prompts they were not taught is all that decides how much they count. Called by `outcomes`.

use std::collections::BTreeMap;

use super::super::linear::Weights;
use super::super::random::Random;
use super::table::Residuals;
use super::{Outcomes, Read, neighbours, ridge, table};
use crate::encoder_head::Projection;
use crate::outcomes::{Neighbours, Part, Table};

/// Folds.
pub(super) const FOLDS: usize = 5;
/// Most prompts that are folded; more are only taught. Their word is enough, and time grows with their square.
const MAX_FOLDED: usize = 20_000;

/// What the parts say of prompts they were not taught.
pub(super) struct Folded {
    /// The prompts.
    pub(super) rows: Vec<usize>,
    /// Means of the models over the prompts that were taught, a row of one number per model for each prompt.
    pub(super) means: Vec<f32>,
    /// What each part adds, in the same layout; nothing where the part needs an encoder that was not run.
    pub(super) said: BTreeMap<Part, Vec<f32>>,
    /// The fold of each prompt.
    pub(super) fold: Vec<usize>,
}

/// All parts fitted on some prompts.
pub(super) struct Fit {
    pub(super) means: Vec<f32>,
    pub(super) table: Table,
    pub(super) ngram: Option<Weights>,
    pub(super) encoder: Option<Projection>,
    pub(super) neighbours: Option<Neighbours>,
}

impl Fit {
    /// Fits the wanted parts; the table always.
    pub(super) fn of(data: &Outcomes, read: &Read, chosen: &[usize], seed: u64, wanted: &[Part]) -> Self {
        let means = data.means(chosen);
        let residuals = Residuals::of(data, &means);
        let table = table::fit(&read.traits, &residuals, chosen);
        let encoded = !read.encodings.is_empty();
        let wants = |part: Part| wanted.contains(&part) && (encoded || !part.asks_encoder());
        let ngram = wants(Part::Ngram).then(|| ridge::ngrams(&read.features, &residuals, chosen));
        let encoder = wants(Part::Encoder).then(|| ridge::encodings(&read.encodings, &residuals, chosen));
        let neighbours =
            wants(Part::Neighbours).then(|| neighbours::fit(read, &residuals, &table, chosen, seed));
        Self { table, ngram, encoder, neighbours, means }
    }

    /// What a part adds for the prompt at `row`.
    fn says(&self, part: Part, read: &Read, row: usize) -> Option<Vec<f32>> {
        match part {
            Part::Table => Some(self.table.of(&read.traits[row])),
            Part::Ngram => self.ngram.as_ref().map(|weights| weights.logits(&read.features[row])),
            Part::Encoder => self.encoder.as_ref().map(|head| head.logits(&read.encodings[row])),
            Part::Neighbours => {
                self.neighbours.as_ref().map(|known| known.of(&read.encodings[row].embedding()))
            }
        }
    }
}

/// Fits and asks, fold by fold.
pub(super) fn predict(
    data: &Outcomes,
    read: &Read,
    chosen: &[usize],
    seed: u64,
    progress: &mut dyn FnMut(usize),
) -> Folded {
    let fold_of = assign(data, chosen, seed);
    let models = data.models.len();
    let mut folded = Folded { rows: Vec::new(), means: Vec::new(), said: BTreeMap::new(), fold: Vec::new() };
    for fold in 0..FOLDS {
        let (asked, taught): (Vec<_>, Vec<_>) =
            chosen.iter().copied().zip(&fold_of).partition(|(_, of)| **of == Some(fold));
        let taught: Vec<usize> = taught.into_iter().map(|(row, _)| row).collect();
        let fit = Fit::of(data, read, &taught, seed, &Part::ALL);
        for (row, _) in asked {
            folded.rows.push(row);
            folded.fold.push(fold);
            // A model that only the fold asked about is known by nothing: it stands at half.
            folded.means.extend(fit.means.iter().map(|mean| if mean.is_nan() { 0.5 } else { *mean }));
            for part in Part::ALL {
                if let Some(said) = fit.says(part, read, row) {
                    debug_assert_eq!(said.len(), models);
                    folded.said.entry(part).or_default().extend(said);
                }
            }
        }
        progress(fold + 1);
    }
    folded
}

/// The fold of each chosen prompt; `None` beyond [`MAX_FOLDED`]. Prompts of one group share a fold.
fn assign(data: &Outcomes, chosen: &[usize], seed: u64) -> Vec<Option<usize>> {
    let mut groups: Vec<u32> = chosen.iter().map(|&row| data.groups[row]).collect();
    groups.sort_unstable();
    groups.dedup();
    Random(seed).shuffle(&mut groups);
    let fold: BTreeMap<u32, usize> = groups.iter().enumerate().map(|(at, group)| (*group, at)).collect();
    let most = MAX_FOLDED.min(groups.len());
    chosen
        .iter()
        .map(|&row| fold.get(&data.groups[row]).filter(|at| **at < most).map(|at| at % FOLDS))
        .collect()
}
