//! Fits the table: effects of domain, task and difficulty, then what is left in each cell, all shrunk towards nothing.
//!
//! A cell seen seldom says what its domain and task say. Called by `folds` and `write`.

use super::Outcomes;
use crate::outcomes::table::{BANDS, cells, domains, each_cell, tasks};
use crate::outcomes::{Table, Traits};

/// Rows of "no effect" that every cell begins with.
const PRIOR_ROWS: f32 = 40.0;

/// Values of some prompts, NaN where unknown, as differences from their column's mean.
pub(crate) struct Residuals<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) means: &'a [f32],
    /// Whether the difference is relative to the mean.
    pub(crate) relative: bool,
}

/// A relative difference larger than this is an accident.
const MAX_RELATIVE: f32 = 4.0;

impl<'a> Residuals<'a> {
    pub(crate) fn of(data: &'a Outcomes, means: &'a [f32]) -> Self {
        Self { values: &data.quality, means, relative: false }
    }

    /// The difference at a prompt and a model.
    pub(crate) fn at(&self, row: usize, model: usize) -> f32 {
        let value = self.values[row * self.means.len() + model] - self.means[model];
        if self.relative { (value / self.means[model]).min(MAX_RELATIVE) } else { value }
    }
}

/// Fits a table on the prompts at `chosen`.
pub(crate) fn fit(traits: &[Traits], residuals: &Residuals<'_>, chosen: &[usize]) -> Table {
    let models = residuals.means.len();
    let mut table = Table { edges: edges(traits, chosen), ..Table::still(models) };
    let cell_of = |cell: usize| (cell / BANDS / tasks(), cell / BANDS % tasks(), cell % BANDS);
    for level in 0..4 {
        let place = |cell: usize| match (level, cell_of(cell)) {
            (0, (domain, _, _)) => domain,
            (1, (_, task, _)) => task,
            (2, (_, _, band)) => band,
            _ => cell,
        };
        let size = [domains(), tasks(), BANDS, cells()][level];
        let effects = effects(traits, residuals, chosen, &table, (size, &place));
        for cell in 0..cells() {
            let row = &effects[place(cell) * models..][..models];
            table.cells[cell * models..][..models]
                .iter_mut()
                .zip(row)
                .for_each(|(cell, effect)| *cell += effect);
        }
    }
    table
}

/// Mean of what the table leaves over, by place, shrunk.
fn effects(
    traits: &[Traits],
    residuals: &Residuals<'_>,
    chosen: &[usize],
    table: &Table,
    (size, place): (usize, &dyn Fn(usize) -> usize),
) -> Vec<f32> {
    let models = residuals.means.len();
    let (mut sums, mut weights) = (vec![0.0_f32; size * models], vec![PRIOR_ROWS; size * models]);
    let mut left = vec![0.0_f32; models];
    for &row in chosen.iter().filter(|&&row| !traits[row].contentless) {
        let said = table.of(&traits[row]);
        left.iter_mut().enumerate().for_each(|(model, left)| *left = residuals.at(row, model) - said[model]);
        each_cell(&traits[row], table.band(traits[row].difficulty), |cell, share| {
            let at = place(cell) * models;
            for (model, left) in left.iter().enumerate().filter(|(_, left)| !left.is_nan()) {
                sums[at + model] += share * left;
                weights[at + model] += share;
            }
        });
    }
    sums.iter().zip(weights).map(|(sum, weight)| sum / weight).collect()
}

/// Difficulties that divide the prompts into bands of equal size.
fn edges(traits: &[Traits], chosen: &[usize]) -> [f32; BANDS - 1] {
    let mut sorted: Vec<f32> = chosen.iter().map(|&row| traits[row].difficulty).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    std::array::from_fn(|at| sorted.get(sorted.len() * (at + 1) / BANDS).copied().unwrap_or(0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_cell_says_what_its_domain_says() {
        let traits = |domain: usize, task: usize| {
            let mut traits = Traits::blank();
            traits.difficulty = 0.5;
            (traits.domain[domain], traits.task[task]) = (1.0, 1.0);
            traits
        };
        let mut all: Vec<Traits> = (0..800).map(|row| traits(row % 2, 0)).collect();
        all.push(traits(0, 3));
        let mut values: Vec<f32> = (0..800).map(|row| if row % 2 == 0 { 1.0 } else { 0.0 }).collect();
        values.push(f32::NAN);
        let residuals = Residuals { values: &values, means: &[0.5], relative: false };
        let table = fit(&all, &residuals, &(0..801).collect::<Vec<_>>());
        let said = |domain, task| table.of(&traits(domain, task))[0];
        assert!((0.44..0.5).contains(&said(0, 0)) && (-0.5..-0.44).contains(&said(1, 0)));
        assert!(said(0, 3) > 0.4, "an unseen task: {}", said(0, 3));
        assert!(said(5, 7).abs() < 0.05, "nothing known: {}", said(5, 7));
    }
}
