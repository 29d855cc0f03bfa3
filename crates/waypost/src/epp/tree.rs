//! An `EndpointPickerConfig`'s YAML with the line of each piece, so that what is wrong in it can be shown.
//!
//! Nothing is known here of what the pieces mean. Used by `picker_config` and `plugins`.

use super::Fault;
use crate::yaml::Yaml;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use waypost_config::without_position;

/// A piece of YAML and its line.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    line: u64,
    what: What,
}

/// Every scalar is text here, as YAML reads it: `1.10` is `1.1`.
type What = Yaml<Spanned<String>, Tree>;

/// What stands where nothing is written.
static NOTHING: Tree = Tree { line: 0, what: What::Null };

impl Tree {
    /// Reads a text.
    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        if text.trim().is_empty() {
            return Ok(NOTHING.clone());
        }
        serde_saphyr::from_str(text).map_err(|error| {
            let error = error.without_snippet();
            let line = error.location().map_or(0, |location| location.line());
            Fault { line, message: without_position(&error.to_string()).to_owned() }
        })
    }

    /// An error about this piece.
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { line: self.line, message: message.into() }
    }

    /// The entries of a mapping with the line of each key; a key without a value has none.
    pub(super) fn entries(&self) -> Result<impl Iterator<Item = (&str, u64, &Self)>, Fault> {
        let entries = match &self.what {
            What::Map(entries) => &entries[..],
            What::Null => &[],
            _ => return Err(self.fault("a mapping is expected here")),
        };
        Ok(entries.iter().map(|(key, value)| (key.value.as_str(), key.referenced.line(), value)))
    }

    /// The items of a list; nothing is an empty one.
    pub(super) fn items(&self) -> Result<&[Self], Fault> {
        match &self.what {
            What::List(items) => Ok(items),
            What::Null => Ok(&[]),
            _ => Err(self.fault("a list is expected here")),
        }
    }

    /// What stands under `key` of a mapping; nothing where it is absent.
    pub(super) fn get(&self, key: &str) -> &Self {
        let What::Map(entries) = &self.what else { return &NOTHING };
        entries.iter().find(|(name, _)| name.value == key).map_or(&NOTHING, |(_, value)| value)
    }

    /// What stands at the end of a path of keys.
    pub(super) fn at(&self, path: &[&str]) -> &Self {
        path.iter().fold(self, |tree, key| tree.get(key))
    }

    /// Its line; 0 for nothing.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Whether anything is written.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self.what, What::Null)
    }

    /// The text of a scalar; `None` where nothing is written.
    pub(super) fn text(&self) -> Result<Option<&str>, Fault> {
        match &self.what {
            What::Text(text) => Ok(Some(text)),
            What::Null => Ok(None),
            _ => Err(self.fault("a single value is expected here")),
        }
    }

    /// The scalar as a value of another kind, which `kind` names in the error.
    pub(super) fn parsed<T: std::str::FromStr>(&self, kind: &str) -> Result<Option<T>, Fault> {
        let Some(text) = self.text()? else { return Ok(None) };
        let wrong = |_| self.fault(format!("`{text}` is not {kind}"));
        text.trim().parse().map(Some).map_err(wrong)
    }

    /// A number from 0.
    pub(super) fn number(&self) -> Result<Option<f64>, Fault> {
        match self.parsed::<f64>("a number")? {
            Some(number) if !number.is_finite() || number < 0.0 => {
                Err(self.fault(format!("`{number}` is not a number from 0")))
            }
            number => Ok(number),
        }
    }

    /// A whole number from 0.
    pub(super) fn count(&self) -> Result<Option<u64>, Fault> {
        self.parsed("a whole number")
    }

    /// True or false.
    pub(super) fn flag(&self) -> Result<Option<bool>, Fault> {
        self.parsed("`true` or `false`")
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<What>::deserialize(deserializer)?;
        let what = match value {
            What::Flag(flag) => What::Text(flag.to_string()),
            What::Whole(number) => What::Text(number.to_string()),
            What::Number(number) => What::Text(number.to_string()),
            what => what,
        };
        Ok(Self { line: referenced.line(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_their_lines() {
        let tree = Tree::read("a: 1\nb:\n  - x\n  - {c: true}\nd:\n").unwrap();
        assert_eq!(tree.get("a").count().unwrap(), Some(1));
        let items = tree.get("b").items().unwrap();
        assert_eq!((items[0].line, items[0].text().unwrap()), (3, Some("x")));
        assert_eq!((items[1].line, items[1].at(&["c"]).flag().unwrap()), (4, Some(true)));
        let keys: Vec<_> = tree.entries().unwrap().map(|(key, line, _)| (key, line)).collect();
        assert_eq!(keys, [("a", 1), ("b", 2), ("d", 5)]);
        assert!(!tree.get("d").is_there() && !tree.at(&["x", "y"]).is_there());
    }

    #[test]
    fn numbers_are_text_as_yaml_reads_them() {
        let tree =
            Tree::read("whole: 18446744073709551615\nnegative: -9007199254740993\nfraction: 1.10\n").unwrap();
        let text = |key| tree.get(key).text().unwrap().unwrap().to_owned();
        assert_eq!(text("whole"), u64::MAX.to_string());
        assert_eq!((text("negative"), text("fraction")), ("-9007199254740993".to_owned(), "1.1".to_owned()));
    }

    #[test]
    fn what_is_not_what_it_should_be_is_named_with_its_line() {
        let tree = Tree::read("a: 1\nb: [x]\nc: -2\nd: 1.5\ne: {}\n").unwrap();
        let said = |fault: Fault| (fault.line, fault.message);
        assert_eq!(said(tree.get("a").items().unwrap_err()), (1, "a list is expected here".into()));
        assert_eq!(said(tree.get("b").text().unwrap_err()), (2, "a single value is expected here".into()));
        assert_eq!(said(tree.get("c").number().unwrap_err()), (3, "`-2` is not a number from 0".into()));
        assert_eq!(said(tree.get("d").count().unwrap_err()), (4, "`1.5` is not a whole number".into()));
        assert_eq!(said(tree.get("a").flag().unwrap_err()), (1, "`1` is not `true` or `false`".into()));
        assert!(tree.get("e").entries().unwrap().next().is_none());
        assert!(!Tree::read("a: 1\nb: [\n").unwrap_err().message.is_empty());
        assert!(!Tree::read("").unwrap().is_there());
    }
}
