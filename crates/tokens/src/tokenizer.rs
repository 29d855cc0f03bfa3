//! A loaded model's tokenizer: a request in, the ids that its engine will see out.
//!
//! Synchronous, shared by all threads, no I/O after the load. Called by the router for endpoints whose
//! prefix cache is worth knowing; on an error it falls back to [`crate::estimate`].

use crate::cache::{Cache, CacheStats, DEFAULT_CACHE_BYTES};
use crate::cuts::Cuts;
use crate::engine::{Encoder, Engine};
use crate::error::Error;
use crate::load;
use crate::request::ChatRequest;
use crate::template::{MAX_TEXT_BYTES, Templates};
use serde::Deserialize;
use std::borrow::Cow;
use std::path::Path;

/// Largest request body, in bytes. Images make bodies long, text is bounded by [`MAX_TEXT_BYTES`].
pub const MAX_BODY_BYTES: usize = 64 << 20;
/// Media whose place among the ids is looked for; later ones are said to stand where the last of these does.
const MAX_PLACED_MEDIA: usize = 8;

/// A prompt in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, or the pseudo tokens of [`crate::estimate`].
    pub ids: Vec<u32>,
    /// Images and other media in order: the index in `ids` at or before which each stands, and a hash of
    /// what identifies it. Ids before the first are exact. Those after it are not the engine's, which puts
    /// as many tokens there as the model's image processor says, but equal prompts have equal ones.
    pub media: Vec<(usize, u64)>,
    /// How many bytes of the prompt's text were not encoded anew.
    pub cached_bytes: usize,
}

/// What a tokenizer is and how its cache does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The encoder in use.
    pub engine: Engine,
    /// True if pieces of text are cached at all; this tokenizer may allow no safe cuts.
    pub caches: bool,
    /// The cache.
    pub cache: CacheStats,
}

