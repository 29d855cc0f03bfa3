//! What can go wrong, and whose doing it is.
//!
//! Texts of requests never stand in a message, file names and template messages do. Raised by every
//! module here; the router falls back to [`crate::estimate`] on any of them.

/// Why there are no token ids.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the model does not fit; nothing was loaded.
    #[error("{file}: {what}")]
    File {
        /// The file or folder.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// The request, or the text that it becomes, is longer than this crate encodes.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its limit, in bytes.
        limit: usize,
    },
    /// The client's request has no place in the chat template; the engine will refuse it as well.
    #[error("the request cannot be templated: {0}")]
    Request(String),
    /// The tokenizer or its template is broken, whatever the request.
    #[error("the tokenizer cannot encode: {0}")]
    Tokenizer(String),
}

impl Error {
    /// True when the client's request is the reason, not the tokenizer.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self, Self::Request(_) | Self::TooLong { .. })
    }

    pub(crate) fn request(what: impl std::fmt::Display) -> Self {
        /// Longest message of a template that is passed on, in bytes.
        const MAX_MESSAGE_BYTES: usize = 300;
        let mut text = what.to_string();
        text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
        Self::Request(text)
    }
}
