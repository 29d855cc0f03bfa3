//! Which rows teach, which calibrate and which test.
//!
//! Whole sources are held out where there are three or more, because a random split flatters by ten points and more; every
//! label keeps rows to be taught by. Rows with the same normalised text stay together. Pure; the same seed gives the same
//! split. Called by `train`.

use std::collections::{BTreeMap, BTreeSet};

use waypost_classify::train::Random;

/// Share of rows the figures are measured on.
const TEST_SHARE: f64 = 0.2;
/// Share of rows the gates are fitted on.
const CALIBRATION_SHARE: f64 = 0.15;
/// Below this many rows one part serves both, for want of rows.
const TINY_ROWS: usize = 200;
/// Share of rows held out of tiny data.
const TINY_SHARE: f64 = 0.3;
/// Fewer sources cannot be held out.
pub(crate) const MIN_SOURCES: usize = 3;
/// A held-out part may differ from its share by these factors.
const TOO_MUCH: f64 = 1.6;
const TOO_LITTLE: f64 = 0.25;

/// What the split looks at; one entry per row each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// Index of the label.
    pub(crate) labels: &'a [u32],
    /// Index of the source; the same for all where there is none.
    pub(crate) sources: &'a [u32],
    /// Equal for rows with the same normalised text.
    pub(crate) groups: &'a [u32],
}

/// Row indices by part, rising.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) train: Vec<usize>,
    /// The same as `test` when `shared`.
    pub(crate) calibration: Vec<usize>,
    pub(crate) test: Vec<usize>,
    /// Calibration and test are one part.
    pub(crate) shared: bool,
    /// The sources tested on; empty for a random split.
    pub(crate) test_sources: Vec<u32>,
    /// The sources calibrated on; empty for a random choice.
    pub(crate) calibration_sources: Vec<u32>,
    /// Rows put back into training because their text also stands there.
    pub(crate) returned: usize,
}

/// Splits rows three ways.
pub(crate) fn split(rows: Rows<'_>, seed: u64) -> Split {
    let mut random = Random(seed);
    let all: Vec<usize> = (0..rows.labels.len()).collect();
    let shared = all.len() < TINY_ROWS;
    let share = if shared { TINY_SHARE } else { TEST_SHARE };
    let mut split = Split { shared, ..Split::default() };
    let rest = match by_source(rows, &all, share, &mut random) {
        Some(held) => {
            split.test_sources = held.sources;
            split.test = held.rows;
            split.returned += held.returned;
            held.rest
        }
        None => {
            let (held, rest) = at_random(rows, &all, share, &mut random);
            split.test = held;
            rest
        }
    };
    if shared {
        split.calibration.clone_from(&split.test);
        split.calibration_sources.clone_from(&split.test_sources);
        split.train = rest;
        return split;
    }
    // Of what is left, so that the part is the same share of all rows.
    let share = CALIBRATION_SHARE * all.len() as f64 / rest.len().max(1) as f64;
    let held = if split.test_sources.is_empty() { None } else { by_source(rows, &rest, share, &mut random) };
    (split.calibration, split.train) = match held {
        Some(held) => {
            split.calibration_sources = held.sources;
            split.returned += held.returned;
            (held.rows, held.rest)
        }
        None => at_random(rows, &rest, share, &mut random),
    };
    split
}

struct Held {
    sources: Vec<u32>,
    rows: Vec<usize>,
    rest: Vec<usize>,
    returned: usize,
}

