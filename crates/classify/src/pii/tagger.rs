//! Tags runs of candidate tokens with a linear-chain conditional random field.
//!
//! Viterbi finds the best labels; where they hold a span, forward-backward gives each label's probability, and the least of
//! a span is its confidence. Called by `Detector`; allocates only per text.

use super::features::{self, MAX_FEATURES, Manner};
use super::kind::{Kind, Span};
use super::label::{LABELS, OUTSIDE, TAGGED, inside, kind};
use super::lexicon::List;
use super::token::{Shape, Token};
use super::weights::{Chances, ROW, Scores, Weights};

/// Longest run decoded in one piece; longer ones are cut.
const MAX_RUN: usize = 256;
/// Tagged spans in text that hardly uses capitals must be this much surer.
const LOWER_PENALTY: f32 = 0.7;

/// Spans of the tagged kinds of at least `min_confidence` in `tokens`, skipping those that are `taken`; ends once `most`
/// are found.
pub(crate) fn tag(
    weights: &Weights,
    text: &str,
    tokens: &[Token],
    taken: &[bool],
    (min_confidence, most): (f32, usize),
    spans: &mut Vec<Span>,
) {
    let mut wanted = Vec::new();
    let manner = Manner::of(tokens);
    features::candidates(tokens, taken, manner, &mut wanted);
    let mut scores: Vec<Scores> = Vec::new();
    let mut at = 0;
    while at < tokens.len() && spans.len() < most {
        let length = wanted[at..].iter().take(MAX_RUN).take_while(|w| **w).count();
        if length == 0 {
            at += 1;
            continue;
        }
        scores.clear();
        for index in at..at + length {
            let mut found = [0; MAX_FEATURES];
            let count = features::extract(text, tokens, index, manner, |_| None, &mut found);
            scores.push(weights.scores(&found[..count]));
        }
        let labels = viterbi(&scores, &weights.transitions);
        if labels.iter().any(|&label| label != OUTSIDE) {
            let sure = marginals(&scores, &weights.chances, &labels);
            let found = spans.len();
            collect(&tokens[at..at + length], &labels, &sure, manner, spans);
            let kept = spans.split_off(found).into_iter().filter(|span| span.confidence >= min_confidence);
            spans.extend(kept);
        }
        at += length;
    }
}

/// The best sequence of labels; the run follows an outside token.
fn viterbi(scores: &[Scores], transitions: &[Scores; LABELS]) -> Vec<usize> {
    let mut best = [f32::MIN / 4.0; ROW];
    best[OUTSIDE] = 0.0;
    let mut back: Vec<[i32; ROW]> = Vec::with_capacity(scores.len());
    for score in scores {
        let mut next = [f32::MIN; ROW];
        let mut from = [0_i32; ROW];
        for (previous, row) in transitions.iter().enumerate() {
            // Whole rows without branches: the compiler makes vectors of it.
            for label in 0..ROW {
                let value = best[previous] + row[label];
                let better = value > next[label];
                next[label] = if better { value } else { next[label] };
                from[label] = if better { previous as i32 } else { from[label] };
            }
        }
        for (next, score) in next.iter_mut().zip(score) {
            *next += score;
        }
        best = next;
        back.push(from);
    }
    let mut label = (0..LABELS).max_by(|&a, &b| best[a].total_cmp(&best[b])).unwrap_or(OUTSIDE);
    let mut labels = vec![OUTSIDE; scores.len()];
    for (slot, from) in labels.iter_mut().zip(&back).rev() {
        *slot = label;
        label = from[label] as usize;
    }
    labels
}

/// Probability of each token's label over all sequences.
fn marginals(scores: &[Scores], chances: &Chances, labels: &[usize]) -> Vec<f32> {
    let emitted: Vec<Scores> = scores
        .iter()
        .map(|score| {
            let top = score[..LABELS].iter().copied().fold(f32::MIN, f32::max);
            std::array::from_fn(|label| if label < LABELS { exp(score[label] - top) } else { 0.0 })
        })
        .collect();
    let mut forward = vec![[0.0; ROW]; scores.len()];
    let mut previous = [0.0; ROW];
    previous[OUTSIDE] = 1.0;
    for (out, emitted) in forward.iter_mut().zip(&emitted) {
        *out = product(&previous, &chances.forward, emitted);
        previous = *out;
    }
    let mut sure = vec![0.0; scores.len()];
    let mut backward = [1.0; ROW];
    for at in (0..scores.len()).rev() {
        let mut posterior: Scores = std::array::from_fn(|label| forward[at][label] * backward[label]);
        normalise(&mut posterior);
        sure[at] = posterior[labels[at]];
        let ahead: Scores = std::array::from_fn(|label| emitted[at][label] * backward[label]);
        backward = product(&ahead, &chances.backward, &[1.0; ROW]);
    }
    sure
}

/// `masses` through `matrix`, times `factor`, scaled to sum to one.
fn product(masses: &Scores, matrix: &[Scores; LABELS], factor: &Scores) -> Scores {
    let mut out = [0.0; ROW];
    for (mass, row) in masses.iter().zip(matrix) {
        for (out, weight) in out.iter_mut().zip(row) {
            *out += mass * weight;
        }
    }
    for (out, factor) in out.iter_mut().zip(factor) {
        *out *= factor;
    }
    normalise(&mut out);
    out
}

