//! From scores to probabilities one may act on: softmax and temperature scaling.
//!
//! Pure arithmetic. The temperature is fitted on sources a model has not seen, so that confidence stays honest on
//! traffic unlike the training data (Guo et al. 2017, "On Calibration of Modern Neural Networks").

const TEMPERATURE_RANGE: (f32, f32) = (0.2, 10.0);
const SEARCH_STEPS: usize = 60;

/// Probabilities of `logits` divided by `temperature`.
pub(crate) fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut out: Vec<f32> = logits.iter().map(|l| ((l - highest) / temperature).exp()).collect();
    let sum: f32 = out.iter().sum();
    out.iter_mut().for_each(|p| *p /= sum);
    out
}

/// Sharpens (below 1) or softens (above 1) a distribution, as dividing its logits by `temperature` would.
pub(crate) fn temper(probabilities: &mut [f32], temperature: f32) {
    let highest = probabilities.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let mut sum = 0.0;
    for p in probabilities.iter_mut() {
        *p = (*p / highest).powf(temperature.recip());
        sum += *p;
    }
    probabilities.iter_mut().for_each(|p| *p /= sum);
}

/// The logistic function.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Index of the largest value; the first on ties.
pub(crate) fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// A scored example whose label is known.
#[derive(Debug, Clone)]
pub(crate) struct Scored {
    /// One raw score per label.
    pub(crate) logits: Vec<f32>,
    /// The right label.
    pub(crate) label: usize,
    /// How much it counts.
    pub(crate) weight: f32,
}

/// Weighted negative log-likelihood of the right labels, each held to be right with a probability of (n+1)/(n+2) only: that
/// few rows are all right proves no certainty (Platt 1999, "Probabilistic Outputs for Support Vector Machines").
pub(crate) fn log_loss(scored: &[Scored], temperature: f32) -> f64 {
    let doubt = 1.0 / (scored.len() as f64 + 2.0);
    let each = |s: &Scored| {
        let logs = softmax(&s.logits, temperature).into_iter().map(|p| f64::from(p.max(1e-9).ln()));
        let others = (s.logits.len().max(2) - 1) as f64;
        let share = |label: usize| if label == s.label { 1.0 - doubt } else { doubt / others };
        -logs.enumerate().map(|(label, log)| share(label) * log).sum::<f64>() * f64::from(s.weight)
    };
    scored.iter().map(each).sum()
}

/// The temperature with the least weighted negative log-likelihood, by golden-section search over its logarithm.
pub(crate) fn fit_temperature(scored: &[Scored]) -> f32 {
    let loss = |log_t: f32| log_loss(scored, log_t.exp());
    let golden = (5.0_f32.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (TEMPERATURE_RANGE.0.ln(), TEMPERATURE_RANGE.1.ln());
    for _ in 0..SEARCH_STEPS {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if loss(left) < loss(right) { high = right } else { low = left }
    }
    ((low + high) / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores of a judge who is sure of himself and right three times in four.
    fn boaster() -> Vec<Scored> {
        (0..400)
            .map(|i| Scored { logits: vec![6.0, 0.0], label: usize::from(i % 4 == 0), weight: 1.0 })
            .collect()
    }

    #[test]
    fn temperature_cures_overconfidence() {
        let scored = boaster();
        let temperature = fit_temperature(&scored);
        // softmax(6/T) must be 3/4: T = 6 / ln 3.
        assert!((temperature - 6.0 / 3.0_f32.ln()).abs() < 0.05, "{temperature}");
        let sure = |t: f32| softmax(&scored[0].logits, t)[0];
        assert!(sure(1.0) > 0.95 && (sure(temperature) - 0.75).abs() < 0.01);
    }

    #[test]
    fn a_few_right_answers_prove_no_certainty() {
        let right = |count| vec![Scored { logits: vec![1.0, 0.0], label: 0, weight: 1.0 }; count];
        let sure = |count| softmax(&[1.0, 0.0], fit_temperature(&right(count)))[0];
        assert!((sure(8) - 0.9).abs() < 0.01 && (sure(48) - 0.98).abs() < 0.01, "{} {}", sure(8), sure(48));
    }

    #[test]
    fn softmax_survives_large_scores() {
        let p = softmax(&[1000.0, 999.0, -1000.0], 1.0);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6 && p[0] > p[1]);
    }
}
