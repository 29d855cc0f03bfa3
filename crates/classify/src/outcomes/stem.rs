//! The question without the answers it offers: what a multiple-choice prompt is about stands before its options.
//!
//! Options name many things the question is not about, and pull embeddings there. Pure. Called by `outcomes`.

/// The part of `text` before a list of options (`A.`, `A)` or `(A)` at the start of a line, and `B` likewise after it); all
/// of it where there is no such list, or nothing before it.
pub fn stem(text: &str) -> &str {
    let mut at = 0;
    let mut first = None;
    for line in text.split_inclusive('\n') {
        match (first, option(line)) {
            (None, Some(b'A')) => first = Some(at),
            (Some(start), Some(b'B')) => {
                let before = text[..start].trim_end();
                return if before.is_empty() { text } else { before };
            }
            _ => {}
        }
        at += line.len();
    }
    text
}

/// The letter of an option that begins a line.
fn option(line: &str) -> Option<u8> {
    let line = line.trim_start();
    let bytes = line.strip_prefix('(').unwrap_or(line).as_bytes();
    match bytes {
        [letter @ (b'A' | b'B'), b'.' | b')', b' ' | b'\t', ..] => Some(*letter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_cut_off_and_nothing_else_is() {
        assert_eq!(stem("Which?\nA. one\nB. two\nAnswer:"), "Which?");
        assert_eq!(stem("Which?\nPick:\n (A) one\n (B) two"), "Which?\nPick:");
        for whole in
            ["", "A. one\nB. two", "Who is A. Smith?", "x\nA. Smith wrote it.", "x\nB. two", "A\n\nB"]
        {
            assert_eq!(stem(whole), whole);
        }
    }
}