fn normalise(values: &mut Scores) {
    let sum: f32 = values.iter().sum();
    let scale = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    values.iter_mut().for_each(|v| *v *= scale);
}

/// `e^x` for `x` up to 0, to about five digits: the fraction of the power of two by its Taylor series. Without branches,
/// so that a row takes a few instructions.
fn exp(x: f32) -> f32 {
    /// Adding it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let power = x.max(-80.0) * std::f32::consts::LOG2_E;
    let whole = (power + ROUND) - ROUND;
    let rest = (power - whole) * std::f32::consts::LN_2;
    let series = 1.0 + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0))));
    series * f32::from_bits(((whole as i32 + 127) << 23) as u32)
}

fn collect(tokens: &[Token], labels: &[usize], sure: &[f32], manner: Manner, spans: &mut Vec<Span>) {
    let mut at = 0;
    while at < labels.len() {
        let Some(found) = kind(labels[at]) else {
            at += 1;
            continue;
        };
        // may_follow ties every inside to its kind, so a span ends where the next label begins another.
        let length = 1 + labels[at + 1..].iter().take_while(|&&l| l == inside(found)).count();
        let confidence = sure[at..at + length].iter().copied().fold(1.0, f32::min);
        let piece = trim(&tokens[at..at + length]);
        if let (Some(first), Some(last)) = (piece.first(), piece.last()) {
            let small =
                piece.iter().all(|t| !matches!(t.shape, Shape::Capital | Shape::Upper | Shape::Initial));
            let confidence = if small && manner_matters(TAGGED[found]) || manner.lower {
                confidence * penalty(confidence)
            } else {
                confidence
            };
            spans.push(Span::new(first.start as usize, last.end as usize, TAGGED[found], confidence));
        }
        at += length;
    }
}

/// Line breaks and commas at either end are no part of a span, nor is the full stop of a sentence; that of "Inc." is.
fn trim(mut tokens: &[Token]) -> &[Token] {
    while let [first, rest @ ..] = tokens {
        if !matches!(first.shape, Shape::Newline | Shape::Punct) {
            break;
        }
        tokens = rest;
    }
    while let [rest @ .., last] = tokens {
        let short = rest.last().is_some_and(|t| {
            t.entry.on(List::Title.bit() | List::OrgEnd.bit() | List::Street.bit())
                || t.shape == Shape::Initial
        });
        let closes = last.end - last.start == 1 && matches!(last.shape, Shape::Punct) && !short;
        if last.shape != Shape::Newline && !closes {
            break;
        }
        tokens = rest;
    }
    tokens
}

/// Whether small letters speak against this kind.
fn manner_matters(kind: Kind) -> bool {
    matches!(kind, Kind::Person | Kind::Organization | Kind::Location | Kind::StreetAddress)
}

/// Sure stays sure; what is only likely falls below the default threshold.
fn penalty(confidence: f32) -> f32 {
    LOWER_PENALTY + (1.0 - LOWER_PENALTY) * confidence.powi(4)
}

#[cfg(test)]
mod tests {
    use super::super::label::{begin, may_follow};
    use super::*;

    fn transitions() -> [Scores; LABELS] {
        std::array::from_fn(|previous| {
            std::array::from_fn(
                |label| if label < LABELS && may_follow(previous, label) { 0.0 } else { -1e4 },
            )
        })
    }

    fn chances() -> Chances {
        Chances::of(&transitions())
    }

    fn score(label: usize, value: f32) -> Scores {
        std::array::from_fn(|at| if at == label { value } else { 0.0 })
    }

    #[test]
    fn an_inside_without_its_beginning_is_never_chosen() {
        let scores = [score(inside(0), 9.0), score(inside(0), 9.0)];
        let labels = viterbi(&scores, &transitions());
        assert_eq!(labels, [begin(0), inside(0)]);
        assert_eq!(viterbi(&[score(OUTSIDE, 1.0)], &transitions()), [OUTSIDE]);
    }

    #[test]
    fn probabilities_are_high_where_scores_are() {
        let scores = [score(begin(0), 9.0), score(OUTSIDE, 9.0)];
        let labels = viterbi(&scores, &transitions());
        let sure = marginals(&scores, &chances(), &labels);
        assert_eq!(labels, [begin(0), OUTSIDE]);
        assert!(sure.iter().all(|&p| p > 0.98 && p <= 1.0), "{sure:?}");
        let unsure = marginals(&[score(begin(0), 0.1)], &chances(), &[begin(0)]);
        assert!(unsure[0] < 0.3, "{unsure:?}");
    }

    #[test]
    fn the_short_exponential_is_close() {
        for step in 0..800 {
            let x = -0.1 * step as f32;
            assert!((exp(x) - x.exp()).abs() <= x.exp() * 1e-4 + 1e-30, "{x}");
        }
        assert!(exp(-1e4) < 1e-30);
    }
}
