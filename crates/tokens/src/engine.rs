//! Two encoders of one tokenizer file: a fast one, and the reference that it must agree with.
//!
//! At load both encode the probe texts and every entry of the vocabulary. One difference, and the
//! reference does the work: right comes before fast. Called by the tokenizer; never sees a request, only
//! its text.

use crate::error::Error;
use crate::probes;
use kitoken::Kitoken;
use tokenizers::{ModelWrapper, Tokenizer as Reference};

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
    /// Where the fast encoder is known to differ: it makes one of several unknown tokens in a row, written
    /// out or not. A text that writes one goes to the reference.
    unknown: Option<String>,
}

impl Encoder {
    /// Compares the fast encoder of `json`, the reference's own file, with the reference.
    pub(crate) fn new(reference: Reference, json: &[u8]) -> Self {
        let unknown = match reference.get_model() {
            ModelWrapper::BPE(bpe) => bpe.get_unk_token().clone().filter(|token| !token.is_empty()),
            _ => None,
        };
        let fast = convert(json).and_then(|fast| agreed(&reference, fast, unknown.as_deref()));
        Self { reference, fast, unknown }
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
        let known = !self.unknown.as_deref().is_some_and(|token| text.contains(token));
        if let Ok(fast) = &self.fast
            && known
        {
            return fast.encode(text, true).map_err(|e| Error::Tokenizer(e.to_string()));
        }
        reference_ids(&self.reference, text).map_err(Error::Tokenizer)
    }
}

fn reference_ids(reference: &Reference, text: &str) -> Result<Vec<u32>, String> {
    let encoding = reference.encode_fast(text, false).map_err(|e| e.to_string())?;
    Ok(encoding.get_ids().to_vec())
}

/// Files that make the converter panic are merely files that it cannot read.
fn convert(json: &[u8]) -> Result<Kitoken, String> {
    match std::panic::catch_unwind(|| Kitoken::from_tokenizers_slice(json)) {
        Ok(Ok(fast)) => Ok(fast),
        Ok(Err(e)) => Err(format!("kitoken cannot read the file: {e}")),
        Err(_) => Err("kitoken panics on the file".to_owned()),
    }
}

/// Hands `fast` back if it agrees with the reference on all probes that do not hold `unknown`.
fn agreed(reference: &Reference, fast: Kitoken, unknown: Option<&str>) -> Result<Kitoken, String> {
    let added = reference.get_added_tokens_decoder();
    let added = added.values().map(|token| token.content.as_str());
    let added: Vec<&str> = added.filter(|token| Some(*token) != unknown).collect();
    for probe in probes::texts(&added) {
        compare(reference, &fast, &probe, "probe")?;
    }
    // A token that merges cannot reach is encoded in pieces by one encoder and whole by the other.
    for id in 0..u32::try_from(reference.get_vocab_size(true)).unwrap_or(u32::MAX) {
        let text = reference.decode(&[id], false).unwrap_or_default();
        if !unknown.is_some_and(|unknown| text.contains(unknown)) {
            compare(reference, &fast, &text, "vocabulary entry")?;
        }
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
