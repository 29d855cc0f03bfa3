//! Where the running configuration comes from: a file, which may change, or a text that a command has made.
//!
//! Reads, checks and names it; what becomes of it is `serve`'s and `reload`'s matter.

use std::path::{Path, PathBuf};
use waypost_config::{Error, Snapshot};

/// See the module.
#[derive(Debug)]
pub(crate) enum Source {
    /// The user's file.
    File(PathBuf),
    /// A text with the name that errors show for it. Relative paths in it start at the working directory.
    Made(&'static str, String),
}

impl Source {
    /// The text as it is now.
    pub(crate) fn text(&self) -> Result<String, Error> {
        match self {
            Self::File(file) => waypost_config::read_file(file),
            Self::Made(_, text) => Ok(text.clone()),
        }
    }

    /// What a text of this source says.
    pub(crate) fn load(&self, text: &str) -> Result<Snapshot, Error> {
        match self {
            Self::File(file) => waypost_config::load_text(file, text),
            Self::Made(name, _) => waypost_config::load_str(text, name, &|name| std::env::var(name).ok()),
        }
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> &Path {
        match self {
            Self::File(file) => file,
            Self::Made(name, _) => Path::new(name),
        }
    }

    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file),
            Self::Made(..) => None,
        }
    }
}
