//! A classifier from a few example texts per label, without a training run: a prompt gets the label it resembles most.
//!
//! Tier 0 compares static embeddings, tier 1 the encoder's sentence embeddings. Only the focus is compared, since
//! examples have no context. Pure arithmetic once built. The router builds one per policy and asks it like a trained
//! model.

mod background;
mod nearness;

use std::collections::HashMap;
use std::sync::Arc;

use self::nearness::{Nearness, unit};
use crate::calibrate::{argmax, softmax};
use crate::encoder::{Branch, Encoding, HIDDEN, Session};
use crate::engine::{Base, Reading};
use crate::error::Error;
use crate::features::Features;
use crate::prompt::{Doubt, Prompt, Tier, Verdict};
use crate::table::DIMS;
use crate::words::for_each_word;

/// Most example texts of a classifier; each costs an encoding when it is built and a comparison per prompt.
pub const MAX_EXAMPLES: usize = 500;
/// Confidence from which a prompt is taken to belong to a label, unless the user says otherwise.
///
/// From `examples/few_examples.rs` on training rows of CLINC150 and BANKING77, with 5 to 10 examples of ten labels each:
/// tier 1 then accepts 94 to 99 % of what belongs to a label and rejects 98 to 100 % of what has nothing to do with any,
/// tier 0 accepts 88 to 98 % and rejects 94 to 98 %. Of intents next to those listed, 22 to 25 % of the bank's and 83 to
/// 85 % of CLINC's are rejected: neighbours that matter are best listed. With a single example a label, 0.3 does better.
pub const DEFAULT_THRESHOLD: f32 = 0.4;

/// Width of tier 0's vectors: the means of the edge words and of all words.
const STATIC: usize = 2 * DIMS;
/// Similarities are divided by this to become logits.
const TEMPERATURE: f32 = 0.05;

/// A classifier made of examples. Share it by reference; it has no state.
#[derive(Debug)]
pub struct ExampleModel {
    labels: Vec<Arc<str>>,
    /// What is common to prompts of all kinds, in tier 0's space.
    background: Vec<f32>,
    statics: Nearness,
    embeddings: Nearness,
}

impl ExampleModel {
    /// Reads and encodes the examples of every label; some milliseconds each.
    ///
    /// # Errors
    /// If a label is empty, listed twice or without a text, a text is empty or stands under two labels, or there are
    /// more than [`MAX_EXAMPLES`]; the error names the label and the text.
    pub fn build(base: &Base, session: &mut Session, sets: &[(String, Vec<String>)]) -> Result<Self, Error> {
        check(sets)?;
        one_owner(sets)?;
        Self::made(base, session, sets)
    }

    /// As [`ExampleModel::build`], for labels of which several may apply at once: a text may stand under many of them.
    ///
    /// # Errors
    /// As [`ExampleModel::build`], but for that.
    pub fn independent(
        base: &Base,
        session: &mut Session,
        sets: &[(String, Vec<String>)],
    ) -> Result<Self, Error> {
        check(sets)?;
        Self::made(base, session, sets)
    }

    fn made(base: &Base, session: &mut Session, sets: &[(String, Vec<String>)]) -> Result<Self, Error> {
        let background = background(base);
        let (mut statics, mut embeddings) = (Vec::new(), Vec::new());
        for (_, texts) in sets {
            let read =
                |text: &String| base.read(&focus(text), |reading| foreground(reading.focus, &background));
            statics.push(texts.iter().map(read).collect());
            let encode = |text: &String| Ok(session.encode(text, Branch::Sentence)?.embedding());
            embeddings.push(texts.iter().map(encode).collect::<Result<_, Error>>()?);
        }
        Ok(Self {
            labels: sets.iter().map(|(label, _)| label.as_str().into()).collect(),
            statics: Nearness::new(STATIC, &statics),
            embeddings: Nearness::new(HIDDEN, &embeddings),
            background,
        })
    }

