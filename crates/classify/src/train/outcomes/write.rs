//! Fitted parts to the bytes of an outcomes file; the same parts give the same bytes.
//!
//! Called by `outcomes`.

use std::collections::BTreeMap;

use super::folds::Fit;
use super::stack::Found;
use super::table::{self, Residuals};
use super::{Outcomes, Read, column_means};
use crate::engine::Engine;
use crate::model_file::{self, Tensor};
use crate::outcomes::file::{CUES, ENCODER};
use crate::outcomes::neighbours::WIDTH;
use crate::outcomes::table::{BANDS, cells};
use crate::outcomes::terms::BUCKETS;
use crate::outcomes::{BRANCH, FORMAT};

pub(super) fn file(
    engine: &Engine,
    data: &Outcomes,
    fit: &Fit,
    (read, chosen): (&Read, &[usize]),
    found: &Found,
    advice: &str,
) -> Vec<u8> {
    let models = data.models.len();
    let mut metadata: BTreeMap<String, String> = BTreeMap::from([
        ("format".into(), FORMAT.into()),
        ("models".into(), serde_json::json!(data.models).to_string()),
        ("parts".into(), serde_json::json!(found.parts).to_string()),
        ("engine".into(), engine.fingerprint().into()),
        ("advice".into(), advice.into()),
        ("prompts".into(), chosen.len().to_string()),
        ("sample".into(), (found.sample.len() / models).to_string()),
    ]);
    let mut tensors = vec![
        Tensor::floats("means", &[models], &fit.means),
        Tensor::floats("edges", &[BANDS - 1], &fit.table.edges),
        Tensor::floats("table", &[cells(), models], &fit.table.cells),
        Tensor::floats("sample", &[found.sample.len() / models, models], &found.sample),
    ];
    for (key, value, names, linear) in
        [("cues", "", CUES, &fit.cues), ("branch", BRANCH.name(), ENCODER, &fit.encoder)]
    {
        if let Some(linear) = linear {
            metadata.insert(key.into(), value.into());
            let inputs = linear.means.len();
            tensors.push(Tensor::floats(names[0], &[inputs], &linear.means));
            tensors.push(Tensor::floats(names[1], &[inputs], &linear.factors));
            tensors.push(Tensor::floats(names[2], &[inputs, models], &linear.weights));
        }
    }
    for (names, values) in
        [(["tokens", "tokens_table"], &data.tokens), (["latency_ms", "latency_table"], &data.latency_ms)]
    {
        if let Some((means, moves)) = amount(values, models, read, chosen) {
            metadata.insert(names[0].into(), "means and table".into());
            tensors.push(Tensor::floats(names[0], &[models], &means));
            tensors.push(Tensor::floats(names[1], &[cells(), models], &moves));
        }
    }
    if let Some(known) = &fit.neighbours {
        let count = known.rows.len() / WIDTH;
        metadata.insert("neighbours".into(), count.to_string());
        tensors.push(Tensor::floats("neighbour_centre", &[WIDTH], &known.centre));
        tensors.push(Tensor::floats("neighbour_pulls", &[count, models], &known.pulls));
        tensors.push(Tensor::int8("neighbour_outcomes", &[count, models], &signed(&known.outcomes)));
        tensors.push(Tensor::int8("neighbour_rows", &[count, WIDTH], &signed(&known.rows)));
    }
    if let Some(terms) = &fit.terms {
        let (head, rows) = (&terms.head, terms.head.rarity.len());
        metadata.insert("terms".into(), rows.to_string());
        tensors.push(Tensor::floats("term_rarity", &[rows], &head.rarity));
        tensors.push(Tensor::floats("term_unknown", &[1], &[head.unknown]));
        tensors.push(Tensor::floats("term_scales", &[models], &head.scales));
        tensors.push(Tensor::int8("term_weights", &[rows, models], &signed(&head.weights)));
        tensors.push(Tensor::int8("term_buckets", &[BUCKETS / 8], &signed(&terms.bits)));
    }
    model_file::write(metadata, &tensors)
}

fn signed(bytes: &[u8]) -> Vec<i8> {
    bytes.iter().map(|&byte| byte as i8).collect()
}

/// Means and cells of an amount, if any model's is known; zero for a model whose is not.
fn amount(values: &[f32], models: usize, read: &Read, chosen: &[usize]) -> Option<(Vec<f32>, Vec<f32>)> {
    if values.is_empty() {
        return None;
    }
    let means = column_means(values, models, chosen);
    let known = |mean: &f32| *mean > 0.0;
    if !means.iter().any(known) {
        return None;
    }
    let residuals = Residuals { values, means: &means, relative: true };
    let cells = table::fit(&read.traits, &residuals, chosen).cells;
    Some((means.iter().map(|mean| if known(mean) { *mean } else { 0.0 }).collect(), cells))
}
