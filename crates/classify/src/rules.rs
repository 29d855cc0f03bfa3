//! Things that are counted rather than learnt: worked examples, explicit constraints, and text without content.
//!
//! Pure functions over text. Called by `features`, which hands the counts to the heads as features and to the verdict.

/// Words up to which text may be keyboard noise; longer text is always given to the heads.
const NOISE_WORDS: usize = 6;
/// Letters below which a word is too short to be called noise (acronyms).
const NOISE_LETTERS: usize = 5;

/// What `contentless` needs to know about the words made of letters.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    words: usize,
    noise: usize,
}

impl Letters {
    /// Notes one word and the vocabulary pieces it was spelt with.
    pub(crate) fn add(&mut self, word: &str, pieces: &[u16]) {
        if !word.starts_with(char::is_alphabetic) {
            return;
        }
        self.words += 1;
        let vowels = word.bytes().filter(|b| b"aeiouy".contains(b)).count();
        let run = word.as_bytes().windows(4).any(|w| w.iter().all(|b| *b == w[0]));
        let unspeakable = word.is_ascii() && word.len() >= NOISE_LETTERS && vowels * 5 <= word.len();
        let keyboard = ["asdf", "qwer", "zxcv", "hjkl", "dfgh", "fghj", "sdfg"].iter().any(|row| word.contains(row));
        if pieces.len() >= 3 && (unspeakable || keyboard || run) {
            self.noise += 1;
        }
    }

    /// No letters and no numbers, or a few words of which at least half are noise and none of the rest makes up for it.
    pub(crate) fn contentless(&self, numbers: usize) -> bool {
        if self.words == 0 {
            return numbers == 0;
        }
        self.words <= NOISE_WORDS && self.noise > 0 && self.noise * 2 >= self.words
    }
}

/// Most examples or constraints ever reported.
const MAX_COUNT: u32 = 99;
/// Bytes of each part searched for constraints: they stand at the edges.
const CONSTRAINT_BYTES: usize = 2048;

/// Line openings of worked examples: the question side and the answer side.
const PAIRS: [(&[&str], &[&str]); 6] = [
    (&["q:", "question:"], &["a:", "answer:"]),
    (&["input:", "in:"], &["output:", "out:"]),
    (&["user:", "human:"], &["assistant:", "ai:", "bot:"]),
    (&["text:", "review:", "tweet:", "sentence:", "message:", "email:", "comment:", "ticket:", "headline:"], &[
        "sentiment:",
        "label:",
        "category:",
        "class:",
        "intent:",
        "translation:",
        "summary:",
        "rating:",
        "tag:",
        "priority:",
    ]),
    (&["problem:"], &["solution:"]),
    (&["english:", "source:"], &["french:", "spanish:", "german:", "target:", "italian:"]),
];

/// Worked examples in the prompt: answered pairs (`Q:`/`A:`, `Input:`/`Output:` ...), `Example 1` headings, or repeated
/// `x -> y` lines. An answer side left blank is the question being asked, not an example.
pub(crate) fn few_shots(head: &str, tail: &str) -> u32 {
    let mut answered = [0_u32; PAIRS.len()];
    let mut open = [false; PAIRS.len()];
    let (mut headings, mut arrows) = (0_u32, 0_u32);
    // The answer may stand on the line below its mark.
    let mut blank_answer: Option<usize> = None;
    for line in head.lines().chain(tail.lines()).map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(kind) = blank_answer.take()
            && !PAIRS.iter().any(|(asks, answers)| strip(line, asks).is_some() || strip(line, answers).is_some())
        {
            answered[kind] += 1;
        }
        if heading(line) {
            headings += 1;
        }
        if arrow(line) {
            arrows += 1;
        }
        for (kind, (asks, answers)) in PAIRS.iter().enumerate() {
            if let Some(rest) = strip(line, asks) {
                open[kind] = true;
                // Both sides on one line: "Q: 2+2? A: 4".
                if answers.iter().any(|answer| inline_answer(rest, answer)) {
                    answered[kind] += 1;
                    open[kind] = false;
                }
            } else if let Some(rest) = strip(line, answers)
                && std::mem::take(&mut open[kind])
            {
                if rest.trim().is_empty() { blank_answer = Some(kind) } else { answered[kind] += 1 }
            }
        }
    }
    let pairs = answered.iter().copied().max().unwrap_or(0);
    let arrows = if arrows >= 2 { arrows } else { 0 };
    pairs.max(headings).max(arrows).min(MAX_COUNT)
}

/// The rest of `line` after one of the marks; a leading list number or bold mark is ignored.
fn strip<'a>(line: &'a str, marks: &[&str]) -> Option<&'a str> {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ')' | '-' | '*' | '#' | ' '));
    marks.iter().find_map(|mark| {
        let start = line.get(..mark.len())?;
        start.eq_ignore_ascii_case(mark).then(|| line[mark.len()..].trim_start_matches('*'))
    })
}

fn inline_answer(rest: &str, answer: &str) -> bool {
    let bytes = rest.as_bytes();
    (1..bytes.len().saturating_sub(answer.len())).any(|at| {
        bytes[at - 1].is_ascii_whitespace()
            && bytes[at..at + answer.len()].eq_ignore_ascii_case(answer.as_bytes())
            && bytes[at + answer.len()..].iter().any(|b| !b.is_ascii_whitespace())
    })
}

/// `Example 1`, `Example:`, `Example #2 -`.
fn heading(line: &str) -> bool {
    let line = line.trim_start_matches(['#', '*', '-', ' ', '[', '(']);
    let Some((word, rest)) = line.get(..7).zip(line.get(7..)) else { return false };
    let rest = rest.trim_start_matches([' ', '#']);
    word.eq_ignore_ascii_case("example") && (rest.starts_with(':') || rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// A short `x -> y` or `x => y` line with both sides filled.
fn arrow(line: &str) -> bool {
    let sides = line.split_once("->").or_else(|| line.split_once("=>")).or_else(|| line.split_once('\u{2192}'));
    line.len() <= 160
        && !line.ends_with(['{', ';'])
        && sides.is_some_and(|(left, right)| !left.trim().is_empty() && !right.trim().is_empty())
}

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
    "word", "sentence", "paragraph", "bullet", "line", "character", "item", "point", "letter", "section", "step",
    "stanza", "verse", "syllable", "time", "example", "placeholder", "response",
];
const NUMBERS: [&str; 13] =
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "single", "twenty"];
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

/// Explicit constraints on the form of the answer, at the edges of the prompt.
pub(crate) fn constraints(head: &str, tail: &str) -> u32 {
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
        let skip = if word_start { demand_at(&bytes[at..]) } else { None };
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
    // Most phrases differ in their first letter; asking that first makes the scan cheap.
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
    if !number.bytes().all(|b| b.is_ascii_digit()) && !NUMBERS.iter().any(|n| number.eq_ignore_ascii_case(n)) {
        return None;
    }
    let unit = words.take(2).find(|w| UNITS.iter().any(|u| w.get(..u.len()).is_some_and(|w| w.eq_ignore_ascii_case(u))))?;
    Some(unit.as_ptr() as usize - text.as_ptr() as usize + unit.len())
}

/// "in 50 words", "3 bullet points": a counted unit without a bound.
fn counted_unit_alone(bytes: &[u8]) -> Option<usize> {
    bytes.first().filter(|b| b.is_ascii_alphanumeric())?;
    counted_unit(bytes)
}