    /// The labels, in the order of probabilities.
    pub fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }

    /// Tier 0's verdict, which always asks for the encoder. Its confidence is a similarity, on the same scale as that
    /// of [`ExampleModel::judge_with`]: 1 for an example, 0 for what has nothing in common with any.
    pub fn judge(&self, reading: &Reading<'_>) -> Verdict {
        self.decide(Tier::Ngram, self.near(reading))
    }

    /// Tier 0's similarity to each label's examples, on the same scale as the confidence of a verdict.
    pub fn near(&self, reading: &Reading<'_>) -> Vec<f32> {
        let vector = foreground(reading.focus, &self.background);
        worded(reading, self.statics.of(&vector))
    }

    /// The encoder's verdict; `encoding` is the [`Branch::Sentence`] of the same prompt's focus, and that of another
    /// branch is as good as none. The probabilities are between the labels only: whether any fits, the confidence tells.
    pub fn judge_with(&self, reading: &Reading<'_>, encoding: &Encoding) -> Verdict {
        match encoding.branch() {
            Branch::Sentence => self.decide(Tier::Encoder, self.near_with(reading, encoding)),
            Branch::Prompt => self.judge(reading),
        }
    }

    /// As [`ExampleModel::near`] with the encoder; the same is asked of `encoding` as of that of
    /// [`ExampleModel::judge_with`].
    pub fn near_with(&self, reading: &Reading<'_>, encoding: &Encoding) -> Vec<f32> {
        match encoding.branch() {
            Branch::Sentence => worded(reading, self.embeddings.of(&encoding.embedding())),
            Branch::Prompt => self.near(reading),
        }
    }

    fn decide(&self, tier: Tier, similarities: Vec<f32>) -> Verdict {
        let label = argmax(&similarities);
        Verdict {
            label,
            confidence: similarities[label],
            probabilities: softmax(&similarities, TEMPERATURE),
            tier,
            doubt: Some(Doubt::Similarity),
            novelty: 0.0,
            difficulty: None,
            few_shots: None,
            constraints: None,
        }
    }
}

/// A prompt without words resembles nothing.
fn worded(reading: &Reading<'_>, mut similarities: Vec<f32>) -> Vec<f32> {
    if reading.focus.words == 0 {
        similarities.fill(0.0);
    }
    similarities
}

fn focus(text: &str) -> Prompt<'_> {
    Prompt { focus: text, context: "" }
}

/// The mean of tier 0's vectors over prompts of all kinds.
fn background(base: &Base) -> Vec<f32> {
    let mut sum = vec![0.0; STATIC];
    for text in background::PROMPTS {
        let vector = base.read(&focus(text), |reading| unit(&reading.focus.dense[..STATIC]));
        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value / background::PROMPTS.len() as f32);
    }
    sum
}

/// Tier 0's vector of a text, less what all prompts have in common.
fn foreground(features: &Features, background: &[f32]) -> Vec<f32> {
    let mut vector = unit(&features.dense[..STATIC]);
    vector.iter_mut().zip(background).for_each(|(value, common)| *value -= common);
    unit(&vector)
}

fn check(sets: &[(String, Vec<String>)]) -> Result<(), Error> {
    let fail = |reason: String| Err(Error::Policy(format!("examples: {reason}")));
    if sets.is_empty() {
        return fail("there is no label".into());
    }
    for (at, (label, texts)) in sets.iter().enumerate() {
        if label.trim().is_empty() {
            return fail(format!("label {} is empty", at + 1));
        }
        if sets[..at].iter().any(|(known, _)| known == label) {
            return fail(format!("label `{label}` is listed twice"));
        }
        if texts.is_empty() {
            return fail(format!("label `{label}` has no example"));
        }
        for (number, text) in texts.iter().enumerate() {
            if words(text).is_empty() {
                return fail(format!("example {} of `{label}` is empty", number + 1));
            }
        }
    }
    let count: usize = sets.iter().map(|(_, texts)| texts.len()).sum();
    if count > MAX_EXAMPLES {
        return fail(format!(
            "{count} texts, at most {MAX_EXAMPLES} are read; `waypost train` takes any number"
        ));
    }
    Ok(())
}

/// Whether each text stands under one label only.
fn one_owner(sets: &[(String, Vec<String>)]) -> Result<(), Error> {
    let mut owners: HashMap<String, usize> = HashMap::new();
    for (at, (label, texts)) in sets.iter().enumerate() {
        for text in texts {
            let other = owners.insert(words(text), at).filter(|other| *other != at);
            if let Some((other, _)) = other.map(|other| &sets[other]) {
                return Err(Error::Policy(format!(
                    "examples: {text:?} stands under both `{other}` and `{label}`"
                )));
            }
        }
    }
    Ok(())
}

/// The words of a text as both tiers read them: what tells one example from another.
fn words(text: &str) -> String {
    let (mut buffer, mut words) = (String::new(), String::new());
    for_each_word(text, &mut buffer, |word| {
        words.push_str(word.text);
        words.push(' ');
    });
    words
}

#[cfg(test)]
mod tests;
