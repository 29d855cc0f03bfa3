//! Text to features, in one pass shared by all heads and by training.
//!
//! Three kinds: dense (two means of static token embeddings, and cues), sparse (hashed n-grams of the *edge* words,
//! where instructions stand; the middle of a prompt is mostly quoted matter), and plain counts that the rules use. At most
//! [`HEAD_BYTES`] + [`TAIL_BYTES`] of text are looked at. Called by `engine` and `train`.

use std::sync::Arc;

use bytes::Bytes;

use crate::constraints;
use crate::cues::{self, Cues, Mask, WORD_SEED};
use crate::ends;
use crate::error::Error;
use crate::few_shots;
use crate::hash;
use crate::noise;
use crate::table::{DIMS, StaticTable};
use crate::wordpiece::WordPiece;
use crate::words::{Word, for_each_word};

/// Bytes read from the start of a text.
const HEAD_BYTES: usize = 12 * 1024;
/// Bytes read from the end of a text longer than both together.
const TAIL_BYTES: usize = 12 * 1024;
/// Words at the start that count as edge.
const LEAD_WORDS: usize = 64;
/// Words at the end that count as edge.
const TAIL_WORDS: usize = 32;
/// Letters of a word that enter character n-grams.
const CHAR_GRAM_WORD_BYTES: usize = 24;
const CHAR_GRAM: usize = 5;
/// Words searched for the verb that says what is wanted.
const VERB_WORDS: usize = 14;

/// log2 of the number of n-gram buckets.
const BUCKET_BITS: u32 = 17;
/// Number of n-gram buckets.
pub(crate) const BUCKETS: usize = 1 << BUCKET_BITS;
/// log2 of the number of slots in which a model notes the words and pairs of words it was taught. More than buckets: a
/// weight may be shared, but a collision here would make the unknown look known.
const GRAM_BITS: u32 = 20;
/// Number of slots for known words and pairs.
pub(crate) const GRAMS: usize = 1 << GRAM_BITS;

const SHAPE: usize = 38; // see `Pass::shape`
/// Cue features: lead verb, last verb and edge words per lexicon, then shape.
const CUE_FEATURES: usize = 3 * cues::COUNT + SHAPE;
/// Length of the dense vector: edge mean, whole mean, cues.
pub(crate) const DENSE: usize = 2 * DIMS + CUE_FEATURES;
/// Where cues begin in the dense vector.
pub(crate) const CUES_FROM: usize = 2 * DIMS;

const NS_UNIGRAM: u64 = 11;
const NS_BIGRAM: u64 = 12;
const NS_START: u64 = 13;
const NS_VERB: u64 = 14;
const NS_CHARS: u64 = 15;
const NS_TAIL: u64 = 16;
const NS_LAST_VERB: u64 = 17;

/// What a text looks like to the heads. Reused between texts.
#[derive(Debug, Default, Clone)]
pub(crate) struct Features {
    /// [`DENSE`] values.
    pub(crate) dense: Vec<f32>,
    /// Buckets that are on; each weighs [`Features::sparse_value`].
    pub(crate) sparse: Vec<u32>,
    /// Slots of the edge words and of their pairs, for the model's notion of what it knows.
    pub(crate) grams: Vec<u32>,
    /// Words and punctuation marks seen.
    pub(crate) words: usize,
    /// The text says nothing: empty, punctuation, or keyboard noise.
    pub(crate) contentless: bool,
    /// Edge words per lexicon.
    pub(crate) cue_counts: [u16; cues::COUNT],
    /// Lexicons of the leading verb.
    pub(crate) verb: Mask,
    /// Worked examples found.
    pub(crate) few_shots: u32,
    /// Explicit constraints found.
    pub(crate) constraints: u32,
}

impl Features {
    /// The value of every sparse feature that is on: the vector has length 1 whatever the size of the text.
    pub(crate) fn sparse_value(&self) -> f32 {
        if self.sparse.is_empty() { 0.0 } else { 1.0 / (self.sparse.len() as f32).sqrt() }
    }
}

/// Buffers for one thread.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    word: String,
    pieces: Vec<u16>,
    tail: Vec<EdgeWord>,
}

/// What is kept of an edge word until it is known whether it is one.
#[derive(Debug, Default, Clone)]
struct EdgeWord {
    hash: u64,
    text: String,
    pieces: Vec<u16>,
}

/// The featuriser: vocabulary, table and lexicons.
#[derive(Debug)]
pub(crate) struct Featuriser {
    wordpiece: Arc<WordPiece>,
    table: StaticTable,
    cues: Cues,
}

