//! Packs what was learned into `models/pii.safetensors`: the strongest features as int8.
//!
//! The same input gives the same bytes.

use std::collections::BTreeMap;

use crate::crf::Learned;
use crate::model_file::{self, Tensor};
use crate::pii::label::LABELS;
use crate::pii::lexicon::RECORD_BYTES;
use crate::pii::weights::{FORMAT, KEY_BYTES, ROW, Weights};

/// Features kept; with 20 bytes each the file stays well below 1 MB.
const MOST: usize = 30_000;

/// The file's bytes.
pub(crate) fn pack(learned: &Learned, lexicon: &[u8], trained_on: &str) -> Vec<u8> {
    let spread = |row: &[f32; ROW]| {
        let (low, high) = row[..LABELS].iter().fold((0.0_f32, 0.0_f32), |(l, h), &w| (l.min(w), h.max(w)));
        high - low
    };
    let mut features: Vec<(u64, [f32; ROW])> = learned.rows.iter().map(|(f, row)| (*f, *row)).collect();
    features.sort_by(|a, b| spread(&b.1).total_cmp(&spread(&a.1)).then(a.0.cmp(&b.0)));
    features.truncate(MOST);
    let top = features.iter().flat_map(|f| f.1).map(f32::abs).fold(0.0, f32::max);
    let scale = top / 127.0;
    features.sort_by_key(|f| Weights::key(f.0));
    features.dedup_by_key(|f| Weights::key(f.0));
    let keys: Vec<i8> =
        features.iter().flat_map(|f| Weights::key(f.0).to_le_bytes()).map(|b| b as i8).collect();
    let rows: Vec<i8> = features.iter().flat_map(|f| f.1.map(|w| (w / scale).round() as i8)).collect();
    println!("  {} of {} features kept, largest weight {top:.2}", features.len(), learned.rows.len());
    let transitions: Vec<f32> = learned.transitions.iter().flatten().copied().collect();
    let words = lexicon.len() / RECORD_BYTES;
    let lexicon: Vec<i8> = lexicon.iter().map(|&b| b as i8).collect();
    let metadata = BTreeMap::from([
        ("format".into(), FORMAT.into()),
        ("scale".into(), scale.to_string()),
        ("features".into(), features.len().to_string()),
        ("lexicon_words".into(), words.to_string()),
        ("trained_on".into(), trained_on.into()),
    ]);
    model_file::write(
        metadata,
        &[
            Tensor::int8("keys", &[features.len(), KEY_BYTES], &keys),
            Tensor::int8("rows", &[features.len(), ROW], &rows),
            Tensor::floats("transitions", &[LABELS, LABELS], &transitions),
            Tensor::int8("lexicon", &[words, RECORD_BYTES], &lexicon),
        ],
    )
}