/// Holds out whole sources of about `share` of the rows; of a held source, only rows whose label is taught elsewhere.
fn by_source(rows: Rows<'_>, pool: &[usize], share: f64, random: &mut Random) -> Option<Held> {
    let mut counts: BTreeMap<u32, BTreeMap<u32, usize>> = BTreeMap::new();
    let mut taught: BTreeMap<u32, usize> = BTreeMap::new();
    for &at in pool {
        *counts.entry(rows.sources[at]).or_default().entry(rows.labels[at]).or_default() += 1;
        *taught.entry(rows.labels[at]).or_default() += 1;
    }
    if counts.len() < MIN_SOURCES {
        return None;
    }
    let wanted = share * pool.len() as f64;
    let mut order: Vec<u32> = counts.keys().copied().collect();
    random.shuffle(&mut order);
    let mut sources: BTreeSet<u32> = BTreeSet::new();
    let mut total = 0;
    // Sources too large for their share are only taken if nothing else is left: the smallest first.
    let (mut fitting, mut large): (Vec<u32>, Vec<u32>) = order
        .into_iter()
        .partition(|source| counts[source].values().sum::<usize>() as f64 <= wanted * TOO_MUCH);
    large.sort_by_key(|source| counts[source].values().sum::<usize>());
    fitting.extend(large.into_iter().take(1));
    for source in fitting {
        let spare = |(label, count): (&u32, &usize)| if taught[label] > *count { *count } else { 0 };
        let held: usize = counts[&source].iter().map(spare).sum();
        let most = if total == 0 { pool.len() as f64 / 2.0 } else { wanted * TOO_MUCH };
        if held == 0 || (total + held) as f64 > most {
            continue;
        }
        for (label, count) in &counts[&source] {
            if taught[label] > *count {
                *taught.entry(*label).or_default() -= count;
            }
        }
        sources.insert(source);
        total += held;
        if total as f64 >= wanted || counts.len() - sources.len() <= 1 {
            break;
        }
    }
    let mut kept: BTreeSet<u32> = BTreeSet::new();
    for &at in pool.iter().filter(|&&at| !sources.contains(&rows.sources[at])) {
        kept.insert(rows.labels[at]);
    }
    let is_held = |at: &usize| sources.contains(&rows.sources[*at]) && kept.contains(&rows.labels[*at]);
    let (held, mut rest): (Vec<usize>, Vec<usize>) = pool.iter().copied().partition(is_held);
    let texts: BTreeSet<u32> = rest.iter().map(|&at| rows.groups[at]).collect();
    let (back, held): (Vec<usize>, Vec<usize>) =
        held.into_iter().partition(|&at| texts.contains(&rows.groups[at]));
    rest.extend(&back);
    rest.sort_unstable();
    let enough = held.len() as f64 >= wanted * TOO_LITTLE;
    enough.then(|| Held { sources: sources.into_iter().collect(), rows: held, rest, returned: back.len() })
}

