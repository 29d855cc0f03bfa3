//! Which confidence to ask for: from answers whose truth is known to the lowest floor that keeps a promise.
//!
//! Pure. Called by `train`; the results go into `labels.json` and the model card.

use waypost_classify::train::Outcome;

/// Share of answers at or above a threshold that must be right.
pub(crate) const PRECISION: f64 = 0.9;
/// Fewer answers prove nothing.
const MIN_ANSWERS: usize = 5;
/// Highest threshold there is: one of 1 would decline nearly all that is right.
const HIGHEST: f32 = 0.99;

/// A threshold and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Threshold {
    /// Lowest confidence to be believed.
    pub(crate) at: f32,
    /// Share right of what is at or above it.
    pub(crate) precision: f64,
    /// Share of all answers (for a floor), or of all texts of the label, that pass it.
    pub(crate) kept: f64,
}

/// The lowest confidence at which nine in ten answers at or above it are right; `None` where there is none.
pub(crate) fn floor(outcomes: &[Outcome]) -> Option<Threshold> {
    let mut scored: Vec<(f32, bool)> = outcomes
        .iter()
        .map(|outcome| {
            let (given, confidence) = outcome.given();
            (confidence, given == outcome.label)
        })
        .collect();
    lowest(&mut scored, outcomes.len(), |kept, _| kept)
}

/// The same for one label against the rest, over its probability: for asking "is it this one?".
pub(crate) fn one_vs_rest(outcomes: &[Outcome], label: usize) -> Option<Threshold> {
    let mut scored: Vec<(f32, bool)> = outcomes
        .iter()
        .filter_map(|outcome| Some((*outcome.probabilities.get(label)?, outcome.label == label)))
        .collect();
    let all = scored.iter().filter(|(_, right)| *right).count();
    lowest(&mut scored, all, |_, right| right)
}

/// The longest run from the top that keeps the promise; `counted` says which number of it is a share of `all`.
fn lowest(
    scored: &mut [(f32, bool)],
    all: usize,
    counted: impl Fn(usize, usize) -> usize,
) -> Option<Threshold> {
    scored.iter_mut().for_each(|(score, _)| *score = score.min(HIGHEST));
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut right, mut found) = (0, None);
    for (at, (score, is_right)) in scored.iter().enumerate() {
        right += usize::from(*is_right);
        let kept = at + 1;
        // Equal scores pass together or not at all.
        let ends = scored.get(kept).is_none_or(|(next, _)| next < score);
        let precision = right as f64 / kept as f64;
        if ends && kept >= MIN_ANSWERS && precision >= PRECISION {
            found = Some(Threshold {
                at: *score,
                precision,
                kept: counted(kept, right) as f64 / all.max(1) as f64,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(scored: &[(f32, bool)]) -> Vec<Outcome> {
        scored
            .iter()
            .map(|(confidence, right)| Outcome {
                probabilities: vec![*confidence, 1.0 - confidence],
                label: usize::from(!right),
                escalated: false,
            })
            .collect()
    }

    #[test]
    fn the_floor_is_the_lowest_that_keeps_the_promise() {
        let mut scored: Vec<(f32, bool)> = (0..20).map(|at| (0.99 - at as f32 * 0.01, true)).collect();
        scored.extend([(0.7, false), (0.7, false), (0.6, false), (0.55, false)]);
        let found = floor(&outcomes(&scored)).unwrap();
        assert!((found.at - 0.7).abs() < 1e-6 && found.precision > 0.9, "{found:?}");
        assert!((found.kept - 22.0 / 24.0).abs() < 1e-9);
        assert_eq!(floor(&outcomes(&[(0.9, false); 50])), None);
        assert_eq!(floor(&outcomes(&[(0.9, true); 4])), None, "four answers prove nothing");
        let all =
            floor(&outcomes(&[(0.9, true), (0.8, true), (0.7, true), (0.6, true), (0.55, true)])).unwrap();
        assert!((all.at - 0.55).abs() < 1e-6 && all.kept == 1.0);
    }

    #[test]
    fn one_label_has_a_threshold_of_its_own() {
        let right =
            outcomes(&[(0.9, true), (0.8, true), (0.7, true), (0.6, true), (0.5, true), (0.4, false)]);
        let found = one_vs_rest(&right, 0).unwrap();
        assert!((found.at - 0.5).abs() < 1e-6 && found.kept == 1.0, "{found:?}");
        assert_eq!(one_vs_rest(&right, 7), None);
    }
}