impl Featuriser {
    /// Opens the shared files.
    pub(crate) fn open(vocab: &'static [u8], table: &'static [u8]) -> Result<Self, Error> {
        let wordpiece = Arc::new(WordPiece::new("vocab.txt", vocab)?);
        let table =
            StaticTable::open("static.safetensors", &Bytes::from_static(table), vocab, wordpiece.len())?;
        Ok(Self { wordpiece, table, cues: Cues::new() })
    }

    /// The vocabulary, for the encoder.
    pub(crate) fn wordpiece(&self) -> &Arc<WordPiece> {
        &self.wordpiece
    }

    /// Fills `out` with the features of `text`.
    pub(crate) fn run(&self, text: &str, scratch: &mut Scratch, out: &mut Features) {
        let (head, tail) = ends::of(text, HEAD_BYTES, TAIL_BYTES);
        out.sparse.clear();
        out.grams.clear();
        out.cue_counts = [0; cues::COUNT];
        out.verb = 0;
        if scratch.tail.len() != TAIL_WORDS {
            scratch.tail.resize_with(TAIL_WORDS, EdgeWord::default);
        }
        let Scratch { word, pieces, tail: ring } = scratch;
        let mut pass = Pass::new(self, out, pieces, ring);
        for part in [head, tail] {
            for_each_word(part, word, |w| pass.word(w));
        }
        pass.finish(text, head, tail);
    }
}

/// The state of one pass over a text.
struct Pass<'a> {
    shared: &'a Featuriser,
    out: &'a mut Features,
    pieces: &'a mut Vec<u16>,
    ring: &'a mut [EdgeWord],
    words: usize,
    /// Of the first words it is `whole`, and so not summed up twice.
    edge: [f32; DIMS],
    whole: [f32; DIMS],
    previous: u64,
    start: u64,
    verb: Option<(Mask, u64)>,
    /// The verb of the latest sentence but the first: an instruction may follow what it is about.
    last_verb: Option<(Mask, u64)>,
    sentence_opens: bool,
    sentences: usize,
    numbers: usize,
    punctuation: usize,
    commas: usize,
    codelike: usize,
    letters: noise::Letters,
}

impl<'a> Pass<'a> {
    fn new(
        shared: &'a Featuriser,
        out: &'a mut Features,
        pieces: &'a mut Vec<u16>,
        ring: &'a mut [EdgeWord],
    ) -> Self {
        Self {
            shared,
            out,
            pieces,
            ring,
            words: 0,
            edge: [0.0; DIMS],
            whole: [0.0; DIMS],
            previous: 0,
            start: NS_START,
            verb: None,
            last_verb: None,
            sentence_opens: false,
            sentences: 0,
            numbers: 0,
            punctuation: 0,
            commas: 0,
            codelike: 0,
            letters: noise::Letters::default(),
        }
    }

    fn word(&mut self, word: Word<'_>) {
        self.shared.wordpiece.encode(word, self.pieces);
        if self.words == LEAD_WORDS {
            self.edge = self.whole;
        }
        self.shared.table.add_to(self.pieces, &mut self.whole);
        self.count(word);
        let hash = hash::bytes(WORD_SEED, word.text.as_bytes());
        self.sentence(word, hash);
        if self.words < LEAD_WORDS {
            self.lead(word, hash);
        } else {
            let slot = &mut self.ring[self.words % TAIL_WORDS];
            slot.hash = hash;
            slot.text.clear();
            slot.text.push_str(word.text);
            slot.pieces.clone_from(self.pieces);
        }
        self.words += 1;
    }

    fn sentence(&mut self, word: Word<'_>, hash: u64) {
        if matches!(word.text, "." | "?" | "!" | ":" | ">") {
            self.sentences += usize::from(!self.sentence_opens);
            self.sentence_opens = true;
        } else if self.sentence_opens && word.text.starts_with(char::is_alphabetic) {
            let mask = self.shared.cues.of(hash);
            if mask & cues::PREAMBLE_BIT == 0 {
                self.last_verb = Some((mask, hash));
                self.sentence_opens = false;
            }
        }
    }

    fn count(&mut self, word: Word<'_>) {
        match word.text.as_bytes() {
            [b','] => self.commas += 1,
            [b'{' | b'}' | b';' | b'=' | b'<' | b'>' | b'_'] => self.codelike += 1,
            [first, ..] if first.is_ascii_digit() => self.numbers += 1,
            [first, ..] if first.is_ascii_punctuation() => self.punctuation += 1,
            _ => self.letters.add(word.text, self.pieces),
        }
    }

