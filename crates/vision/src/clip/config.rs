//! A CLIP folder's `config.json` and `preprocessor_config.json`, checked.
//!
//! Absent values are those of openai/clip-vit-base-patch32, as in Hugging Face transformers; values that would ask for
//! another model than CLIP, or for absurd sizes, are errors. Reads the two files and nothing else. Called by `clip`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Largest configuration file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest width of a layer.
const MAX_WIDTH: usize = 32_768;
/// Most layers of a tower.
const MAX_LAYERS: usize = 128;
/// Most tokens, or patches, that attend to each other.
const MAX_POSITIONS: usize = 4096;
/// Longest side of the square that the vision tower sees, in pixels.
const MAX_IMAGE_PIXELS: usize = 2048;
/// Most words of a vocabulary.
const MAX_VOCABULARY: usize = 1 << 20;
/// PIL's number for bicubic resizing.
const BICUBIC: u32 = 3;

/// `config.json`.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    model_type: String,
    pub(crate) projection_dim: usize,
    #[serde(rename = "text_config")]
    pub(crate) text: Text,
    #[serde(rename = "vision_config")]
    pub(crate) vision: Vision,
}

/// The text tower's sizes.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Text {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) hidden_act: Activation,
    pub(crate) layer_norm_eps: f32,
}

/// The vision tower's sizes.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Vision {
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    num_channels: usize,
    pub(crate) image_size: usize,
    pub(crate) patch_size: usize,
    pub(crate) hidden_act: Activation,
    pub(crate) layer_norm_eps: f32,
}

/// The function between the two matrices of a feed-forward layer.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activation {
    /// x times the sigmoid of 1.702 x: OpenAI's models.
    QuickGelu,
    /// The exact one: LAION's models.
    Gelu,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_type: "clip".to_owned(),
            projection_dim: 512,
            text: Text::default(),
            vision: Vision::default(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self {
            vocab_size: 49_408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl Default for Vision {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl Config {
    /// Reads and checks `config.json` of `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("config.json");
        let config: Self = json(&path, MAX_CONFIG_BYTES)?;
        config.check().map_err(|reason| Error::model(&path.display().to_string(), reason))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.model_type != "clip" {
            return Err(format!("model_type is `{}`; only `clip` is read", self.model_type));
        }
        let (text, vision) = (&self.text, &self.vision);
        within("projection_dim", self.projection_dim, MAX_WIDTH)?;
        within("text_config.vocab_size", text.vocab_size, MAX_VOCABULARY)?;
        within("text_config.max_position_embeddings", text.max_position_embeddings, MAX_POSITIONS)?;
        if text.max_position_embeddings < 2 {
            return Err("text_config.max_position_embeddings is 1; start and end alone are 2".to_owned());
        }
        tower("text_config", text.sizes())?;
        tower("vision_config", vision.sizes())?;
        if vision.num_channels != 3 {
            return Err(format!("vision_config.num_channels is {}; only 3 is read", vision.num_channels));
        }
        within("vision_config.image_size", vision.image_size, MAX_IMAGE_PIXELS)?;
        within("vision_config.patch_size", vision.patch_size, vision.image_size)?;
        if vision.image_size % vision.patch_size != 0 {
            let (image, patch) = (vision.image_size, vision.patch_size);
            return Err(format!("vision_config: patches of {patch} do not fill an image of {image}"));
        }
        within("vision_config's number of patches", vision.patches(), MAX_POSITIONS - 1)
    }
}

impl Text {
    fn sizes(&self) -> [usize; 4] {
        [self.hidden_size, self.intermediate_size, self.num_hidden_layers, self.num_attention_heads]
    }
}

impl Vision {
    fn sizes(&self) -> [usize; 4] {
        [self.hidden_size, self.intermediate_size, self.num_hidden_layers, self.num_attention_heads]
    }

    /// Patches of an image.
    pub(crate) fn patches(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side
    }
}

fn tower(name: &str, [hidden, intermediate, layers, heads]: [usize; 4]) -> Result<(), String> {
    within(&format!("{name}.hidden_size"), hidden, MAX_WIDTH)?;
    within(&format!("{name}.intermediate_size"), intermediate, MAX_WIDTH)?;
    within(&format!("{name}.num_hidden_layers"), layers, MAX_LAYERS)?;
    within(&format!("{name}.num_attention_heads"), heads, hidden)?;
    if hidden % heads == 0 {
        Ok(())
    } else {
        Err(format!("{name}: hidden_size {hidden} is no multiple of {heads} heads"))
    }
}

fn within(what: &str, value: usize, most: usize) -> Result<(), String> {
    if (1..=most).contains(&value) { Ok(()) } else { Err(format!("{what} is {value}; 1 to {most} is read")) }
}

/// `preprocessor_config.json`: how a picture becomes the vision tower's square.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Preparation {
    do_resize: bool,
    do_center_crop: bool,
    do_rescale: bool,
    do_normalize: bool,
    size: Side,
    crop_size: Side,
    resample: u32,
    pub(crate) rescale_factor: f32,
    pub(crate) image_mean: [f32; 3],
    pub(crate) image_std: [f32; 3],
}

/// A length in one of the forms that files have.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Side {
    Plain(usize),
    Shortest { shortest_edge: usize },
    Both { height: usize, width: usize },
}

