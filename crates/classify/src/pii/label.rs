//! The tagger's labels: outside, and the beginning and inside of each tagged kind.
//!
//! Their order is that of the weights in `models/pii.safetensors`.

use super::kind::Kind;

/// Number of labels.
pub(crate) const LABELS: usize = 15;
/// Outside of all spans.
pub(crate) const OUTSIDE: usize = 0;

/// The kinds the tagger knows.
pub(crate) const TAGGED: [Kind; 7] = [
    Kind::Person,
    Kind::Organization,
    Kind::Location,
    Kind::StreetAddress,
    Kind::Nrp,
    Kind::Title,
    Kind::ZipCode,
];

/// The label of the first token of `TAGGED[kind]`.
pub(crate) const fn begin(kind: usize) -> usize {
    1 + 2 * kind
}

/// The label of its further tokens.
pub(crate) const fn inside(kind: usize) -> usize {
    2 + 2 * kind
}

/// Which kind a label belongs to; none outside.
pub(crate) const fn kind(label: usize) -> Option<usize> {
    match label {
        OUTSIDE => None,
        label => Some((label - 1) / 2),
    }
}

/// Whether `label` may follow `previous`: an inside needs its own kind before it.
pub(crate) fn may_follow(previous: usize, label: usize) -> bool {
    kind(label).is_none_or(|found| label == begin(found) || kind(previous) == Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insides_follow_their_own_kind_only() {
        assert!(may_follow(begin(2), inside(2)) && may_follow(inside(2), inside(2)));
        assert!(!may_follow(OUTSIDE, inside(2)) && !may_follow(begin(1), inside(2)));
        assert!(may_follow(inside(1), begin(2)) && may_follow(inside(6), OUTSIDE));
        assert_eq!(inside(TAGGED.len() - 1), LABELS - 1);
    }
}
