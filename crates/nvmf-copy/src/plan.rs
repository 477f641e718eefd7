//! What is to be done next.

use std::io;
use std::ops::Range;

use crate::endpoint::Source;
use crate::layout::Layout;
use crate::ranges::RangeSet;

/// The longest stretch of zeroes that is done at once, in bytes: so that it can be stopped, and is
/// noted from time to time.
const LONGEST_HOLE: u64 = 128 << 20;

/// Something for one thread to do; ranges count from the beginning of the copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// At most a chunk.
    Data(Range<u64>),
    /// The source has only zeroes there.
    Hole(Range<u64>),
}

impl Task {
    pub(crate) fn range(&self) -> Range<u64> {
        match self {
            Self::Data(range) | Self::Hole(range) => range.clone(),
        }
    }
}

/// Goes through what is not done yet, once and in order.
///
/// Inner ends of tasks are multiples of the chunk's size in the destination, so that no two tasks
/// share one of its blocks.
pub(crate) struct Plan {
    layout: Layout,
    chunk: u64,
    /// What need not be done.
    done: RangeSet,
    at: u64,
    /// Whether the source's map is looked at.
    holes: bool,
}

impl Plan {
    pub(crate) fn new(layout: Layout, chunk: u64, done: RangeSet, holes: bool) -> Self {
        Self { layout, chunk, done, at: 0, holes }
    }

    /// `None`: there is no more. An error is where it happened, and why.
    pub(crate) fn next(&mut self, source: &dyn Source) -> Result<Option<Task>, (u64, io::Error)> {
        let Some(gap) = self.done.gap(self.at, self.layout.length) else { return Ok(None) };
        let hole = match self.holes {
            true => self.hole(source, &gap)?,
            false => gap.start..gap.start,
        };
        let task = if hole.is_empty() {
            let end = self.layout.up(gap.start + 1, self.chunk).min(gap.end);
            Task::Data(gap.start..end)
        } else {
            Task::Hole(hole)
        };
        self.at = task.range().end;
        Ok(Some(task))
    }

    /// The hole that a gap begins with, if it is at least a chunk or all of it; else empty.
    fn hole(&self, source: &dyn Source, gap: &Range<u64>) -> Result<Range<u64>, (u64, io::Error)> {
        let from = self.layout.in_source(gap).start;
        let data = source.next_data(from).map_err(|error| (from, error))?;
        let end = data.map_or(gap.end, |data| {
            gap.end.min(data.start.saturating_sub(self.layout.source_offset))
        });
        let end = end.min(gap.start.saturating_add(LONGEST_HOLE));
        let end = if end == gap.end { end } else { self.layout.down(end, self.chunk) };
        let least = self.layout.up(gap.start + 1, self.chunk).min(gap.end);
        Ok(if end >= least { gap.start..end } else { gap.start..gap.start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Rest;
    use crate::testing::Memory;
    use proptest::prelude::*;

    fn layout(source_offset: u64, offset: u64, length: u64) -> Layout {
        Layout { source_offset, offset, length, rest: Rest::Stays }
    }

    fn tasks(mut plan: Plan, source: &dyn Source) -> Vec<Task> {
        std::iter::from_fn(|| plan.next(source).unwrap()).collect()
    }

    #[test]
    fn chunks_end_where_the_destination_has_block_boundaries() {
        let source = Memory::zeroed(100_000);
        let plan = Plan::new(layout(3, 1000, 10_000), 4096, RangeSet::default(), false);
        let ends: Vec<_> =
            tasks(plan, &source).iter().map(|task| task.range().end + 1000).collect();
        assert_eq!(ends, [4096, 8192, 11_000]);
    }

    #[test]
    fn a_hole_is_one_task_and_what_is_done_is_none() {
        let mut source = Memory::zeroed(100 << 12);
        source.put(50 << 12, &[1; 100]);
        let done = RangeSet::from_iter([0..4096, 8192..16_384]);
        let plan = Plan::new(layout(0, 0, 100 << 12), 4096, done, true);
        let expected = [
            Task::Hole(4096..8192),
            Task::Hole(4 << 12..50 << 12),
            Task::Data(50 << 12..51 << 12),
            Task::Hole(51 << 12..100 << 12),
        ];
        assert_eq!(tasks(plan, &source), expected);
    }

    #[test]
    fn a_hole_without_end_is_done_in_parts() {
        let length = 3 * LONGEST_HOLE + 5;
        struct Nothing;
        impl Source for Nothing {
            fn name(&self) -> &str {
                "nothing"
            }
            fn identity(&self) -> io::Result<crate::Identity> {
                Err(io::ErrorKind::Unsupported.into())
            }
            fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
                Ok(())
            }
            fn next_data(&self, _: u64) -> io::Result<Option<Range<u64>>> {
                Ok(None)
            }
        }
        let plan = Plan::new(layout(0, 0, length), 4096, RangeSet::default(), true);
        let ends: Vec<_> = tasks(plan, &Nothing).iter().map(|task| task.range().end).collect();
        assert_eq!(ends, [LONGEST_HOLE, 2 * LONGEST_HOLE, 3 * LONGEST_HOLE, length]);
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_task_and_no_block_in_two(
            offsets in (0_u64..10_000, 0_u64..10_000),
            length in 0_u64..60_000,
            done in prop::collection::vec((0_u64..15, 0_u64..4), 0..4),
            data in prop::collection::vec((0_usize..60_000, 1_usize..9000), 0..4),
            holes: bool,
        ) {
            let mut source = Memory::zeroed(80_000);
            data.iter().for_each(|(at, long)| source.put(*at as u64, &vec![1; *long]));
            let layout = layout(offsets.0, offsets.1, length);
            // Ends of what is done are where chunks end.
            let done = done.iter().map(|(at, long)| {
                let place = |chunks: u64| layout.down((chunks * 4096).min(length), 4096);
                place(*at)..place(at + long)
            });
            let done = RangeSet::from_iter(done.filter(|range| !range.is_empty()));
            let mut seen = done.clone();
            let mut last = None;
            for task in tasks(Plan::new(layout, 4096, done, holes), &source) {
                let range = task.range();
                prop_assert!(!range.is_empty() && range.end <= length);
                prop_assert_eq!(seen.gap(range.start, range.end), Some(range.clone()));
                let to = layout.in_destination(&range);
                prop_assert!(last.is_none_or(|block| to.start / 4096 > block), "a block in two tasks");
                last = Some((to.end - 1) / 4096);
                if let Task::Hole(range) = &task {
                    let data = source.next_data(layout.source_offset + range.start).unwrap();
                    prop_assert!(data.is_none_or(|d| d.start >= layout.source_offset + range.end));
                    prop_assert!(holes);
                }
                seen.insert(range);
            }
            prop_assert_eq!(seen.total(), length);
        }
    }
}
