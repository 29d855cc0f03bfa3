//! What is known about words: trained lexicons (names, places, streets, titles) and fixed context words of the scanners.
//!
//! One open-addressed table answers both in one look-up. Read-only once built by `Detector`.

use super::context::{self, Context};
use super::token::word_hash;

/// The word lists, one bit each. The order is baked into the trained features and into `models/pii.safetensors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum List {
    /// Given names.
    First,
    /// Family names.
    Last,
    /// Cities and regions.
    Place,
    /// Countries.
    Country,
    /// Nationalities, religions.
    Nrp,
    /// Forms of address.
    Title,
    /// Jobs.
    Job,
    /// Street words.
    Street,
    /// Flat, suite, floor, box.
    Unit,
    /// Inc, GmbH.
    OrgEnd,
    /// Bank, University.
    OrgWord,
    /// Well-known companies.
    Org,
    /// Words that are ordinary in lower case.
    Common,
    /// Capitalised words that are no personal data: products, works, events.
    Term,
    /// Words after which a name or place is likely.
    Cue,
    /// Small words inside names: of, van, de la.
    Link,
}

impl List {
    /// Its bit in [`Entry::lists`].
    pub(crate) const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// What is known about one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Bits of [`List`].
    pub(crate) lists: u16,
    /// What it says about numbers near it.
    pub(crate) context: Context,
}

impl Entry {
    /// Whether any of these lists has the word.
    pub(crate) fn on(self, lists: u16) -> bool {
        self.lists & lists != 0
    }
}

/// Bytes of one word in the model file: a 32-bit key, then its lists.
pub(crate) const RECORD_BYTES: usize = 6;

/// The table.
#[derive(Debug)]
pub(crate) struct Lexicon {
    slots: Vec<(u32, Entry)>,
    mask: usize,
}

impl Default for Lexicon {
    /// Only the context words.
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Lexicon {
    /// Builds the table of `records` (key and lists, little-endian) and the context words.
    pub(crate) fn new(records: &[u8]) -> Self {
        let contexts: usize = context::WORDS.iter().map(|(words, _)| words.split(' ').count()).sum();
        let words = contexts + records.len() / RECORD_BYTES;
        let slots = (words * 3).next_power_of_two();
        let mut lexicon = Self { slots: vec![(0, Entry::default()); slots], mask: slots - 1 };
        for record in records.chunks_exact(RECORD_BYTES) {
            let key = u32::from_le_bytes([record[0], record[1], record[2], record[3]]);
            lexicon.entry(key).lists |= u16::from_le_bytes([record[4], record[5]]);
        }
        for &(words, context) in context::WORDS {
            for word in words.split(' ') {
                let entry = lexicon.entry(Self::key(word_hash(word)));
                entry.context = entry.context.and(context);
            }
        }
        lexicon
    }

    /// The key under which a word is stored; never 0, which marks an empty slot.
    pub(crate) fn key(word: u64) -> u32 {
        (word as u32) | 1
    }

    fn entry(&mut self, key: u32) -> &mut Entry {
        let mut at = Self::home(key) & self.mask;
        while self.slots[at].0 != 0 && self.slots[at].0 != key {
            at = (at + 1) & self.mask;
        }
        self.slots[at].0 = key;
        &mut self.slots[at].1
    }

    /// What is known about the word of this hash.
    pub(crate) fn get(&self, word: u64) -> Entry {
        let key = Self::key(word);
        let mut at = Self::home(key) & self.mask;
        // A third of the slots are taken at most, so an empty one ends every search.
        loop {
            match self.slots[at] {
                (0, _) => return Entry::default(),
                (found, entry) if found == key => return entry,
                _ => at = (at + 1) & self.mask,
            }
        }
    }

    fn home(key: u32) -> usize {
        (key >> 1) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_its_lists_and_its_context() {
        let mut record = Lexicon::key(word_hash("phone")).to_le_bytes().to_vec();
        record.extend(List::Common.bit().to_le_bytes());
        let lexicon = Lexicon::new(&record);
        let entry = lexicon.get(word_hash("Phone"));
        assert!(entry.on(List::Common.bit()) && !entry.on(List::First.bit()));
        assert!(entry.context.has(Context::PHONE));
        assert_eq!(lexicon.get(word_hash("zzzzq")), Entry::default());
    }

    #[test]
    fn bits_follow_the_order() {
        assert_eq!((List::First.bit(), List::Common.bit(), List::Link.bit()), (1, 1 << 12, 1 << 15));
    }
}
