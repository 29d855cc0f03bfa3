//! Deterministic text, numbers and token counts: the same seed always gives the same answer.
//!
//! It knows nothing of HTTP. The estimate of a token as four bytes is this engine's own and matches no tokenizer.

/// Bytes that count as one token of a prompt.
pub(crate) const TOKEN_BYTES: usize = 4;
/// Bytes from which a piece of generated JSON is cut off as one token.
const JSON_PIECE_BYTES: usize = 4;
/// Words per sentence of the filler text.
const SENTENCE_WORDS: usize = 9;

const WORDS: [&str; 64] = [
    "amber", "anchor", "arch", "barley", "basin", "birch", "boat", "bridge", "brook", "canvas", "cedar",
    "chalk", "cliff", "cloud", "copper", "coral", "creek", "delta", "dune", "ember", "fern", "field",
    "flint", "fog", "garden", "glass", "granite", "grove", "harbor", "hazel", "hill", "island", "ivory",
    "juniper", "kettle", "lagoon", "lantern", "leaf", "linen", "maple", "marble", "meadow", "mill", "mist",
    "moss", "oak", "orchard", "pebble", "pine", "pond", "quarry", "rain", "reed", "ridge", "river", "saddle",
    "sand", "shore", "slate", "spruce", "stone", "thistle", "valley", "willow",
];

/// How many tokens a prompt of this many bytes counts for.
pub(crate) fn tokens(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(TOKEN_BYTES)).unwrap_or(u32::MAX)
}

/// Scrambles a number so that every bit of the input moves about half of the output's (the SplitMix64 finaliser).
pub(crate) fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash that is the same on every machine and in every run, unlike the standard library's.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut state = mix(seed ^ bytes.len() as u64);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = mix(state ^ u64::from_le_bytes(word)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
    let rest = chunks.remainder();
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    mix(state ^ u64::from_le_bytes(word))
}

/// A small deterministic stream of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high.saturating_sub(low) + 1)
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn word(&mut self) -> &'static str {
        WORDS[(self.roll() % WORDS.len() as u64) as usize]
    }
}

/// A text already cut into tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    text: String,
    ends: Vec<u32>,
}

impl Pieces {
    /// The introduction, then filler words until there are `count` tokens; cut off when the introduction is longer.
    pub(crate) fn prose(introduction: &str, dice: &mut Dice, count: usize) -> Self {
        let mut pieces = Pieces::default();
        for word in introduction.split_inclusive(' ').take(count) {
            pieces.push(word);
        }
        let mut place = 0;
        while pieces.len() < count {
            pieces.text.push_str(dice.word());
            place += 1;
            let end = place % SENTENCE_WORDS == 0;
            pieces.push(if end { ". " } else { " " });
        }
        pieces
    }

    /// A finished text, cut every few bytes at character boundaries, at most `count` tokens of it.
    pub(crate) fn literal(text: &str, count: usize) -> Self {
        let mut pieces = Pieces::default();
        let mut start = 0;
        for (at, _) in text.char_indices().chain([(text.len(), ' ')]).skip(1) {
            if (at - start >= JSON_PIECE_BYTES || at == text.len()) && pieces.len() < count {
                pieces.push(&text[start..at]);
                start = at;
            }
        }
        pieces
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    /// How many tokens there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The token at this place, empty beyond the last.
    pub(crate) fn get(&self, at: usize) -> &str {
        let Some(end) = self.ends.get(at) else {
            return "";
        };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..*end as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_repeats_itself_exactly_and_has_the_length_asked_for() {
        let once = Pieces::prose("[simulated] hello ", &mut Dice::new(7), 40);
        let again = Pieces::prose("[simulated] hello ", &mut Dice::new(7), 40);
        let other = Pieces::prose("[simulated] hello ", &mut Dice::new(8), 40);
        assert_eq!(once.text(), again.text());
        assert_ne!(once.text(), other.text());
        assert_eq!(once.len(), 40);
        let joined: String = (0..once.len()).map(|i| once.get(i)).collect();
        assert_eq!(joined, once.text());
    }

    #[test]
    fn one_token_still_says_that_it_is_simulated() {
        assert_eq!(Pieces::prose("[simulated] hello ", &mut Dice::new(7), 1).text(), "[simulated] ");
    }

    #[test]
    fn literal_cuts_at_character_boundaries_and_loses_nothing() {
        let text = "{\"a\":\"żółw und 🐢\"}";
        let pieces = Pieces::literal(text, usize::MAX);
        assert_eq!(pieces.text(), text);
        assert!(pieces.len() > 3);
        assert!(Pieces::literal(text, 2).text().len() < text.len());
    }

    #[test]
    fn hash_sees_every_byte_and_the_length() {
        let base = hash(1, b"0123456789abc");
        assert_eq!(base, hash(1, b"0123456789abc"));
        assert_ne!(base, hash(2, b"0123456789abc"));
        assert_ne!(base, hash(1, b"0123456789abd"));
        assert_ne!(hash(1, b"a\0"), hash(1, b"a"));
    }

    #[test]
    fn a_token_is_four_bytes_rounded_up() {
        assert_eq!([tokens(0), tokens(1), tokens(4), tokens(5)], [0, 1, 1, 2]);
    }
}
