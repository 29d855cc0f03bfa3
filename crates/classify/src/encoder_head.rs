//! Tier 1's head: one linear layer over the encoder's pooled output.
//!
//! Called by `model`; `train` makes the tensors it reads.

use crate::encoder::{Branch, Encoding};
use crate::error::Error;
use crate::model_file::ModelFile;

/// The trained weights of tier 1.
#[derive(Debug)]
pub(crate) struct EncoderHead {
    branch: Branch,
    projection: Projection,
}

/// A linear layer over pooled outputs: a row of weights per input, then the bias.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    pub(crate) outputs: usize,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Projection {
    /// Raw scores of an encoded text.
    pub(crate) fn logits(&self, encoding: &Encoding) -> Vec<f32> {
        let mut logits = self.bias.clone();
        for (&x, row) in encoding.values().iter().zip(self.weights.chunks_exact(self.outputs)) {
            for (logit, &weight) in logits.iter_mut().zip(row) {
                *logit += x * weight;
            }
        }
        logits
    }
}

impl EncoderHead {
    /// Reads the head's tensors; `encoder` is the fingerprint of the encoder it will run on.
    pub(crate) fn open(
        file: &ModelFile<'_>,
        name: &str,
        outputs: usize,
        encoder: &str,
    ) -> Result<Self, Error> {
        let branch = Branch::named(file.text("branch")?)
            .ok_or_else(|| Error::model(name, "names an encoder branch that this build does not have"))?;
        if file.text("encoder")? != encoder {
            return Err(Error::model(
                name,
                "was trained on another encoder; train it again with this version",
            ));
        }
        Ok(Self {
            branch,
            projection: Projection {
                outputs,
                weights: file.floats("encoder_weights", &[branch.width(), outputs])?,
                bias: file.floats("encoder_bias", &[outputs])?,
            },
        })
    }

    pub(crate) fn branch(&self) -> Branch {
        self.branch
    }

    /// Raw scores of an encoded text.
    pub(crate) fn logits(&self, encoding: &Encoding) -> Vec<f32> {
        self.projection.logits(encoding)
    }
}
