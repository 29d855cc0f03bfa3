//! vSR's signals: what a decision's conditions ask of a prompt.
//!
//! Only those that a decision uses are kept. One without a counterpart is named, and its conditions are `None`: what
//! becomes of the decision is for `decisions` to say. Called by `decisions`.

use super::super::node::Node;
use super::super::notes::Notes;
use super::{name, unused, within};
use waypost_wire::labels::DOMAIN_LABELS;

/// A signal of Waypost's.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) struct Signal {
    pub(in crate::import) name: String,
    pub(in crate::import) what: What,
}

/// What it looks for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) enum What {
    /// Labels of the built-in classifier.
    Domain(Vec<String>),
    Keywords {
        words: Vec<String>,
        matching: &'static str,
        case_sensitive: bool,
    },
    Regex(String),
    Examples(Vec<String>),
    Safety,
    Pii,
}

/// A condition over signals.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) enum When {
    Signal(String),
    All(Vec<When>),
    Any(Vec<When>),
    Not(Box<When>),
}

impl When {
    /// Whether a signal stands in it.
    pub(super) fn asks(&self, signal: &str) -> bool {
        match self {
            Self::Signal(name) => name == signal,
            Self::All(conditions) | Self::Any(conditions) => conditions.iter().any(|one| one.asks(signal)),
            Self::Not(condition) => condition.asks(signal),
        }
    }
}

/// Keys under `signals` that are not called as the type is that conditions name.
const KINDS: [(&str, &str); 9] = [
    ("keywords", "keyword"),
    ("embeddings", "embedding"),
    ("domains", "domain"),
    ("user_feedbacks", "user_feedback"),
    ("reasks", "reask"),
    ("preferences", "preference"),
    ("role_bindings", "authz"),
    ("events", "event"),
    ("classifiers", "classifier"),
];

/// The signals of a profile.
#[derive(Debug)]
pub(super) struct Signals<'a> {
    declared: Vec<Declared<'a>>,
    /// What conditions became.
    seen: Vec<Seen>,
    kept: Vec<Signal>,
}

#[derive(Debug)]
struct Declared<'a> {
    kind: String,
    name: String,
    place: String,
    node: &'a Node,
}

#[derive(Debug)]
struct Seen {
    kind: String,
    name: String,
    when: Option<When>,
    /// Holds for as many prompts as it did.
    whole: bool,
}

impl<'a> Signals<'a> {
    /// Finds what is declared in a profile, which is the mapping at `place`.
    ///
    /// # Errors
    /// When something is not what it should be, with its place.
    pub(super) fn read(profile: &'a Node, place: &str) -> Result<Self, String> {
        let mut declared = Vec::new();
        if let Some(signals) = profile.get("signals") {
            let place = within(place, "signals");
            for (key, _) in signals.entries(&format!("`{place}`"))? {
                let kind =
                    KINDS.iter().find(|(known, _)| known == key).map_or(key.as_str(), |(_, kind)| kind);
                declare(signals, &place, key, kind, &mut declared)?;
            }
        }
        // The flat form.
        for (key, _) in profile.entries("the profile")? {
            let kind = if key == "categories" { Some("domain") } else { key.strip_suffix("_rules") };
            if let Some(kind) = kind {
                declare(profile, place, key, kind, &mut declared)?;
            }
        }
        Ok(Self { declared, seen: Vec::new(), kept: Vec::new() })
    }

    /// The declared signals of one type.
    pub(super) fn of(&self, kind: &str) -> impl Iterator<Item = (&str, &'a Node, &str)> {
        let kind = kind.to_owned();
        self.declared
            .iter()
            .filter(move |one| one.kind == kind)
            .map(|one| (&*one.name, one.node, &*one.place))
    }

