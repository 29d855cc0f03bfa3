//! Rules that stand before a classifier: keywords and regular expressions, the first that applies wins.
//!
//! All keywords are looked for in one pass of one automaton, all expressions in another, both in time linear in the
//! text whatever the rules. Never looks at what a label means. The router asks before any tier.

mod fold;

use std::fmt::Write as _;
use std::ops::ControlFlow;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::dfa::DFA;
use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use self::fold::{Sink, fold, is_unspaced};
use crate::error::Error;

/// Most rules of one policy.
pub const MAX_RULES: usize = 1000;
/// Most bytes of all keywords of a policy together; a byte takes about 256 in the automaton, 1 KiB at worst.
pub const MAX_KEYWORD_BYTES: usize = 32 * 1024;
/// Largest compiled regular expression, in bytes.
pub const MAX_REGEX_BYTES: usize = 1024 * 1024;
/// Largest compiled form of all regular expressions together, in bytes.
pub const MAX_REGEXES_BYTES: usize = 8 * 1024 * 1024;

/// Gives its label to every text in which one of the keywords or the regular expression is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The label it gives.
    pub label: String,
    /// Words or phrases, found as whole words whatever their case and the white space between them.
    pub keywords: Vec<String>,
    /// A regular expression as the `regex` crate reads it: case counts unless it says `(?i)`.
    pub regex: Option<String>,
}

/// The compiled rules of one policy. Share it by reference.
#[derive(Debug)]
pub struct Rules {
    keywords: Option<Keywords>,
    regexes: RegexSet,
    /// The rule of each expression, rising.
    regex_rules: Vec<usize>,
    /// Of all rules.
    count: usize,
}

impl Rules {
    /// Compiles the rules.
    ///
    /// # Errors
    /// If a rule is empty, its expression is wrong, or there is too much of anything; the error names the rule by its
    /// number, from 1, and says where the expression is wrong.
    pub fn build(rules: &[Rule]) -> Result<Self, Error> {
        if rules.len() > MAX_RULES {
            return Err(Error::Policy(format!("{} rules, at most {MAX_RULES} are allowed", rules.len())));
        }
        let mut regexes = Vec::new();
        let mut regex_rules = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            if rule.keywords.is_empty() && rule.regex.is_none() {
                return Err(fault(at, "has neither a keyword nor a regular expression"));
            }
            let Some(regex) = &rule.regex else { continue };
            check_regex(regex).map_err(|reason| fault(at, &reason))?;
            regexes.push(regex);
            regex_rules.push(at);
        }
        let regexes = RegexSetBuilder::new(regexes).size_limit(MAX_REGEXES_BYTES).build().map_err(|_| {
            let limit = MAX_REGEXES_BYTES / 1024;
            Error::Policy(format!(
                "rules: the regular expressions together are over {limit} KiB once compiled"
            ))
        })?;
        Ok(Self { keywords: Keywords::build(rules)?, regexes, regex_rules, count: rules.len() })
    }

    /// Which rules apply to `text`, each for itself.
    pub fn find_all(&self, text: &str) -> Vec<bool> {
        let mut found = vec![false; self.count];
        if let Some(keywords) = &self.keywords {
            keywords.each(text, |rule| {
                found[rule] = true;
                ControlFlow::Continue(())
            });
        }
        if self.regexes.is_match(text) {
            self.regexes.matches(text).iter().for_each(|at| found[self.regex_rules[at]] = true);
        }
        found
    }

    /// Index of the first rule, in the order given, that applies to `text`.
    pub fn find(&self, text: &str) -> Option<usize> {
        let keyword = self.keywords.as_ref().and_then(|keywords| keywords.find(text));
        let worth_it = self.regex_rules.first().is_some_and(|&rule| keyword.is_none_or(|k| rule < k));
        // Most texts match nothing, which `is_match` tells without allocating.
        if !worth_it || !self.regexes.is_match(text) {
            return keyword;
        }
        let regex = self.regexes.matches(text).iter().next().map(|at| self.regex_rules[at]);
        keyword.into_iter().chain(regex).min()
    }
}

/// A regular expression that finds `keyword` as a whole word, whatever the white space in it, but in its own case only.
pub fn in_this_case(keyword: &str) -> String {
    let words: Vec<String> = keyword.split_whitespace().map(regex::escape).collect();
    let bounded = |c: Option<char>| c.is_some_and(|c| (c.is_alphanumeric() || c == '_') && !is_unspaced(c));
    let text = keyword.trim();
    let begin = if bounded(text.chars().next()) { r"\b{start-half}" } else { "" };
    let end = if bounded(text.chars().next_back()) { r"\b{end-half}" } else { "" };
    format!("{begin}{}{end}", words.join(r"\s+"))
}