    fn lead(&mut self, word: Word<'_>, hash: u64) {
        if self.words < 3 {
            self.start = hash::join(self.start, hash);
            push(self.out, self.start);
        }
        let mask = self.edge_word(word.text, hash);
        if self.words < VERB_WORDS && word.text.starts_with(char::is_alphabetic) {
            match self.verb {
                None if mask & cues::PREAMBLE_BIT == 0 => {
                    self.verb = Some((mask, hash));
                    push(self.out, hash::join(NS_VERB, hash));
                }
                // The object beside the verb: "write function", "write poem"; articles are passed over.
                Some((_, verb)) if verb != 0 && mask & cues::PREAMBLE_BIT == 0 => {
                    push(self.out, hash::join(hash::join(NS_VERB, verb), hash));
                }
                _ => {}
            }
        }
    }

    /// N-grams and cues of one edge word.
    fn edge_word(&mut self, text: &str, hash: u64) -> Mask {
        for gram in [hash::join(NS_UNIGRAM, hash), hash::join(hash::join(NS_BIGRAM, self.previous), hash)] {
            push(self.out, gram);
            self.out.grams.push((gram >> (64 - GRAM_BITS)) as u32);
        }
        self.previous = hash;
        char_grams(text, self.out);
        let mask = self.shared.cues.of(hash);
        for (lexicon, count) in self.out.cue_counts.iter_mut().enumerate() {
            *count += (mask >> lexicon & 1) as u16;
        }
        mask
    }

    fn finish(mut self, text: &str, head: &str, tail: &str) {
        self.tail();
        let words = self.words;
        self.out.words = words;
        self.out.verb = self.verb.map_or(0, |(mask, _)| mask);
        self.out.contentless = self.letters.contentless(self.numbers);
        self.out.few_shots = few_shots::count(head, tail);
        self.out.constraints = constraints::count(head, tail);
        let last_verb = self.last_verb.map_or(0, |(mask, _)| mask);
        if let Some((_, hash)) = self.last_verb {
            push(self.out, hash::join(NS_LAST_VERB, hash));
        }
        self.out.sparse.sort_unstable();
        self.out.sparse.dedup();

        let mut dense = std::mem::take(&mut self.out.dense);
        dense.clear();
        dense.extend(normalised(&self.edge));
        dense.extend(normalised(&self.whole));
        dense.extend((0..cues::COUNT).map(|lexicon| (self.out.verb >> lexicon & 1) as f32));
        dense.extend((0..cues::COUNT).map(|lexicon| (last_verb >> lexicon & 1) as f32));
        dense.extend(self.out.cue_counts.iter().map(|&count| f32::from(count.min(3)) / 3.0));
        dense.extend(self.shape(text, head));
        self.out.dense = dense;
    }

    /// The last words of a text whose edges do not meet.
    fn tail(&mut self) {
        if self.words <= LEAD_WORDS {
            self.edge = self.whole;
        }
        let beyond = self.words.saturating_sub(LEAD_WORDS).min(TAIL_WORDS);
        self.previous = NS_TAIL;
        for back in (1..=beyond).rev() {
            let slot = (self.words - back) % TAIL_WORDS;
            let entry = std::mem::take(&mut self.ring[slot]);
            self.edge_word(&entry.text, entry.hash);
            self.shared.table.add_to(&entry.pieces, &mut self.edge);
            self.ring[slot] = entry;
        }
    }