/// One model's tokenizer.
pub struct Tokenizer {
    encoder: Encoder,
    templates: Option<Templates>,
    cuts: Cuts,
    cache: Cache,
    /// What the post-processor puts before and after a completion's prompt.
    before: Vec<u32>,
    after: Vec<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Loads a model's folder, or its `tokenizer.json` with the files beside it. Takes about a second for a
    /// vocabulary of 100 000 entries.
    ///
    /// # Errors
    /// [`Error::File`], naming the file that does not fit.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_with_cache(path, DEFAULT_CACHE_BYTES)
    }

    /// [`Self::load`] with a cache of about `cache_bytes`; 0 for none.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with_cache(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        let files = load::read(path)?;
        let templates = Templates::new(files.templates, files.specials, &files.source)?;
        let encoder = Encoder::new(files.reference, &files.json);
        let cuts = if cache_bytes == 0 { Cuts::none() } else { Cuts::new(encoder.reference(), &files.json) };
        let cuts = cuts.checked(&encoder);
        let (before, after) = added_around(&encoder)?;
        Ok(Self { encoder, templates, cuts, cache: Cache::new(cache_bytes), before, after })
    }

    /// The prompt of a chat completion request.
    ///
    /// # Errors
    /// [`Error::Request`] and [`Error::TooLong`] for this request, [`Error::Tokenizer`] for any.
    pub fn chat(&self, body: &[u8]) -> Result<Encoded, Error> {
        within_limit("the body", body.len(), MAX_BODY_BYTES)?;
        let templates = self.templates.as_ref();
        let templates = templates.ok_or_else(|| Error::Tokenizer("it has no chat template".to_owned()))?;
        let request = ChatRequest::parse(body)?;
        let (text, media) = templates.render(&request, None)?;
        let around = request.add_special_tokens == Some(true);
        let mut encoded = self.text(&text, around)?;
        let mut place = 0;
        for (n, hash) in media.into_iter().enumerate() {
            if n < MAX_PLACED_MEDIA {
                place = match templates.render(&request, Some(n)) {
                    Ok((before, _)) => common(&self.text(&before, around)?.ids, &encoded.ids).max(place),
                    // A template may refuse half a conversation.
                    Err(_) => place,
                };
            }
            encoded.media.push((place, hash));
        }
        Ok(encoded)
    }

    /// The prompt of a completion request. Of several prompts the first counts.
    ///
    /// # Errors
    /// As [`Self::chat`].
    pub fn completion(&self, body: &[u8]) -> Result<Encoded, Error> {
        within_limit("the body", body.len(), MAX_BODY_BYTES)?;
        let request: CompletionRequest<'_> = serde_json::from_slice(body).map_err(Error::request)?;
        let around = request.add_special_tokens != Some(false);
        let empty = || Error::request("it has an empty list of prompts");
        let ids = match request.prompt {
            Prompt::Text(text) => return self.text(&text, around),
            Prompt::Texts(texts) => return self.text(texts.first().ok_or_else(empty)?, around),
            Prompt::Ids(ids) => ids,
            Prompt::ManyIds(many) => many.into_iter().next().ok_or_else(empty)?,
        };
        within_limit("the prompt", size_of_val(ids.as_slice()), 4 * MAX_TEXT_BYTES)?;
        Ok(Encoded { ids, ..Encoded::default() })
    }

    /// The ids of `text`, with what the post-processor puts around it if `around` is set.
    ///
    /// # Errors
    /// [`Error::TooLong`] and [`Error::Tokenizer`].
    pub fn text(&self, text: &str, around: bool) -> Result<Encoded, Error> {
        within_limit("the prompt", text.len(), MAX_TEXT_BYTES)?;
        let mut ids = Vec::with_capacity(text.len() / 4 + 8);
        let mut cached_bytes = 0;
        if around {
            ids.extend_from_slice(&self.before);
        }
        let mut pieces = self.cuts.pieces(text).peekable();
        while let Some((piece, after_cut)) = pieces.next() {
            let encode = || self.cuts.encode(&self.encoder, piece, after_cut);
            // The last piece ends where no cut is: it will be longer in the next turn.
            if pieces.peek().is_none() {
                ids.extend(encode()?);
                break;
            }
            let (found, kept) = self.cache.get(piece, after_cut, encode)?;
            ids.extend_from_slice(&found);
            cached_bytes += if kept { piece.len() } else { 0 };
        }
        if around {
            ids.extend_from_slice(&self.after);
        }
        Ok(Encoded { ids, media: Vec::new(), cached_bytes })
    }

    /// What encodes, and how the cache does.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { engine: self.encoder.engine(), caches: self.cuts.any(), cache: self.cache.stats() }
    }
}

#[derive(Deserialize)]
pub(crate) struct CompletionRequest<'a> {
    #[serde(borrow)]
    pub(crate) prompt: Prompt<'a>,
    #[serde(default)]
    add_special_tokens: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Prompt<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Ids(Vec<u32>),
    Texts(#[serde(borrow)] Vec<Cow<'a, str>>),
    ManyIds(Vec<Vec<u32>>),
}

fn within_limit(what: &'static str, bytes: usize, limit: usize) -> Result<(), Error> {
    if bytes > limit { Err(Error::TooLong { what, limit }) } else { Ok(()) }
}

/// How many ids both begin with.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The ids before and after a text that asks for special tokens.
fn added_around(encoder: &Encoder) -> Result<(Vec<u32>, Vec<u32>), Error> {
    const TEXT: &str = "a";
    let failed = |e: tokenizers::Error| Error::Tokenizer(e.to_string());
    let plain = encoder.reference().encode_fast(TEXT, false).map_err(failed)?;
    let around = encoder.reference().encode_fast(TEXT, true).map_err(failed)?;
    let (plain, around) = (plain.get_ids(), around.get_ids());
    let at = (0..=around.len().saturating_sub(plain.len())).find(|&at| around[at..].starts_with(plain));
    let at = at.ok_or_else(|| Error::Tokenizer("its post-processor changes the text's ids".to_owned()))?;
    Ok((around[..at].to_vec(), around[at + plain.len()..].to_vec()))
}
