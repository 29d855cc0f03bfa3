//! From a model's answer to a route: tolerant of its form, never of its meaning.
//!
//! JSON, JSON inside prose or a code fence, single quotes, thoughts before it, text behind it, or the bare name; case,
//! blanks, dashes and underscores of a name do not count. Nothing is guessed: an answer that names two routes, or a
//! route nobody knows, is none. Pure; called by the asker.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use waypost_config::fold;

/// The key of the answer.
const KEY: &str = "route";
/// What the question writes in place of a name; a model that repeats the form has not answered with it.
const PLACEHOLDER: &str = "routename";
/// Quotation marks as models write them, with what closes each.
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];
/// What may stand around a bare name.
const AROUND: &[char] =
    &['"', '\'', '`', '“', '”', '‘', '’', '*', '.', ',', ';', ':', '(', ')', '[', ']', '{', '}'];

/// The labels of a policy, as answers are held against them.
#[derive(Debug)]
pub(super) struct Names {
    folded: Vec<String>,
}

/// A route that was named, and where in the answer, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) label: usize,
    pub(super) span: Range<usize>,
}

/// Why an answer names no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misread {
    /// It names none, or several.
    Unreadable,
    /// It names one that does not exist.
    Unknown,
}

impl Names {
    pub(super) fn new(labels: &[Arc<str>]) -> Self {
        Self { folded: labels.iter().map(|label| fold(label)).collect() }
    }

    /// The labels folded, in their order.
    pub(super) fn folded(&self) -> &[String] {
        &self.folded
    }

    fn find(&self, name: &str) -> Option<usize> {
        let name = fold(name);
        self.folded.iter().position(|known| *known == name)
    }

    /// The route that `answer` names.
    pub(super) fn read(&self, answer: &str) -> Result<Named, Misread> {
        let body = without_thoughts(answer);
        let (mut found, mut echoed): (Option<Named>, bool) = (None, false);
        for (span, name) in Values::new(&answer[body.clone()]) {
            let span = span.start + body.start..span.end + body.start;
            match (self.find(&name), &found) {
                (Some(label), Some(before)) if before.label != label => return Err(Misread::Unreadable),
                (Some(label), _) => found = Some(Named { label, span }),
                (None, _) if fold(&name) == PLACEHOLDER => echoed = true,
                (None, _) => return Err(Misread::Unknown),
            }
        }
        match found {
            Some(named) => Ok(named),
            None if echoed => Err(Misread::Unreadable),
            None => self.bare(answer, body).ok_or(Misread::Unreadable),
        }
    }

    /// A name alone on the first line, and no other one on a line of its own after it.
    fn bare(&self, answer: &str, body: Range<usize>) -> Option<Named> {
        let mut found: Option<Named> = None;
        let mut end = body.start;
        for line in answer[body].split_inclusive('\n') {
            let start = end;
            end += line.len();
            if line.trim().is_empty() || line.trim_start().starts_with("```") {
                continue;
            }
            let span = bare_span(line);
            let label = self.find(&line[span.clone()]);
            match (&found, label) {
                (None, None) => return None,
                (None, Some(label)) => {
                    found = Some(Named { label, span: start + span.start..start + span.end });
                }
                (Some(first), Some(label)) if label != first.label => return None,
                (Some(_), _) => {}
            }
        }
        found
    }
}

/// What of an answer is left when thoughts are taken away: all behind the last `</think>`, and nothing of a thought
/// that was cut off.
fn without_thoughts(answer: &str) -> Range<usize> {
    const CLOSE: &str = "</think>";
    let start = answer.rfind(CLOSE).map_or(0, |at| at + CLOSE.len());
    let end = answer[start..].find("<think>").map_or(answer.len(), |at| start + at);
    start..end
}

/// Where the name stands in a line that holds nothing else, but for marks around it and the key before it.
fn bare_span(line: &str) -> Range<usize> {
    let mark = |c: char| c.is_whitespace() || AROUND.contains(&c);
    let trimmed = |from: usize| {
        let rest = &line[from..];
        let start = from + (rest.len() - rest.trim_start_matches(mark).len());
        start..start + line[start..].trim_end_matches(mark).len()
    };
    let span = trimmed(0);
    let key = line.get(span.start..span.start + KEY.len());
    let colon = line[span.clone()].find(':');
    match (key, colon) {
        (Some(key), Some(KEY_END)) if key.eq_ignore_ascii_case(KEY) => trimmed(span.start + KEY.len()),
        _ => span,
    }
}

const KEY_END: usize = KEY.len();

/// Every value that an answer gives to the key, wherever it stands.
struct Values<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Values<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The value behind the key at `at`, if that is one: `"route":`, `'route':` or `{route:`.
    fn value(&self, at: usize) -> Option<(Range<usize>, Cow<'a, str>)> {
        let (before, after) = (&self.text[..at], &self.text[at + KEY.len()..]);
        let mut back = before.chars().rev();
        let (open, escaped) = (back.next(), back.next() == Some('\\'));
        let close = after.chars().next();
        let quoted = QUOTES.iter().find(|(o, c)| open == Some(*o) && close == Some(*c));
        let rest = match quoted {
            Some(_) if escaped => return None,
            Some((_, close)) => &after[close.len_utf8()..],
            None if before.trim_end().ends_with(['{', ',']) => after,
            None => return None,
        };
        let rest = rest.trim_start().strip_prefix(':')?.trim_start();
        let start = self.text.len() - rest.len();
        let Some((open, close)) = QUOTES.iter().find(|(open, _)| rest.starts_with(*open)) else {
            // Bare, as no JSON has it, or no text at all: it ends with the member.
            let end = rest.find(['}', ',', '\n']).unwrap_or(rest.len());
            let name = rest[..end].trim_end();
            return Some((start..start + name.len(), name.into()));
        };
        let inner = &rest[open.len_utf8()..];
        let start = start + open.len_utf8();
        let end = closing(inner, *close);
        let raw = &inner[..end.unwrap_or(inner.len())];
        // Cut off before its end it may be half a name: keep what no name can hold.
        let name = match end {
            None => "\"".into(),
            Some(_) if raw.contains('\\') => unescaped(raw),
            Some(_) => raw.into(),
        };
        Some((start..start + raw.len(), name))
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = (Range<usize>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        while let Some(window) = bytes.get(self.at..self.at + KEY.len()) {
            let at = self.at;
            self.at += 1;
            if window.eq_ignore_ascii_case(KEY.as_bytes())
                && let Some((span, name)) = self.value(at)
            {
                self.at = span.end.max(self.at);
                return Some((span, name));
            }
        }
        None
    }
}

