//! The figures by which a classifier is judged: accuracy, macro-F1, calibration, confusion.
//!
//! Pure arithmetic over outcomes. Called by the trainers and by `waypost eval`.

use serde::Serialize;

use crate::calibrate::argmax;

/// Bins of the expected calibration error, as in the literature.
const BINS: usize = 15;

/// One judged text whose label is known.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// One probability per label.
    pub probabilities: Vec<f32>,
    /// The right label.
    pub label: usize,
    /// Whether tier 1 was asked.
    pub escalated: bool,
}

impl Outcome {
    /// The label given and how sure of it.
    pub fn given(&self) -> (usize, f32) {
        let given = argmax(&self.probabilities);
        (given, self.probabilities.get(given).copied().unwrap_or(0.0))
    }
}

/// Counts of true label (row) against given label (column).
#[derive(Debug, Clone, Serialize)]
pub struct Confusion {
    /// `counts[right][given]`.
    pub counts: Vec<Vec<usize>>,
}

/// One bin of the reliability diagram.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Bin {
    /// Texts whose confidence fell into the bin.
    pub n: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them that was right.
    pub accuracy: f64,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Metrics {
    /// Texts judged.
    pub n: usize,
    /// Share of right labels.
    pub accuracy: f64,
    /// Mean F1 over the labels that occur.
    pub macro_f1: f64,
    /// Expected calibration error over 15 equal bins.
    pub ece: f64,
    /// Share of texts for which tier 1 was asked.
    pub escalated: f64,
    /// The reliability diagram, by rising confidence.
    pub bins: Vec<Bin>,
    /// Who was taken for whom.
    pub confusion: Confusion,
}

impl Metrics {
    /// Judges `outcomes`; all have one probability per label.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let labels = outcomes.iter().map(|o| o.probabilities.len().max(o.label + 1)).max().unwrap_or(0);
        let mut counts = vec![vec![0; labels]; labels];
        let mut bins = vec![Bin::default(); BINS];
        for outcome in outcomes {
            let (given, confidence) = outcome.given();
            counts[outcome.label][given] += 1;
            let bin = &mut bins[((confidence * BINS as f32) as usize).min(BINS - 1)];
            bin.n += 1;
            bin.confidence += f64::from(confidence);
            bin.accuracy += f64::from(u8::from(given == outcome.label));
        }
        let n = outcomes.len();
        let share = |count: usize| count as f64 / n.max(1) as f64;
        let ece = bins.iter().map(|b| (b.confidence - b.accuracy).abs()).sum::<f64>() / n.max(1) as f64;
        for bin in &mut bins {
            bin.confidence /= bin.n.max(1) as f64;
            bin.accuracy /= bin.n.max(1) as f64;
        }
        let confusion = Confusion { counts };
        Self {
            n,
            accuracy: share((0..labels).map(|label| confusion.counts[label][label]).sum()),
            macro_f1: confusion.macro_f1(),
            ece,
            escalated: share(outcomes.iter().filter(|o| o.escalated).count()),
            bins,
            confusion,
        }
    }
}

impl Confusion {
    /// Precision, recall and F1 of a label; zero where undefined.
    pub fn scores(&self, label: usize) -> [f64; 3] {
        let hit = self.counts[label][label] as f64;
        let right: usize = self.counts[label].iter().sum();
        let given: usize = self.counts.iter().map(|row| row[label]).sum();
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        [ratio(hit, given as f64), ratio(hit, right as f64), ratio(2.0 * hit, (right + given) as f64)]
    }

    fn macro_f1(&self) -> f64 {
        let occurs = |label: &usize| self.counts[*label].iter().sum::<usize>() > 0;
        let f1: Vec<f64> = (0..self.counts.len()).filter(occurs).map(|label| self.scores(label)[2]).collect();
        f1.iter().sum::<f64>() / f1.len().max(1) as f64
    }
}
