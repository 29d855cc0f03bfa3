//! "Did you mean": the known word nearest to a mistyped one.
//!
//! Suggests only what is plausibly a slip, else nothing. Used by every error that names a word.

/// `; did you mean `x`?`, or nothing when no candidate is near.
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, candidates) {
        Some(found) => format!("; did you mean `{found}`?"),
        None => String::new(),
    }
}

/// The candidate with the fewest edits, when they are at most a third of the word's letters
/// (case does not count).
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance with a swap of neighbours counted as one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits_and_swaps() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("endpiont", "endpoint"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn suggests_slips_and_nothing_far() {
        assert_eq!(nearest("Code Genration", ["Chatbot", "Code Generation"]), Some("Code Generation"));
        assert_eq!(nearest("code generation", ["Code Generation"]), Some("Code Generation"));
        assert_eq!(nearest("banana", ["Chatbot", "Rewrite"]), None);
    }
}
