//! How much each row counts for each classifier: labels alike, and within a label no source more than its worth.
//!
//! Called by `export` and `heads`.

use std::collections::BTreeMap;

use waypost_classify::Builtin;

use crate::corpus::Row;

/// A group's weight grows as its size to this power: 1 keeps proportions, 0 makes groups equal.
const GROUP_POWER: f32 = 0.7;
/// Labels' weights grow as their size to this power.
const LABEL_POWER: f32 = 0.25;
/// Factor on exam questions where domains are taught: without it the many prompts written by hand would drown them.
const EXAM_FACTOR: f32 = 6.0;
/// Heaviest row relative to the mean, so that one rare group cannot throw the weights about.
const MAX_WEIGHT: f32 = 6.0;

/// Weight of each row for `builtin`; 0 for a row without a label for it.
pub(crate) fn weights(rows: &[Row], builtin: Builtin) -> Vec<f32> {
    let key = |row: &Row| row.label(builtin).map(|label| (label, row.group.clone()));
    let mut sizes: BTreeMap<(u32, String), f32> = BTreeMap::new();
    let mut label_sizes: BTreeMap<u32, f32> = BTreeMap::new();
    for (label, group) in rows.iter().filter_map(key) {
        *label_sizes.entry(label).or_default() += 1.0;
        *sizes.entry((label, group)).or_default() += 1.0;
    }
    let mass = |group: &str, size: f32| {
        let exam = builtin == Builtin::Domain && group.starts_with("mmlu");
        size.powf(GROUP_POWER) * if exam { EXAM_FACTOR } else { 1.0 }
    };
    let mut totals: BTreeMap<u32, f32> = BTreeMap::new();
    for ((label, group), &size) in &sizes {
        *totals.entry(*label).or_default() += mass(group, size);
    }
    let count: f32 = label_sizes.values().sum();
    let shares: f32 = label_sizes.values().map(|size| size.powf(LABEL_POWER)).sum();
    let weight = |row: &Row| {
        let Some(key) = key(row) else { return 0.0 };
        let label_mass = count * label_sizes[&key.0].powf(LABEL_POWER) / shares;
        let size = sizes[&key];
        (mass(&key.1, size) / size / totals[&key.0] * label_mass).min(MAX_WEIGHT)
    };
    rows.iter().map(weight).collect()
}
