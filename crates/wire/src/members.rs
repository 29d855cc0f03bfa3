//! Changes to a body's top-level members: set, take out, or merge into an object; every other byte stays the client's.
//!
//! For what engines want to be told beside the client's own request: Dynamo's `nvext`, vLLM's `kv_transfer_params`,
//! SGLang's bootstrap fields. It scans the body again, so it is for those pools only; [`crate::RequestView::rewrite`] does
//! the rest. Called by the doors when they forward a request.

use crate::json::{JsonError, Kind, Scanner};
use crate::splice::{Edit, Edits, Segments};
use bytes::Bytes;
use std::ops::Range;

/// What becomes of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'k> {
    /// It has this JSON value from now on, whether it was there or not.
    Set(&'k str, String),
    /// It has this JSON value if it was not there, or null.
    Default(&'k str, String),
    /// It has this JSON value if it was there.
    Replace(&'k str, String),
    /// It is gone.
    Remove(&'k str),
    /// The object has these changes made within, and its other keys stay. What is no object gives way to one if something
    /// is set; null, also if something is so by default.
    Merge(&'k str, Vec<Self>),
}

impl<'k> Change<'k> {
    /// The member's name. It stands in JSON as it is.
    #[must_use]
    pub fn key(&self) -> &'k str {
        match self {
            Self::Set(key, _)
            | Self::Default(key, _)
            | Self::Replace(key, _)
            | Self::Remove(key)
            | Self::Merge(key, _) => key,
        }
    }
}

/// A member as it stands in an object.
struct Member {
    key: String,
    /// From its key to the end of its value.
    whole: Range<usize>,
    value: Range<usize>,
}

/// An object's members, and where the first would be inserted.
struct Object {
    after_brace: usize,
    members: Vec<Member>,
}

/// `body` with `changes` made. No two changes may name the same member.
///
/// # Errors
/// When `body` is no JSON object; a body that a request view was made of is one.
pub fn edit(body: &Bytes, changes: &[Change<'_>]) -> Result<Segments, JsonError> {
    let not_utf8 = |e: std::str::Utf8Error| JsonError { at: e.valid_up_to(), what: "not UTF-8" };
    let text = std::str::from_utf8(body).map_err(not_utf8)?;
    let mut scanner = Scanner::new(text);
    let object = Object::scan(&mut scanner)?;
    if !scanner.at_end() {
        return Err(scanner.error("unexpected text after the JSON object"));
    }
    Ok(Segments::new(body, object.changed(text, changes)?))
}

impl Object {
    fn scan(s: &mut Scanner<'_>) -> Result<Self, JsonError> {
        if s.kind()? != Kind::Object {
            return Err(s.error("the body must be a JSON object"));
        }
        s.enter(b'{', "expected an object")?;
        let mut object = Self { after_brace: s.pos(), members: Vec::new() };
        let mut more = s.first(b'}');
        while more {
            s.space();
            let start = s.pos();
            let key = s.key()?.decode().into_owned();
            s.space();
            let value = s.pos();
            s.skip()?;
            let end = s.pos();
            object.members.push(Member { key, whole: start..end, value: value..end });
            more = s.more(b'}')?;
        }
        Ok(object)
    }

    fn changed(&self, text: &str, changes: &[Change<'_>]) -> Result<Edits, JsonError> {
        let mut edits = Edits::new();
        let mut added = Vec::new();
        let mut removed = vec![false; self.members.len()];
        for change in changes {
            // Within `nvext` a key may stand twice; most parsers take the last, so no other may stay.
            let mut all =
                self.members.iter().enumerate().filter(|(_, m)| m.key == change.key()).map(|(at, _)| at);
            let at = all.next_back();
            if matches!((change, at), (Change::Default(..), Some(at)) if !self.is_null(text, at)) {
                continue;
            }
            all.for_each(|at| removed[at] = true);
            match (change, at) {
                (Change::Remove(_), Some(at)) => removed[at] = true,
                (Change::Set(_, json) | Change::Default(_, json) | Change::Replace(_, json), Some(at)) => {
                    edits.push(self.value(at, json))
                }
                (Change::Merge(_, inner), Some(at)) => self.merge(text, at, inner, &mut edits)?,
                (Change::Set(key, json) | Change::Default(key, json), None) => {
                    added.push(format!("\"{key}\":{json}"))
                }
                (Change::Merge(key, inner), None) if sets(inner, true) => {
                    added.push(format!("\"{key}\":{}", object_of(inner)))
                }
                (Change::Replace(..) | Change::Remove(_) | Change::Merge(..), None) => {}
            }
        }
        let stays = removed.iter().any(|removed| !removed);
        edits.extend(self.removals(&removed));
        if !added.is_empty() {
            let comma = if stays { "," } else { "" };
            let with = format!("{}{comma}", added.join(",")).into();
            edits.push(Edit { range: self.after_brace..self.after_brace, with });
        }
        Ok(edits)
    }

    fn is_null(&self, text: &str, at: usize) -> bool {
        &text[self.members[at].value.clone()] == "null"
    }

    fn value(&self, at: usize, json: &str) -> Edit {
        Edit { range: self.members[at].value.clone(), with: Bytes::copy_from_slice(json.as_bytes()) }
    }

    /// Changes made within the object that is a member's value.
    fn merge(
        &self,
        text: &str,
        at: usize,
        changes: &[Change<'_>],
        edits: &mut Edits,
    ) -> Result<(), JsonError> {
        let range = &self.members[at].value;
        if !text[range.clone()].starts_with('{') {
            if sets(changes, self.is_null(text, at)) {
                edits.push(self.value(at, &object_of(changes)));
            }
            return Ok(());
        }
        let inner = Self::scan(&mut Scanner::new(&text[range.clone()]))?;
        let moved = inner.changed(&text[range.clone()], changes)?.into_iter().map(|edit| Edit {
            range: edit.range.start + range.start..edit.range.end + range.start,
            with: edit.with,
        });
        edits.extend(moved);
        Ok(())
    }

    /// Each removed member goes with one of the commas beside it: the one before it, unless nothing that stays is before.
    fn removals(&self, removed: &[bool]) -> Vec<Edit> {
        let first_kept = removed.iter().position(|removed| !removed);
        let mut edits = Vec::new();
        for (at, member) in self.members.iter().enumerate().filter(|(at, _)| removed[*at]) {
            let range = match first_kept {
                Some(kept) if at < kept => member.whole.start..self.members[at + 1].whole.start,
                Some(_) => self.members[at - 1].whole.end..member.whole.end,
                // All go, and the commas between them.
                None if at > 0 => self.members[at - 1].whole.end..member.whole.end,
                None => member.whole.clone(),
            };
            edits.push(Edit { range, with: Bytes::new() });
        }
        edits
    }
}

/// Whether an object comes of these changes where there is none; defaults count where there is `nothing` else.
fn sets(changes: &[Change<'_>], nothing: bool) -> bool {
    changes.iter().any(|change| match change {
        Change::Set(..) | Change::Merge(..) => true,
        Change::Default(..) => nothing,
        Change::Replace(..) | Change::Remove(_) => false,
    })
}

/// The object that `changes` make of an empty one.
fn object_of(changes: &[Change<'_>]) -> String {
    let pair = |change: &Change<'_>| match change {
        Change::Set(key, json) | Change::Default(key, json) => Some(format!("\"{key}\":{json}")),
        Change::Merge(key, inner) => Some(format!("\"{key}\":{}", object_of(inner))),
        Change::Replace(..) | Change::Remove(_) => None,
    };
    format!("{{{}}}", changes.iter().filter_map(pair).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn edited(body: &'static str, changes: &[Change]) -> String {
        String::from_utf8(edit(&Bytes::from_static(body.as_bytes()), changes).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_is_not_named_stays_byte_for_byte() {
        let body = r#"{ "seed": 9007199254740993, "a" : "<&>", "nvext": {"cache_salt":"s" , "x":1e2}}"#;
        let pairs = vec![
            Change::Set("backend_instance_id", "11431130917446755266".to_owned()),
            Change::Set("x", "3".to_owned()),
            Change::Remove("prefill_worker_id"),
        ];
        assert_eq!(
            edited(body, &[Change::Merge("nvext", pairs)]),
            r#"{ "seed": 9007199254740993, "a" : "<&>", "nvext": {"backend_instance_id":11431130917446755266,"cache_salt":"s" , "x":3}}"#
        );
    }

    #[test]
    fn members_come_and_go() {
        let merge = |changes| vec![Change::Merge("nvext", changes)];
        let merged = || merge(vec![Change::Default("i", "1".into())]);
        let cases = [
            ("{}", vec![Change::Set("a", "1".into())], r#"{"a":1}"#),
            (r#"{"a":1}"#, vec![Change::Remove("a"), Change::Set("b", "2".into())], r#"{"b":2}"#),
            (r#"{"a":1, "b":2 ,"c":3}"#, vec![Change::Remove("a"), Change::Remove("b")], r#"{"c":3}"#),
            (r#"{"a":1, "b":2 ,"c":3}"#, vec![Change::Remove("b"), Change::Remove("c")], r#"{"a":1}"#),
            (r#"{"a":1,"b":2}"#, vec![Change::Remove("b"), Change::Remove("a")], "{}"),
            (r#"{"a":1}"#, vec![Change::Replace("b", "2".into())], r#"{"a":1}"#),
            (r#"{"nvext":null}"#, merge(vec![Change::Set("i", "1".into())]), r#"{"nvext":{"i":1}}"#),
            (r#"{"a":1}"#, vec![Change::Default("b", "2".into())], r#"{"b":2,"a":1}"#),
            (r#"{"a": null}"#, vec![Change::Default("a", "2".into())], r#"{"a": 2}"#),
            (r#"{"a":1,"a":3}"#, vec![Change::Default("a", "2".into())], r#"{"a":1,"a":3}"#),
            (r#"{"nvext":5}"#, merged(), r#"{"nvext":5}"#),
            (r#"{"nvext":null}"#, merged(), r#"{"nvext":{"i":1}}"#),
            (r#"{"nvext":{"i": 0 }}"#, merged(), r#"{"nvext":{"i": 0 }}"#),
            ("{}", merged(), r#"{"nvext":{"i":1}}"#),
            (r#"{"a":1}"#, merge(vec![Change::Remove("i")]), r#"{"a":1}"#),
            (r#"{"nvext":null}"#, merge(vec![Change::Remove("i")]), r#"{"nvext":null}"#),
            (r#"{"a":1,"b":2,"a":3}"#, vec![Change::Remove("a")], r#"{"b":2}"#),
            (r#"{"a":1,"b":2,"a":3}"#, vec![Change::Set("a", "4".into())], r#"{"b":2,"a":4}"#),
            (
                r#"{"nvext":{"i":1},"nvext":{"i":2,"j":3,"i":4}}"#,
                merge(vec![Change::Set("i", "5".into())]),
                r#"{"nvext":{"j":3,"i":5}}"#,
            ),
        ];
        for (body, changes, expected) in cases {
            assert_eq!(edited(body, &changes), expected, "{body} {changes:?}");
        }
        for bad in ["[1]", "{} {}", "{\"a\":1}x", ""] {
            assert!(edit(&Bytes::from_static(bad.as_bytes()), &[]).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_result_is_what_a_tree_would_give(
            members in proptest::collection::btree_map("[a-e]", 0_i64..9, 0..5),
            changes in proptest::collection::btree_map(0_usize..5, 0_usize..4, 0..5),
            spaces in "[ \n]{0,2}",
        ) {
            const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
            let written: Vec<_> = members.iter().map(|(k, v)| format!("{spaces}\"{k}\"{spaces}:{spaces}{v}{spaces}")).collect();
            let body = Bytes::from(format!("{{{}}}", written.join(",")));
            let mut tree: Map<String, Value> = serde_json::from_slice(&body).unwrap();
            let changes: Vec<_> = changes.into_iter().map(|(key, how)| match how {
                0 => Change::Set(KEYS[key], "77".to_owned()),
                1 => Change::Remove(KEYS[key]),
                2 => Change::Default(KEYS[key], "99".to_owned()),
                _ => Change::Replace(KEYS[key], "88".to_owned()),
            }).collect();
            for change in &changes {
                match change {
                    Change::Set(key, _) => drop(tree.insert((*key).to_owned(), json!(77))),
                    Change::Default(key, _) => drop(tree.entry(*key).or_insert(json!(99))),
                    Change::Remove(key) => drop(tree.remove(*key)),
                    Change::Replace(key, _) => drop(tree.get_mut(*key).map(|value| *value = json!(88))),
                    Change::Merge(..) => {}
                }
            }
            let out = edit(&body, &changes).unwrap().to_vec();
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), Value::Object(tree));
        }
    }
}
