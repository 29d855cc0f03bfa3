//! A model's folder to what this crate needs of it: the tokenizer, its chat templates, its special tokens.
//!
//! Reads `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`, each within a bound, and
//! names the file when something is wrong. The only module that reads files; called once per load.

use crate::error::Error;
use minijinja::Value;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use tokenizers::{AddedToken, Tokenizer as Reference};

/// Largest `tokenizer.json`; those of 256 000 entries are about 35 MB.
pub const MAX_TOKENIZER_FILE_BYTES: usize = 128 << 20;
/// Largest `tokenizer_config.json` or template.
pub const MAX_CONFIG_FILE_BYTES: usize = 8 << 20;

/// What the files say.
pub(crate) struct Files {
    /// The tokenizer, with the added tokens of the config.
    pub(crate) reference: Reference,
    /// `tokenizer.json` of [`Self::reference`].
    pub(crate) json: Vec<u8>,
    /// Templates by name; the usual one is `default`.
    pub(crate) templates: BTreeMap<String, String>,
    /// `bos_token` and its kind, as templates see them.
    pub(crate) specials: Vec<(String, Value)>,
    /// Where the templates were looked for.
    pub(crate) source: String,
}

#[derive(Default, Deserialize)]
struct Config {
    chat_template: Option<ChatTemplate>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, Added>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    pad_token: Option<Token>,
    sep_token: Option<Token>,
    cls_token: Option<Token>,
    mask_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplate {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Added { content: String },
}

#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

/// Reads the model at `path`: its folder, or its `tokenizer.json` with the other files beside it.
pub(crate) fn read(path: &Path) -> Result<Files, Error> {
    let (tokenizer, folder) = if path.is_dir() {
        (path.join("tokenizer.json"), path.to_owned())
    } else {
        (path.to_owned(), path.parent().map(PathBuf::from).unwrap_or_default())
    };
    let mut json = bytes(&tokenizer, MAX_TOKENIZER_FILE_BYTES)?;
    let mut reference = Reference::from_bytes(&json)
        .map_err(|e| wrong(&tokenizer, format!("not a tokenizer of Hugging Face's format: {e}")))?;
    // The engine cuts no prompt and fills none up, whatever the file says.
    reference.with_padding(None);
    reference.with_truncation(None).map_err(|e| wrong(&tokenizer, e))?;

    let config_path = folder.join("tokenizer_config.json");
    let mut config = Config::default();
    if config_path.exists() {
        let source = bytes(&config_path, MAX_CONFIG_FILE_BYTES)?;
        config = serde_json::from_slice(&source).map_err(|e| wrong(&config_path, e))?;
    }
    if add_tokens(&mut reference, &config.added_tokens_decoder, &config_path)? {
        json = reference.to_string(false).map_err(|e| wrong(&tokenizer, e))?.into_bytes();
    }

    // As the engines do: a file of its own counts before the config.
    let file = folder.join("chat_template.jinja");
    let (templates, source) = if file.exists() {
        let source = String::from_utf8(bytes(&file, MAX_CONFIG_FILE_BYTES)?).map_err(|e| wrong(&file, e))?;
        (BTreeMap::from([("default".to_owned(), source)]), file)
    } else {
        (named(config.chat_template.take()), config_path)
    };
    let specials = specials(config);
    Ok(Files { reference, json, templates, specials, source: source.display().to_string() })
}

fn wrong(file: &Path, what: impl std::fmt::Display) -> Error {
    Error::File { file: file.display().to_string(), what: what.to_string() }
}

fn bytes(file: &Path, max: usize) -> Result<Vec<u8>, Error> {
    let mut found = Vec::new();
    let open = std::fs::File::open(file).map_err(|e| wrong(file, e))?;
    open.take(max as u64 + 1).read_to_end(&mut found).map_err(|e| wrong(file, e))?;
    if found.len() > max {
        return Err(wrong(file, format!("larger than {max} bytes")));
    }
    Ok(found)
}

fn named(template: Option<ChatTemplate>) -> BTreeMap<String, String> {
    match template {
        None => BTreeMap::new(),
        Some(ChatTemplate::One(source)) => BTreeMap::from([("default".to_owned(), source)]),
        Some(ChatTemplate::Named(all)) => all.into_iter().map(|t| (t.name, t.template)).collect(),
    }
}

/// Adds what only the config knows, each under the id that it states there. True if anything was added.
fn add_tokens(reference: &mut Reference, listed: &BTreeMap<u32, Added>, file: &Path) -> Result<bool, Error> {
    let mut added = false;
    for (&id, token) in listed {
        if reference.token_to_id(&token.content).is_some() {
            continue;
        }
        let new = AddedToken {
            content: token.content.clone(),
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: token.normalized,
            special: token.special,
        };
        reference.add_tokens([new]).map_err(|e| wrong(file, e))?;
        let got = reference.token_to_id(&token.content);
        if got != Some(id) {
            let what = format!(
                "added token {:?} has id {id}, but tokenizer.json leaves {got:?} for it: the two files do not belong together",
                token.content
            );
            return Err(wrong(file, what));
        }
        added = true;
    }
    Ok(added)
}

fn specials(config: Config) -> Vec<(String, Value)> {
    let named = [
        ("bos_token", config.bos_token),
        ("eos_token", config.eos_token),
        ("unk_token", config.unk_token),
        ("sep_token", config.sep_token),
        ("pad_token", config.pad_token),
        ("cls_token", config.cls_token),
        ("mask_token", config.mask_token),
    ];
    let text = |token| match token {
        Token::Text(content) | Token::Added { content } => Value::from(content),
    };
    named.into_iter().filter_map(|(name, token)| Some((name.to_owned(), text(token?)))).collect()
}
