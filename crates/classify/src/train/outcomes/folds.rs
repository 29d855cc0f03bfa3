//! Every part fitted on four fifths of the prompts and asked about the last fifth, five times over.
//!
//! What the parts say of prompts they were not taught is all that decides how much they count. Called by `outcomes`.

use std::collections::BTreeMap;

use super::super::random::Random;
use super::neighbours::Alike;
use super::table::Residuals;
use super::terms::Terms;
use super::{Outcomes, Read, dense, table, terms};
use crate::error::Error;
use crate::outcomes::neighbours::MAX_NEIGHBOURS;
use crate::outcomes::{Linear, Neighbours, Part, Table};

/// Folds.
pub(super) const FOLDS: usize = 5;
/// Most prompts that are folded; more are only taught. Their word is enough.
const MAX_FOLDED: usize = MAX_NEIGHBOURS;

/// What the parts say of prompts they were not taught.
pub(super) struct Folded {
    /// The prompts, rising.
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
    pub(super) cues: Option<Linear>,
    pub(super) terms: Option<Terms>,
    pub(super) encoder: Option<Linear>,
    pub(super) neighbours: Option<Neighbours>,
}

/// The prompts to learn from, and how they are folded.
pub(super) struct Folds<'a> {
    data: &'a Outcomes,
    read: &'a Read,
    chosen: &'a [usize],
    /// The prompts that are folded, and whose encodings are compared.
    rows: Vec<usize>,
    fold: Vec<usize>,
    alike: Option<Alike>,
}

impl<'a> Folds<'a> {
    pub(super) fn new(
        data: &'a Outcomes,
        read: &'a Read,
        chosen: &'a [usize],
        seed: u64,
    ) -> Result<Self, Error> {
        let (rows, fold) = assign(data, chosen, seed);
        let encodings = || rows.iter().filter_map(|&row| read.encodings.get(row));
        let alike = if read.encodings.is_empty() { None } else { Some(Alike::of(encodings())?) };
        Ok(Self { data, read, chosen, rows, fold, alike })
    }

    /// Fits the wanted parts on all but one fold, or on all; the table always. The neighbours are fitted apart.
    fn fit(&self, taught: &[usize], wanted: &[Part]) -> Fit {
        let Self { data, read, .. } = self;
        let means = data.means(taught);
        let residuals = Residuals::of(data, &means);
        let wants = |part: Part| wanted.contains(&part) && (self.alike.is_some() || !part.asks_encoder());
        let inputs = |row: usize| read.traits[row].inputs();
        let encoded = |row: usize| read.traits[row].inputs_with(&read.encodings[row]);
        Fit {
            table: table::fit(&read.traits, &residuals, taught),
            cues: wants(Part::Cues).then(|| dense::fit(&inputs, &residuals, taught)),
            terms: if wants(Part::Terms) { terms::fit(&read.terms, &residuals, taught) } else { None },
            encoder: wants(Part::Encoder).then(|| dense::fit(&encoded, &residuals, taught)),
            neighbours: None,
            means,
        }
    }

    /// The wanted parts fitted on all prompts.
    pub(super) fn whole(&self, wanted: &[Part]) -> Fit {
        let mut fit = self.fit(self.chosen, wanted);
        if let Some(alike) = self.alike.as_ref().filter(|_| wanted.contains(&Part::Neighbours)) {
            let residuals = Residuals::of(self.data, &fit.means);
            let pulls = alike.pulls(&residuals, &self.rows, &vec![true; self.rows.len()]);
            fit.neighbours = Some(alike.keep(pulls, &residuals, &self.rows));
        }
        fit
    }