/// The first `close` that no backslash escapes.
fn closing(text: &str, close: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == close && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// A JSON string without its quotes, decoded; as it is when it is none.
fn unescaped(raw: &str) -> Cow<'_, str> {
    serde_json::from_str::<String>(&format!("\"{raw}\"")).map_or(Cow::Borrowed(raw), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [&str; 5] = ["hard_question", "hard", "chit chat", "größe", "other"];

    fn read(answer: &str) -> Result<String, Misread> {
        let named = Names::new(&LABELS.map(Arc::from)).read(answer)?;
        let said = &answer[named.span];
        let label = LABELS[named.label];
        assert_eq!(fold(&unescaped(said)), fold(label), "the span of {answer}");
        Ok(label.to_string())
    }

    #[test]
    fn a_route_in_any_form() {
        for (answer, expected) in [
            (r#"{"route": "hard_question"}"#, "hard_question"),
            (r#"{"route":"hard"}"#, "hard"),
            ("{'route': 'chit chat'}", "chit chat"),
            ("{“route”: “chit chat”}", "chit chat"),
            ("{route: hard}", "hard"),
            ("{\"reason\": \"it is hard\", \"Route\": \"hard_question\", \"x\": [1]}", "hard_question"),
            ("```json\n{\"route\": \"other\"}\n```", "other"),
            ("Sure! The answer is {\"route\": \"hard\"} because it is hard.", "hard"),
            ("{\"route\": \"hard\"}\n{\"route\": \"Hard\"}", "hard"),
            ("{\"route\": \"route_name\"}\n{\"route\": \"hard\"}", "hard"),
            ("<think>\n\"route\": \"other\"?\n</think>\n\n{\"route\": \"hard\"}", "hard"),
            ("maybe other</think>{\"route\": \"hard\"}", "hard"),
            ("{\"route\": \"gr\\u00f6\\u00dfe\"}", "größe"),
            ("{\"route\": \"GRÖßE\"}", "größe"),
            ("{\"route\": \"Hard-Question\"", "hard_question"),
            ("hard_question", "hard_question"),
            ("  **Hard Question**.\n", "hard_question"),
            ("\"chit_chat\"", "chit chat"),
            ("[\"chit_chat\"]", "chit chat"),
            ("Route: hard", "hard"),
            ("```\nhard\n```", "hard"),
            ("<think></think>\nhard\n\nThe user wants much.", "hard"),
        ] {
            assert_eq!(read(answer), Ok(expected.to_owned()), "{answer}");
        }
    }

    #[test]
    fn whatever_leaves_a_doubt_is_refused() {
        for answer in [
            "",
            "   ",
            "I think the route hard_question fits best.",
            "hard or other",
            "hard\nother",
            "The user is just chatting.\nhard",
            "{\"route\": \"hard\"} or {\"route\": \"other\"}",
            "{\"route\": \"hard\", \"route\": \"other\"}",
            "{\"route\": \"route_name\"}",
            "<think>It should be {\"route\": \"hard\"}",
            "<think>a</think><think>{\"route\": \"hard\"}",
            "{\"answer\": \"hard\"}",
            "{\"no\\\"route\": \"hard\"}",
            "\u{0}\u{fffd}{[<",
        ] {
            assert_eq!(read(answer), Err(Misread::Unreadable), "{answer}");
        }
        for answer in [
            "{\"route\": \"weather\"}",
            "{\"route\": \"\"}",
            "{\"route\": null}",
            "{\"route\": [\"hard\"]}",
            "{\"route\": {\"name\": \"hard\"}}",
            "{\"route\": \"hard",
            "{\"route\": \"hard\"} {\"route\": \"weather\"}",
            "{\"route\": \"hard_question or other\"}",
            "{\"route\": \"\\ud800\"}",
        ] {
            assert_eq!(read(answer), Err(Misread::Unknown), "{answer}");
        }
    }

    #[test]
    fn hostile_answers_end_soon_and_quietly() {
        let began = std::time::Instant::now();
        for piece in
            ["\"route\":", "{\"route\": \"hard\"}, ", "route", "[{", "'", "\\", "ö\"", "<think>", "\n"]
        {
            let answer = piece.repeat(64 * 1024 / piece.len());
            let _ = read(&answer);
            let _ = read(&format!("{{\"route\": \"{answer}"));
        }
        assert!(began.elapsed().as_secs() < 5);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in r#"[\{\}"'a-e:, route\\hard_questionöß“”`\n<think>/]{0,40}"#) {
            let _ = read(&answer);
        }
    }
}
