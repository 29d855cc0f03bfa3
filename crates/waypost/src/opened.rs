//! What `--classifier` names: a built-in classifier, or a trained folder.
//!
//! A built-in name wins over a folder of the same name; `./task` is the folder. Never touches the network. Called by
//! `classify` and `eval`.

use std::path::{Path, PathBuf};

use waypost_classify::{Base, Builtin, Engine, FILE_NAME, Model};
use waypost_router::read_model;

use crate::error::Error;

/// A classifier with what it is built on.
#[derive(Debug)]
pub(crate) enum Opened {
    Builtin(Box<Engine>, Builtin),
    Folder(Box<Base>, Box<Model>),
}

impl Opened {
    /// Opens a built-in classifier by name, or the trained folder or file at that path.
    ///
    /// # Errors
    /// When there is no such thing, or its file is damaged.
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        if let Some(builtin) = Builtin::ALL.into_iter().find(|builtin| builtin.name() == name) {
            return Ok(Self::Builtin(Box::new(Engine::embedded()?), builtin));
        }
        let file = file_of(name)?;
        let base = Base::embedded()?;
        let model = read_model(&base, &file)?;
        Ok(Self::Folder(Box::new(base), Box::new(model)))
    }

    pub(crate) fn base(&self) -> &Base {
        match self {
            Self::Builtin(engine, _) => engine,
            Self::Folder(base, _) => base,
        }
    }

    pub(crate) fn model(&self) -> &Model {
        match self {
            Self::Builtin(engine, builtin) => engine.builtin(*builtin),
            Self::Folder(_, model) => model,
        }
    }
}

fn file_of(name: &str) -> Result<PathBuf, Error> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let file = path.join(FILE_NAME);
    if file.is_file() {
        return Ok(file);
    }
    let names = Builtin::ALL.map(Builtin::name).join(", ");
    Err(Error::Usage(match path.is_dir() {
        true => format!("{name} holds no {FILE_NAME}; `waypost train --out {name}` writes one"),
        false => format!(
            "no classifier '{name}': built in are {names}, pii; or give a folder written by `waypost train`"
        ),
    }))
}
