//! Which bytes are done.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of bytes that neither overlap nor touch.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct RangeSet {
    /// Ends by their starts.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds a range; what of it is there already stays.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        // Whatever it overlaps or touches becomes one with it, from the last one on.
        while let Some((&first, &last)) = self.ranges.range(..=end).next_back() {
            if last < start {
                break;
            }
            self.ranges.remove(&first);
            start = start.min(first);
            end = end.max(last);
        }
        self.ranges.insert(start, end);
    }

    /// The first range at `from` or behind it that is not in the set, up to `end`.
    pub(crate) fn gap(&self, from: u64, end: u64) -> Option<Range<u64>> {
        let covering = self.ranges.range(..=from).next_back();
        let start = covering.map_or(from, |(_, last)| from.max(*last));
        let next = self.ranges.range(start..).next().map_or(end, |(first, _)| end.min(*first));
        (start < next).then_some(start..next)
    }

    /// How many bytes are in it.
    pub(crate) fn total(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(set: &RangeSet) -> Vec<(u64, u64)> {
        set.iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let mut set = RangeSet::from_iter([10..20, 30..40]);
        assert_eq!(ranges(&set), [(10, 20), (30, 40)]);
        set.insert(20..25);
        set.insert(5..5);
        assert_eq!(ranges(&set), [(10, 25), (30, 40)]);
        set.insert(24..31);
        assert_eq!(ranges(&set), [(10, 40)]);
        set.insert(12..13);
        assert_eq!((ranges(&set), set.total()), (vec![(10, 40)], 30));
    }

    #[test]
    fn gaps_are_found_from_anywhere() {
        let set = RangeSet::from_iter([0..10, 20..30]);
        assert_eq!(set.gap(0, 100), Some(10..20));
        assert_eq!(set.gap(15, 100), Some(15..20));
        assert_eq!(set.gap(15, 17), Some(15..17));
        assert_eq!(set.gap(20, 100), Some(30..100));
        assert_eq!(set.gap(20, 30), None);
        assert_eq!(set.gap(40, 40), None);
        assert_eq!(RangeSet::default().gap(0, u64::MAX), Some(0..u64::MAX));
    }

    proptest! {
        #[test]
        fn the_set_is_what_was_put_in(ranges in prop::collection::vec((0_u64..60, 0_u64..20), 0..20)) {
            let mut model = [false; 80];
            let mut set = RangeSet::default();
            for (start, length) in ranges {
                set.insert(start..start + length);
                for at in start..start + length {
                    model[usize::try_from(at).unwrap()] = true;
                }
            }
            let inside = |at: u64| set.iter().any(|range| range.contains(&at));
            for at in 0..80 {
                prop_assert_eq!(inside(at), model[usize::try_from(at).unwrap()]);
            }
            let all: Vec<_> = set.iter().collect();
            prop_assert!(all.windows(2).all(|two| two[0].end < two[1].start));
            // Walking the gaps visits all that is not in it.
            let (mut at, mut gaps) = (0, 0);
            while let Some(gap) = set.gap(at, 80) {
                prop_assert!(gap.clone().all(|byte| !inside(byte)));
                gaps += gap.end - gap.start;
                at = gap.end;
            }
            prop_assert_eq!(gaps + set.total(), 80);
        }
    }
}
