//! The tagger's weights: a table of hashed features with a check each, one row of int8 per feature.
//!
//! The check keeps words never seen in training from borrowing another feature's weights. Read from
//! `models/pii.safetensors`, which `training/pii` writes; never changed.

use bytes::Bytes;

use super::label::{LABELS, may_follow};
use super::lexicon::{Lexicon, RECORD_BYTES};
use crate::error::Error;
use crate::model_file::ModelFile;

/// What the file must call itself.
pub(crate) const FORMAT: &str = "waypost-pii-v1";
/// Weights of a feature: the labels and one of padding, so that a row is one vector.
pub(crate) const ROW: usize = 16;
/// Bytes of a feature's key in the file.
pub(crate) const KEY_BYTES: usize = 4;
/// Features in the file at most: their index must fit a slot's lower half.
pub(crate) const MAX_FEATURES_KEPT: usize = 1 << 15;
/// Slots of the look-up table. Half of them stay empty, so that most unknown features end at the first look.
const SLOTS: usize = 1 << 16;
/// Score of what must not be.
const NEVER: f32 = -1e4;

/// Scores of one token, one per label.
pub(crate) type Scores = [f32; ROW];

/// Exponentials of the transitions, both ways round, so that either pass works on whole rows.
#[derive(Debug)]
pub(crate) struct Chances {
    /// `forward[previous][label]`
    pub(crate) forward: [Scores; LABELS],
    /// `backward[label][previous]`
    pub(crate) backward: [Scores; LABELS],
}

impl Chances {
    /// Those of `transitions`.
    pub(crate) fn of(transitions: &[Scores; LABELS]) -> Self {
        let forward = transitions.map(|row| row.map(f32::exp));
        let backward = std::array::from_fn(|label| {
            std::array::from_fn(|previous| if previous < LABELS { forward[previous][label] } else { 0.0 })
        });
        Self { forward, backward }
    }
}

/// The weights.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Check in the upper half, row in the lower; 0 is empty.
    slots: Vec<u32>,
    rows: Vec<[i8; ROW]>,
    scale: f32,
    /// `transitions[previous][label]`
    pub(crate) transitions: [Scores; LABELS],
    /// Their exponentials, for probabilities.
    pub(crate) chances: Chances,
}

impl Weights {
    /// Reads weights and lexicon from a model file.
    pub(crate) fn open(name: &str, bytes: &Bytes) -> Result<(Self, Lexicon), Error> {
        let file = ModelFile::open(name, bytes, FORMAT)?;
        let features: usize = number(&file, name, "features")?;
        let words: usize = number(&file, name, "lexicon_words")?;
        if features >= MAX_FEATURES_KEPT {
            return Err(Error::model(name, "too many features"));
        }
        let keys = file.int8("keys", &[features, KEY_BYTES])?;
        let packed = file.int8("rows", &[features, ROW])?;
        let mut slots = vec![0; SLOTS];
        for (row, key) in keys.chunks_exact(KEY_BYTES).enumerate() {
            let key = u32::from_le_bytes([key[0], key[1], key[2], key[3]]);
            let mut at = home(key);
            while slots[at] != 0 {
                at = (at + 1) % SLOTS;
            }
            slots[at] = check(key) | row as u32;
        }
        let rows = packed.chunks_exact(ROW).map(|row| std::array::from_fn(|at| row[at] as i8)).collect();
        let learned = file.floats("transitions", &[LABELS, LABELS])?;
        let mut transitions = [[NEVER; ROW]; LABELS];
        for (previous, row) in transitions.iter_mut().enumerate() {
            for (label, score) in row.iter_mut().enumerate().take(LABELS) {
                if may_follow(previous, label) {
                    *score = learned[previous * LABELS + label];
                }
            }
        }
        let scale = number(&file, name, "scale")?;
        let lexicon = Lexicon::new(&file.int8("lexicon", &[words, RECORD_BYTES])?);
        let chances = Chances::of(&transitions);
        Ok((Self { slots, rows, scale, transitions, chances }, lexicon))
    }

    /// The key a feature is stored under.
    pub(crate) fn key(feature: u64) -> u32 {
        (feature >> 32) as u32
    }

    /// Sum of the rows of `features`.
    pub(crate) fn scores(&self, features: &[u64]) -> Scores {
        let mut sum = [0_i16; ROW];
        for &feature in features {
            let key = Self::key(feature);
            let wanted = check(key);
            let mut at = home(key);
            // Half of the slots are empty, so one of them ends every search.
            while self.slots[at] != 0 {
                let slot = self.slots[at];
                if slot & CHECK == wanted {
                    // 40 features of 127 at most stay within 16 bits.
                    for (sum, &weight) in sum.iter_mut().zip(&self.rows[(slot & !CHECK) as usize]) {
                        *sum += i16::from(weight);
                    }
                    break;
                }
                at = (at + 1) % SLOTS;
            }
        }
        sum.map(|value| f32::from(value) * self.scale)
    }
}

/// Bits of a slot that hold the check; the others hold the row.
const CHECK: u32 = 0xFFFF_8000;

/// Where the search for a key begins.
fn home(key: u32) -> usize {
    key as usize % SLOTS
}

/// The upper bits of a key, never 0.
fn check(key: u32) -> u32 {
    key & CHECK | 1 << 31
}

/// A metadata entry that is a number.
fn number<T: std::str::FromStr>(file: &ModelFile<'_>, name: &str, key: &str) -> Result<T, Error> {
    file.text(key)?.parse().map_err(|_| Error::model(name, format!("{key} is not a number")))
}
