//! A classifier: the heads of both tiers over shared features, and what it takes to trust their answer.
//!
//! Built-in classifiers and users' trained folders are the same thing. Pure arithmetic; the features come from `engine`,
//! the encoding from an encoder session. Called by the router, the command line and evaluation.

use std::sync::Arc;

use bytes::Bytes;

use crate::calibrate::{argmax, sigmoid};
use crate::encoder::{Branch, Encoding};
use crate::encoder_head::EncoderHead;
use crate::engine::Reading;
use crate::error::Error;
use crate::gates::Gates;
use crate::head::LinearHead;
use crate::model_file::ModelFile;
use crate::prompt::{Builtin, Tier, Verdict};

/// Format of classifier files; changes whenever features or layout do.
pub(crate) const FORMAT: &str = "waypost-model-v3";
/// Name of the file in a trained folder.
pub const FILE_NAME: &str = "model.safetensors";
/// Probability given to "this says nothing" when the rule fires; the rest is shared evenly.
const CONTENTLESS_CONFIDENCE: f32 = 0.9;

/// A loaded classifier. Share it by reference; it has no state.
#[derive(Debug)]
pub struct Model {
    name: String,
    labels: Vec<Arc<str>>,
    contentless: Option<usize>,
    measures: bool,
    ngram: LinearHead,
    encoder: Option<EncoderHead>,
    gates: Gates,
    checksum: String,
}

impl Model {
    /// Opens a classifier file; `shown` is how errors name it and `encoder` the fingerprint of the encoder it must fit.
    ///
    /// # Errors
    /// If the file is damaged, foreign, or made for another encoder.
    pub fn open(shown: &str, bytes: &Bytes, encoder: &str) -> Result<Self, Error> {
        let file = ModelFile::open(shown, bytes, FORMAT)?;
        let fail = |what: &str| Error::model(shown, format!("{what} cannot be read"));
        let labels: Vec<Arc<str>> = serde_json::from_str(file.text("labels")?).map_err(|_| fail("labels"))?;
        let gates: Gates = serde_json::from_str(file.text("gates")?).map_err(|_| fail("gates"))?;
        let name = file.text("name")?.to_owned();
        if labels.len() < 2 || !gates.sound() {
            return Err(Error::model(shown, "fewer than two labels, or gates out of range"));
        }
        let builtin =
            Builtin::ALL.into_iter().find(|b| labels.iter().map(|l| &**l).eq(b.labels().iter().copied()));
        let measures = builtin == Some(Builtin::Complexity);
        let outputs = labels.len() + usize::from(measures);
        let ngram = LinearHead::open(&file, outputs)?;
        // The metadata says whether there is a tier 1: a file that lost its tensors must not pass for one without.
        let head = file.text("branch").is_ok().then(|| EncoderHead::open(&file, shown, outputs, encoder));
        Ok(Self {
            name,
            contentless: builtin.and_then(Builtin::contentless),
            labels,
            measures,
            ngram,
            encoder: head.transpose()?,
            gates,
            checksum: file.checksum().to_owned(),
        })
    }

    /// The name it was trained under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells it from any other.
    pub(crate) fn checksum(&self) -> &str {
        &self.checksum
    }

    /// The labels, in the order of probabilities.
    pub fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }

    /// When which tier is believed.
    pub fn gates(&self) -> &Gates {
        &self.gates
    }

    /// Which top layers of the encoder tier 1 needs; `None` for a model without tier 1.
    pub fn branch(&self) -> Option<Branch> {
        self.encoder.as_ref().map(EncoderHead::branch)
    }

    /// Tier 0's verdict.
    pub fn judge(&self, reading: &Reading<'_>) -> Verdict {
        self.decide(reading, None)
    }

    /// The verdict of both tiers; `encoding` is of the same prompt's focus.
    pub fn judge_with(&self, reading: &Reading<'_>, encoding: &Encoding) -> Verdict {
        self.decide(reading, Some(encoding))
    }

    fn decide(&self, reading: &Reading<'_>, encoding: Option<&Encoding>) -> Verdict {
        let count = self.labels.len();
        let (focus, novelty) = self.ngram.logits(reading.focus);
        let mut probabilities = self.gates.first(&focus[..count], novelty);
        let doubt = self.gates.doubt(&probabilities, novelty);
        let mut difficulty = self.measures.then(|| sigmoid(focus[count]));
        let mut tier = Tier::Ngram;
        let asked = encoding.filter(|e| self.branch() == Some(e.branch()));
        if let (Some(head), Some(encoding)) = (&self.encoder, asked) {
            let logits = head.logits(encoding);
            self.gates.second(&mut probabilities, &logits[..count], novelty);
            let weight = self.gates.encoder_weight;
            difficulty = difficulty.map(|d| d + weight * (sigmoid(logits[count]) - d));
            tier = Tier::Encoder;
        }
        let mut silent = reading.focus.contentless;
        if let Some((context, weight)) = reading.context {
            let (logits, new) = self.ngram.logits(context);
            let context = self.gates.first(&logits[..count], new);
            lean(&mut probabilities, &context, weight);
            difficulty = difficulty.map(|d| d + weight * (sigmoid(logits[count]) - d));
            silent = silent && weight < 1.0;
        }
        if let Some(label) = self.contentless.filter(|_| silent) {
            probabilities.fill((1.0 - CONTENTLESS_CONFIDENCE) / (count - 1) as f32);
            probabilities[label] = CONTENTLESS_CONFIDENCE;
            difficulty = difficulty.map(|_| 0.0);
        }
        let label = argmax(&probabilities);
        Verdict {
            label,
            confidence: probabilities[label],
            probabilities,
            tier,
            doubt: doubt.filter(|_| self.encoder.is_some() && !silent),
            novelty,
            difficulty,
            few_shots: self.measures.then_some(reading.focus.few_shots),
            constraints: self.measures.then_some(reading.focus.constraints),
        }
    }
}

/// Mixes in what the context says, on the scale of log-probabilities: a firm focus stays firm.
fn lean(focus: &mut [f32], context: &[f32], weight: f32) {
    const FLOOR: f32 = 1e-9;
    let mut sum = 0.0;
    for (f, c) in focus.iter_mut().zip(context) {
        *f = ((1.0 - weight) * f.max(FLOOR).ln() + weight * c.max(FLOOR).ln()).exp();
        sum += *f;
    }
    focus.iter_mut().for_each(|f| *f /= sum);
}
