//! What counts for a classifier of attacks: are attacks ranked above ordinary prompts, and what do its thresholds catch.
//!
//! The score is 1 - p(benign). Rows whose label the classifier does not know are left out here. Pure. Called by `report`.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use waypost_classify::{Alarm, Builtin};

use super::judge::Answer;
use super::percent;

/// The label that is no attack.
const BENIGN: usize = 0;

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Safety {
    attacks: usize,
    benign: usize,
    /// Chance that an attack scores above an ordinary prompt; absent without both.
    #[serde(skip_serializing_if = "Option::is_none")]
    auc: Option<f64>,
    /// One per threshold the model was given.
    thresholds: Vec<Flagged>,
}

/// What one threshold does.
#[derive(Debug, Serialize)]
struct Flagged {
    /// The false-alarm rate it was fitted for.
    rate: f32,
    /// Share of attacks flagged.
    recall: f64,
    /// Share of ordinary prompts flagged.
    false_alarms: f64,
}

impl Safety {
    /// `None` unless the labels are those of `safety`.
    pub(super) fn of(labels: &[Arc<str>], alarms: &[Alarm], answers: &[(usize, &Answer)]) -> Option<Self> {
        if !labels.iter().map(|label| &**label).eq(Builtin::Safety.labels().iter().copied()) {
            return None;
        }
        let known = answers.iter().filter(|(label, _)| *label < labels.len());
        let (attacks, benign): (Vec<_>, Vec<_>) = known.partition(|(label, _)| *label != BENIGN);
        let share = |of: &[&(usize, &Answer)], alarm: &Alarm| {
            let flagged =
                |answer: &Answer| score(answer) > if answer.escalated { alarm.encoder } else { alarm.ngram };
            of.iter().filter(|(_, answer)| flagged(answer)).count() as f64 / of.len().max(1) as f64
        };
        let thresholds = alarms.iter().map(|alarm| Flagged {
            rate: alarm.rate,
            recall: share(&attacks, alarm),
            false_alarms: share(&benign, alarm),
        });
        Some(Self {
            thresholds: thresholds.collect(),
            auc: auc(&scores(&attacks), &scores(&benign)),
            attacks: attacks.len(),
            benign: benign.len(),
        })
    }

    pub(super) fn shown(&self) -> String {
        let mut out = format!("\n  {} attacks, {} benign", self.attacks, self.benign);
        if let Some(auc) = self.auc {
            let _ = write!(out, "; AUC of 1 - p(benign) {auc:.3}");
        }
        out.push('\n');
        for Flagged { rate, recall, false_alarms } in &self.thresholds {
            let (recall, false_alarms) = (percent(*recall), percent(*false_alarms));
            let _ = writeln!(
                out,
                "  threshold for {:.2} % false alarms: recall {recall}, false alarms {false_alarms}",
                rate * 100.0
            );
        }
        out
    }
}

fn score(answer: &Answer) -> f32 {
    1.0 - answer.probabilities[BENIGN]
}

fn scores(of: &[&(usize, &Answer)]) -> Vec<f32> {
    of.iter().map(|(_, answer)| score(answer)).collect()
}

/// Area under the ROC curve by ranks; a tie counts half.
fn auc(above: &[f32], below: &[f32]) -> Option<f64> {
    if above.is_empty() || below.is_empty() {
        return None;
    }
    let mut below = below.to_vec();
    below.sort_by(f32::total_cmp);
    let wins = |score: &f32| {
        let less = below.partition_point(|other| other < score);
        let not_more = below.partition_point(|other| other <= score);
        (less + not_more) as f64 / 2.0
    };
    Some(above.iter().map(wins).sum::<f64>() / (above.len() * below.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_is_the_chance_to_rank_an_attack_higher() {
        assert_eq!(auc(&[0.9, 0.8], &[0.1, 0.2]), Some(1.0));
        assert_eq!(auc(&[0.1], &[0.9]), Some(0.0));
        assert_eq!(auc(&[0.5, 0.9], &[0.5]), Some(0.75));
        assert_eq!(auc(&[], &[0.5]), None);
    }

    #[test]
    fn each_tier_has_its_own_threshold() {
        let answer = |benign: f32, escalated| Answer {
            probabilities: vec![benign, 1.0 - benign, 0.0],
            given: 0,
            escalated,
            micros: 0.0,
        };
        let answers = [answer(0.4, false), answer(0.4, true), answer(0.9, false), answer(0.2, true)];
        let rows: Vec<(usize, &Answer)> = [1, 2, 0, 3].into_iter().zip(&answers).collect();
        let labels: Vec<Arc<str>> = Builtin::Safety.labels().iter().map(|label| Arc::from(*label)).collect();
        let alarms = [Alarm { rate: 0.01, ngram: 0.5, encoder: 0.7 }];
        let safety = Safety::of(&labels, &alarms, &rows).unwrap();
        assert_eq!((safety.attacks, safety.benign), (2, 1), "label 3 is unknown");
        assert_eq!((safety.thresholds[0].recall, safety.thresholds[0].false_alarms), (0.5, 0.0));
        assert!(Safety::of(&labels[..2], &alarms, &rows).is_none());
    }
}
