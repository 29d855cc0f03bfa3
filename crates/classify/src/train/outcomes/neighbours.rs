//! Gathers the known prompts that new ones are compared with.
//!
//! Beyond the bound a seeded choice is kept. What they hold is what the table leaves over. Called by `folds`.

use bytes::Bytes;

use super::super::random::Random;
use super::Read;
use super::table::Residuals;
use crate::encoder::HIDDEN;
use crate::outcomes::neighbours::{MAX_NEIGHBOURS, UNKNOWN, direction};
use crate::outcomes::{Neighbours, Table};

/// Similarities are divided by this.
const TEMPERATURE: f32 = 0.1;
/// Weight of "nothing known".
const PRIOR: f32 = 0.002;

/// The prompts at `chosen`, or some of them.
pub(super) fn fit(
    read: &Read,
    residuals: &Residuals<'_>,
    table: &Table,
    chosen: &[usize],
    seed: u64,
) -> Neighbours {
    let mut kept = chosen.to_vec();
    if kept.len() > MAX_NEIGHBOURS {
        Random(seed).shuffle(&mut kept);
        kept.truncate(MAX_NEIGHBOURS);
        kept.sort_unstable();
    }
    let models = residuals.means.len();
    let embeddings: Vec<Vec<f32>> = kept.iter().map(|&row| read.encodings[row].embedding()).collect();
    let centre: Vec<f32> = (0..HIDDEN)
        .map(|at| embeddings.iter().map(|e| f64::from(e[at])).sum::<f64>() as f32 / kept.len().max(1) as f32)
        .collect();
    let rows: Vec<u8> = embeddings.iter().flat_map(|e| direction(e, &centre).map(|v| v as u8)).collect();
    let mut outcomes = Vec::with_capacity(kept.len() * models);
    for &row in &kept {
        let said = table.of(&read.traits[row]);
        outcomes.extend(said.iter().enumerate().map(|(model, said)| {
            let left = residuals.at(row, model) - said;
            // A residual of the table may exceed one by a little.
            if left.is_nan() {
                UNKNOWN as u8
            } else {
                (left * 127.0).round().clamp(-127.0, 127.0) as i8 as u8
            }
        }));
    }
    Neighbours {
        models,
        centre,
        rows: Bytes::from(rows),
        outcomes: Bytes::from(outcomes),
        temperature: TEMPERATURE,
        prior: PRIOR,
    }
}
