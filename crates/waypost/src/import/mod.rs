//! `waypost import`: another router's configuration as one of Waypost's.
//!
//! Never replaces a file unasked, never drops a setting in silence, and never writes what does not load. Called by `main`.

mod node;
mod notes;
mod v2;
mod vsr;
mod write;

use crate::cli::{ImportFrom, Imported};
use crate::error::Error;
use crate::print;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use waypost_classify::Engine;
use waypost_config::{Snapshot, literal};
use waypost_router::Loaded;

pub(crate) fn run(from: &ImportFrom) -> Result<(), Error> {
    match from {
        ImportFrom::NvidiaV2(options) => import(
            &options.imported,
            |_| Ok(()),
            |text| match v2::read(text) {
                Ok(read) => {
                    let config = write::config(&read, options.network.as_deref());
                    (read.notes.into_iter().chain([write::AZURE_NOTE.to_owned()]).collect(), Ok(config))
                }
                Err(problem) => (Vec::new(), Err(problem)),
            },
        ),
        ImportFrom::Vsr(imported) => import(imported, builds, |text| {
            let mut notes = notes::Notes::default();
            let config = vsr::read(text, &mut notes).map(|read| vsr::config(&read));
            (notes.lines().collect(), config)
        }),
    }
}

/// Whether regular expressions are such is known when they are built.
fn builds(snapshot: &Snapshot) -> Result<(), Error> {
    Loaded::load(Arc::new(Engine::embedded()?), snapshot, None)?;
    Ok(())
}

/// Reads the file, tells the notes, and writes what `convert` makes of it, if that loads.
fn import(
    options: &Imported,
    whole: impl FnOnce(&Snapshot) -> Result<(), Error>,
    convert: impl FnOnce(&str) -> (Vec<String>, Result<String, String>),
) -> Result<(), Error> {
    let text = waypost_config::read_file(&options.file)?;
    let refused =
        |problem: String| Error::Data(format!("{}: {}", options.file.display(), printable(&problem)));
    let (notes, config) = convert(&text);
    for note in &notes {
        writeln!(std::io::stderr(), "note: {}", printable(note))?;
    }
    let config = config.map_err(refused)?;
    // What variables hold is a matter of the place where it is served, and so is whether files are there.
    waypost_config::load_str(&config, "the configuration made of it", &|name| stand_in(&config, name))
        .map_err(Error::from)
        .and_then(|snapshot| whole(&snapshot))
        .map_err(|error| refused(format!("does not give a configuration that loads: {error}")))?;
    match &options.out {
        None => print(&config),
        Some(path) => save(path, &config, options.force),
    }
}

/// What a variable without a default may hold: it is a whole address, or a piece of one, such as a port.
fn stand_in(config: &str, name: &str) -> Option<String> {
    let written = |form: String| config.contains(&form);
    match (written(format!("${{{name}}}")), written(format!("\"${{{name}}}\""))) {
        (false, _) => None,
        (true, true) => Some("http://host".to_owned()),
        (true, false) => Some("1".to_owned()),
    }
}

/// Without what would move the cursor of a terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| match c.is_control() && c != '\n' {
        true => c.escape_default().collect(),
        false => String::from(c),
    };
    text.chars().map(shown).collect()
}

fn save(path: &Path, config: &str, force: bool) -> Result<(), Error> {
    let mut open = OpenOptions::new();
    match force {
        true => open.write(true).create(true).truncate(true),
        false => open.write(true).create_new(true),
    };
    let written = open.open(path).and_then(|mut file| file.write_all(config.as_bytes()));
    match written {
        Ok(()) => print(&format!(
            "{} written; see what it says:  waypost check {}\n",
            path.display(),
            path.display()
        )),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::Usage(format!("{} is there already; --force replaces it", path.display())))
        }
        Err(source) => Err(Error::File { path: path.to_owned(), source }),
    }
}

/// Words that YAML, in one of its versions or readings, does not take for text.
const NO_TEXT: [&str; 12] =
    ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];

/// A YAML scalar that is text, whatever it holds; `$` is doubled so that nothing is substituted.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !NO_TEXT.contains(&&*text.to_ascii_lowercase());
    match word && text.chars().all(plain) {
        true => text.to_owned(),
        false => Value::from(literal(text)).to_string(),
    }
}
