//! A stack of transformer layers: CLIP's text tower and its vision tower differ only in sizes and mask.
//!
//! Each layer normalises before its attention and before its feed-forward part, and adds both to what came in. Floats
//! throughout. Knows nothing of tokens and pixels. Called by `clip`.

use std::io::{Read, Seek};

use rten_simd::{SimdOp as _, SimdUnaryOp as _};
use rten_tensor::Matrix;
use rten_vecmath::{Gelu, Softmax, Swish};

use super::config::{Activation, Text, Vision};
use crate::error::Error;
use crate::matrix::{Linear, Norm, add, product};
use crate::tensors::Tensors;

/// Sizes of a tower.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    activation: Activation,
    epsilon: f32,
}

impl From<&Text> for Sizes {
    fn from(text: &Text) -> Self {
        Self {
            hidden: text.hidden_size,
            intermediate: text.intermediate_size,
            layers: text.num_hidden_layers,
            heads: text.num_attention_heads,
            activation: text.hidden_act,
            epsilon: text.layer_norm_eps,
        }
    }
}

impl From<&Vision> for Sizes {
    fn from(vision: &Vision) -> Self {
        Self {
            hidden: vision.hidden_size,
            intermediate: vision.intermediate_size,
            layers: vision.num_hidden_layers,
            heads: vision.num_attention_heads,
            activation: vision.hidden_act,
            epsilon: vision.layer_norm_eps,
        }
    }
}

#[derive(Debug)]
struct Layer {
    before_attention: Norm,
    /// Query, key and value in one matrix.
    qkv: Linear,
    out: Linear,
    before_feed: Norm,
    up: Linear,
    down: Linear,
}

/// The layers of one tower.
#[derive(Debug)]
pub(super) struct Tower {
    sizes: Sizes,
    layers: Vec<Layer>,
}

/// Reads layers out of a model's file.
pub(super) struct Loader<R> {
    pub(super) file: Tensors<R>,
}

impl<R: Read + Seek> Loader<R> {
    /// A Linear of `outputs` by `inputs` with its bias.
    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, Error> {
        self.joined(&[name.to_owned()], outputs, inputs)
    }

    /// Several Linears of the same input, one below the other.
    fn joined(&mut self, names: &[String], outputs: usize, inputs: usize) -> Result<Linear, Error> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weights.append(&mut self.file.floats(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.append(&mut self.file.floats(&format!("{name}.bias"), &[outputs])?);
        }
        Ok(Linear::new(&weights, bias, outputs * names.len()))
    }

    /// A Linear of weights of that `shape`, outputs first, without a bias.
    pub(super) fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<Linear, Error> {
        let weights = self.file.floats(&format!("{name}.weight"), shape)?;
        Ok(Linear::new(&weights, Vec::new(), shape[0]))
    }

    pub(super) fn norm(&mut self, name: &str, sizes: Sizes) -> Result<Norm, Error> {
        Ok(Norm {
            gain: self.file.floats(&format!("{name}.weight"), &[sizes.hidden])?,
            bias: self.file.floats(&format!("{name}.bias"), &[sizes.hidden])?,
            epsilon: sizes.epsilon,
        })
    }
}

impl Tower {
    /// Loads the layers below `name`.
    pub(super) fn open<R: Read + Seek>(
        load: &mut Loader<R>,
        name: &str,
        sizes: Sizes,
    ) -> Result<Self, Error> {
        let (hidden, wide) = (sizes.hidden, sizes.intermediate);
        let mut layers = Vec::with_capacity(sizes.layers);
        for at in 0..sizes.layers {
            let name = format!("{name}.encoder.layers.{at}");
            let qkv = ["q", "k", "v"].map(|part| format!("{name}.self_attn.{part}_proj"));
            layers.push(Layer {
                before_attention: load.norm(&format!("{name}.layer_norm1"), sizes)?,
                qkv: load.joined(&qkv, hidden, hidden)?,
                out: load.linear(&format!("{name}.self_attn.out_proj"), hidden, hidden)?,
                before_feed: load.norm(&format!("{name}.layer_norm2"), sizes)?,
                up: load.linear(&format!("{name}.mlp.fc1"), wide, hidden)?,
                down: load.linear(&format!("{name}.mlp.fc2"), hidden, wide)?,
            });
        }
        Ok(Self { sizes, layers })
    }

    /// Replaces `state`, one row of the hidden width per position, by the last layer's output. In a `causal` tower a
    /// position sees only itself and what came before.
    pub(super) fn run(&self, state: &mut [f32], causal: bool) -> Result<(), Error> {
        for layer in &self.layers {
            let mut rows = state.to_vec();
            layer.before_attention.run(&mut rows);
            let qkv = layer.qkv.run(&rows)?;
            let mixed = self.attend(&qkv, causal)?;
            add(state, &layer.out.run(&mixed)?);
            rows.copy_from_slice(state);
            layer.before_feed.run(&mut rows);
            let mut wide = layer.up.run(&rows)?;
            match self.sizes.activation {
                Activation::QuickGelu => Swish { alpha: 1.702 }.map_mut(&mut wide),
                Activation::Gelu => Gelu {}.map_mut(&mut wide),
            }
            add(state, &layer.down.run(&wide)?);
        }
        Ok(())
    }

    /// Scaled dot-product attention over rows of query, key and value.
    fn attend(&self, qkv: &[f32], causal: bool) -> Result<Vec<f32>, Error> {
        let (hidden, heads) = (self.sizes.hidden, self.sizes.heads);
        let (rows, width) = (qkv.len() / (3 * hidden), hidden / heads);
        let scale = (width as f32).sqrt().recip();
        let mut out = vec![0.0; rows * hidden];
        let mut scores = vec![0.0; rows * rows];
        let mut mixed = vec![0.0; rows * width];
        let part = |at: usize| {
            Matrix::from_slice_with_strides([rows, width], &qkv[at..], [3 * hidden, 1])
                .map_err(|e| Error::Kernel(format!("{e:?}")))
        };
        for at in (0..heads).map(|head| head * width) {
            let (query, key, value) = (part(at)?, part(hidden + at)?, part(2 * hidden + at)?);
            product(query, key.transposed(), scale, &mut scores)?;
            for (place, row) in scores.chunks_exact_mut(rows).enumerate() {
                let (seen, hidden) = row.split_at_mut(if causal { place + 1 } else { rows });
                Softmax::new_mut(seen).dispatch();
                hidden.fill(0.0);
            }
            let scores = Matrix::from_data([rows, rows], scores.as_slice());
            product(scores, value, 1.0, &mut mixed)?;
            for (row, from) in out.chunks_exact_mut(hidden).zip(mixed.chunks_exact(width)) {
                row[at..at + width].copy_from_slice(from);
            }
        }
        Ok(out)
    }
}
