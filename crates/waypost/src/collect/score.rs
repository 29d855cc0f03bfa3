//! Whether an answer is right, by the right answer: as a choice, as a number, or as text.
//!
//! Pure. What a model thought aloud in front of its answer does not count. Called by `collect`.

/// What models end their thoughts with.
const END_OF_THOUGHT: &str = "</think>";
/// What stands in front of a stated answer, in lower case.
const MARKS: [&str; 4] = ["\\boxed{", "####", "answer is", "answer:"];
/// Numbers closer than this, relative to their size, are the same.
const CLOSE: f64 = 1e-6;

/// The answer without the thoughts in front of it.
pub(super) fn said(answer: &str) -> &str {
    answer.rfind(END_OF_THOUGHT).map_or(answer, |at| &answer[at + END_OF_THOUGHT.len()..]).trim()
}

/// Whether `answer` says `reference`.
pub(super) fn is_right(reference: &str, answer: &str) -> bool {
    let (reference, answer) = (reference.trim(), said(answer));
    let stated = stated(answer);
    if let Some(wanted) = whole_choice(reference) {
        return stated.and_then(first_choice).or_else(|| choice(answer)) == Some(wanted);
    }
    if let Some(wanted) = number(reference) {
        let given = stated.and_then(|text| numbers(text).next()).or_else(|| numbers(answer).last());
        return given.is_some_and(|given| (given - wanted).abs() <= CLOSE * wanted.abs().max(1.0));
    }
    let wanted = plain(reference);
    let last = answer.lines().rev().find(|line| !line.trim().is_empty());
    [Some(answer), stated, last].into_iter().flatten().any(|given| plain(given) == wanted)
}

/// What stands after the last mark, to the end of its line.
fn stated(answer: &str) -> Option<&str> {
    // ASCII only, so that places stay the same.
    let lower = answer.to_ascii_lowercase();
    let (at, mark) = MARKS.iter().filter_map(|mark| Some((lower.rfind(mark)?, *mark))).max()?;
    let rest = answer[at + mark.len()..].trim_start();
    let rest = rest.lines().next().unwrap_or_default();
    let rest = if mark.ends_with('{') { rest.split('}').next().unwrap_or_default() } else { rest };
    (!rest.trim().is_empty()).then_some(rest)
}

/// A text that is a letter and nothing else, as `C`, `(c)` or `C.`.
fn whole_choice(text: &str) -> Option<char> {
    let bare = text.trim_matches(|c: char| !c.is_alphanumeric());
    let mut chars = bare.chars();
    match (chars.next(), chars.next()) {
        (Some(letter), None) if letter.is_ascii_alphabetic() => Some(letter.to_ascii_uppercase()),
        _ => None,
    }
}

/// The letter that a text begins with, as `C`, `(C)`, `**C.** because` or `C: 7`.
fn first_choice(text: &str) -> Option<char> {
    let word = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    let mut chars = word.chars();
    let letter = chars.next().filter(char::is_ascii_alphabetic)?;
    match chars.next() {
        None => Some(letter.to_ascii_uppercase()),
        Some(')' | '.' | ':' | ']' | '*' | ',' | '\n') => Some(letter.to_ascii_uppercase()),
        // "A house" is no choice, "option" is no letter.
        Some(_) => None,
    }
}

/// The letter that an answer chooses without saying that it does: it begins with it, or its last line is it, or it is
/// the last letter in parentheses.
fn choice(answer: &str) -> Option<char> {
    let last_line = answer.lines().rev().find(|line| !line.trim().is_empty());
    let bracketed = || {
        let bytes = answer.as_bytes();
        let found =
            bytes.windows(3).rev().find(|w| w[0] == b'(' && w[1].is_ascii_uppercase() && w[2] == b')')?;
        Some(char::from(found[1]))
    };
    first_choice(answer).or_else(|| last_line.and_then(whole_choice)).or_else(bracketed)
}

/// A text that is a number and nothing else but its unit of money or per cent.
fn number(text: &str) -> Option<f64> {
    let bare = text.trim().trim_start_matches(['$', '€', '£']).trim_end_matches('%').trim();
    if let Some((above, below)) = bare.split_once('/') {
        let (above, below): (f64, f64) = (above.trim().parse().ok()?, below.trim().parse().ok()?);
        return (below != 0.0).then(|| above / below);
    }
    bare.replace(',', "").parse().ok().filter(|number: &f64| number.is_finite())
}

/// All numbers in a text, with their sign and without commas between thousands.
fn numbers(text: &str) -> impl DoubleEndedIterator<Item = f64> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',' | '-' | '/')));
    let found: Vec<f64> = words
        .filter_map(|word| {
            let word = word.trim_matches(['.', ',', '/']).trim_end_matches('-');
            // "3-4" is two numbers, "-4" is one.
            let word = word.rfind('-').map_or(word, |at| &word[at..]);
            number(word)
        })
        .collect();
    found.into_iter()
}

/// Without case, punctuation and the blanks around it.
fn plain(text: &str) -> String {
    let kept: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { ' ' })
        .flat_map(char::to_lowercase)
        .collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        for right in [
            "C",
            "(C)",
            "c)",
            "**C**",
            "C. Paris",
            "C: because",
            "The answer is (C).",
            "Answer: C",
            "ANSWER: **C**",
            "It is not (A), so I would say (C)",
            "Thinking...\n\nC",
            "\\boxed{C}",
            "<think>A? The answer is A</think>C",
            "The answer is A? No: the answer is C",
        ] {
            assert!(is_right("C", right), "{right}");
        }
        for wrong in
            ["A", "", "Certainly", "A cat", "The answer is A, not C", "not (C) but (B)", "I choose none"]
        {
            assert!(!is_right("(C)", wrong), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        for (reference, right) in [
            ("42", "42"),
            ("42", "The total is 42."),
            ("42", "6 times 7 makes 42.0"),
            ("1,234", "#### 1234"),
            ("1234", "so $1,234 in all"),
            ("-3", "x = -3"),
            ("0.5", "\\boxed{1/2}"),
            ("50%", "The answer is 50 percent of them."),
            ("18", "#### 18 dollars for 7 days"),
        ] {
            assert!(is_right(reference, right), "{reference}: {right}");
        }
        for (reference, wrong) in
            [("42", "43"), ("42", "no idea"), ("42", "42 and then 43"), ("3", "-3"), ("4", "2025-03")]
        {
            assert!(!is_right(reference, wrong), "{reference}: {wrong}");
        }
    }

    #[test]
    fn texts_match_without_case_and_punctuation() {
        for right in
            ["Paris", " paris. ", "The answer is Paris.", "Let me see.\n\n**Paris**", "Answer: PARIS"]
        {
            assert!(is_right("Paris", right), "{right}");
        }
        for wrong in ["London", "Paris or London", "", "Parisian"] {
            assert!(!is_right("Paris", wrong), "{wrong}");
        }
        assert!(is_right("it's été", "IT S ÉTÉ!"));
    }
}