    /// What the prompt looks like from afar. Every value lies in 0..=1.
    fn shape(&self, text: &str, head: &str) -> [f32; SHAPE] {
        let words = self.words.max(1) as f32;
        let bytes = head.as_bytes();
        let opening = head.get(..head.floor_char_boundary(240)).unwrap_or(head);
        let trimmed = text.trim_end();
        let lines = bytes.iter().filter(|&&b| b == b'\n').count();
        let longest_line = head.lines().map(str::len).max().unwrap_or(0);
        let non_ascii = bytes.iter().filter(|&&b| b >= 0x80).count();
        let colon_then_text = opening.find(':').is_some_and(|at| head.len() - at > 60);
        let question = opening.contains('?') || trimmed.ends_with('?');
        let flag = |on: bool| f32::from(u8::from(on));
        let asks = self.out.verb >> cues::QUESTION & 1 == 1;
        let told = self.out.verb & cues::TASK_VERBS != 0;
        let points_at_text = self.out.cue_counts[cues::PASSAGE] > 0;
        let ends_asking = trimmed.ends_with('?');
        let quoted = quoted_bytes(opening) > 30;
        let bucket = |low: usize, high: usize| flag((low..high).contains(&self.words));
        [
            1.0,
            bucket(0, 4),
            bucket(4, 8),
            bucket(8, 16),
            bucket(16, 32),
            bucket(32, 64),
            bucket(64, 160),
            bucket(160, 480),
            bucket(480, usize::MAX),
            flag(trimmed.ends_with('?')),
            flag(question),
            flag(!question && self.words < 12),
            flag(head.contains("```")),
            flag(colon_then_text),
            flag(trimmed.ends_with(':')),
            flag(head.contains("\n\n")),
            (lines as f32 / 20.0).min(1.0),
            flag(longest_line > 240),
            flag(opening.contains(['"', '\u{201c}'])),
            flag(head.contains("(A)") || head.contains("\nA. ") || head.contains("A) ")),
            (non_ascii as f32 / bytes.len().max(1) as f32).min(1.0),
            (self.numbers as f32 * 5.0 / words).min(1.0),
            (self.punctuation as f32 * 2.0 / words).min(1.0),
            (self.commas as f32 * 4.0 / words).min(1.0),
            (self.codelike as f32 * 6.0 / words).min(1.0),
            (self.out.few_shots as f32 / 3.0).min(1.0),
            (self.out.constraints as f32 / 3.0).min(1.0),
            flag(self.out.constraints > 0),
            flag(ends_asking && !asks && self.words > 16),
            flag(asks && self.words <= 16),
            flag(asks && self.words > 24),
            flag(question && points_at_text),
            flag(told && self.words > 24),
            flag(told && self.words <= 16),
            flag(quoted),
            flag(self.out.few_shots > 0),
            flag(self.out.few_shots > 1),
            (self.sentences as f32 / 8.0).min(1.0),
        ]
    }
}

/// Length of the first quotation in `text`, whether closed or not.
fn quoted_bytes(text: &str) -> usize {
    let mut parts = text.split(['"', '\u{201c}', '\u{201d}']);
    parts.nth(1).map_or(0, str::len)
}

fn push(out: &mut Features, hash: u64) {
    out.sparse.push((hash >> (64 - BUCKET_BITS)) as u32);
}

/// Character n-grams of a word with its boundaries marked; they survive typos and inflection.
fn char_grams(text: &str, out: &mut Features) {
    let mut marked = [b'^'; CHAR_GRAM_WORD_BYTES + 2];
    let length = text.len().min(CHAR_GRAM_WORD_BYTES);
    if length + 2 <= CHAR_GRAM {
        return;
    }
    marked[1..=length].copy_from_slice(&text.as_bytes()[..length]);
    marked[length + 1] = b'$';
    for gram in marked[..length + 2].windows(CHAR_GRAM) {
        push(out, hash::bytes(NS_CHARS, gram));
    }
}

fn normalised(sum: &[f32; DIMS]) -> impl Iterator<Item = f32> + '_ {
    let norm = sum.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    sum.iter().map(move |v| v / norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    static VOCAB: &[u8] = include_bytes!("../../../models/vocab.txt");
    static TABLE: &[u8] = include_bytes!("../../../models/static.safetensors");

    #[test]
    fn an_altered_vocabulary_is_refused() {
        let mut altered = VOCAB.to_vec();
        altered[20_000] ^= 1;
        let error = Featuriser::open(altered.leak(), TABLE).unwrap_err();
        assert!(error.to_string().contains("vocab.txt"), "{error}");
    }

    #[test]
    fn only_the_ends_of_a_long_text_are_read() {
        let featuriser = Featuriser::open(VOCAB, TABLE).unwrap();
        let (mut scratch, mut long, mut longer) =
            (Scratch::default(), Features::default(), Features::default());
        let text = |middle: usize| {
            format!("{}{}{}", "summarize é this ".repeat(2000), "x ".repeat(middle), "the end. ".repeat(4000))
        };
        featuriser.run(&text(10), &mut scratch, &mut long);
        featuriser.run(&text(100_000), &mut scratch, &mut longer);
        assert_eq!((long.words, &long.sparse), (longer.words, &longer.sparse));
    }

    #[test]
    fn every_vector_has_the_length_the_heads_expect() {
        let featuriser = Featuriser::open(VOCAB, TABLE).unwrap();
        let (mut scratch, mut features) = (Scratch::default(), Features::default());
        for text in ["", "one", "Translate: \u{4f60}\u{597d}", &"many words ".repeat(500)] {
            featuriser.run(text, &mut scratch, &mut features);
            assert_eq!(features.dense.len(), DENSE);
            assert!(features.dense.iter().all(|x| x.is_finite()));
        }
    }
}