fn fault(rule: usize, reason: &str) -> Error {
    Error::Policy(format!("rule {}: {reason}", rule + 1))
}

fn check_regex(regex: &str) -> Result<(), String> {
    match RegexBuilder::new(regex).size_limit(MAX_REGEX_BYTES).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(format!("the regular expression is over {} KiB once compiled", MAX_REGEX_BYTES / 1024))
        }
        Err(error) => Err(explain(regex, &error.to_string())),
    }
}

/// One line of the message that `regex` draws over several, a caret under the mistake and the reason last.
fn explain(regex: &str, drawn: &str) -> String {
    const INDENT: usize = 4;
    let reason = drawn.lines().last().unwrap_or(drawn).trim_start_matches("error: ");
    let mut out = format!("the regular expression `{regex}` is wrong");
    let caret = drawn.lines().find(|line| line.trim_start().starts_with('^'));
    if let Some(at) = caret.and_then(|line| line.find('^')).filter(|_| !regex.contains('\n')) {
        let _ = write!(out, " at character {}", (at + 1).saturating_sub(INDENT));
    }
    let _ = write!(out, ": {reason}");
    out
}

/// All keywords in one automaton over folded text.
#[derive(Debug)]
struct Keywords {
    automaton: DFA,
    start: StateID,
    /// The rule of each keyword.
    rules: Vec<usize>,
}

impl Keywords {
    fn build(rules: &[Rule]) -> Result<Option<Self>, Error> {
        let (mut patterns, mut owners, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (at, rule) in rules.iter().enumerate() {
            for (number, keyword) in rule.keywords.iter().enumerate() {
                let mut pattern: Vec<u8> = Vec::new();
                fold(keyword, &mut pattern);
                pattern.pop_if(|last| *last == b' ');
                if pattern.is_empty() {
                    return Err(fault(at, &format!("keyword {} is empty", number + 1)));
                }
                bytes += pattern.len();
                if bytes > MAX_KEYWORD_BYTES {
                    let limit = MAX_KEYWORD_BYTES / 1024;
                    return Err(fault(
                        at,
                        &format!("with this one the keywords are over {limit} KiB together"),
                    ));
                }
                patterns.push(pattern);
                owners.push(at);
            }
        }
        if patterns.is_empty() {
            return Ok(None);
        }
        let fail = |error: String| Error::Policy(format!("rules: the keywords cannot be compiled: {error}"));
        let automaton = DFA::new(&patterns).map_err(|e| fail(e.to_string()))?;
        let start = automaton.start_state(Anchored::No).map_err(|e| fail(e.to_string()))?;
        Ok(Some(Self { automaton, start, rules: owners }))
    }

    /// The first rule with a keyword in `text`.
    fn find(&self, text: &str) -> Option<usize> {
        let mut first: Option<usize> = None;
        self.each(text, |rule| {
            first = Some(first.map_or(rule, |known| known.min(rule)));
            // No rule comes before the first.
            if first == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        first
    }

    /// Calls `on` with the rule of each keyword in `text`, until it breaks.
    fn each(&self, text: &str, on: impl FnMut(usize) -> ControlFlow<()>) {
        fold(text, &mut Search { keywords: self, state: self.start, on });
    }
}

/// One pass of the automaton.
struct Search<'k, F> {
    keywords: &'k Keywords,
    state: StateID,
    on: F,
}

impl<F: FnMut(usize) -> ControlFlow<()>> Sink for Search<'_, F> {
    fn put(&mut self, byte: u8) -> ControlFlow<()> {
        let Keywords { automaton, rules, .. } = self.keywords;
        self.state = automaton.next_state(Anchored::No, self.state, byte);
        if automaton.is_special(self.state) && automaton.is_match(self.state) {
            for at in 0..automaton.match_len(self.state) {
                (self.on)(rules[automaton.match_pattern(self.state, at).as_usize()])?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Nothing is under way, and no keyword begins in the middle of a word.
    fn is_indifferent(&self) -> bool {
        self.state == self.keywords.start
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, byte: u8) -> ControlFlow<()> {
        self.push(byte);
        ControlFlow::Continue(())
    }

    fn is_indifferent(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
