//! A trained folder, written whole or not at all.
//!
//! Files go into a new folder beside the old one, which they then replace. Never removes a folder that holds anything
//! this module did not write. Called by `train`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use waypost_classify::{FILE_NAME, OUTCOMES_FILE};

use crate::error::Error;

/// What a folder is of, and so what it may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Everything it may hold, what Waypost loads first.
    files: &'static [&'static str],
    /// As many of the first files are only ever ours.
    own: usize,
}

/// A classifier's.
pub(crate) const CLASSIFIER: Kind = Kind {
    files: &[FILE_NAME, "labels.json", "metrics.json", "README.md", "reliability.svg", "confusion.svg"],
    own: 3,
};
/// Learnt outcomes'.
pub(crate) const OUTCOMES: Kind =
    Kind { files: &[OUTCOMES_FILE, "curve.json", "metrics.json", "README.md", "curve.svg"], own: 2 };

/// A folder on its way; removed again unless it is finished.
#[derive(Debug)]
pub(crate) struct Folder {
    kind: Kind,
    out: PathBuf,
    new: PathBuf,
}

impl Folder {
    /// Begins the folder that will be at `out`, so that a bad place is known before hours of training.
    ///
    /// # Errors
    /// When something else is there, or the place cannot be written to.
    pub(crate) fn begin(out: &Path, kind: Kind) -> Result<Self, Error> {
        check_free(out, kind)?;
        // A link keeps pointing at what is replaced.
        let out = fs::canonicalize(out).or_else(|_| std::path::absolute(out)).map_err(at(out))?;
        let (Some(parent), Some(name)) = (out.parent(), out.file_name()) else {
            return Err(Error::Usage(format!(
                "{} cannot be replaced; name a folder of its own",
                out.display()
            )));
        };
        fs::create_dir_all(parent).map_err(at(parent))?;
        let new = parent.join(format!(".{}.new-{}", name.to_string_lossy(), std::process::id()));
        fs::create_dir(&new).map_err(at(&new))?;
        Ok(Self { kind, out, new })
    }

    /// The folder's own name.
    pub(crate) fn name(&self) -> String {
        self.out.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Writes one of the files of its kind.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.new.join(name);
        let mut file = fs::File::create(&path).map_err(at(&path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&path))
    }

    /// Puts the folder in its place.
    pub(crate) fn finish(self) -> Result<(), Error> {
        check_free(&self.out, self.kind)?;
        if !self.out.exists() {
            return fs::rename(&self.new, &self.out).map_err(at(&self.out));
        }
        let old = self.new.with_file_name(format!(".{}.old-{}", self.name(), std::process::id()));
        fs::rename(&self.out, &old).map_err(at(&self.out))?;
        if let Err(error) = fs::rename(&self.new, &self.out) {
            // The former folder is better than none; if it cannot come back, the error below names the place.
            let _ = fs::rename(&old, &self.out);
            return Err(at(&self.out)(error));
        }
        fs::remove_dir_all(&old).map_err(at(&old))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Gone if it was finished; whatever is left of it is hidden and empty of meaning.
        let _ = fs::remove_dir_all(&self.new);
    }
}

/// Nothing there, an empty folder, or a folder of our own files.
fn check_free(out: &Path, kind: Kind) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Usage(format!("{} {why}; choose another --out", out.display())));
    if !out.exists() {
        return Ok(());
    }
    if !out.is_dir() {
        return refuse("is not a folder".to_owned());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(out).map_err(at(out))? {
        names.push(entry.map_err(at(out))?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    if let Some(other) = names.iter().find(|name| !kind.files.contains(&name.as_str())) {
        return refuse(format!("holds {other}, which `waypost train` did not write"));
    }
    // A folder of a README alone may be anybody's; other files are ours, even where the model was lost.
    if !names.is_empty() && !names.iter().any(|name| kind.files[..kind.own].contains(&name.as_str())) {
        return refuse(format!("is no trained folder: it holds no {}", kind.files[0]));
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(out: &Path, text: &str) -> Result<(), Error> {
        let folder = Folder::begin(out, CLASSIFIER)?;
        folder.write(FILE_NAME, text.as_bytes())?;
        folder.finish()
    }

    #[test]
    fn a_trained_folder_is_replaced_and_nothing_else_is() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("deep/er/mine");
        write(&out, "one").unwrap();
        write(&out, "two").unwrap();
        assert_eq!(fs::read_to_string(out.join(FILE_NAME)).unwrap(), "two");
        fs::write(out.join("notes.txt"), "x").unwrap();
        assert!(write(&out, "three").unwrap_err().to_string().contains("holds notes.txt"));
        fs::remove_file(out.join("notes.txt")).unwrap();
        fs::rename(out.join(FILE_NAME), out.join("README.md")).unwrap();
        assert!(write(&out, "three").unwrap_err().to_string().contains("no trained folder"));
        assert!(write(&out.join("README.md"), "x").unwrap_err().to_string().contains("not a folder"));
        assert!(write(Path::new("/"), "x").is_err());
        let left: Vec<_> = fs::read_dir(out.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left behind: {left:?}");
    }

    #[test]
    fn what_is_given_up_leaves_the_old_folder_alone() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("mine");
        write(&out, "one").unwrap();
        let folder = Folder::begin(&out, CLASSIFIER).unwrap();
        folder.write(FILE_NAME, b"half").unwrap();
        drop(folder);
        assert_eq!(fs::read_to_string(out.join(FILE_NAME)).unwrap(), "one");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
