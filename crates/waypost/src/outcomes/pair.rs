//! The figures of routing between two models: how much of the gap the first calls to the stronger one close.
//!
//! PGR(s) = (quality with a share s of calls to the strong model - weak) / (strong - weak). APGR is its mean over s, 0.5 for
//! a random order; CPT(x) is the least s with PGR(s) >= x. (Ong et al. 2024, "RouteLLM".) Pure. Called by `measure`.

use serde::Serialize;

use super::measure::{Interval, Judged, intervals};

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Pair {
    pub(crate) weak: String,
    pub(crate) strong: String,
    /// Mean quality of each alone.
    pub(crate) weak_quality: f64,
    pub(crate) strong_quality: f64,
    pub(crate) apgr: Interval,
    pub(crate) cpt50: Interval,
    pub(crate) cpt80: Interval,
}

/// `None` unless there are two models, one of them better.
pub(crate) fn measure(judged: &Judged, resamples: &[Vec<u32>]) -> Option<Pair> {
    let [first, second] = &judged.models[..] else { return None };
    let means =
        [0, 1].map(|model| judged.single(model).iter().map(|q| q.0).sum::<f64>() / judged.len() as f64);
    let strong = usize::from(means[1] > means[0]);
    let weak = 1 - strong;
    if judged.len() == 0 || means[strong] <= means[weak] {
        return None;
    }
    let gap = |values: &[f32], at: usize| f64::from(values[2 * at + strong] - values[2 * at + weak]);
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|a, b| gap(&judged.expected, *b).total_cmp(&gap(&judged.expected, *a)));
    let expected: Vec<f64> = order.iter().map(|&at| gap(&judged.expected, at)).collect();
    let gains: Vec<f64> = order.iter().map(|&at| gap(&judged.truth, at)).collect();
    let figures = |counts: Option<&[u32]>| {
        let counted: Vec<f64> = order.iter().map(|&at| counts.map_or(1.0, |c| f64::from(c[at]))).collect();
        figures(&expected, &gains, &counted)
    };
    let [apgr, cpt50, cpt80] = intervals(figures, resamples);
    let names = [first, second];
    Some(Pair {
        weak: names[weak].clone(),
        strong: names[strong].clone(),
        weak_quality: means[weak],
        strong_quality: means[strong],
        apgr,
        cpt50,
        cpt80,
    })
}

/// APGR, CPT50 and CPT80 of prompts in the order in which they go to the strong model. Prompts expected alike go together:
/// their order is chance.
fn figures(expected: &[f64], gains: &[f64], counts: &[f64]) -> [f64; 3] {
    let n: f64 = counts.iter().sum();
    let whole: f64 = gains.iter().zip(counts).map(|(gain, count)| gain * count).sum();
    if n == 0.0 || whole <= 0.0 {
        return [0.5, 0.5, 0.8];
    }
    let (mut share, mut reached, mut area) = (0.0, 0.0, 0.0);
    let (mut cpt50, mut cpt80) = (1.0_f64, 1.0_f64);
    let mut at = 0;
    while at < gains.len() {
        let same = expected[at..].iter().take_while(|e| **e == expected[at]).count();
        let count: f64 = counts[at..at + same].iter().sum();
        let gain: f64 = gains[at..at + same].iter().zip(&counts[at..]).map(|(g, c)| g * c).sum();
        let (before, step, rise) = (reached, count / n, gain / whole);
        reached += rise;
        area += step * (before + reached) / 2.0;
        for (wanted, found) in [(0.5, &mut cpt50), (0.8, &mut cpt80)] {
            if before < wanted && reached >= wanted && *found == 1.0 {
                *found = share + step * (wanted - before) / rise;
            }
        }
        share += step;
        at += same;
    }
    [area, cpt50, cpt80]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_order_and_a_random_one() {
        let gains = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let [apgr, cpt50, cpt80] = figures(&[8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], &gains, &[1.0; 8]);
        assert!((apgr - 0.875).abs() < 1e-12 && (cpt50 - 0.125).abs() < 1e-12 && (cpt80 - 0.2).abs() < 1e-12);
        let alike = figures(&[0.0; 8], &gains, &[1.0; 8]);
        assert!(alike.iter().zip([0.5, 0.5, 0.8]).all(|(a, b)| (a - b).abs() < 1e-12), "{alike:?}");
        let worst = figures(&[8.0, 7.0], &[-0.5, 1.0], &[1.0; 2]);
        assert!(worst[0] < 0.5 && worst[1] > 0.5);
        let drawn = figures(&[2.0, 1.0], &[1.0, 0.0], &[1.0, 3.0]);
        assert!((drawn[0] - 0.875).abs() < 1e-12, "{drawn:?}");
    }
}
