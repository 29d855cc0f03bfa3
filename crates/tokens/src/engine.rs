//! Two encoders of one tokenizer file: a fast one, and the reference that it must agree with.
//!
//! At load both encode the probe texts and every entry of the vocabulary. One difference, and the
//! reference does the work: right comes before fast. Called by the tokenizer; never sees a request, only
//! its text.

use crate::error::Error;
use crate::probes;
use kitoken::Kitoken;
use tokenizers::Tokenizer as Reference;

/// Which encoder does the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// `kitoken`, which agreed with the reference on every probe.
    Fast,
    /// Hugging Face `tokenizers`, about four times slower.
    Reference {
        /// Why the fast one may not be used.
        why: String,
    },
}

/// The encoders of one tokenizer file.
#[derive(Debug)]
pub(crate) struct Encoder {
    reference: Reference,
    fast: Result<Kitoken, String>,
}

impl Encoder {
    /// Compares the fast encoder of `json`, the reference's own file, with the reference.
    pub(crate) fn new(reference: Reference, json: &[u8]) -> Self {
        let fast = Kitoken::from_tokenizers_slice(json)
            .map_err(|e| format!("kitoken cannot read the file: {e}"))
            .and_then(|fast| agreed(&reference, fast));
        Self { reference, fast }
    }

    pub(crate) fn engine(&self) -> Engine {
        match &self.fast {
            Ok(_) => Engine::Fast,
            Err(why) => Engine::Reference { why: why.clone() },
        }
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The ids of `text`, special tokens in it recognised, none added.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        if let Ok(fast) = &self.fast {
            return fast.encode(text, true).map_err(|e| Error::Tokenizer(e.to_string()));
        }
        reference_ids(&self.reference, text).map_err(Error::Tokenizer)
    }
}

fn reference_ids(reference: &Reference, text: &str) -> Result<Vec<u32>, String> {
    let encoding = reference.encode_fast(text, false).map_err(|e| e.to_string())?;
    Ok(encoding.get_ids().to_vec())
}

/// Hands `fast` back if it agrees with the reference on all probes.
fn agreed(reference: &Reference, fast: Kitoken) -> Result<Kitoken, String> {
    let added = reference.get_added_tokens_decoder();
    let added: Vec<&str> = added.values().map(|token| token.content.as_str()).collect();
    for probe in probes::texts(&added) {
        compare(reference, &fast, &probe, "probe")?;
    }
    // A token that merges cannot reach is encoded in pieces by one encoder and whole by the other.
    for id in 0..u32::try_from(reference.get_vocab_size(true)).unwrap_or(u32::MAX) {
        let text = reference.decode(&[id], false).unwrap_or_default();
        compare(reference, &fast, &text, "vocabulary entry")?;
    }
    Ok(fast)
}

fn compare(reference: &Reference, fast: &Kitoken, text: &str, what: &str) -> Result<(), String> {
    let same = match (reference_ids(reference, text), fast.encode(text, true)) {
        (Ok(expected), Ok(found)) => expected == found,
        (Err(_), Err(_)) => true,
        _ => false,
    };
    if same { Ok(()) } else { Err(format!("kitoken differs on the {what} {text:?}")) }
}
