//! Means, percentiles and the intervals around differences.
//!
//! Bounded memory: of many samples an even choice is kept. Pure. Called by `report`.

/// Samples kept; beyond them, each of all samples is kept with the same probability.
const MAX_SAMPLES: usize = 100_000;
/// So that the same file gives the same report.
const SEED: u64 = 2026;
/// Half the width of a 95 % interval, in standard errors.
const Z: f64 = 1.96;

/// Number, mean and spread of what was added, by Welford's sums.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    pub(super) n: u64,
    pub(super) mean: f64,
    squares: f64,
}

impl Moments {
    pub(super) fn add(&mut self, value: f64) {
        self.n += 1;
        let before = value - self.mean;
        self.mean += before / self.n as f64;
        self.squares += before * (value - self.mean);
    }

    pub(super) fn sum(&self) -> f64 {
        self.mean * self.n as f64
    }

    pub(super) fn known_mean(&self) -> Option<f64> {
        (self.n > 0).then_some(self.mean)
    }

    /// The square of the mean's standard error; `None` for fewer than two samples.
    fn variance_of_mean(&self) -> Option<f64> {
        let n = self.n as f64;
        (self.n > 1).then(|| self.squares / (n - 1.0) / n)
    }
}

/// A difference and the interval that holds the true one 95 times of 100.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(super) struct Difference {
    pub(super) difference: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Difference {
    /// Of two means, without assuming equal spreads (Welch); `None` for too few samples.
    pub(super) fn of_means(a: &Moments, b: &Moments) -> Option<Self> {
        let wide = Z * (a.variance_of_mean()? + b.variance_of_mean()?).sqrt();
        let difference = a.mean - b.mean;
        Some(Self { difference, low: difference - wide, high: difference + wide })
    }

    /// Of two shares, `a` of `n` less `b` of `m`: Newcombe's method 10, which keeps its promise for small counts too.
    pub(super) fn of_shares((a, n): (u64, u64), (b, m): (u64, u64)) -> Option<Self> {
        if n == 0 || m == 0 {
            return None;
        }
        let (p, q) = (a as f64 / n as f64, b as f64 / m as f64);
        let ((p_low, p_high), (q_low, q_high)) = (wilson(p, n as f64), wilson(q, m as f64));
        let difference = p - q;
        Some(Self {
            difference,
            low: difference - (p - p_low).hypot(q_high - q),
            high: difference + (p_high - p).hypot(q - q_low),
        })
    }
}

/// Wilson's interval of a share.
fn wilson(share: f64, n: f64) -> (f64, f64) {
    let z2 = Z * Z;
    let middle = share + z2 / (2.0 * n);
    let wide = Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let whole = 1.0 + z2 / n;
    (((middle - wide) / whole).max(0.0), ((middle + wide) / whole).min(1.0))
}

/// Samples for percentiles.
#[derive(Debug)]
pub(super) struct Samples {
    kept: Vec<f32>,
    seen: u64,
    dice: fastrand::Rng,
}

impl Default for Samples {
    fn default() -> Self {
        Self { kept: Vec::new(), seen: 0, dice: fastrand::Rng::with_seed(SEED) }
    }
}

impl Samples {
    pub(super) fn add(&mut self, value: f64) {
        self.seen += 1;
        if self.kept.len() < MAX_SAMPLES {
            self.kept.push(value as f32);
        } else if let Some(slot) = self.kept.get_mut(self.dice.u64(0..self.seen) as usize) {
            *slot = value as f32;
        }
    }

    /// The values below which these shares of all lie; `None` where there is none.
    pub(super) fn percentiles<const N: usize>(&self, shares: [f64; N]) -> [Option<f64>; N] {
        let mut sorted = self.kept.clone();
        sorted.sort_by(f32::total_cmp);
        shares.map(|share| {
            let last = sorted.len().checked_sub(1)?;
            Some(f64::from(sorted[(share * last as f64).round() as usize]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 5e-4
    }

    #[test]
    fn newcombe_s_own_examples() {
        // Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: rows a, b and d.
        for ((a, n), (b, m), low, high) in [
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((5, 56), (0, 29), -0.0381, 0.1926),
        ] {
            let found = Difference::of_shares((a, n), (b, m)).unwrap();
            assert!(close(found.low, low) && close(found.high, high), "{found:?}");
        }
        assert_eq!(Difference::of_shares((0, 0), (1, 2)), None);
    }

    #[test]
    fn means_and_their_difference() {
        let of = |values: &[f64]| {
            let mut moments = Moments::default();
            values.iter().for_each(|value| moments.add(*value));
            moments
        };
        let (a, b) = (of(&[1.0, 2.0, 3.0, 4.0]), of(&[2.0, 4.0]));
        assert_eq!((a.mean, a.sum(), b.mean), (2.5, 10.0, 3.0));
        let found = Difference::of_means(&a, &b).unwrap();
        // Variances of the means: (5/3)/4 and 2/2.
        let wide = 1.96 * (5.0_f64 / 12.0 + 1.0).sqrt();
        assert!(
            close(found.difference, -0.5) && close(found.high, -0.5 + wide) && close(found.low, -0.5 - wide)
        );
        assert_eq!(Difference::of_means(&a, &of(&[1.0])), None);
    }

    #[test]
    fn percentiles_of_more_than_are_kept() {
        let mut samples = Samples::default();
        assert_eq!(samples.percentiles([0.5]), [None]);
        (0..5 * MAX_SAMPLES).for_each(|i| samples.add(i as f64));
        assert_eq!(samples.kept.len(), MAX_SAMPLES);
        let [median, late] =
            samples.percentiles([0.5, 0.95]).map(|value| value.unwrap() / (5 * MAX_SAMPLES) as f64);
        assert!((median - 0.5).abs() < 0.01 && (late - 0.95).abs() < 0.01, "{median} {late}");
    }
}
