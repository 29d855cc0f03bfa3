//! Tells text without content: empty, punctuation only, keyboard noise.
//!
//! A rule, not a model: the training data has no such rows, and inventing them would teach the heads their look. Called
//! by `features` word by word.

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
        // What the vocabulary knows is no noise.
        if pieces.len() < 3 {
            return;
        }
        let vowels = word.bytes().filter(|b| b"aeiouy".contains(b)).count();
        let run = word.as_bytes().windows(4).any(|w| w.iter().all(|b| *b == w[0]));
        let unspeakable = word.is_ascii() && word.len() >= NOISE_LETTERS && vowels * 5 <= word.len();
        let keyboard =
            ["asdf", "qwer", "zxcv", "hjkl", "dfgh", "fghj", "sdfg"].iter().any(|row| word.contains(row));
        if unspeakable || keyboard || run {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told_from_short_words() {
        let contentless = |words: &[(&str, usize)]| {
            let mut letters = Letters::default();
            words.iter().for_each(|(word, pieces)| letters.add(word, &vec![0; *pieces]));
            letters.contentless(0)
        };
        assert!(contentless(&[]));
        assert!(contentless(&[("asdfghjkl", 5)]));
        assert!(!contentless(&[("kubernetes", 4)]));
        assert!(!contentless(&[("html", 1)]));
    }
}
