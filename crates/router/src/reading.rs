//! Before a replica is picked: the prompt as the engines' caches know it, in tokens and hashed blocks.
//!
//! Done only for pools whose choice looks at prompts. Short ones are encoded where they are, long ones on threads of their
//! own within a time limit; when that fails, the choice goes by load alone and says so. Called by both doors.

use crate::decision::millis;
use crate::error::Error;
use crate::offload::{Offload, Undone};
use crate::placing::Placing;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use waypost_config::{Model, ModelIndex, Snapshot};
use waypost_picker::hash;
use waypost_tokens::{Encoded, Tokenizer};
use waypost_wire::RequestView;

/// Bodies up to this size are encoded on the spot: it takes less than handing them over.
const INLINE_BYTES: usize = 2 * 1024;
/// Longest time for a prompt; some millions of tokens are encoded in it.
const LIMIT: Duration = Duration::from_millis(250);
/// Prompts that may wait for a thread.
const QUEUE_JOBS: usize = 1024;

/// How a prompt's blocks were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// By the model's own tokens.
    Exact,
    /// By the model's own tokens as far as its first image.
    ExactBeforeMedia,
    /// Bytes stand in for tokens: no tokenizer is configured.
    Approximate,
    /// Not at all, so that load alone counts: too many prompts at once.
    Busy,
    /// The same: it took too long.
    Late,
    /// The same: it could not be encoded.
    Failed,
}

impl Reading {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::ExactBeforeMedia => "exact_before_media",
            Self::Approximate => "approximate",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

/// A prompt as a pool's choice sees it.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Hash of each full block together with all before it.
    pub chain: Arc<[u64]>,
    /// Tokens in all.
    pub tokens: u32,
    /// How they were told.
    pub reading: Reading,
    /// Milliseconds it took.
    pub ms: f64,
}

/// The tokenizers of all models, in step with the snapshot's.
#[derive(Debug)]
pub struct Tokenizers {
    of: Vec<Option<Arc<Folder>>>,
    offload: Arc<Offload<()>>,
}

/// One folder's.
#[derive(Debug)]
struct Folder {
    folder: Arc<Path>,
    /// When its newest file was written: tells whether it must be read again.
    written: Option<SystemTime>,
    tokenizer: Tokenizer,
}

impl Tokenizers {
    /// Reads what the models of `snapshot` need; what `previous` has and has not changed is kept.
    ///
    /// # Errors
    /// Naming the model and the file that cannot be used.
    pub fn load(snapshot: &Snapshot, previous: Option<&Self>) -> Result<Self, Error> {
        let mut of: Vec<Option<Arc<Folder>>> = Vec::with_capacity(snapshot.models.len());
        for model in &snapshot.models {
            let folder = model.picking.tokenizer.as_ref().filter(|_| model.picking.reads_prompts());
            let loaded = match folder {
                Some(folder) => Some(one(model, folder, of.iter().flatten(), previous)?),
                None => None,
            };
            of.push(loaded);
        }
        let offload = previous.map_or_else(offload, |previous| Arc::clone(&previous.offload));
        Ok(Self { of, offload })
    }

    /// What a model's tokenizer is and how its cache does.
    #[must_use]
    pub fn stats(&self, model: ModelIndex) -> Option<waypost_tokens::Stats> {
        self.of.get(model)?.as_ref().map(|loaded| loaded.tokenizer.stats())
    }