    /// What a condition on a signal becomes; nothing where Waypost has none of the kind. The condition stands at `place`.
    pub(super) fn condition(
        &mut self,
        kind: &str,
        name: &str,
        place: &str,
        notes: &mut Notes,
    ) -> Result<Option<When>, String> {
        if let Some(seen) = self.seen(kind, name) {
            return Ok(seen.when.clone());
        }
        let declared = self.declared.iter().find(|one| one.kind == kind && one.name == name);
        let declared = declared.map(|one| (one.node, one.place.clone()));
        let mut whole = true;
        let when = match (kind, declared) {
            ("domain", declared) => {
                let (node, place) = declared.unwrap_or((&Node::Null, place.to_owned()));
                self.domain(name, node, &place, &mut whole, notes)?
            }
            ("keyword", Some((node, place))) => Some(self.keywords(name, node, &place, notes)?),
            ("embedding", Some((node, place))) => self.examples(name, node, &place, notes)?,
            ("jailbreak", Some((node, place))) => self.safety(name, node, &place, notes)?,
            ("pii", Some((node, place))) => Some(self.pii(name, node, &place, notes)),
            ("keyword" | "embedding" | "jailbreak" | "pii", None) => {
                return Err(format!("`{place}` names the {kind} signal `{name}`, which is not declared"));
            }
            (_, declared) => {
                let place = declared.map_or_else(|| format!("{kind} {name}"), |(_, place)| place);
                notes.at(
                    place,
                    format!("Waypost has no signal of the type `{kind}`: conditions on it are left out"),
                );
                None
            }
        };
        whole &= when.is_some();
        self.seen.push(Seen { kind: kind.to_owned(), name: name.to_owned(), when: when.clone(), whole });
        Ok(when)
    }

