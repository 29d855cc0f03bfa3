//! `waypost import`: another router's configuration as one of Waypost's.
//!
//! Never replaces a file unasked, never drops a setting in silence, and never writes what does not load. Called by `main`.

mod node;
mod v2;
mod write;

use crate::cli::{ImportFrom, NvidiaV2};
use crate::error::Error;
use crate::print;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

pub(crate) fn run(from: &ImportFrom) -> Result<(), Error> {
    let ImportFrom::NvidiaV2(options) = from;
    let text = waypost_config::read_file(&options.file)?;
    let refused =
        |problem: String| Error::Data(format!("{}: {}", options.file.display(), printable(&problem)));
    let read = v2::read(&text).map_err(refused)?;
    for note in read.notes.iter().map(String::as_str).chain([write::AZURE_NOTE]) {
        writeln!(std::io::stderr(), "note: {}", printable(note))?;
    }
    let config = write::config(&read, options.network.as_deref());
    // Whether the network's file is there is a matter of the place where it is served.
    waypost_config::load_str(&config, "the configuration made of it", &|_| None)
        .map_err(|error| refused(format!("does not give a configuration that loads: {error}")))?;
    match &options.out {
        None => print(&config),
        Some(path) => save(path, &config, options),
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

fn save(path: &Path, config: &str, options: &NvidiaV2) -> Result<(), Error> {
    let mut open = OpenOptions::new();
    match options.force {
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
