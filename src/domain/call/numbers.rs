//! Which of its own numbers a sender has been heard of with, in a form that stays small.

/// Ranges kept. A sender that loses nothing needs one, and each hole costs one more.
const RANGES_MAX: usize = 32;

/// A set of numbers as ranges, ascending, with a hole between each two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers(Vec<(u64, u64)>);

impl Numbers {
    /// Adds a number. Beyond 32 ranges the oldest hole is forgotten.
    pub fn insert(&mut self, number: u64) {
        let at = self.0.partition_point(|(_, last)| *last < number);
        if self.0.get(at).is_some_and(|(first, _)| *first <= number) {
            return;
        }
        self.0.insert(at, (number, number));
        self.join(at);
        if let Some(before) = at.checked_sub(1) {
            self.join(before);
        }
        if let [first, second, ..] = self.0.as_slice()
            && self.0.len() > RANGES_MAX
        {
            let joined = (first.0, second.1);
            self.0.splice(..2, [joined]);
        }
    }

    /// Joins a range with the next one when nothing lies between them.
    fn join(&mut self, at: usize) {
        let (Some(this), Some(next)) = (self.0.get(at).copied(), self.0.get(at + 1).copied())
        else {
            return;
        };
        if this.1.checked_add(1) == Some(next.0) {
            self.0.splice(at..at + 2, [(this.0, next.1)]);
        }
    }

    /// What lies between the ranges: the first and the last number of each hole.
    pub fn holes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0
            .iter()
            .zip(self.0.iter().skip(1))
            .map(|((_, last), (first, _))| (last + 1, first - 1))
    }

    /// Whether anything is missing.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        self.0.len() > 1
    }

    /// Whether a number is missing that lies between these two.
    #[must_use]
    pub fn has_hole_between(&self, after: u64, before: u64) -> bool {
        self.holes().any(|(first, last)| {
            first.max(after.saturating_add(1)) <= last.min(before.saturating_sub(1))
        })
    }

    /// The greatest of them, or 0.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |(_, last)| *last)
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// The set of such ranges; `None` when they do not ascend with a hole between each two.
    #[must_use]
    pub fn restore(ranges: Vec<(u64, u64)>) -> Option<Self> {
        let whole = ranges.iter().all(|(first, last)| first <= last);
        let apart = ranges
            .iter()
            .zip(ranges.iter().skip(1))
            .all(|((_, last), (first, _))| last.checked_add(1).is_some_and(|next| next < *first));
        (whole && apart && ranges.len() <= RANGES_MAX).then_some(Self(ranges))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn numbers(of: impl IntoIterator<Item = u64>) -> Numbers {
        let mut numbers = Numbers::default();
        for number in of {
            numbers.insert(number);
        }
        numbers
    }

    #[test]
    fn what_was_not_heard_of_is_a_hole() {
        let holes = |of: &[u64]| numbers(of.iter().copied()).holes().collect::<Vec<_>>();
        assert_eq!(holes(&[]), []);
        assert_eq!(holes(&[7]), []);
        assert_eq!(holes(&[3, 1, 2]), []);
        assert_eq!(holes(&[1, 5, 9, 8, 5]), [(2, 4), (6, 7)]);
        assert_eq!(holes(&[u64::MAX, 0]), [(1, u64::MAX - 1)]);
        let some = numbers([1, 5, 9, 10]);
        assert!(some.has_hole_between(0, 3) && some.has_hole_between(7, 9));
        assert!(!some.has_hole_between(4, 6) && !some.has_hole_between(8, 10));
        assert!(some.has_holes() && !numbers([4]).has_holes());
        assert_eq!((some.last(), Numbers::default().last()), (10, 0));
    }

    #[test]
    fn a_sender_that_counts_in_tens_costs_no_more_than_the_bound() {
        let all = numbers((0..1000).map(|n| n * 10));
        assert_eq!(all.ranges().count(), RANGES_MAX);
        assert_eq!(all.holes().last(), Some((9981, 9989)));
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_what_went_in(of in prop::collection::vec(0u64..40, 0..60)) {
            let found = numbers(of.iter().copied());
            let listed: Vec<u64> = found.ranges().flat_map(|(first, last)| first..=last).collect();
            let expected: Vec<u64> = of.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(listed, expected);
            let back = Numbers::restore(found.ranges().collect());
            prop_assert_eq!(back, Some(found));
        }
    }
}
