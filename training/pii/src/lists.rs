//! The word lists under `lists/`, and the ordinary words counted in public prompts.
//!
//! They feed both the generator and the lexicon that goes into the model file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::error::Error;
use crate::pii::fold::Folded;
use crate::pii::lexicon::{Lexicon, List};
use crate::pii::token::word_hash;

/// Words that stand in lower case in at least this many prompts count as ordinary.
const MIN_COUNT: usize = 6;
/// Share of lower case a word needs beyond that.
const MIN_LOWER_SHARE: f32 = 0.8;

/// All lists.
#[derive(Debug)]
pub(crate) struct Lists {
    words: HashMap<&'static str, Vec<String>>,
}

/// File name and list.
const FILES: [(&str, List); 16] = [
    ("first", List::First),
    ("last", List::Last),
    ("place", List::Place),
    ("country", List::Country),
    ("nrp", List::Nrp),
    ("title", List::Title),
    ("job", List::Job),
    ("street", List::Street),
    ("unit", List::Unit),
    ("orgend", List::OrgEnd),
    ("orgword", List::OrgWord),
    ("org", List::Org),
    ("term", List::Term),
    ("cue", List::Cue),
    ("link", List::Link),
    ("foreign", List::Common),
];

impl Lists {
    /// Reads `lists/*.txt` beside this crate, and counts ordinary words in `prompts`.
    pub(crate) fn read(prompts: &[String]) -> Result<Self, Error> {
        let mut words = HashMap::new();
        for (name, _) in FILES {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lists").join(format!("{name}.txt"));
            let text = std::fs::read_to_string(&path)
                .map_err(|source| Error::Io { path: path.display().to_string(), source })?;
            let mut list: Vec<String> = text
                .lines()
                .filter(|line| !line.starts_with('#'))
                .flat_map(|line| line.split_whitespace().map(str::to_owned))
                .collect();
            list.sort();
            list.dedup();
            words.insert(name, list);
        }
        words.insert("common", common(prompts));
        Ok(Self { words })
    }

    /// The words of one list.
    pub(crate) fn get(&self, name: &str) -> &[String] {
        self.words.get(name).map_or(&[], Vec::as_slice)
    }

    /// The records of the model file's lexicon, sorted by key.
    pub(crate) fn records(&self) -> Vec<u8> {
        let mut entries: BTreeMap<u32, u16> = BTreeMap::new();
        let named = FILES.iter().map(|&(name, list)| (name, list)).chain([("common", List::Common)]);
        for (name, list) in named {
            for word in self.get(name) {
                let folded = String::from_utf8_lossy(Folded::new(word).as_bytes()).into_owned();
                *entries.entry(Lexicon::key(word_hash(&folded))).or_default() |= list.bit();
            }
        }
        entries
            .iter()
            .flat_map(|(key, lists)| [&key.to_le_bytes()[..], &lists.to_le_bytes()].concat())
            .collect()
    }
}

/// Words that public prompts write in lower case.
fn common(prompts: &[String]) -> Vec<String> {
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for prompt in prompts {
        for word in prompt.split(|c: char| !c.is_alphabetic()) {
            if !(2..=20).contains(&word.len()) || !word.is_ascii() {
                continue;
            }
            let count = counts.entry(word.to_lowercase()).or_default();
            if word.bytes().all(|b| b.is_ascii_lowercase()) {
                count.0 += 1;
            } else {
                count.1 += 1;
            }
        }
    }
    let mut words: Vec<String> = counts
        .into_iter()
        // A capital opens a sentence now and then, so half of the capitals are forgiven.
        .filter(|(_, (lower, upper))| {
            *lower >= MIN_COUNT && *lower as f32 >= MIN_LOWER_SHARE * (*lower as f32 + *upper as f32 / 2.0)
        })
        .map(|(word, _)| word)
        .collect();
    words.sort();
    words
}
