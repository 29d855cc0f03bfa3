//! Trained heads to the bytes of a classifier file; the same heads give the same bytes.
//!
//! N-gram rows are quantised to int8 with one scale per output. Called by
//! `Trained::to_file`.

use std::collections::BTreeMap;

use super::Trained;
use crate::encoder::Branch;
use crate::features::{BUCKETS, DENSE, GRAMS};
use crate::gates::Gates;
use crate::model::FORMAT;
use crate::model_file::{self, Tensor};

pub(super) fn file(
    trained: &Trained,
    encoder: &str,
    name: &str,
    labels: &[&str],
    gates: &Gates,
    notes: &[(&str, String)],
) -> Vec<u8> {
    let linear = &trained.linear;
    let outputs = linear.outputs;
    let mut scales = vec![f32::MIN_POSITIVE; outputs];
    for row in linear.ngrams.chunks_exact(outputs) {
        for (scale, weight) in scales.iter_mut().zip(row) {
            *scale = scale.max(weight.abs() / 127.0);
        }
    }
    let mut buckets = vec![0_i8; BUCKETS / 8];
    let mut ngrams = Vec::new();
    for bucket in (0..BUCKETS).filter(|&bucket| linear.kept[bucket]) {
        buckets[bucket / 8] |= (1_u8 << (bucket % 8)) as i8;
        ngrams.extend(
            linear.row(bucket).iter().zip(&scales).map(|(weight, scale)| (weight / scale).round() as i8),
        );
    }
    let mut metadata: BTreeMap<String, String> = BTreeMap::from([
        ("format".into(), FORMAT.into()),
        ("name".into(), name.into()),
        ("labels".into(), serde_json::json!(labels).to_string()),
        ("gates".into(), serde_json::json!(gates).to_string()),
    ]);
    metadata.extend(notes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let known: Vec<i8> = linear.known.iter().map(|&bits| bits as i8).collect();
    let mut tensors = vec![
        Tensor::floats("bias", &[outputs], &linear.bias),
        Tensor::floats("dense", &[DENSE, outputs], &linear.dense),
        Tensor::floats("ngram_scales", &[outputs], &scales),
        Tensor::int8("ngrams", &[ngrams.len() / outputs, outputs], &ngrams),
        Tensor::int8("known_grams", &[GRAMS / 8], &known),
        Tensor::int8("ngram_buckets", &[BUCKETS / 8], &buckets),
    ];
    if let Some((branch, dense)) = &trained.dense {
        metadata.insert("branch".into(), Branch::name(*branch).into());
        metadata.insert("encoder".into(), encoder.into());
        tensors.push(Tensor::floats("encoder_bias", &[outputs], &dense.bias));
        tensors.push(Tensor::floats("encoder_weights", &[branch.width(), outputs], &dense.weights));
    }
    model_file::write(metadata, &tensors)
}
