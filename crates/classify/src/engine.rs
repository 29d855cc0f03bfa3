//! What all classifiers share: the featuriser, the encoder's weights, and the built-in classifiers.
//!
//! Never touches the network or a file: the models are part of the binary and used where they lie. Called by the router
//! on every request, from many threads at once.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::cues;
use crate::encoder::Encoder;
use crate::error::Error;
use crate::features::{Features, Featuriser, Scratch};
use crate::model::Model;
use crate::prompt::{Builtin, Prompt, Verdict};

static VOCAB: &[u8] = include_bytes!("../../../models/vocab.txt");
static TABLE: &[u8] = include_bytes!("../../../models/static.safetensors");
static ENCODER: &[u8] = include_bytes!("../../../models/encoder.safetensors");
static TASK: &[u8] = include_bytes!("../../../models/task.safetensors");
static COMPLEXITY: &[u8] = include_bytes!("../../../models/complexity.safetensors");
static DOMAIN: &[u8] = include_bytes!("../../../models/domain.safetensors");
static SAFETY: &[u8] = include_bytes!("../../../models/safety.safetensors");

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

/// What tier 0 saw of a prompt: one pass, whatever the number of classifiers that judge it.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    pub(crate) focus: &'a Features,
    /// Earlier text and how much it counts, where it counts.
    pub(crate) context: Option<(&'a Features, f32)>,
}

/// What every classifier is built on: vocabulary, static table, encoder. Share it by reference; it has no state.
#[derive(Debug)]
pub struct Base {
    featuriser: Featuriser,
    encoder: Arc<Encoder>,
}

impl Base {
    /// Opens the parts in the binary.
    ///
    /// # Errors
    /// If one of them is damaged or belongs to another build; the error names the file.
    pub fn embedded() -> Result<Self, Error> {
        Self::open(VOCAB, TABLE, ENCODER)
    }

    /// Opens the parts in the given files, for those who are making new ones.
    ///
    /// # Errors
    /// As [`Base::embedded`].
    pub fn open(vocab: &'static [u8], table: &'static [u8], encoder: &'static [u8]) -> Result<Self, Error> {
        let featuriser = Featuriser::open(vocab, table)?;
        let vocab_crc = format!("{:08x}", crc32fast::hash(vocab));
        let wordpiece = Arc::clone(featuriser.wordpiece());
        let encoder =
            Encoder::open("encoder.safetensors", &Bytes::from_static(encoder), &vocab_crc, wordpiece)?;
        Ok(Self { featuriser, encoder: Arc::new(encoder) })
    }

    pub(crate) fn featuriser(&self) -> &Featuriser {
        &self.featuriser
    }

    /// The encoder's weights, for the threads that run it.
    pub fn encoder(&self) -> &Arc<Encoder> {
        &self.encoder
    }

    /// Reads a prompt once and hands the result to `judge`, which may ask any number of models.
    pub fn read<R>(&self, prompt: &Prompt<'_>, judge: impl FnOnce(Reading<'_>) -> R) -> R {
        BUFFERS.with_borrow_mut(|buffers| {
            let Buffers { scratch, focus, context } = buffers;
            self.featuriser.run(prompt.focus, scratch, focus);
            let mut reading = Reading { focus, context: None };
            let weight = context_weight(focus);
            if weight > 0.0 && !prompt.context.trim().is_empty() {
                self.featuriser.run(prompt.context, scratch, context);
                if !context.contentless {
                    // An empty focus has nothing to say; anything typed, even noise, is judged for itself.
                    let weight = if prompt.focus.trim().is_empty() { 1.0 } else { weight };
                    reading.context = Some((context, weight));
                }
            }
            judge(reading)
        })
    }

    /// Tier 0's verdict on a prompt. Tens of microseconds for a short one, below a millisecond for any.
    pub fn classify(&self, model: &Model, prompt: &Prompt<'_>) -> Verdict {
        self.read(prompt, |reading| model.judge(&reading))
    }

    /// Opens a classifier from the bytes of its file; `shown` is how errors name it.
    ///
    /// # Errors
    /// If the file is damaged, foreign, or made for another encoder.
    pub fn model(&self, shown: &str, bytes: &Bytes) -> Result<Model, Error> {
        Model::open(shown, bytes, self.encoder.fingerprint())
    }
}

/// The base and the built-in classifiers. Share it by reference; it has no state.
#[derive(Debug)]
pub struct Engine {
    base: Base,
    builtin: [Arc<Model>; 4],
    fingerprint: String,
}

impl Deref for Engine {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

impl Engine {
    /// Opens everything that is part of the binary.
    ///
    /// # Errors
    /// If a model is damaged or belongs to another build; the error names the file.
    pub fn embedded() -> Result<Self, Error> {
        let base = Base::embedded()?;
        let open = |builtin: Builtin, bytes: &'static [u8]| {
            let file = format!("{}.safetensors", builtin.name());
            let model = base.model(&file, &Bytes::from_static(bytes))?;
            if !model.labels().iter().map(|l| &**l).eq(builtin.labels().iter().copied()) {
                return Err(Error::model(&file, "has other labels than this build knows"));
            }
            Ok(Arc::new(model))
        };
        let builtin = [
            open(Builtin::Task, TASK)?,
            open(Builtin::Complexity, COMPLEXITY)?,
            open(Builtin::Domain, DOMAIN)?,
            open(Builtin::Safety, SAFETY)?,
        ];
        let checksums = builtin.iter().map(|model| model.checksum());
        let parts: Vec<&str> = std::iter::once(base.encoder.fingerprint()).chain(checksums).collect();
        let fingerprint = parts.join("-");
        Ok(Self { base, builtin, fingerprint })
    }

    /// Tells encoder and built-in classifiers from those of another version: learned outcomes rest on both.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A classifier that came with the binary.
    pub fn builtin(&self, name: Builtin) -> &Arc<Model> {
        &self.builtin[name as usize]
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
