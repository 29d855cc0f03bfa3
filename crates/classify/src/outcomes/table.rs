//! The table: for each domain, task and band of difficulty, how far each model is from its own mean there.
//!
//! A prompt is not in one cell: it is read with the classifiers' probabilities, so that a doubtful domain moves little.
//! Pure arithmetic. Called by `outcomes`; training fills it.

use super::Traits;
use crate::prompt::Builtin;

/// Bands of difficulty.
pub(crate) const BANDS: usize = 3;
/// Probabilities below this are not worth their row.
const NEGLIGIBLE: f32 = 0.004;

/// Number of domains.
pub(crate) fn domains() -> usize {
    Builtin::Domain.labels().len()
}

/// Number of tasks.
pub(crate) fn tasks() -> usize {
    Builtin::Task.labels().len()
}

/// Number of cells.
pub(crate) fn cells() -> usize {
    domains() * tasks() * BANDS
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) models: usize,
    /// Difficulties at which the next band begins.
    pub(crate) edges: [f32; BANDS - 1],
    /// A row of one number per model for each cell: domain by domain, in it task by task, in it band by band.
    pub(crate) cells: Vec<f32>,
}

impl Table {
    /// A table that moves nothing.
    pub(crate) fn still(models: usize) -> Self {
        Self { models, edges: [0.0; BANDS - 1], cells: vec![0.0; cells() * models] }
    }

    pub(crate) fn band(&self, difficulty: f32) -> usize {
        self.edges.iter().filter(|edge| difficulty >= **edge).count()
    }

    /// How far each model is expected to be from its mean.
    pub(crate) fn of(&self, traits: &Traits) -> Vec<f32> {
        let mut out = vec![0.0; self.models];
        each_cell(traits, self.band(traits.difficulty), |cell, share| {
            let row = &self.cells[cell * self.models..][..self.models];
            out.iter_mut().zip(row).for_each(|(out, value)| *out += share * value);
        });
        out
    }
}

/// The cells a prompt belongs to and how much.
pub(crate) fn each_cell(traits: &Traits, band: usize, mut visit: impl FnMut(usize, f32)) {
    for (domain, &d) in traits.domain.iter().enumerate().filter(|(_, d)| **d >= NEGLIGIBLE) {
        for (task, &t) in traits.task.iter().enumerate().filter(|(_, t)| **t >= NEGLIGIBLE) {
            visit((domain * tasks() + task) * BANDS + band, d * t);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubtful_prompt_gets_the_mean_of_its_cells() {
        let mut table = Table { edges: [0.3, 0.6], ..Table::still(2) };
        let mut set = |domain: usize, task: usize, band: usize, row: [f32; 2]| {
            let cell = (domain * tasks() + task) * BANDS + band;
            table.cells[cell * 2..][..2].copy_from_slice(&row);
        };
        set(0, 1, 2, [0.4, -0.4]);
        set(1, 1, 2, [0.0, 0.2]);
        let mut traits = Traits::blank();
        traits.difficulty = 0.6;
        (traits.domain[0], traits.domain[1], traits.task[1]) = (0.5, 0.5, 1.0);
        let close = |a: Vec<f32>, b: [f32; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(table.of(&traits), [0.2, -0.1]));
        traits.difficulty = 0.59;
        assert!(close(table.of(&traits), [0.0, 0.0]), "another band");
    }
}
