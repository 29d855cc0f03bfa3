//! Sums by name, of a bounded number of names; what comes after them is summed up as one.
//!
//! Called by `replay` and `report`, whose names come from a file.

use std::collections::BTreeMap;

/// Names told apart.
const MAX_NAMES: usize = 1000;
/// All the others.
const OTHERS: &str = "(others)";

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(BTreeMap<String, f64>);

impl Counter {
    /// Adds to a name's sum.
    pub(crate) fn add(&mut self, name: &str, amount: f64) {
        match self.0.get_mut(name) {
            Some(sum) => *sum += amount,
            None => {
                let name = if self.0.len() < MAX_NAMES { name } else { OTHERS };
                *self.0.entry(name.to_owned()).or_default() += amount;
            }
        }
    }

    /// A name's sum; 0 where it was never met.
    pub(crate) fn of(&self, name: &str) -> f64 {
        self.get(name).unwrap_or(0.0)
    }

    /// A name's sum, if it was ever met.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and sums, the largest first.
    pub(crate) fn largest(&self) -> Vec<(&str, f64)> {
        let mut all: Vec<_> = self.0.iter().map(|(name, sum)| (name.as_str(), *sum)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_sorted_by_their_sums() {
        let mut counter = Counter::default();
        (0..2 * MAX_NAMES).for_each(|i| counter.add(&format!("n{i:05}"), 1.0));
        counter.add("n00003", 5.0);
        assert_eq!(counter.names().count(), MAX_NAMES + 1);
        assert_eq!(counter.largest()[..2], [(OTHERS, MAX_NAMES as f64), ("n00003", 6.0)]);
        assert_eq!((counter.of("n00003"), counter.of("absent")), (6.0, 0.0));
    }
}