impl Default for Preparation {
    fn default() -> Self {
        Self {
            do_resize: true,
            do_center_crop: true,
            do_rescale: true,
            do_normalize: true,
            size: Side::Shortest { shortest_edge: 224 },
            crop_size: Side::Plain(224),
            resample: BICUBIC,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }
}

impl Preparation {
    /// Reads `preprocessor_config.json` of `folder`, if there, for a model that sees squares of `side` pixels.
    /// Also gives the length that a picture's shorter side is resized to.
    pub(crate) fn open(folder: &Path, side: usize) -> Result<(Self, usize), Error> {
        let path = folder.join("preprocessor_config.json");
        let preparation: Self = if path.exists() {
            json(&path, MAX_CONFIG_BYTES)?
        } else {
            Self { size: Side::Plain(side), crop_size: Side::Plain(side), ..Self::default() }
        };
        let shortest =
            preparation.check(side).map_err(|reason| Error::model(&path.display().to_string(), reason))?;
        Ok((preparation, shortest))
    }

    fn check(&self, side: usize) -> Result<usize, String> {
        if !(self.do_resize && self.do_center_crop && self.do_rescale && self.do_normalize) {
            return Err("do_resize, do_center_crop, do_rescale and do_normalize must all be on".to_owned());
        }
        if self.resample != BICUBIC {
            return Err(format!("resample is {}; only {BICUBIC} (bicubic) is read", self.resample));
        }
        let crop = match self.crop_size {
            Side::Plain(crop) => crop,
            Side::Both { height, width } if height == width => height,
            other => return Err(format!("crop_size is {other:?}, not a square")),
        };
        if crop != side {
            return Err(format!("crop_size is {crop}, but the model sees {side} pixels (config.json)"));
        }
        let (Side::Plain(shortest) | Side::Shortest { shortest_edge: shortest }) = self.size else {
            return Err("size must be the shortest edge, not height and width".to_owned());
        };
        if !(crop..=2 * MAX_IMAGE_PIXELS).contains(&shortest) {
            let most = 2 * MAX_IMAGE_PIXELS;
            return Err(format!("size is {shortest}; {crop} (crop_size) to {most} is read"));
        }
        let finite = [self.image_mean, self.image_std].concat().iter().all(|v| v.is_finite());
        if !finite || !self.rescale_factor.is_finite() || self.image_std.iter().any(|&v| v <= 0.0) {
            return Err(
                "image_mean, image_std and rescale_factor must be finite, image_std above 0".to_owned()
            );
        }
        Ok(shortest)
    }
}

/// The JSON file at `path`, of at most `max_bytes`.
pub(crate) fn json<T: DeserializeOwned>(path: &Path, max_bytes: u64) -> Result<T, Error> {
    let name = path.display().to_string();
    let text = text(path, max_bytes)?;
    serde_json::from_str(&text).map_err(|e| Error::model(&name, e.to_string()))
}

/// The text file at `path`, of at most `max_bytes`.
pub(crate) fn text(path: &Path, max_bytes: u64) -> Result<String, Error> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| Error::io(&name, e))?;
    let mut text = String::new();
    // One byte more tells a file that is too long from one that just fits.
    file.take(max_bytes + 1).read_to_string(&mut text).map_err(|e| Error::io(&name, e))?;
    if text.len() as u64 > max_bytes {
        return Err(Error::model(&name, format!("longer than the {max_bytes} bytes that are read")));
    }
    Ok(text)
}
