//! Texts and images to vectors: by a CLIP model in this process, or by a server.
//!
//! Images come as `data:` URLs and are never fetched; whatever goes wrong is told, so that the policy can take its
//! default. Called by auto policies whose network wants vectors.

mod http;

use self::http::Server;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use waypost_config::{Embedding, EmbeddingKind};
use waypost_vision::{Clip, Error as VisionError, decode};
use waypost_wire::{ApiError, Code};

/// A way to vectors, ready for requests.
#[derive(Debug)]
pub(crate) struct Embedder {
    /// What it was made of.
    pub(crate) settings: Embedding,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Clip {
        model: Arc<Clip>,
        /// Encodings under way: as many as half the cores can do.
        room: Semaphore,
    },
    Server(Server),
}

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
            EmbeddingKind::Folder(folder) => {
                let half = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
                Way::Clip { model: Arc::new(Clip::open(folder)?), room: Semaphore::new(half) }
            }
            EmbeddingKind::OpenAi { url, model, api_key } => Way::Server(Server::openai(url, model, api_key)),
            EmbeddingKind::Jina { base } => Way::Server(Server::jina(base)),
        };
        Ok(Self { settings: settings.clone(), way })
    }

    /// Numbers a vector of text has, where that is known before asking.
    pub(crate) fn dims(&self) -> Option<usize> {
        match &self.way {
            Way::Clip { model, .. } => Some(model.dims()),
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
            Way::Clip { model, room } => {
                let broke = |what: &str| ApiError::new(Code::Internal, format!("The embedding {what}."));
                let _room = room.acquire().await.map_err(|_| broke("is closed"))?;
                let model = Arc::clone(model);
                let encode = move || {
                    let image = image.map(|url| decode(&url)).transpose()?;
                    let image = image.map(|image| model.image(&image)).transpose()?;
                    Ok(Vectors { text: model.text(&text)?, image })
                };
                // Milliseconds of arithmetic: not on the event loop.
                let encoded = tokio::task::spawn_blocking(encode).await.map_err(|_| broke("broke"))?;
                encoded.map_err(|error: VisionError| refuse(&error))
            }
            Way::Server(server) => {
                // A server must not be sent what is no image within limits, nor an address it might fetch.
                if let Some(url) = &image {
                    decode(url).map_err(|error| refuse(&error))?;
                }
                server.vectors(&text, image.as_deref()).await
            }
        }
    }
}

fn refuse(error: &VisionError) -> ApiError {
    match error.is_image() {
        true => ApiError::new(Code::InvalidImage, format!("The image cannot be used for routing: {error}.")),
        false => ApiError::new(Code::Internal, format!("The embedding failed: {error}.")),
    }
}
