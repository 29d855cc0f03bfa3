//! Hand-made word cues: small lexicons whose presence the heads learn to weigh.
//!
//! A cue never decides anything by itself; it is a feature that carries over to sources never seen in training, where
//! n-grams do not. Called by `features` for the words at the edges of a prompt.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::hash;

/// Seed of the word hash shared by cues and n-grams.
pub(crate) const WORD_SEED: u64 = 3;

/// One bit per lexicon in [`LEXICONS`], then these.
pub(crate) type Mask = u32;

/// A lexicon: its name is for readers, its place in [`LEXICONS`] is its feature number.
type Lexicon = (&'static str, &'static str);

/// Feature groups. Append only with retraining: the order is baked into the heads.
const LEXICONS: [Lexicon; 19] = [
    (
        "rewrite",
        "rewrite rephrase paraphrase reword edit proofread polish improve shorten simplify translate correct fix revise \
         restate convert tone grammar formal professional concise wording clearer friendlier casual spelling tighten redo \
         transform change make turn adapt",
    ),
    (
        "summary",
        "summarize summarise summary tldr tl condense recap outline digest gist abridge takeaways overview sum boil main \
         points key brief highlights headline",
    ),
    (
        "classify",
        "classify categorize categorise label sentiment category categories spam positive negative neutral tag detect \
         determine group bucket urgent priority toxic rate intent whether either belongs classification",
    ),
    (
        "extract",
        "extract pull parse retrieve identify names dates entities fields mentioned list find locate addresses phone \
         numbers emails values csv highlight entity keywords out",
    ),
    (
        "brainstorm",
        "brainstorm ideas idea suggest suggestions ways tips options alternatives recommend names come think creative \
         possible possibilities concepts themes topics give list propose",
    ),
    (
        "code",
        "python javascript typescript code function script sql query regex class api bash html css react rust java \
         implement bug debug endpoint unittest program algorithm dockerfile yaml terraform docker kubernetes golang \
         php ruby swift kotlin django flask node npm git def void int array loop refactor compile linux shell cron \
         postgres mongodb pandas numpy method component stacktrace exception snippet cpp",
    ),
    (
        "write",
        "write draft compose generate create story poem essay email letter song blog post speech article haiku novel \
         tweet slogan caption cover description lyrics paragraph sonnet limerick toast review bio announcement copy \
         monologue press newsletter message",
    ),
    (
        "question",
        "what who when where why how which whose whom is are does do can did was were should will has have could",
    ),
    (
        "chat",
        "hello hi hey thanks thank bye lol morning evening goodnight sup cool awesome nice feel feeling sad bored happy \
         lonely friend yourself doing haha yo welcome sorry love hate tired talk chat",
    ),
    (
        "device",
        "timer alarm remind reminder lights turn play flip roll volume calendar call dim thermostat song playlist meeting \
         book order cancel coin dice shuffle mute unlock",
    ),
    (
        "passage",
        "passage paragraph text article document below above following context given provided excerpt transcript \
         according based email review report contract notes conversation log table attached reading",
    ),
    (
        "reason",
        "solve calculate prove riddle puzzle logic logical deduce if then probability equation step steps therefore \
         compute derive total each per remaining twice half older younger many much infer conclude next sequence",
    ),
    (
        "constraint",
        "must exactly only without avoid include least most limit maximum minimum words sentences bullet bullets format \
         json haiku rhyme lowercase uppercase commas ensure never should under more than no not letters capital limited \
         strictly using contain mention table markdown lines syllables",
    ),
    (
        "domain",
        "explain theory difference between cause causes history war medical disease law legal physics chemistry biology \
         economics philosophy quantum protein court treaty empire symptoms theorem molecule inflation mechanism \
         revolution century role significance describe",
    ),
    (
        "creative",
        "story poem song imagine fiction character fantasy haiku joke lyrics plot dialogue roleplay pretend brainstorm \
         slogan metaphor science tale fairy pirate dragon wizard screenplay scene invent",
    ),
    (
        "continue",
        "now instead again continue shorter longer same it that this more yes ok okay sure another also previous go \
         yeah yep no nope right keep last first second one else them those",
    ),
    (
        "support",
        "error install settings configure account version update password printer windows iphone android app login reset \
         refund return policy warranty order shipping subscription our your plugin wifi device screen",
    ),
    ("first person", "i me my mine we our us"),
    ("second person", "you your yours yourself"),
];

/// Words passed over in search of the verb that says what is wanted: "could you please help me ...".
const PREAMBLE: &str = "please can could would will you i want need to help me hi hello hey kindly just like d m ll re my \
    the a an task your now ok okay so then and us let s we be able am looking for trying user assistant prompt instruction";

/// Lexicon number of "continue", which the blend with the context asks about.
pub(crate) const CONTINUE: usize = 15;
/// Lexicon numbers of the words that mark a request as complete in itself.
pub(crate) const QUESTION: usize = 7;
/// Lexicon number of words that point at a text.
pub(crate) const PASSAGE: usize = 10;
/// The lexicons of verbs that ask for work on or of a text.
pub(crate) const TASK_VERBS: Mask = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6;
/// How many lexicons there are.
pub(crate) const COUNT: usize = LEXICONS.len();
/// The bit of [`PREAMBLE`].
pub(crate) const PREAMBLE_BIT: Mask = 1 << COUNT;

/// Word hash to lexicon bits.
#[derive(Debug)]
pub(crate) struct Cues(HashMap<u64, Mask, BuildHasherDefault<Hashed>>);

/// Keys that are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash::bytes(self.0, bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Cues {
    pub(crate) fn new() -> Self {
        let mut map: HashMap<u64, Mask, _> = HashMap::default();
        let lists = LEXICONS.iter().map(|&(_, words)| words).chain([PREAMBLE]);
        for (bit, words) in lists.enumerate() {
            for word in words.split_ascii_whitespace() {
                *map.entry(hash::bytes(WORD_SEED, word.as_bytes())).or_default() |= 1 << bit;
            }
        }
        Self(map)
    }

    /// The lexicons that hold the word with this hash.
    pub(crate) fn of(&self, word: u64) -> Mask {
        self.0.get(&word).copied().unwrap_or_default()
    }
}