    /// The prompt of a request to `model`, whose index is `index`.
    pub async fn read(
        &self,
        index: ModelIndex,
        model: &Model,
        Placing { view, body, name, .. }: &Placing<'_>,
    ) -> Prompt {
        let start = Instant::now();
        let (encoded, reading) = match self.encode(index, view, body).await {
            Ok(encoded) => encoded,
            Err(reading) => {
                // Its length still counts as load.
                let tokens = view.text_bytes / waypost_tokens::BYTES_PER_PSEUDO_TOKEN;
                let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
                return Prompt { chain: Arc::default(), tokens, reading, ms: millis(start.elapsed()) };
            }
        };
        let salt = view.cache_salt.map(|salt| salt.decode()).unwrap_or_default();
        let adapter = model.adapter(*name).unwrap_or_default();
        let tokens = u32::try_from(encoded.ids.len()).unwrap_or(u32::MAX);
        let seed = hash::seed(adapter, &salt);
        let block_size = model.picking.block_size as usize;
        let locals = hash::local_hashes(&encoded.ids, block_size, seed, &media(&encoded));
        Prompt { chain: hash::chain(&locals).into(), tokens, reading, ms: millis(start.elapsed()) }
    }

    async fn encode(
        &self,
        model: ModelIndex,
        view: &RequestView<'_>,
        body: &Bytes,
    ) -> Result<(Encoded, Reading), Reading> {
        let exact = |encoded: Encoded| {
            let reading = if encoded.media.is_empty() { Reading::Exact } else { Reading::ExactBeforeMedia };
            Ok((encoded, reading))
        };
        let is_chat = view.messages.is_some();
        let Some(loaded) = self.of.get(model).and_then(Option::as_ref) else {
            // Ids are exact whatever is known of the model.
            return match (!is_chat).then(|| waypost_tokens::given_ids(body)).flatten() {
                Some(ids) => exact(Encoded { ids, ..Encoded::default() }),
                None => Ok((waypost_tokens::estimate(view, body), Reading::Approximate)),
            };
        };
        let encode = move |tokenizer: &Tokenizer, body: &[u8]| match is_chat {
            true => tokenizer.chat(body),
            false => tokenizer.completion(body),
        };
        let done = if body.len() <= INLINE_BYTES {
            Ok(encode(&loaded.tokenizer, body))
        } else {
            let (loaded, body) = (Arc::clone(loaded), body.clone());
            self.offload.run(LIMIT, move |()| encode(&loaded.tokenizer, &body)).await
        };
        match done {
            Ok(Ok(encoded)) => exact(encoded),
            // The engine will say what is wrong with the request.
            Ok(Err(_)) | Err(Undone::Failed | Undone::Off) => Err(Reading::Failed),
            Err(Undone::Busy) => Err(Reading::Busy),
            Err(Undone::Late) => Err(Reading::Late),
        }
    }
}

/// The threads for long prompts.
fn offload() -> Arc<Offload<()>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Arc::new(Offload::new("tokens", cores.div_ceil(2), QUEUE_JOBS, || Some(())))
}

fn media(encoded: &Encoded) -> Vec<hash::Media> {
    encoded.media.iter().map(|(at, hash)| hash::Media { tokens: *at..at + 1, hash: *hash }).collect()
}

fn one<'a>(
    model: &Model,
    folder: &Arc<Path>,
    mut here: impl Iterator<Item = &'a Arc<Folder>>,
    previous: Option<&Tokenizers>,
) -> Result<Arc<Folder>, Error> {
    if let Some(known) = here.find(|known| known.folder == *folder) {
        return Ok(Arc::clone(known));
    }
    let written = written(folder);
    let before = previous.and_then(|p| p.of.iter().flatten().find(|known| known.folder == *folder));
    if let Some(known) = before.filter(|known| written.is_some() && known.written == written) {
        return Ok(Arc::clone(known));
    }
    let tokenizer = Tokenizer::load(folder)
        .map_err(|source| Error::Tokenizer { model: Arc::clone(&model.name), source })?;
    Ok(Arc::new(Folder { folder: Arc::clone(folder), written, tokenizer }))
}

/// When the newest file of a folder was written, or the file itself.
fn written(path: &Path) -> Option<SystemTime> {
    let of = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().filter_map(|entry| of(&entry.path())).max(),
        Err(_) => of(path),
    }
}