    fn seen(&self, kind: &str, name: &str) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.kind == kind && seen.name == name)
    }

    /// Whether a condition that was asked for has no counterpart, or a narrower one.
    pub(super) fn lacks(&self, kind: &str, name: &str) -> bool {
        self.seen(kind, name).is_some_and(|seen| !seen.whole)
    }

    /// Names what no decision uses.
    pub(super) fn finish(self, notes: &mut Notes) -> Vec<Signal> {
        for one in &self.declared {
            if self.seen(&one.kind, &one.name).is_none() {
                notes.at(one.place.as_str(), "no decision that is kept uses this signal: left out");
            }
        }
        self.kept
    }

    /// Keeps a signal, under its own name if that is still free.
    fn keep(&mut self, name: &str, kind: &str, what: What) -> When {
        let free = |name: &str| !self.kept.iter().any(|signal| signal.name == name);
        let others = (2..).map(|number| format!("{name}_{number}"));
        let mut names = [name.to_owned(), format!("{name}_{kind}")].into_iter().chain(others);
        let name = names.find(|name| free(name)).unwrap_or_default();
        self.kept.push(Signal { name: name.clone(), what });
        When::Signal(name)
    }

    fn domain(
        &mut self,
        name: &str,
        node: &Node,
        place: &str,
        whole: &mut bool,
        notes: &mut Notes,
    ) -> Result<Option<When>, String> {
        let aliases = node.texts(place, "mmlu_categories")?;
        let wanted = if aliases.is_empty() { vec![name.to_owned()] } else { aliases };
        let mut labels = Vec::new();
        for wanted in &wanted {
            match domain(wanted) {
                Some(label) if labels.iter().any(|known| known == label) => {}
                Some(label) => labels.push(label.to_owned()),
                None => {
                    *whole = false;
                    notes.at(place, format!("`{wanted}` is none of the 14 domains, which are {}: conditions on it are left out", DOMAIN_LABELS.join(", ")));
                }
            }
        }
        Ok(match labels.is_empty() {
            true => None,
            false => Some(self.keep(name, "domain", What::Domain(labels))),
        })
    }

    fn keywords(&mut self, name: &str, node: &Node, place: &str, notes: &mut Notes) -> Result<When, String> {
        let words = node.texts(place, "keywords")?;
        if words.iter().all(|word| word.trim().is_empty()) {
            return Err(format!("`{place}` has no `keywords`"));
        }
        let matching = match node.text(place, "operator")?.unwrap_or("OR").to_ascii_uppercase().as_str() {
            "OR" => "any",
            "AND" => "all",
            "NOR" => "none",
            _ => return Err(format!("`{place}.operator` is none of AND, OR and NOR")),
        };
        let case_sensitive = node.flag(place, "case_sensitive")?.unwrap_or(false);
        let method = node.text(place, "method")?.map(str::to_ascii_lowercase);
        let fuzzy = node.flag(place, "fuzzy_match")?.unwrap_or(false);
        if method.as_deref() == Some("regex") {
            if fuzzy {
                notes.at(place, "Waypost matches expressions exactly: fuzzy matching is left out");
            }
            return Ok(self.expressions(name, &words, matching, case_sensitive));
        }
        if fuzzy || method.is_some() {
            notes.at(place, "Waypost matches whole words exactly, without scores of bm25, n-grams or edit distance: it finds fewer than vSR does");
        }
        Ok(self.keep(name, "keyword", What::Keywords { words, matching, case_sensitive }))
    }

    /// Keywords that are regular expressions.
    fn expressions(&mut self, name: &str, words: &[String], matching: &str, case_sensitive: bool) -> When {
        let flag = if case_sensitive { "" } else { "(?i)" };
        if matching == "all" {
            let each =
                words.iter().map(|word| self.keep(name, "regex", What::Regex(format!("{flag}{word}"))));
            return When::All(each.collect());
        }
        let joined = match words {
            [word] => word.clone(),
            words => words.iter().map(|word| format!("(?:{word})")).collect::<Vec<_>>().join("|"),
        };
        let any = self.keep(name, "regex", What::Regex(format!("{flag}{joined}")));
        if matching == "none" { When::Not(Box::new(any)) } else { any }
    }

    fn examples(
        &mut self,
        name: &str,
        node: &Node,
        place: &str,
        notes: &mut Notes,
    ) -> Result<Option<When>, String> {
        let mut texts = node.texts(place, "candidates")?;
        texts.extend(node.texts(place, "keywords")?);
        texts.retain(|text| !text.trim().is_empty());
        let modality = node.text(place, "query_modality")?.unwrap_or("text");
        if texts.is_empty() || modality != "text" {
            notes.at(
                place,
                "Waypost compares the text of prompts with texts: conditions on this signal are left out",
            );
            return Ok(None);
        }
        if let Some(threshold) = node.number_at(place, "threshold")? {
            notes.at(place, format!("the threshold {threshold} belongs to vSR's embedding model and is left out: Waypost's default is taken, to be tried on your own prompts"));
        }
        if node.text(place, "aggregation_method")?.is_some_and(|method| method != "max") {
            notes.at(
                format!("{place}.aggregation_method"),
                "Waypost goes by the nearest example, as `max` does",
            );
        }
        for key in ["negative_candidates", "image_candidates", "negative_image_candidates"] {
            if !node.list(place, key)?.is_empty() {
                unused(node, place, &[key], notes);
            }
        }
        unused(node, place, &["prototype_scoring"], notes);
        Ok(Some(self.keep(name, "embedding", What::Examples(texts))))
    }

    fn safety(
        &mut self,
        name: &str,
        node: &Node,
        place: &str,
        notes: &mut Notes,
    ) -> Result<Option<When>, String> {
        if node.text(place, "direction")?.is_some_and(|direction| direction != "request") {
            notes.at(place, "Waypost does not judge answers: conditions on this signal are left out");
            return Ok(None);
        }
        unused(node, place, &["jailbreak_patterns", "benign_patterns", "include_history"], notes);
        notes.at(place, "Waypost's own classifier `safety` decides, with its own threshold");
        Ok(Some(self.keep(name, "jailbreak", What::Safety)))
    }

    fn pii(&mut self, name: &str, node: &Node, place: &str, notes: &mut Notes) -> When {
        if node.get("pii_types_allowed").is_some() {
            notes.at(
                format!("{place}.pii_types_allowed"),
                "Waypost's signal holds for every kind of personal data that it finds, the allowed ones too",
            );
        }
        unused(node, place, &["include_history"], notes);
        self.keep(name, "pii", What::Pii)
    }
}

/// The label that a name stands for.
fn domain(name: &str) -> Option<&'static str> {
    let plain = name.trim().to_lowercase().replace(['_', '-'], " ");
    DOMAIN_LABELS.into_iter().find(|label| *label == plain)
}

/// Adds what is listed under `key` of the mapping at `place`.
fn declare<'a>(
    node: &'a Node,
    place: &str,
    key: &str,
    kind: &str,
    declared: &mut Vec<Declared<'a>>,
) -> Result<(), String> {
    let here = within(place, key);
    let at = if place.is_empty() { "the file" } else { place };
    for (number, item) in node.list(at, key)?.iter().enumerate() {
        let name = name(item, &format!("{here}[{number}]"))?;
        if declared.iter().any(|one| one.kind == kind && one.name == name) {
            return Err(format!("`{here}.{name}` stands twice"));
        }
        declared.push(Declared { kind: kind.to_owned(), place: format!("{here}.{name}"), name, node: item });
    }
    Ok(())
}
