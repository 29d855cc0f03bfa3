//! The encoder's file: int8 matrices with one scale per output channel, float norms and biases.
//!
//! Matrices are packed once for the machine's own kernels when the first session needs them; the token table is read in
//! place. `training/quantise.py` writes the file. Called by `engine` and `session`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::layer::Layer;
use super::{BRANCH_LAYERS, Branch, HIDDEN, MAX_TOKENS, TRUNK_LAYERS};
use crate::error::Error;
use crate::model_file::ModelFile;
use crate::wordpiece::WordPiece;

const FORMAT: &str = "waypost-encoder-v2";

/// The encoder's weights. Share them by reference; a [`Session`](super::Session) runs them.
#[derive(Debug)]
pub struct Encoder {
    name: String,
    bytes: Bytes,
    fingerprint: String,
    wordpiece: Arc<WordPiece>,
    layers: OnceLock<Layers>,
    /// Held while unpacking: threads that start together must not each unpack the weights.
    unpacking: Mutex<()>,
}

/// What a session needs, unpacked.
#[derive(Debug)]
pub(super) struct Layers {
    tokens: Bytes,
    token_scales: Vec<f32>,
    /// Position embeddings; the one token type we use is folded in.
    positions: Vec<f32>,
    pub(super) norm: [Vec<f32>; 2],
    pub(super) trunk: Vec<Layer>,
    prompt: Vec<Layer>,
    sentence: Vec<Layer>,
}

impl Encoder {
    /// Opens the encoder made for the vocabulary of checksum `vocab_crc`.
    pub(crate) fn open(
        name: &str,
        bytes: &Bytes,
        vocab_crc: &str,
        wordpiece: Arc<WordPiece>,
    ) -> Result<Self, Error> {
        let file = ModelFile::open(name, bytes, FORMAT)?;
        if file.text("vocab_crc32")? != vocab_crc {
            return Err(Error::model(name, "was made for another vocabulary"));
        }
        let fingerprint = file.checksum().to_owned();
        // Shapes are checked now, so that packing later cannot fail.
        let encoder = Self {
            name: name.to_owned(),
            bytes: bytes.clone(),
            fingerprint,
            wordpiece,
            layers: OnceLock::new(),
            unpacking: Mutex::new(()),
        };
        Layers::check(&file, encoder.wordpiece.len())?;
        Ok(encoder)
    }

    /// Tells this encoder from any other: heads trained on one do not fit another.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn wordpiece(&self) -> &WordPiece {
        &self.wordpiece
    }

    /// The layers, packed for this machine at the first call (some 20 ms).
    pub(super) fn layers(&self) -> Result<&Layers, Error> {
        if let Some(layers) = self.layers.get() {
            return Ok(layers);
        }
        let _unpacking = self.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layers) = self.layers.get() {
            return Ok(layers);
        }
        let layers = Layers::load(&ModelFile::open(&self.name, &self.bytes, FORMAT)?, self.wordpiece.len())?;
        Ok(self.layers.get_or_init(|| layers))
    }
}

impl Layers {
    fn names() -> impl Iterator<Item = String> {
        let trunk = (0..TRUNK_LAYERS).map(|at| format!("trunk.{at}"));
        let branch = |b: Branch| (0..BRANCH_LAYERS).map(move |at| format!("{}.{at}", b.name()));
        trunk.chain(branch(Branch::Prompt)).chain(branch(Branch::Sentence))
    }

    fn check(file: &ModelFile<'_>, entries: usize) -> Result<(), Error> {
        file.int8("tokens", &[entries, HIDDEN])?;
        Self::names().try_for_each(|name| Layer::check(file, &name))
    }

    fn load(file: &ModelFile<'_>, entries: usize) -> Result<Self, Error> {
        let layers: Vec<Layer> =
            Self::names().map(|name| Layer::open(file, &name)).collect::<Result<_, _>>()?;
        let mut layers = layers.into_iter();
        let mut take = |count: usize| layers.by_ref().take(count).collect();
        Ok(Self {
            tokens: file.int8("tokens", &[entries, HIDDEN])?,
            token_scales: file.floats("token_scales", &[entries])?,
            positions: file.floats("positions", &[MAX_TOKENS, HIDDEN])?,
            norm: [file.floats("norm.gain", &[HIDDEN])?, file.floats("norm.bias", &[HIDDEN])?],
            trunk: take(TRUNK_LAYERS),
            prompt: take(BRANCH_LAYERS),
            sentence: take(BRANCH_LAYERS),
        })
    }

    pub(super) fn branch(&self, branch: Branch) -> &[Layer] {
        match branch {
            Branch::Prompt => &self.prompt,
            Branch::Sentence => &self.sentence,
        }
    }

    /// Token plus position, not yet normalised.
    pub(super) fn embed(&self, ids: &[u16], out: &mut Vec<f32>) {
        out.clear();
        for (&id, position) in ids.iter().zip(self.positions.chunks_exact(HIDDEN)) {
            let id = usize::from(id);
            let scale = self.token_scales[id];
            let row = &self.tokens[id * HIDDEN..(id + 1) * HIDDEN];
            out.extend(row.iter().zip(position).map(|(&value, p)| f32::from(value as i8) * scale + p));
        }
    }
}
