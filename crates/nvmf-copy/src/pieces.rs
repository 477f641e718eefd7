//! A chunk cut into what is written and what is zero.

use std::io;
use std::ops::Range;

use crate::endpoint::Source;
use crate::layout::Layout;

/// Zeroes in the data are worth a hole from so many bytes on: fewer cost more as a request of their
/// own than as data.
const LEAST_ZEROES: u64 = 64 << 10;

/// A part of a chunk; ranges count from the beginning of the copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    Data(Range<u64>),
    Zeroes(Range<u64>),
}

/// Parts of `range` by the source's map. Data is widened to whole units in the destination, so that
/// holes begin and end between its blocks.
pub(crate) fn by_map(
    source: &dyn Source,
    layout: &Layout,
    range: &Range<u64>,
    unit: u64,
) -> io::Result<Vec<Piece>> {
    let whole = layout.in_source(range);
    let mut pieces = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let from = layout.source_offset + at;
        let Some(data) = source.next_data(from)?.filter(|data| data.start < whole.end) else {
            break;
        };
        let start = data.start.max(from) - layout.source_offset;
        let end = data.end.min(whole.end).saturating_sub(layout.source_offset);
        let start = layout.down(start, unit).max(at);
        // However strange the map is, it goes on.
        let end = layout.up(end.max(start + 1), unit).min(range.end);
        push(&mut pieces, at..start, true);
        push(&mut pieces, start..end, false);
        at = end;
    }
    push(&mut pieces, at..range.end, true);
    Ok(pieces)
}

/// Parts of `range`, whose bytes are these, by what they are; cut between units of the destination.
pub(crate) fn by_content(
    layout: &Layout,
    range: &Range<u64>,
    bytes: &[u8],
    unit: u64,
) -> Vec<Piece> {
    let place = |at: u64| usize::try_from(at - range.start).unwrap_or(usize::MAX).min(bytes.len());
    let mut pieces = Vec::new();
    let mut zeroes = range.start..range.start;
    let mut at = range.start;
    while at < range.end {
        let next = layout.up(at + 1, unit).min(range.end);
        if is_zero(&bytes[place(at)..place(next)]) {
            zeroes.end = next;
        } else {
            let worth = zeroes.end - zeroes.start >= LEAST_ZEROES;
            push(&mut pieces, zeroes, worth);
            push(&mut pieces, at..next, false);
            zeroes = next..next;
        }
        at = next;
    }
    let worth = zeroes == *range || zeroes.end - zeroes.start >= LEAST_ZEROES;
    push(&mut pieces, zeroes, worth);
    pieces
}

/// Adds a part, which becomes one with the one before it if they are of a kind.
fn push(pieces: &mut Vec<Piece>, range: Range<u64>, zero: bool) {
    if range.is_empty() {
        return;
    }
    match (pieces.last_mut(), zero) {
        (Some(Piece::Data(last)), false) | (Some(Piece::Zeroes(last)), true) => {
            last.end = range.end
        }
        (_, false) => pieces.push(Piece::Data(range)),
        (_, true) => pieces.push(Piece::Zeroes(range)),
    }
}

/// Whether there are only zeroes.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Words at a time: the compiler makes vectors of this.
    let mut groups = bytes.chunks_exact(64);
    groups.all(|group| group.iter().fold(0, |all, byte| all | byte) == 0)
        && groups.remainder().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Rest;
    use crate::testing::Memory;
    use proptest::prelude::*;

    const UNIT: u64 = 4096;

    fn layout(source_offset: u64, offset: u64, length: u64) -> Layout {
        Layout { source_offset, offset, length, rest: Rest::Stays }
    }

    #[test]
    fn holes_stand_between_blocks_of_the_destination() {
        let mut source = Memory::zeroed(64 << 10);
        source.put(10_000, &[1; 100]);
        let pieces = by_map(&source, &layout(0, 0, 64 << 10), &(0..64 << 10), UNIT).unwrap();
        let expected =
            [Piece::Zeroes(0..8192), Piece::Data(8192..12_288), Piece::Zeroes(12_288..65_536)];
        assert_eq!(pieces, expected);
        let empty =
            by_map(&Memory::zeroed(9000), &layout(0, 0, 9000), &(4096..9000), UNIT).unwrap();
        assert_eq!(empty, [Piece::Zeroes(4096..9000)]);
    }

    #[test]
    fn few_zeroes_are_data_and_many_are_not() {
        let layout = layout(0, 0, 1 << 20);
        let mut bytes = vec![0; 1 << 20];
        assert_eq!(by_content(&layout, &(0..1 << 20), &bytes, UNIT), [Piece::Zeroes(0..1 << 20)]);
        bytes[70_000] = 1;
        bytes[80_000] = 1;
        let expected =
            [Piece::Zeroes(0..69_632), Piece::Data(69_632..81_920), Piece::Zeroes(81_920..1 << 20)];
        assert_eq!(by_content(&layout, &(0..1 << 20), &bytes, UNIT), expected);
        assert_eq!(by_content(&layout, &(0..4096), &bytes[..4096], UNIT), [Piece::Zeroes(0..4096)]);
        assert_eq!(by_content(&layout, &(0..0), &[], UNIT), []);
        // Blocks that are larger than what is worth a hole.
        assert_eq!(
            by_content(&layout, &(0..1 << 20), &bytes, 1 << 19),
            [Piece::Data(0..1 << 19), Piece::Zeroes(1 << 19..1 << 20)]
        );
    }

    #[test]
    fn a_single_byte_is_seen_wherever_it_is() {
        for length in [0, 1, 63, 64, 65, 200] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in 0..length {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{at} of {length}");
                bytes[at] = 0;
            }
        }
    }

    fn check(pieces: &[Piece], range: &Range<u64>, bytes: &[u8]) -> Result<(), TestCaseError> {
        let mut at = range.start;
        for piece in pieces {
            let (part, zero) = match piece {
                Piece::Data(part) => (part, false),
                Piece::Zeroes(part) => (part, true),
            };
            prop_assert_eq!(part.start, at);
            prop_assert!(part.end > at);
            at = part.end;
            let place = |at: u64| usize::try_from(at - range.start).unwrap();
            prop_assert!(!zero || is_zero(&bytes[place(part.start)..place(part.end)]));
        }
        prop_assert_eq!(at, range.end);
        Ok(())
    }

    proptest! {
        #[test]
        fn parts_are_the_whole_and_zeroes_are_zero(
            offsets in (0_u64..10_000, 0_u64..10_000),
            range in (0_u64..100_000, 0_u64..200_000),
            data in prop::collection::vec((0_usize..300_000, 1_usize..9000), 0..6),
        ) {
            let mut source = Memory::zeroed(320_000);
            data.iter().for_each(|(at, long)| source.put(*at as u64, &vec![1; *long]));
            let layout = layout(offsets.0, offsets.1, 300_000);
            let range = range.0..range.0 + range.1;
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
            source.read_at(&mut bytes, layout.source_offset + range.start).unwrap();
            check(&by_map(&source, &layout, &range, UNIT).unwrap(), &range, &bytes)?;
            check(&by_content(&layout, &range, &bytes, UNIT), &range, &bytes)?;
        }
    }
}
