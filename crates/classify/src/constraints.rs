//! Counts the explicit constraints a prompt puts on the form of its answer.
//!
//! Pure text rules over both ends of the prompt. Called by `features`, which gives the count to the heads and to the
//! verdict.

/// Most constraints ever reported.
const MAX_COUNT: u32 = 99;
/// Bytes of each part searched for constraints: they stand at the edges.
const CONSTRAINT_BYTES: usize = 2048;

/// Words that bound a number: "at least 3", "no more than 50".
const BOUNDS: [&str; 16] = [
    "at least",
    "at most",
    "no more than",
    "no fewer than",
    "no less than",
    "not exceed",
    "fewer than",
    "less than",
    "more than",
    "exactly",
    "precisely",
    "up to",
    "limited to",
    "maximum of",
    "under",
    "within",
];
/// Units whose count is demanded of an answer.
const UNITS: [&str; 18] = [
    "word",
    "sentence",
    "paragraph",
    "bullet",
    "line",
    "character",
    "item",
    "point",
    "letter",
    "section",
    "step",
    "stanza",
    "verse",
    "syllable",
    "time",
    "example",
    "placeholder",
    "response",
];
const NUMBERS: [&str; 13] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "single",
    "twenty",
];
/// Demands that stand on their own.
const DEMANDS: [&str; 74] = [
    "must ",
    "make sure",
    "ensure ",
    "do not ",
    "don't ",
    "avoid ",
    "refrain from",
    "without using",
    "without any",
    "without mention",
    "no comma",
    "no capital",
    "no explanation",
    "no preamble",
    "no emoji",
    "no jargon",
    "no markdown",
    "no adjectives",
    "nothing else",
    "never use",
    "never mention",
    "forbidden",
    "not allowed",
    "as a haiku",
    "in haiku",
    "haiku form",
    "as a limerick",
    "as a sonnet",
    "as a poem",
    "in rhyme",
    "that rhymes",
    "rhyming",
    "in all caps",
    "all capital",
    "all lowercase",
    "in lowercase",
    "in uppercase",
    "lowercase letters",
    "capital letters",
    "in json",
    "as json",
    "json format",
    "valid json",
    "in yaml",
    "as a table",
    "in a table",
    "table format",
    "markdown table",
    "as csv",
    "in xml",
    "as bullet",
    "in bullet",
    "bullet list",
    "bulleted list",
    "numbered list",
    "in markdown",
    "using markdown",
    "double quotation",
    "double quotes",
    "wrap your",
    "start with the",
    "begin with the",
    "starts with",
    "start every",
    "end with",
    "ends with",
    "finish with",
    "in the style of",
    "as many emojis",
    "one word",
    "yes or no only",
    "only yes or no",
    "entire response",
    "your answer should",
];

/// The first three characters with which something to count may begin: asking for these first makes the scan cheap.
struct Openings([u32; LETTERS.pow(3).div_ceil(32)]);

/// The letters, and one that stands for all else.
const LETTERS: usize = 27;

static OPENINGS: Openings = Openings::none().with(&BOUNDS).with(&DEMANDS).with(&NUMBERS);
static NUMBER_OPENINGS: Openings = Openings::none().with(&NUMBERS);

impl Openings {
    const fn none() -> Self {
        Self([0; LETTERS.pow(3).div_ceil(32)])
    }

    const fn with(mut self, phrases: &[&str]) -> Self {
        let mut at = 0;
        while at < phrases.len() {
            if let Some(opening) = phrases[at].as_bytes().first_chunk() {
                let bit = Self::bit(opening);
                self.0[bit / 32] |= 1 << (bit % 32);
            }
            at += 1;
        }
        self
    }

    const fn bit([first, second, third]: &[u8; 3]) -> usize {
        (Self::letter(*first) * LETTERS + Self::letter(*second)) * LETTERS + Self::letter(*third)
    }

    const fn letter(byte: u8) -> usize {
        let letter = byte.to_ascii_lowercase().wrapping_sub(b'a') as usize;
        if letter < LETTERS - 1 { letter } else { LETTERS - 1 }
    }

    fn has(&self, bytes: &[u8]) -> bool {
        let bit = bytes.first_chunk().map(Self::bit);
        bit.is_some_and(|bit| self.0[bit / 32] >> (bit % 32) & 1 == 1)
    }
}

/// Explicit constraints on the form of the answer, at the edges of the prompt.
pub(crate) fn count(head: &str, tail: &str) -> u32 {
    let parts = if tail.is_empty() { split_edges(head) } else { (first_bytes(head), last_bytes(tail)) };
    (count_constraints(parts.0) + count_constraints(parts.1)).min(MAX_COUNT)
}

fn split_edges(text: &str) -> (&str, &str) {
    if text.len() <= 2 * CONSTRAINT_BYTES { (text, "") } else { (first_bytes(text), last_bytes(text)) }
}

fn first_bytes(text: &str) -> &str {
    &text[..text.floor_char_boundary(CONSTRAINT_BYTES)]
}

fn last_bytes(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(CONSTRAINT_BYTES))..]
}

fn count_constraints(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut count = 0;
    let mut at = 0;
    while at < bytes.len() {
        let word_start = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let may = word_start && (bytes[at].is_ascii_digit() || OPENINGS.has(&bytes[at..]));
        let skip = if may { demand_at(&bytes[at..]) } else { None };
        match skip {
            Some(length) => {
                count += 1;
                at += length;
            }
            None => at += 1,
        }
    }
    count
}

/// The length of the demand that starts here.
fn demand_at(bytes: &[u8]) -> Option<usize> {
    let first = bytes.first()?.to_ascii_lowercase();
    let starts = |phrase: &&&str| {
        phrase.as_bytes()[0] == first
            && bytes.len() >= phrase.len()
            && bytes[..phrase.len()].eq_ignore_ascii_case(phrase.as_bytes())
    };
    if let Some(bound) = BOUNDS.iter().find(starts)
        && let Some(length) = counted_unit(&bytes[bound.len()..])
    {
        return Some(bound.len() + length);
    }
    counted_unit_alone(bytes).or_else(|| DEMANDS.iter().find(starts).map(|phrase| phrase.len()))
}

/// A number, at most one word, and a unit: " 3 short sentences".
fn counted_unit(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(&bytes[..bytes.len().min(48)]).ok()?;
    let mut words = text.split([' ', '-', '\n']).filter(|w| !w.is_empty());
    let number = words.next()?;
    if !number.bytes().all(|b| b.is_ascii_digit()) && !NUMBERS.iter().any(|n| number.eq_ignore_ascii_case(n))
    {
        return None;
    }
    let unit = words
        .take(2)
        .find(|w| UNITS.iter().any(|u| w.get(..u.len()).is_some_and(|w| w.eq_ignore_ascii_case(u))))?;
    Some(unit.as_ptr() as usize - text.as_ptr() as usize + unit.len())
}

/// "in 50 words", "3 bullet points": a counted unit without a bound.
fn counted_unit_alone(bytes: &[u8]) -> Option<usize> {
    let may = bytes.first()?.is_ascii_digit() || NUMBER_OPENINGS.has(bytes);
    if may { counted_unit(bytes) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_prose_has_none() {
        assert_eq!(count("Why did the Ottoman Empire decline? I read that trade moved elsewhere.", ""), 0);
    }

    #[test]
    fn constraints_are_counted_once_each() {
        assert_eq!(count("Write at least 300 words and do not use any commas.", ""), 2);
        assert_eq!(count("Answer as a haiku.", ""), 1);
        assert_eq!(count("In exactly three bullet points, in all lowercase, end with a question.", ""), 3);
    }
}
