//! Counts the worked examples in a prompt.
//!
//! Pure text rules, line by line. Called by `features`, which gives the count to the heads and to the verdict.

/// Most examples ever reported.
const MAX_COUNT: u32 = 99;

/// Line openings of worked examples: the question side and the answer side.
const PAIRS: [(&[&str], &[&str]); 6] = [
    (&["q:", "question:"], &["a:", "answer:"]),
    (&["input:", "in:"], &["output:", "out:"]),
    (&["user:", "human:"], &["assistant:", "ai:", "bot:"]),
    (
        &[
            "text:",
            "review:",
            "tweet:",
            "sentence:",
            "message:",
            "email:",
            "comment:",
            "ticket:",
            "headline:",
        ],
        &[
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
        ],
    ),
    (&["problem:"], &["solution:"]),
    (&["english:", "source:"], &["french:", "spanish:", "german:", "target:", "italian:"]),
];

/// Worked examples in the prompt: answered pairs (`Q:`/`A:`, `Input:`/`Output:` ...), `Example 1` headings, or repeated
/// `x -> y` lines. An answer side left blank is the question being asked, not an example.
pub(crate) fn count(head: &str, tail: &str) -> u32 {
    let mut answered = [0_u32; PAIRS.len()];
    let mut open = [false; PAIRS.len()];
    let (mut headings, mut arrows) = (0_u32, 0_u32);
    // The answer may stand on the line below its mark.
    let mut blank_answer: Option<usize> = None;
    for line in head.lines().chain(tail.lines()).map(str::trim).filter(|line| !line.is_empty()) {
        let opening = opening(line);
        if let Some(kind) = blank_answer.take()
            && !PAIRS
                .iter()
                .any(|(asks, answers)| strip(opening, asks).is_some() || strip(opening, answers).is_some())
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
            if let Some(rest) = strip(opening, asks) {
                open[kind] = true;
                // Both sides on one line: "Q: 2+2? A: 4".
                if answers.iter().any(|answer| inline_answer(rest, answer)) {
                    answered[kind] += 1;
                    open[kind] = false;
                }
            } else if let Some(rest) = strip(opening, answers)
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

/// `line` without a leading list number or bold mark.
fn opening(line: &str) -> &str {
    line.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ')' | '-' | '*' | '#' | ' '))
}

/// The rest of a line's opening after one of the marks.
fn strip<'a>(opening: &'a str, marks: &[&str]) -> Option<&'a str> {
    marks.iter().find_map(|mark| {
        let start = opening.get(..mark.len())?;
        start.eq_ignore_ascii_case(mark).then(|| opening[mark.len()..].trim_start_matches('*'))
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
    word.eq_ignore_ascii_case("example")
        && (rest.starts_with(':') || rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// A short `x -> y` or `x => y` line with both sides filled.
fn arrow(line: &str) -> bool {
    if line.len() > 160 || line.ends_with(['{', ';']) {
        return false;
    }
    let sides =
        line.split_once("->").or_else(|| line.split_once("=>")).or_else(|| line.split_once('\u{2192}'));
    sides.is_some_and(|(left, right)| !left.trim().is_empty() && !right.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answered_pairs_are_examples_and_the_open_question_is_not() {
        assert_eq!(count("Q: 3+4?\nA: 7\nQ: 9+2?\nA: 11\nQ: 5+8?\nA:", ""), 2);
        assert_eq!(count("Input: a\nOutput: b\n\nInput: c\nOutput:", ""), 1);
        assert_eq!(count("Question: x?\nAnswer:\nforty\nQuestion: y?\nAnswer:", ""), 1);
        assert_eq!(count("Q: one? A: 1\nQ: two? A: 2\nQ: three? A:", ""), 2);
    }

    #[test]
    fn headings_and_arrows_are_examples() {
        assert_eq!(count("Example 1: a\nExample 2: b\nNow you.", ""), 2);
        assert_eq!(count("cat -> chat\ndog -> chien\nhouse ->", ""), 2);
        assert_eq!(count("fn f() -> u32 {\n    1\n}", ""), 0);
    }
}
