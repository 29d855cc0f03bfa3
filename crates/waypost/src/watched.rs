//! What may change under a running gateway: the configuration file and the trained folders it names, or the door's certificate.
//!
//! Each is watched through the directory that holds it, too, because files and folders are replaced by renaming, and a
//! ConfigMap by swapping a symbolic link beside the file. Whether something did change is told by the file's text and the
//! files' stamps. Called by `reload` and `certificate`.

use crate::error::Error;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use waypost_classify::FILE_NAME;
use waypost_classify::outcomes::OUTCOMES_FILE;

/// Editors and kubelets change a file in several steps; the steps are over after this.
pub(crate) const SETTLE: Duration = Duration::from_millis(100);

/// The file by which a tokenizer is told from its next version.
const TOKENIZER_FILE: &str = "tokenizer.json";

/// Tells one state of a file from another without reading it: device, inode, size, seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

/// See the module.
pub(crate) struct Watched {
    watcher: RecommendedWatcher,
    /// The directory of the configuration file, where it is one; always watched.
    home: Option<PathBuf>,
    text: Option<String>,
    folders: Vec<PathBuf>,
    stamps: Vec<Option<Stamp>>,
    /// Watched for the folders' sake.
    directories: Vec<PathBuf>,
}

impl Watched {
    /// Watches `file`, if the configuration is one; its text in force is `text`. `changed` is called on every event.
    pub(crate) fn new(
        file: Option<&Path>,
        text: String,
        changed: impl Fn() + Send + 'static,
    ) -> Result<Self, Error> {
        let home = file.map(|file| parent(file).to_owned());
        let fault = |source| Error::Watch { path: home.clone().unwrap_or_default(), source };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, which must not lead to reading it.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                changed();
            }
        })
        .map_err(fault)?;
        if let Some(home) = &home {
            watcher.watch(home, RecursiveMode::NonRecursive).map_err(fault)?;
        }
        let text = Some(text);
        Ok(Self { watcher, home, text, folders: Vec::new(), stamps: Vec::new(), directories: Vec::new() })
    }

    /// Watches these folders from now on, and no others. One that cannot be watched is said to be so; `SIGHUP` then
    /// remains.
    pub(crate) fn follow<'a>(&mut self, folders: impl Iterator<Item = &'a Path>) {
        // A folder that was replaced is another one under the same name: all are watched afresh.
        for directory in self.directories.drain(..) {
            // It may be gone, and its watch with it.
            let _ = self.watcher.unwatch(&directory);
        }
        self.folders.clear();
        for folder in folders {
            if self.folders.iter().any(|known| known == folder) {
                continue;
            }
            self.folders.push(folder.to_owned());
            for directory in [folder, parent(folder)] {
                let known = self.directories.iter().any(|known| known == directory);
                if known || self.home.as_deref() == Some(directory) {
                    continue;
                }
                match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                    Ok(()) => self.directories.push(directory.to_owned()),
                    Err(error) => tracing::warn!(folder = %directory.display(), %error, "cannot be watched"),
                }
            }
        }
        self.stamps = self.folders.iter().map(|folder| stamp(folder)).collect();
    }

    /// Whether the text (`None`: the file cannot be read) or a model is another than when last asked.
    pub(crate) fn has_changed(&mut self, text: Option<&str>) -> bool {
        let stamps: Vec<_> = self.folders.iter().map(|folder| stamp(folder)).collect();
        if self.text.as_deref() == text && self.stamps == stamps {
            return false;
        }
        self.text = text.map(str::to_owned);
        self.stamps = stamps;
        true
    }
}

/// Of a trained folder's model, or of the file itself.
fn stamp(path: &Path) -> Option<Stamp> {
    let of = |data: Metadata| (data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec());
    let files = [path.join(FILE_NAME), path.join(OUTCOMES_FILE), path.join(TOKENIZER_FILE), path.to_owned()];
    files.iter().filter_map(|file| std::fs::metadata(file).ok()).find(Metadata::is_file).map(of)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