    /// Fits and asks, fold by fold.
    pub(super) fn predict(&self, progress: &mut dyn FnMut(usize)) -> Folded {
        let models = self.data.models.len();
        let cells = self.rows.len() * models;
        let mut folded = Folded {
            rows: self.rows.clone(),
            means: vec![0.0; cells],
            said: BTreeMap::new(),
            fold: self.fold.clone(),
        };
        let fold_of: BTreeMap<usize, usize> =
            self.rows.iter().copied().zip(self.fold.iter().copied()).collect();
        for fold in 0..FOLDS {
            let taught: Vec<usize> =
                self.chosen.iter().copied().filter(|row| fold_of.get(row) != Some(&fold)).collect();
            let fit = self.fit(&taught, &Part::ALL);
            let near = self.alike.as_ref().map(|alike| {
                let residuals = Residuals::of(self.data, &fit.means);
                let taught: Vec<bool> = self.fold.iter().map(|of| *of != fold).collect();
                let pulls = alike.pulls(&residuals, &self.rows, &taught);
                alike.says(&pulls, &residuals, &self.rows, &taught)
            });
            for (at, &row) in self.rows.iter().enumerate().filter(|(at, _)| self.fold[*at] == fold) {
                let place = at * models..(at + 1) * models;
                // A model that only the fold asked about is known by nothing: it stands at half.
                let means = fit.means.iter().map(|mean| if mean.is_nan() { 0.5 } else { *mean });
                folded.means[place.clone()].iter_mut().zip(means).for_each(|(into, mean)| *into = mean);
                for part in Part::ALL {
                    let said = match (part, &near) {
                        (Part::Neighbours, Some(near)) => Some(near[place.clone()].to_vec()),
                        _ => fit.says(part, self.read, row),
                    };
                    if let Some(said) = said {
                        let all = folded.said.entry(part).or_insert_with(|| vec![0.0; cells]);
                        all[place.clone()].copy_from_slice(&said);
                    }
                }
            }
            progress(fold + 1);
        }
        folded
    }
}

impl Fit {
    /// What a part adds for the prompt at `row`; the neighbours are asked elsewhere.
    fn says(&self, part: Part, read: &Read, row: usize) -> Option<Vec<f32>> {
        let traits = &read.traits[row];
        match part {
            Part::Table => Some(self.table.of(traits)),
            Part::Cues => self.cues.as_ref().map(|linear| linear.of(&traits.inputs().0)),
            Part::Terms => self.terms.as_ref().map(|terms| terms.head.of(&read.terms[row])),
            Part::Encoder => {
                self.encoder.as_ref().map(|linear| linear.of(&traits.inputs_with(&read.encodings[row]).0))
            }
            Part::Neighbours => None,
        }
    }
}

/// The prompts that are folded, rising, and the fold of each. Prompts of one group, or of one source where there are enough
/// sources, share a fold: what is learnt must hold for prompts from elsewhere.
pub(super) fn assign(data: &Outcomes, chosen: &[usize], seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut random = Random(seed);
    let mut rows = chosen.to_vec();
    if rows.len() > MAX_FOLDED {
        random.shuffle(&mut rows);
        rows.truncate(MAX_FOLDED);
        rows.sort_unstable();
    }
    let count_by = |of: &[u32]| {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        rows.iter().for_each(|&row| *counts.entry(of[row]).or_default() += 1);
        counts
    };
    let by_source = data.sources.len() == data.len() && count_by(&data.sources).len() >= FOLDS;
    let unit = if by_source { &data.sources } else { &data.groups };
    let mut units: Vec<(u32, usize)> = count_by(unit).into_iter().collect();
    random.shuffle(&mut units);
    // The largest first, each into the emptiest fold: folds of one size or so, whatever the units'.
    units.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut sizes = [0_usize; FOLDS];
    let mut fold_of: BTreeMap<u32, usize> = BTreeMap::new();
    for (unit, count) in units {
        let emptiest = (0..FOLDS).min_by_key(|fold| sizes[*fold]).unwrap_or_default();
        sizes[emptiest] += count;
        fold_of.insert(unit, emptiest);
    }
    let fold = rows.iter().map(|&row| fold_of[&unit[row]]).collect();
    (rows, fold)
}
