//! A linear head: features to one logit per label, and the difficulty score that rides along with one of them.
//!
//! N-gram weights are int8 rows read in place; the rest is small and float. Called by `classifier`; `train` makes the
//! files it reads.

use crate::calibrate::{sigmoid, softmax};
use crate::error::Error;
use crate::features::{BUCKETS, DENSE, Features};
use crate::model_file::ModelFile;
use crate::prompt::Head;

/// Format of head files; changes whenever features or layout do.
pub(crate) const FORMAT: &str = "waypost-head-v1";
/// More outputs than any head has; logits live on the stack.
pub(crate) const MAX_OUTPUTS: usize = 16;

/// Raw scores of one text: labels first, then difficulty where the head has it.
pub(crate) type Logits = [f32; MAX_OUTPUTS];

/// A trained head.
#[derive(Debug)]
pub(crate) struct LinearHead {
    outputs: usize,
    labels: usize,
    ngrams: &'static [u8],
    ngram_scales: Vec<f32>,
    dense: Vec<f32>,
    bias: Vec<f32>,
    temperature: f32,
}

impl LinearHead {
    /// Opens the file of `head` and checks that it was trained for the labels this build knows.
    pub(crate) fn open(head: Head, name: &'static str, bytes: &'static [u8]) -> Result<Self, Error> {
        let file = ModelFile::open(name, bytes, FORMAT)?;
        let labels = head.labels().len();
        if file.text("head")? != head.name() || file.text("labels")? != head.labels().join("|") {
            return Err(Error::model(name, format!("not trained for the labels of {}", head.name())));
        }
        let outputs = labels + usize::from(has_difficulty(head));
        let temperature = file.number("temperature")?;
        if temperature <= 0.0 {
            return Err(Error::model(name, "temperature is not positive"));
        }
        Ok(Self {
            outputs,
            labels,
            ngrams: file.int8("ngrams", &[BUCKETS, outputs])?,
            ngram_scales: file.floats("ngram_scales", &[outputs])?,
            dense: file.floats("dense", &[DENSE, outputs])?,
            bias: file.floats("bias", &[outputs])?,
            temperature,
        })
    }

    /// Raw scores of a text.
    pub(crate) fn logits(&self, features: &Features) -> Logits {
        let mut counts = [0_i32; MAX_OUTPUTS];
        for &bucket in &features.sparse {
            let row = &self.ngrams[bucket as usize * self.outputs..][..self.outputs];
            for (count, &weight) in counts.iter_mut().zip(row) {
                *count += i32::from(weight as i8);
            }
        }
        let value = features.sparse_value();
        let mut logits = [0.0; MAX_OUTPUTS];
        for (output, logit) in logits.iter_mut().take(self.outputs).enumerate() {
            *logit = self.bias[output] + counts[output] as f32 * self.ngram_scales[output] * value;
        }
        for (&x, row) in features.dense.iter().zip(self.dense.chunks_exact(self.outputs)) {
            for (logit, &weight) in logits.iter_mut().zip(row) {
                *logit += x * weight;
            }
        }
        logits
    }

    /// Calibrated label probabilities.
    pub(crate) fn probabilities(&self, logits: &Logits) -> Vec<f32> {
        softmax(&logits[..self.labels], self.temperature)
    }

    /// How hard, 0 to 1, for the head that knows.
    pub(crate) fn difficulty(&self, logits: &Logits) -> Option<f32> {
        (self.outputs > self.labels).then(|| sigmoid(logits[self.labels]))
    }
}

/// Whether a head carries the difficulty score.
pub(crate) fn has_difficulty(head: Head) -> bool {
    head == Head::Complexity
}
