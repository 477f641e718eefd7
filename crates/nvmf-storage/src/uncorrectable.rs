//! Which blocks a host marked as not to be read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The blocks of a namespace that Write Uncorrectable marked.
///
/// Whoever serves the namespace asks it before Read, Compare, Verify and the source of a Copy, which
/// fail with Unrecovered Read Error (media, 81h) where it [overlaps](Uncorrectable::overlaps), and
/// [clears](Uncorrectable::clear) what was written, zeroed or deallocated. It keeps no data and knows
/// no backend, so the marks last as long as it does; [`Uncorrectable::ranges`] and
/// [`Uncorrectable::from_ranges`] are for keeping them longer.
///
/// Without marks, all but marking costs one load.
///
/// ```
/// use nvmf_storage::Uncorrectable;
/// let marks = Uncorrectable::new();
/// marks.mark(100, 50)?;
/// assert!(marks.overlaps(149, 1) && !marks.overlaps(150, 1));
///
/// // Blocks 120 to 129 were written.
/// marks.clear(120, 10)?;
/// assert_eq!(marks.ranges(), [100..120, 130..150]);
/// # Ok::<(), nvmf_storage::TooManyRanges>(())
/// ```
#[derive(Debug, Default)]
pub struct Uncorrectable {
    /// The first block of each range, and the one behind its last. No two touch.
    ranges: RwLock<Ranges>,
    /// How many there are.
    count: AtomicUsize,
}

type Ranges = BTreeMap<u64, u64>;

/// The marks would take more ranges than [`Uncorrectable::MAX_RANGES`]; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {} separate ranges of marked blocks", Uncorrectable::MAX_RANGES)]
pub struct TooManyRanges;

impl Uncorrectable {
    /// The most ranges that do not touch: 65536, which take some MiB.
    pub const MAX_RANGES: usize = 1 << 16;

    /// No block is marked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The blocks of these ranges are marked, which may overlap and be in any order.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`].
    pub fn from_ranges(
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Self, TooManyRanges> {
        let marks = Self::new();
        for range in ranges {
            marks.mark(range.start, range.end.saturating_sub(range.start))?;
        }
        Ok(marks)
    }

    /// The marked blocks, as the fewest ranges in ascending order.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.read().iter().map(|(first, end)| *first..*end).collect()
    }

    /// Whether no block is marked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // What a host was told of is before what it asks then, without an order from here.
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether any of `count` blocks from block `first` on is marked.
    #[must_use]
    pub fn overlaps(&self, first: u64, count: u64) -> bool {
        if self.is_empty() || count == 0 {
            return false;
        }
        let end = first.saturating_add(count);
        self.read().range(..end).next_back().is_some_and(|(_, last)| *last > first)
    }

    /// Marks `count` blocks from block `first` on.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`].
    pub fn mark(&self, first: u64, count: u64) -> Result<(), TooManyRanges> {
        if count == 0 {
            return Ok(());
        }
        let (mut start, mut end) = (first, first.saturating_add(count));
        let mut ranges = self.write();
        // What it overlaps or touches becomes part of it.
        let joined = touching(&ranges, start, end);
        if joined.is_empty() && ranges.len() >= Self::MAX_RANGES {
            return Err(TooManyRanges);
        }
        for (other, last) in joined {
            (start, end) = (start.min(other), end.max(last));
            ranges.remove(&other);
        }
        ranges.insert(start, end);
        self.note(&ranges);
        Ok(())
    }

    /// Takes the marks of `count` blocks from block `first` on away, marked or not.
    ///
    /// Only what is in the middle of a range can fail, because two are left of it then. The blocks
    /// stay marked in that case: a host must not be told that what it wrote there can be read.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`].
    pub fn clear(&self, first: u64, count: u64) -> Result<(), TooManyRanges> {
        if self.is_empty() || count == 0 {
            return Ok(());
        }
        let end = first.saturating_add(count);
        let mut ranges = self.write();
        let cut = touching(&ranges, first, end);
        let splits = |(start, last): &(u64, u64)| *start < first && *last > end;
        if ranges.len() >= Self::MAX_RANGES && cut.iter().any(splits) {
            return Err(TooManyRanges);
        }
        for (start, last) in cut {
            ranges.remove(&start);
            if start < first {
                ranges.insert(start, last.min(first));
            }
            if last > end {
                ranges.insert(start.max(end), last);
            }
        }
        self.note(&ranges);
        Ok(())
    }