/// Holds out about `share` of the rows of each label; of every label at least one text stays. Returns held and rest.
fn at_random(rows: Rows<'_>, pool: &[usize], share: f64, random: &mut Random) -> (Vec<usize>, Vec<usize>) {
    // Rows of one text count for the label of the first of them.
    let mut texts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    pool.iter().for_each(|&at| texts.entry(rows.groups[at]).or_default().push(at));
    let mut by_label: BTreeMap<u32, Vec<Vec<usize>>> = BTreeMap::new();
    for text in texts.into_values() {
        by_label.entry(rows.labels[text[0]]).or_default().push(text);
    }
    let mut by_label: Vec<Vec<Vec<usize>>> = by_label.into_values().collect();
    random.shuffle(&mut by_label);
    let (mut held, mut rest) = (Vec::new(), Vec::new());
    // What one label's rounding leaves over, the next one gets: many small labels still give their share together.
    let mut due = f64::from(random.unit());
    for mut texts in by_label {
        random.shuffle(&mut texts);
        due += share * texts.iter().map(Vec::len).sum::<usize>() as f64;
        let most = texts.len() / 2;
        for (at, text) in texts.into_iter().enumerate() {
            if at < most && due >= text.len() as f64 {
                due -= text.len() as f64;
                held.extend(text);
            } else {
                rest.extend(text);
            }
        }
        due = due.min(1.0);
    }
    held.sort_unstable();
    rest.sort_unstable();
    (held, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made {
        labels: Vec<u32>,
        sources: Vec<u32>,
        groups: Vec<u32>,
    }

    impl Made {
        fn new(n: usize, label: impl Fn(usize) -> usize, source: impl Fn(usize) -> usize) -> Self {
            let list = |of: &dyn Fn(usize) -> usize| (0..n).map(|at| of(at) as u32).collect();
            Self { labels: list(&label), sources: list(&source), groups: list(&|at| at) }
        }

        fn split(&self, seed: u64) -> Split {
            split(Rows { labels: &self.labels, sources: &self.sources, groups: &self.groups }, seed)
        }

        /// Every row stands in exactly one part and every label is taught.
        fn check(&self, split: &Split) {
            let mut all = [&split.train[..], &split.test].concat();
            if !split.shared {
                all.extend(&split.calibration);
            }
            all.sort_unstable();
            assert_eq!(all, (0..self.labels.len()).collect::<Vec<_>>());
            let taught: BTreeSet<u32> = split.train.iter().map(|&at| self.labels[at]).collect();
            assert_eq!(taught, self.labels.iter().copied().collect());
        }
    }

    #[test]
    fn at_random_every_label_gives_its_share() {
        let made = Made::new(2000, |at| at % 20, |_| 0);
        let split = made.split(1);
        made.check(&split);
        assert!((380..=420).contains(&split.test.len()) && (280..=320).contains(&split.calibration.len()));
        for label in 0..20 {
            let held = split.test.iter().filter(|&&at| made.labels[at] == label).count();
            assert!((18..=22).contains(&held), "{held}");
        }
        assert_eq!(split, made.split(1));
        assert_ne!(split, made.split(2));
    }

    #[test]
    fn rare_labels_are_always_taught() {
        // 300 labels of one to three rows.
        let made = Made::new(600, |at| at % 300 * usize::from(at % 300 % 3 != 0), |_| 0);
        let split = made.split(3);
        made.check(&split);
        assert!(split.test.len() > 60, "{}", split.test.len());
        let tiny = Made::new(20, |at| at % 2, |_| 0);
        let split = tiny.split(3);
        tiny.check(&split);
        assert!(split.shared && split.test == split.calibration && (5..=7).contains(&split.test.len()));
    }

    #[test]
    fn whole_sources_are_held_out() {
        let made = Made::new(1000, |at| at % 7, |at| at / 50);
        let split = made.split(4);
        made.check(&split);
        let sources = |rows: &[usize]| rows.iter().map(|&at| made.sources[at]).collect::<BTreeSet<_>>();
        assert!(sources(&split.test).is_disjoint(&sources(&split.train)));
        assert!(sources(&split.calibration).is_disjoint(&sources(&split.train)));
        assert_eq!((split.test.len(), split.calibration.len()), (200, 150));
        let three = Made::new(300, |at| at % 2, |at| at / 100);
        let split = three.split(4);
        three.check(&split);
        assert_eq!(
            (split.test_sources.len(), split.calibration_sources.len(), split.test.len()),
            (1, 0, 100)
        );
    }

    #[test]
    fn a_label_of_one_source_stays_in_training() {
        // Label 9 stands in source 0 only, and every source has labels of its own.
        let made = Made::new(400, |at| if at < 40 { 9 } else { at % 3 }, |at| at / 40);
        (0..20).for_each(|seed| made.check(&made.split(seed)));
        let own = Made::new(400, |at| at / 40, |at| at / 40);
        let split = own.split(1);
        own.check(&split);
        assert!(split.test_sources.is_empty(), "nothing can be held out by source");
        assert!(!split.test.is_empty());
    }

    #[test]
    fn the_same_text_is_never_on_both_sides() {
        for sources in [1, 10] {
            let mut made = Made::new(1000, |at| at % 5, |at| at % sources);
            made.groups.iter_mut().for_each(|group| *group %= 333);
            let split = made.split(5);
            made.check(&split);
            let texts = |rows: &[usize]| rows.iter().map(|&at| made.groups[at]).collect::<BTreeSet<_>>();
            assert!(texts(&split.train).is_disjoint(&texts(&split.test)));
            assert!(texts(&split.train).is_disjoint(&texts(&split.calibration)));
            assert!(texts(&split.calibration).is_disjoint(&texts(&split.test)));
        }
    }
}
