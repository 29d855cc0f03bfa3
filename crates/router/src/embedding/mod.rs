//! Texts and images to vectors: by a CLIP model in this process, or by a server.
//!
//! Images come as `data:` URLs and are never fetched; whatever goes wrong is told, so that the policy can take its
//! default. Called by auto policies whose network wants vectors.

mod http;

use self::http::Server;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use waypost_config::{Embedding, EmbeddingKind};
use waypost_vision::{Clip, Error as VisionError, check, decode};
use waypost_wire::{ApiError, Code};

/// A way to vectors, ready for requests.
#[derive(Debug)]
pub(crate) struct Embedder {
    /// What it was made of.
    pub(crate) settings: Embedding,
    way: Way,
    /// What its files were when they were read.
    stamp: Option<(u64, SystemTime)>,
    /// Arithmetic on images and texts under way: as much as half the cores can do.
    room: Arc<Semaphore>,
    questions: Semaphore,
}

#[derive(Debug)]
enum Way {
    Clip(Arc<Clip>),
    Server(Server),
}

/// Requests to a server that are under way at once; more wait, each within its own deadline.
const MAX_QUESTIONS: usize = 32;

/// The vectors of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vectors {
    pub(crate) text: Vec<f32>,
    pub(crate) image: Option<Vec<f32>>,
}

impl Embedder {
    /// Loads what runs in this process; a server is not asked yet.
    ///
    /// # Errors
    /// When a CLIP folder cannot be used; the error names the file.
    pub(crate) fn load(settings: &Embedding) -> Result<Self, VisionError> {
        let way = match &settings.kind {
            EmbeddingKind::Folder(folder) => Way::Clip(Arc::new(Clip::open(folder)?)),
            EmbeddingKind::OpenAi { url, model, api_key } => Way::Server(Server::openai(url, model, api_key)),
            EmbeddingKind::Jina { base } => Way::Server(Server::jina(base)),
        };
        let half = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Ok(Self {
            settings: settings.clone(),
            way,
            stamp: stamp(settings),
            room: Arc::new(Semaphore::new(half)),
            questions: Semaphore::new(MAX_QUESTIONS),
        })
    }

    /// Whether it is still what `settings` ask for: the same, and the same files.
    pub(crate) fn serves(&self, settings: &Embedding) -> bool {
        self.settings == *settings && self.stamp == stamp(settings)
    }

    /// Numbers a vector of text has, where that is known before asking.
    pub(crate) fn dims(&self) -> Option<usize> {
        match &self.way {
            Way::Clip(model) => Some(model.dims()),
            Way::Server(_) => None,
        }
    }

    /// The vectors of a text and of an image, given as a URL, within `timeout`.
    ///
    /// # Errors
    /// When the image is not one that can be read, or the vectors cannot be had in time.
    pub(crate) async fn vectors(
        &self,
        text: String,
        image: Option<String>,
        timeout: Duration,
    ) -> Result<Vectors, ApiError> {
        let late = |_| {
            let message = format!("The embeddings were not there within {} ms.", timeout.as_millis());
            Err(ApiError::new(Code::ClassifierUnavailable, message))
        };
        tokio::time::timeout(timeout, self.ask(text, image)).await.unwrap_or_else(late)
    }

    async fn ask(&self, text: String, image: Option<String>) -> Result<Vectors, ApiError> {
        match &self.way {
            Way::Clip(model) => {
                let model = Arc::clone(model);
                self.compute(move || {
                    let image = image.map(|url| decode(&url)).transpose()?;
                    let image = image.map(|image| model.image(&image)).transpose()?;
                    Ok(Vectors { text: model.text(&text)?, image })
                })
                .await
            }
            Way::Server(server) => {
                // A server must not be sent what is no image within limits, nor an address it might fetch.
                let image = match image {
                    Some(url) => Some(self.compute(move || check(&url).map(|()| url)).await?),
                    None => None,
                };
                let _question = self.questions.acquire().await.map_err(|_| broke("is closed"))?;
                server.vectors(&text, image.as_deref()).await
            }
        }
    }

    /// Does what takes milliseconds away from the event loop. The work keeps its room until it is done, also when
    /// nobody waits for it any more.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, VisionError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| broke("is closed"))?;
        let work = move || {
            let _room = room;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(|_| broke("broke"))?;
        done.map_err(|error| refuse(&error))
    }
}

fn broke(what: &str) -> ApiError {
    ApiError::new(Code::Internal, format!("The embedding {what}."))
}

/// Size and time of a CLIP folder's weights; nothing for a server.
fn stamp(settings: &Embedding) -> Option<(u64, SystemTime)> {
    let EmbeddingKind::Folder(folder) = &settings.kind else { return None };
    let file = std::fs::metadata(folder.join("model.safetensors")).ok()?;
    Some((file.len(), file.modified().ok()?))
}

fn refuse(error: &VisionError) -> ApiError {
    match error.is_image() {
        true => ApiError::new(Code::InvalidImage, format!("The image cannot be used for routing: {error}.")),
        false => ApiError::new(Code::Internal, format!("The embedding failed: {error}.")),
    }
}