    fn note(&self, ranges: &Ranges) {
        self.count.store(ranges.len(), Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Ranges> {
        self.ranges.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ranges> {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ranges that have a block of `start..end`, or end or begin beside it.
fn touching(ranges: &Ranges, start: u64, end: u64) -> Vec<(u64, u64)> {
    let before = ranges.range(..start).next_back().filter(|(_, last)| **last >= start);
    before
        .into_iter()
        .chain(ranges.range(start..=end))
        .map(|(first, last)| (*first, *last))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_touches_is_one_range() {
        let marks = Uncorrectable::from_ranges([10..20, 30..40, 20..25]).unwrap();
        assert_eq!(marks.ranges(), [10..25, 30..40]);
        marks.mark(25, 5).unwrap();
        marks.mark(50, 1).unwrap();
        assert_eq!(marks.ranges(), [10..40, 50..51]);
    }

    #[test]
    fn the_last_block_of_all_numbers_does_not_overflow() {
        let marks = Uncorrectable::new();
        marks.mark(u64::MAX - 1, u64::MAX).unwrap();
        assert!(marks.overlaps(0, u64::MAX) && !marks.overlaps(0, u64::MAX - 1));
        marks.clear(u64::MAX - 1, u64::MAX).unwrap();
        assert!(marks.is_empty());
        #[allow(clippy::reversed_empty_ranges, reason = "it comes from a file")]
        let backwards = Uncorrectable::from_ranges([9..3, 4..4]).unwrap();
        assert!(backwards.is_empty());
    }

    #[test]
    fn more_ranges_than_the_most_are_refused_and_nothing_is_changed() {
        let most = Uncorrectable::MAX_RANGES as u64;
        let marks = Uncorrectable::from_ranges((0..most).map(|n| n * 4..n * 4 + 3)).unwrap();
        let before = marks.ranges();
        assert_eq!(marks.mark(most * 4, 1), Err(TooManyRanges));
        assert_eq!(marks.clear(1, 1), Err(TooManyRanges));
        assert_eq!(marks.ranges(), before);
        assert!(marks.overlaps(1, 1));

        // What makes no more of them is fine, and makes room.
        marks.clear(0, 1).unwrap();
        marks.mark(3, 1).unwrap();
        marks.clear(9, 1).unwrap();
        assert_eq!(marks.ranges()[..3], [1..7, 8..9, 10..11]);
        assert_eq!(marks.clear(2, 1), Err(TooManyRanges));
        marks.clear(1, 6).unwrap();
        marks.clear(13, 1).unwrap();
        assert_eq!(marks.ranges().len() as u64, most);
    }

    const BLOCKS: usize = 112;

    #[derive(Debug, Clone)]
    enum Op {
        Mark(u64, u64),
        Clear(u64, u64),
        Overlaps(u64, u64),
    }

    fn at(first: u64, count: u64) -> Range<usize> {
        usize::try_from(first).unwrap()..usize::try_from(first + count).unwrap()
    }

    fn op() -> impl Strategy<Value = Op> {
        let range = || (0..100_u64, 0..12_u64);
        prop_oneof![
            range().prop_map(|(first, count)| Op::Mark(first, count)),
            range().prop_map(|(first, count)| Op::Clear(first, count)),
            range().prop_map(|(first, count)| Op::Overlaps(first, count)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_bit_for_each_block(ops in prop::collection::vec(op(), 1..60)) {
            let marks = Uncorrectable::new();
            let mut bits = [false; BLOCKS];
            for op in ops {
                match op {
                    Op::Mark(first, count) => {
                        marks.mark(first, count).unwrap();
                        bits[at(first, count)].fill(true);
                    }
                    Op::Clear(first, count) => {
                        marks.clear(first, count).unwrap();
                        bits[at(first, count)].fill(false);
                    }
                    Op::Overlaps(first, count) => {
                        let any = bits[at(first, count)].contains(&true);
                        prop_assert_eq!(marks.overlaps(first, count), any);
                    }
                }
                let ranges = marks.ranges();
                let mut found = [false; BLOCKS];
                for range in &ranges {
                    found[at(range.start, range.end - range.start)].fill(true);
                }
                prop_assert_eq!(found, bits);
                prop_assert!(ranges.iter().all(|range| range.start < range.end));
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "merged");
                prop_assert_eq!(marks.is_empty(), ranges.is_empty());
                prop_assert_eq!(Uncorrectable::from_ranges(ranges.clone()).unwrap().ranges(), ranges);
            }
        }
    }
}
