//! The one error type of this crate.
//!
//! Either the client's image cannot be used, which its request is to blame for, or a model's files cannot, which its
//! owner sees at load. No error quotes an image or a prompt.

/// Why an image, a model or a vector cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image stands elsewhere.
    #[error("the image is an http URL; Waypost never fetches images: send it as a `data:` URL")]
    Remote,
    /// The image's URL has another form than `data:TYPE;base64,BYTES`.
    #[error("the image is not a `data:` URL: {0}")]
    NotData(&'static str),
    /// Another media type than those that can be read.
    #[error("images of type `{0}` are not supported; PNG, JPEG, WebP and GIF are")]
    MediaType(String),
    /// The image's bytes are not base64.
    #[error("the image's base64 is broken: {0}")]
    Base64(base64::DecodeError),
    /// The bytes are not an image of a supported type.
    #[error("the image is broken: {0}")]
    Broken(String),
    /// The image is past a limit.
    #[error("the image is too large: {0}")]
    TooLarge(String),
    /// A model's file cannot be used.
    #[error("{file}: {reason}")]
    Model {
        /// Which file, as the user knows it.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model's file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file concerned.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The vector given to a network does not fit it.
    #[error("the network's input: {0}")]
    Input(String),
    /// The matrix kernels refused to run.
    #[error("matrix kernel: {0}")]
    Kernel(String),
}

impl Error {
    /// Whether the image that a client sent is to blame, rather than a model or its files.
    pub fn is_image(&self) -> bool {
        match self {
            Self::Remote
            | Self::NotData(_)
            | Self::MediaType(_)
            | Self::Base64(_)
            | Self::Broken(_)
            | Self::TooLarge(_) => true,
            Self::Model { .. } | Self::Io { .. } | Self::Input(_) | Self::Kernel(_) => false,
        }
    }

    pub(crate) fn model(file: &str, reason: impl Into<String>) -> Self {
        Self::Model { file: file.to_owned(), reason: reason.into() }
    }

    pub(crate) fn io(file: &str, source: std::io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }
}
