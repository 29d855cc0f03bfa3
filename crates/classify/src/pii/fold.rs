//! Lower-cases a word and strips the accents of Latin letters, into a small buffer on the stack.
//!
//! "José", "JOSE" and "jose" become one key of the lexicon. Long words are cut: what counts of them is the beginning.

/// Bytes of a word that are looked at.
pub(crate) const MAX_WORD_BYTES: usize = 48;

/// Base letters of U+00C0 to U+017F; a space keeps the character.
const BASE: &[u8; 192] = b"aaaaaaaceeeeiiiidnooooo ouuuuytsaaaaaaaceeeeiiiidnooooo ouuuuyty\
aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiiiiijjkkklllllll\
lllnnnnnnnnnoooooooorrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs";

/// A folded word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folded {
    bytes: [u8; MAX_WORD_BYTES],
    len: usize,
}

impl Folded {
    /// Folds `word`.
    pub(crate) fn new(word: &str) -> Self {
        let mut folded = Self { bytes: [0; MAX_WORD_BYTES], len: 0 };
        if word.is_ascii() {
            folded.len = word.len().min(MAX_WORD_BYTES);
            for (to, from) in folded.bytes.iter_mut().zip(word.as_bytes()) {
                *to = from.to_ascii_lowercase();
            }
            return folded;
        }
        for character in word.chars() {
            let character = base(character);
            let mut utf8 = [0; 4];
            let piece = character.encode_utf8(&mut utf8).as_bytes();
            let Some(room) = folded.bytes.get_mut(folded.len..folded.len + piece.len()) else { break };
            room.copy_from_slice(piece);
            folded.len += piece.len();
        }
        folded
    }

    /// The folded bytes; not necessarily UTF-8 when the word was cut.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The lower-case letter without its accent.
fn base(character: char) -> char {
    let code = character as usize;
    match code {
        0xC0..0x180 => match BASE[code - 0xC0] {
            b' ' => character,
            letter => char::from(letter),
        },
        _ => character.to_lowercase().next().unwrap_or(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(word: &str) -> String {
        String::from_utf8_lossy(Folded::new(word).as_bytes()).into_owned()
    }

    #[test]
    fn case_and_accents_fall_away() {
        assert_eq!(fold("José"), "jose");
        assert_eq!(fold("ÅNGSTRÖM"), "angstrom");
        assert_eq!(fold("Łukasz"), "lukasz");
        assert_eq!(fold("Žižek"), "zizek");
        assert_eq!(fold("Ștefan"), "ștefan");
        assert_eq!(fold("İstanbul"), "istanbul");
        assert_eq!(fold("Tromsø"), "tromso");
        assert_eq!(fold("Weiß"), "weis");
        assert_eq!(fold("Ελλάδα"), "ελλάδα");
        assert_eq!(fold("ŘÍČANY"), "ricany");
        assert_eq!(fold("Győr"), "gyor");
        assert_eq!(fold("Dvořák"), "dvorak");
        assert_eq!(fold("Ağaoğlu"), "agaoglu");
        assert_eq!(fold("3×4"), "3×4");
    }

    #[test]
    fn a_long_word_is_cut() {
        assert_eq!(fold(&"Ab".repeat(100)).len(), MAX_WORD_BYTES);
        assert!(Folded::new(&"日".repeat(100)).as_bytes().len() <= MAX_WORD_BYTES);
    }
}
