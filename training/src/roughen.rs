//! Prompts as somebody in a hurry types them: case, punctuation, spacing and letters go astray, the meaning stays.
//!
//! Each hand-written prompt is taught a second time like this, so that labels do not hang on such things. Called by `corpus`.

use waypost_classify::train::Random;

/// Words of a text in which letters may go astray: one in so many, and at least one.
const WORDS_PER_TYPO: usize = 8;

/// One careless version of `text`.
pub(crate) fn rough(text: &str, random: &mut Random) -> String {
    let mut out = match random.below(5) {
        0 => text.to_uppercase(),
        1 | 2 => text.to_lowercase(),
        _ => text.to_owned(),
    };
    if random.unit() < 0.4 {
        out = out.trim_end_matches(['.', '?', '!', ':']).to_owned();
    }
    if random.unit() < 0.15 {
        out = out.replace([',', ';', '\''], "");
    }
    if random.unit() < 0.15 {
        out = out.replace(' ', if random.unit() < 0.5 { "  " } else { "\n" });
    }
    if random.unit() < 0.6 {
        out = typos(&out, random);
    }
    out
}

fn typos(text: &str, random: &mut Random) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let count = (words.len() / WORDS_PER_TYPO).clamp(1, 4);
    for _ in 0..count {
        let at = random.below(words.len());
        words[at] = misspell(&words[at], random);
    }
    words.join(" ")
}

/// Two letters swapped, one dropped, or one doubled.
fn misspell(word: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 4 || !letters.iter().all(|c| c.is_alphabetic()) {
        return word.to_owned();
    }
    let at = 1 + random.below(letters.len() - 2);
    match random.below(3) {
        0 => letters.swap(at, at + 1),
        1 => {
            letters.remove(at);
        }
        _ => letters.insert(at, letters[at]),
    }
    letters.into_iter().collect()
}
