//! A CLIP model from a local Hugging Face folder: texts and images to vectors that can be compared.
//!
//! Reads `config.json`, `model.safetensors`, `preprocessor_config.json` and the tokenizer at load, and nothing after. The
//! vectors are transformers' `get_text_features` and `get_image_features`: projected, not scaled to length 1. Any
//! number of threads may use one model at once; a call is plain computation, tens of milliseconds of a core for ViT-B/32
//! and more for a huge picture, so it belongs on a thread that may block. Called by the router.

mod config;
mod pixels;
mod tokens;
mod tower;

use std::io::{Read, Seek};
use std::path::Path;

use crate::error::Error;
use crate::image::Image;
use crate::matrix::{Linear, Norm, add};
use crate::tensors::Tensors;
use config::{Config, Preparation};
use tokens::Tokenizer;
use tower::{Loader, Tower};

/// Largest `model.safetensors` that is read, in bytes.
pub const MAX_MODEL_BYTES: u64 = 4 << 30;

/// A loaded model.
pub struct Clip {
    dims: usize,
    text: Text,
    vision: Vision,
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clip").field("dims", &self.dims).finish_non_exhaustive()
    }
}

struct Text {
    tokenizer: Tokenizer,
    width: usize,
    /// Most tokens of a text.
    context: usize,
    words: Vec<f32>,
    positions: Vec<f32>,
    tower: Tower,
    norm: Norm,
    projection: Linear,
}

struct Vision {
    preparation: Preparation,
    shortest: usize,
    side: usize,
    patch: usize,
    patches: Linear,
    /// Stands before the patches; its last state is the image's.
    class: Vec<f32>,
    positions: Vec<f32>,
    before: Norm,
    tower: Tower,
    after: Norm,
    projection: Linear,
}

impl Clip {
    /// Loads the model in `folder`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it: missing, too large, not what CLIP's is, a tensor missing, misshapen or
    /// not finite.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let config = Config::open(folder)?;
        let preparation = Preparation::open(folder, config.vision.image_size)?;
        let tokenizer = Tokenizer::open(folder)?;
        if tokenizer.largest() as usize >= config.text.vocab_size {
            let (largest, words) = (tokenizer.largest(), config.text.vocab_size);
            let reason = format!("the tokenizer's ids reach {largest}, but config.json says {words} words");
            return Err(Error::model(&folder.display().to_string(), reason));
        }
        let file = Tensors::open(&folder.join("model.safetensors"), MAX_MODEL_BYTES)?;
        let mut load = Loader { file };
        let text = Text::open(&mut load, &config, tokenizer)?;
        let vision = Vision::open(&mut load, &config, preparation)?;
        Ok(Self { dims: config.projection_dim, text, vision })
    }

    /// Length of the vectors.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The vector of a text, of which the model's context (77 tokens for OpenAI's) is read.
    ///
    /// # Errors
    /// When the matrix kernels refuse to run.
    pub fn text(&self, text: &str) -> Result<Vec<f32>, Error> {
        let part = &self.text;
        let ids = part.tokenizer.ids(text, part.context);
        let mut state = part.positions[..ids.len() * part.width].to_vec();
        for (row, &id) in state.chunks_exact_mut(part.width).zip(&ids) {
            let at = id as usize * part.width;
            add(row, &part.words[at..at + part.width]);
        }
        part.tower.run(&mut state, true)?;
        // The end token has seen the whole text.
        let last = &mut state[(ids.len() - 1) * part.width..];
        part.norm.run(last);
        part.projection.run(last)
    }

    /// The vector of an image.
    ///
    /// # Errors
    /// When the matrix kernels refuse to run.
    pub fn image(&self, image: &Image) -> Result<Vec<f32>, Error> {
        let part = &self.vision;
        let square = pixels::square(image, part.shortest, part.side);
        let patches = pixels::patches(&square, part.side, part.patch, &part.preparation);
        let mut state = part.class.clone();
        state.append(&mut part.patches.run(&patches)?);
        add(&mut state, &part.positions);
        part.before.run(&mut state);
        part.tower.run(&mut state, false)?;
        let class = &mut state[..part.class.len()];
        part.after.run(class);
        part.projection.run(class)
    }
}

impl Text {
    fn open<R: Read + Seek>(
        load: &mut Loader<R>,
        config: &Config,
        tokenizer: Tokenizer,
    ) -> Result<Self, Error> {
        let text = &config.text;
        let (width, context, sizes) = (text.hidden_size, text.max_position_embeddings, text.into());
        let embedding = |part: &str| format!("text_model.embeddings.{part}_embedding.weight");
        Ok(Self {
            tokenizer,
            width,
            context,
            words: load.file.floats(&embedding("token"), &[text.vocab_size, width])?,
            positions: load.file.floats(&embedding("position"), &[context, width])?,
            tower: Tower::open(load, "text_model", sizes)?,
            norm: load.norm("text_model.final_layer_norm", sizes)?,
            projection: load.matrix("text_projection", &[config.projection_dim, width])?,
        })
    }
}

impl Vision {
    fn open<R: Read + Seek>(
        load: &mut Loader<R>,
        config: &Config,
        (preparation, shortest): (Preparation, usize),
    ) -> Result<Self, Error> {
        let vision = &config.vision;
        let (width, patch, sizes) = (vision.hidden_size, vision.patch_size, vision.into());
        let embeddings = "vision_model.embeddings";
        let positions = format!("{embeddings}.position_embedding.weight");
        Ok(Self {
            preparation,
            shortest,
            side: vision.image_size,
            patch,
            patches: load.matrix(&format!("{embeddings}.patch_embedding"), &[width, 3, patch, patch])?,
            class: load.file.floats(&format!("{embeddings}.class_embedding"), &[width])?,
            positions: load.file.floats(&positions, &[vision.patches() + 1, width])?,
            // The published models spell it so.
            before: load.norm("vision_model.pre_layrnorm", sizes)?,
            tower: Tower::open(load, "vision_model", sizes)?,
            after: load.norm("vision_model.post_layernorm", sizes)?,
            projection: load.matrix("visual_projection", &[config.projection_dim, width])?,
        })
    }
}
