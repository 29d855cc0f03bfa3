//! The static token-embedding table: one int8 row and one scale per vocabulary entry, read in place.
//!
//! Rows carry their SIF weight already, so a text's embedding is just the sum of its tokens' rows, normalised by
//! whoever sums. Called by `features`.

use bytes::Bytes;

use crate::error::Error;
use crate::model_file::ModelFile;
use crate::wide::wide;

/// Width of a row.
pub(crate) const DIMS: usize = 128;
const FORMAT: &str = "waypost-static-v2";

/// The embedding table.
#[derive(Debug)]
pub(crate) struct StaticTable {
    rows: Bytes,
    scales: Vec<f32>,
}

impl StaticTable {
    /// Opens the table made for `vocab`, whose pieces number `entries`.
    pub(crate) fn open(name: &str, bytes: &Bytes, vocab: &[u8], entries: usize) -> Result<Self, Error> {
        let file = ModelFile::open(name, bytes, FORMAT)?;
        // The vocabulary is a plain text file without a checksum of its own.
        if file.text("vocab_crc32")? != format!("{:08x}", crc32fast::hash(vocab)) {
            return Err(Error::model("vocab.txt", format!("not the vocabulary that {name} was made for")));
        }
        let rows = file.int8("table", &[entries, DIMS])?;
        let scales = file.floats("scale", &[entries])?;
        Ok(Self { rows, scales })
    }

    /// Adds the rows of `ids` to `sum`, one after the other.
    pub(crate) fn add_to(&self, ids: &[u16], sum: &mut [f32; DIMS]) {
        wide(
            #[inline(always)]
            || {
                for &id in ids {
                    let id = usize::from(id);
                    let scale = self.scales[id];
                    let row = &self.rows[id * DIMS..(id + 1) * DIMS];
                    for (sum, &value) in sum.iter_mut().zip(row) {
                        *sum += f32::from(value as i8) * scale;
                    }
                }
            },
        );
    }
}
