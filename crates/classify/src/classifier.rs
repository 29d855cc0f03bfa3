//! The classifier itself: features of the focus, one head, and the context when the focus cannot stand alone.
//!
//! Never touches the network or a file: the models are part of the binary and used where they lie. Called by the router
//! on every request, from many threads at once.

use std::cell::RefCell;

use crate::calibrate::argmax;
use crate::cues;
use crate::error::Error;
use crate::features::{Features, Featuriser, Scratch};
use crate::head::{LinearHead, Logits, MAX_OUTPUTS};
use crate::prompt::{Head, Prompt, Verdict};

static VOCAB: &[u8] = include_bytes!("../../../models/vocab.txt");
static TABLE: &[u8] = include_bytes!("../../../models/static.safetensors");
static TASK: &[u8] = include_bytes!("../../../models/task.safetensors");
static COMPLEXITY: &[u8] = include_bytes!("../../../models/complexity.safetensors");

/// Probability given to "this says nothing" when the rule fires; the rest is shared evenly.
const CONTENTLESS_CONFIDENCE: f32 = 0.9;
/// Words from which a focus stands on its own.
const SELF_CONTAINED_WORDS: usize = 14;
/// Most weight the context may take.
const MAX_CONTEXT_WEIGHT: f32 = 0.75;

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

#[derive(Debug, Default)]
struct Buffers {
    scratch: Scratch,
    focus: Features,
    context: Features,
}

/// Both heads over one featuriser. Share it by reference; it has no state.
#[derive(Debug)]
pub struct Classifier {
    featuriser: Featuriser,
    task: LinearHead,
    complexity: LinearHead,
}

impl Classifier {
    /// Opens the models embedded in the binary.
    ///
    /// # Errors
    /// If one of them is damaged or belongs to another build; the error names the file.
    pub fn embedded() -> Result<Self, Error> {
        Ok(Self {
            featuriser: Featuriser::open(VOCAB, TABLE)?,
            task: LinearHead::open(Head::Task, "task.safetensors", TASK)?,
            complexity: LinearHead::open(Head::Complexity, "complexity.safetensors", COMPLEXITY)?,
        })
    }

    /// Classifies a prompt. Takes tens of microseconds for a short one, below a millisecond for any.
    pub fn classify(&self, head: Head, prompt: &Prompt<'_>) -> Verdict {
        BUFFERS.with_borrow_mut(|buffers| self.classify_with(buffers, head, prompt))
    }

    fn classify_with(&self, buffers: &mut Buffers, head: Head, prompt: &Prompt<'_>) -> Verdict {
        let linear = match head {
            Head::Task => &self.task,
            Head::Complexity => &self.complexity,
        };
        let Buffers { scratch, focus, context } = buffers;
        self.featuriser.run(prompt.focus, scratch, focus);
        let mut logits = linear.logits(focus);
        let mut silent = focus.contentless;
        let weight = context_weight(focus);
        if weight > 0.0 && !prompt.context.trim().is_empty() {
            self.featuriser.run(prompt.context, scratch, context);
            if !context.contentless {
                // An empty focus has nothing to say; anything typed, even noise, is judged for itself.
                let weight = if prompt.focus.trim().is_empty() { 1.0 } else { weight };
                logits = blend(&logits, &linear.logits(context), weight);
                silent = silent && weight < 1.0;
            }
        }
        let probabilities = if silent { contentless(head) } else { linear.probabilities(&logits) };
        let label = argmax(&probabilities);
        let counted = head == Head::Complexity;
        Verdict {
            label,
            confidence: probabilities[label],
            probabilities,
            difficulty: if silent { counted.then_some(0.0) } else { linear.difficulty(&logits) },
            few_shots: counted.then_some(focus.few_shots),
            constraints: counted.then_some(focus.constraints),
        }
    }
}

/// How much the context counts: nothing for a focus that is long or asks something of its own, most for a short one that
/// points back ("now in French", "shorter please", "yes").
fn context_weight(focus: &Features) -> f32 {
    if focus.words >= SELF_CONTAINED_WORDS {
        return 0.0;
    }
    let points_back = focus.cue_counts[cues::CONTINUE] > 0;
    let asks = focus.verb >> cues::QUESTION & 1 == 1;
    let brevity = 1.0 - focus.words as f32 / SELF_CONTAINED_WORDS as f32;
    let lean = match (points_back, asks) {
        (true, false) => 1.0,
        (true, true) => 0.4,
        (false, false) => 0.3,
        (false, true) => 0.1,
    };
    MAX_CONTEXT_WEIGHT * lean * brevity.sqrt()
}

fn blend(focus: &Logits, context: &Logits, weight: f32) -> Logits {
    let mut out = [0.0; MAX_OUTPUTS];
    for (out, (f, c)) in out.iter_mut().zip(focus.iter().zip(context)) {
        *out = f * (1.0 - weight) + c * weight;
    }
    out
}

fn contentless(head: Head) -> Vec<f32> {
    let labels = head.labels().len();
    let mut out = vec![(1.0 - CONTENTLESS_CONFIDENCE) / (labels - 1) as f32; labels];
    out[head.contentless()] = CONTENTLESS_CONFIDENCE;
    out
}
