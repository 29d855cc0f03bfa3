//! What the user wrote, checked into an immutable [`Snapshot`].
//!
//! One set of structs (`file`) gives parsing, the JSON schema and the table in `docs/configuration.md`.
//! Both forms load: Waypost's own and the NVIDIA LLM Router v1 `policies:` file. Nothing here touches
//! the network; only [`load_file`] reads a file and the environment. Called by the binary and by tests.

mod auto;
mod classifiers;
mod conversations;
mod decisions;
mod endpoints;
mod error;
mod ext_proc;
mod file;
mod guard;
mod intent;
mod labels;
mod leaf;
mod models;
mod nearest;
mod picking;
mod policies;
mod public;
mod raw;
mod reasoning;
mod resolve;
mod schema;
mod snapshot;
mod substitute;
mod v1;

use std::io::Read;
use std::path::Path;

pub use endpoints::MAX_ENDPOINTS;
pub use error::{Error, without_position};
pub use intent::{Guided, Intent, IntentRoute, OTHER, fold};
pub use leaf::parse_size;
pub use nearest::hint;
pub use schema::{docs_table, json_schema};
pub use snapshot::*;
pub use substitute::literal;

/// Largest configuration file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Loads a configuration from its text. `source_name` is the file name shown in errors; `env` looks
/// up the variables that `${NAME}` refers to. Relative paths start at the working directory.
///
/// # Errors
/// The first thing that is wrong, with its line and column.
pub fn load_str(
    text: &str,
    source_name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Snapshot, Error> {
    load_in(text, source_name, env, Path::new(""))
}

/// `folder` is where relative paths in the text start.
fn load_in(
    text: &str,
    source_name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    folder: &Path,
) -> Result<Snapshot, Error> {
    file::parse(text)
        .and_then(|file| resolve::resolve(&file, env, folder))
        .map_err(|fault| Error::at(source_name, text, fault))
}

/// Loads a configuration file with the variables of this process.
///
/// # Errors
/// What [`read_file`] or [`load_str`] says.
pub fn load_file(path: &Path) -> Result<Snapshot, Error> {
    load_text(path, &read_file(path)?)
}

/// Loads the text of the file at `path` with the variables of this process. Relative paths in it start at the file's
/// folder.
///
/// # Errors
/// What [`load_str`] says.
pub fn load_text(path: &Path, text: &str) -> Result<Snapshot, Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    load_in(text, &path.display().to_string(), &|variable| std::env::var(variable).ok(), folder)
}

/// Reads a configuration file.
///
/// # Errors
/// The file cannot be read, is larger than [`MAX_FILE_BYTES`], or is not UTF-8.
pub fn read_file(path: &Path) -> Result<String, Error> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|source| Error::read(&name, "cannot be opened", source))?;
    let mut text = String::new();
    // One byte over the limit tells "too large" from "just fits" without trusting file metadata.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|source| Error::read(&name, "cannot be read", source))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::whole_file(&name, format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}
