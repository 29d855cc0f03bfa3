//! Which pre-tokenizers end a piece between a letter and a space, whatever stands around.
//!
//! A pattern is taken apart into its alternatives, and each must be one that was looked at: it does not look
//! behind, it never holds a letter before a space, and to end at or before such a place it need not
//! know what follows the letter. Then a search that starts at the place goes on as the one over the whole
//! text does. Unknown alternatives mean no such cuts. Called by `cuts`.

use super::kind;
use serde_json::Value;

/// Alternatives that take letters; with one of them every run of letters is a match of its own.
const LETTERS: [&str; 10] = [
    r" ?\p{L}+",
    r"\p{L}+",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}++",
    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[\p{L}\p{M}]+",
];

/// Alternatives that take something else, or letters only together with one that does.
const OTHERS: [&str; 35] = [
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"'(?i:[sdmt]|ll|ve|re)",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    r"\p{N}",
    r"\p{N}+",
    r" ?\p{N}+",
    r"\p{N}{1,3}",
    r"\p{N}{1,3}+",
    r"\p{N}{1,2}",
    r"\d",
    r"[0-9]",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+",
    r" ?[^\s\p{L}\p{N}]++[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r" ?[\p{P}\p{S}]+[\r\n]*",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"\s*[\r\n]+",
    r"\s*[\r\n]",
    r"\s++$",
    r"\s+(?!\S)",
    r"\s+",
    r"\s",
];

/// GPT-2's pattern, which `ByteLevel` uses by itself.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// True if every step of `pre_tokenizer` may be cut there, and one of them ends a piece there.
pub(super) fn end_before_spaces(pre_tokenizer: &Value) -> bool {
    let whole = std::slice::from_ref(pre_tokenizer);
    let steps = match kind(pre_tokenizer) {
        Some("Sequence") => pre_tokenizer.get("pretokenizers").and_then(Value::as_array).map(Vec::as_slice),
        _ => Some(whole),
    };
    let steps = steps.unwrap_or_default();
    let found: Vec<Option<bool>> = steps.iter().map(|step| step_ends(step, steps.len() == 1)).collect();
    found.iter().all(Option::is_some) && found.contains(&Some(true))
}

/// `None` for a step that may not be cut there; else whether it ends a piece there.
fn step_ends(step: &Value, alone: bool) -> Option<bool> {
    match kind(step)? {
        "ByteLevel" => {
            // A space of its own before every piece is only known to be harmless when the piece is the text.
            if step.get("add_prefix_space") == Some(&Value::Bool(true)) && !alone {
                return None;
            }
            if step.get("use_regex") == Some(&Value::Bool(false)) { Some(false) } else { pattern_ends(GPT_2) }
        }
        // It looks at one character at a time.
        "Digits" => Some(false),
        "Split" => {
            let isolates = step.get("behavior")? == "Isolated" && step.get("invert")? == false;
            isolates.then(|| pattern_ends(step.get("pattern")?.get("Regex")?.as_str()?))?
        }
        _ => None,
    }
}

fn pattern_ends(pattern: &str) -> Option<bool> {
    let mut ends = false;
    for alternative in alternatives(pattern) {
        if LETTERS.contains(&alternative) {
            ends = true;
        } else if !OTHERS.contains(&alternative) {
            return None;
        }
    }
    Some(ends)
}

/// The parts of a pattern between the bars that stand in no group and no class.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut found, mut start, mut groups, mut class, mut escaped) = (Vec::new(), 0, 0_usize, false, false);
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => groups += 1,
            ')' if !class => groups = groups.saturating_sub(1),
            '|' if !class && groups == 0 => {
                found.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&pattern[start..]);
    found
}
