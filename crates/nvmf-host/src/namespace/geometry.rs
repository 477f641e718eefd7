//! What a namespace is like, and how operations on it are cut into commands.

use nvmf::host::NamespaceInfo;
use nvmf::spec::identify::{IdentifyController, IdentifyNamespace};

use super::error::{Asked, IoError, Verb};

/// What can be done to a namespace, beside reading and writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Abilities {
    /// [`compare`](super::Namespace::compare).
    pub compare: bool,
    /// [`write_zeroes`](super::Namespace::write_zeroes) without sending them.
    pub write_zeroes: bool,
    /// [`discard`](super::Namespace::discard).
    pub discard: bool,
    /// There is a volatile write cache: what is not flushed may be lost.
    pub write_cache: bool,
}

/// What a namespace is like at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Geometry {
    /// The number of blocks.
    pub blocks: u64,
    /// Bytes of a block, a power of two from 512 on.
    pub block_size: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// The most bytes of one command: MDTS, but never more than 1 MiB.
    pub max_transfer: u32,
    /// Commands do not cross multiples of this many blocks (NOIOB); 0: they may.
    pub boundary: u32,
    /// What can be done.
    pub abilities: Abilities,
}

/// The most bytes of one operation with data.
pub(crate) const MOST_DATA: u64 = 1 << 30;

/// Boundaries that are closer together than this many bytes are crossed.
const LEAST_BOUNDARY: u32 = 4096;

/// NLB is 16 bits, 0's based.
const MOST_BLOCKS: u64 = 1 << 16;

/// A part of an operation: what one command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub(crate) slba: u64,
    /// 1 to 65536.
    pub(crate) blocks: u32,
}

impl Geometry {
    pub(crate) fn new(
        info: &NamespaceInfo,
        namespace: &IdentifyNamespace,
        controller: &IdentifyController,
        max_transfer: u32,
    ) -> Self {
        let oncs = controller.oncs.get();
        let boundary = u32::from(namespace.noiob.get());
        Self {
            blocks: info.blocks,
            block_size: info.block_size,
            read_only: info.write_protected,
            // One block always goes: a controller that says less means something else.
            max_transfer: max_transfer.max(info.block_size),
            // It is advice, and no reason to cut an operation into a million commands.
            boundary: if boundary.saturating_mul(info.block_size) < LEAST_BOUNDARY {
                0
            } else {
                boundary
            },
            abilities: Abilities {
                compare: oncs & IdentifyController::ONCS_COMPARE != 0,
                write_zeroes: oncs & IdentifyController::ONCS_WRITE_ZEROES != 0,
                discard: oncs & IdentifyController::ONCS_DSM != 0,
                write_cache: controller.vwc & IdentifyController::VWC_PRESENT != 0,
            },
        }
    }

    /// The size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// Whether bytes are a number of whole blocks.
    pub fn is_aligned(&self, offset: u64, length: u64) -> bool {
        (offset | length).is_multiple_of(u64::from(self.block_size))
    }

    /// The blocks of a range that ends where the namespace does, or before.
    pub(crate) fn place(&self, asked: Asked) -> Result<(u64, u64), IoError> {
        let Asked { verb, offset, length } = asked;
        let size = self.bytes();
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(IoError::OutOfRange { asked, size });
        }
        if !self.is_aligned(offset, length) {
            return Err(IoError::Unaligned { asked, block_size: self.block_size });
        }
        if matches!(verb, Verb::Read | Verb::Write | Verb::Compare) && length > MOST_DATA {
            return Err(IoError::TooLong { asked, most: MOST_DATA });
        }
        let block = u64::from(self.block_size);
        Ok((offset / block, length / block))
    }

    /// Cuts blocks into what one command with data may have.
    pub(crate) fn split_data(&self, slba: u64, blocks: u64) -> Split {
        let most = u64::from(self.max_transfer / self.block_size).clamp(1, MOST_BLOCKS);
        Split { slba, left: blocks, most, boundary: self.boundary.into() }
    }

    /// Cuts blocks into what one command without data may have.
    pub(crate) fn split(&self, slba: u64, blocks: u64) -> Split {
        Split { slba, left: blocks, most: MOST_BLOCKS, boundary: 0 }
    }
}

/// The parts of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    slba: u64,
    left: u64,
    most: u64,
    boundary: u64,
}

impl Iterator for Split {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        if self.left == 0 {
            return None;
        }
        let to_boundary = match self.boundary {
            0 => u64::MAX,
            boundary => boundary - self.slba % boundary,
        };
        let blocks = self.left.min(self.most).min(to_boundary);
        let extent = Extent { slba: self.slba, blocks: u32::try_from(blocks).unwrap_or(u32::MAX) };
        self.slba = self.slba.saturating_add(blocks);
        self.left -= blocks;
        Some(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn geometry(max_transfer: u32, boundary: u32) -> Geometry {
        Geometry {
            blocks: 1000,
            block_size: 512,
            read_only: false,
            max_transfer,
            boundary,
            abilities: Abilities::default(),
        }
    }

    proptest! {
        #[test]
        fn whatever_a_controller_says_a_range_is_covered_by_a_bounded_number_of_commands(
            (blocks, less) in (any::<u64>(), 9..50u32),
            (ds, noiob) in (9..=20u8, any::<u16>()),
            (shift, max_transfer) in (0..16u32, 4096..=u32::MAX),
            (first, length) in (any::<u64>(), 0..16u64 << 20),
        ) {
            let mut identify = IdentifyNamespace::default();
            identify.nsze.set(blocks >> less);
            identify.lbaf[0].ds = ds;
            identify.noiob.set(noiob >> shift);
            let Ok(info) = NamespaceInfo::new(1, &identify) else { return Ok(()) };
            let controller = IdentifyController::default();
            let geometry = Geometry::new(&info, &identify, &controller, max_transfer);
            let block = u64::from(geometry.block_size);
            let slba = first % geometry.blocks;
            let asked = read(slba * block, length / block * block);
            let Ok((slba, blocks)) = geometry.place(asked) else { return Ok(()) };
            let (mut at, mut count) = (slba, 0);
            for extent in geometry.split_data(slba, blocks) {
                prop_assert_eq!(extent.slba, at);
                prop_assert!(extent.blocks > 0);
                at += u64::from(extent.blocks);
                count += 1;
            }
            prop_assert_eq!(at, slba + blocks);
            prop_assert!(count <= length / 2048 + 2, "{} commands for {} bytes", count, length);
        }
    }

    fn read(offset: u64, length: u64) -> Asked {
        Asked { verb: Verb::Read, offset, length }
    }

    #[test]
    fn commands_end_at_mdts_and_at_boundaries_and_cover_the_range_once() {
        for (max_transfer, boundary) in [(4096, 0), (4096, 5), (1 << 20, 64), (512, 1), (5000, 7)] {
            let geometry = geometry(max_transfer, boundary);
            let mut at = 3;
            for Extent { slba, blocks } in geometry.split_data(3, 517) {
                assert_eq!(slba, at);
                assert!(blocks > 0 && blocks * 512 <= max_transfer, "{blocks}");
                if boundary > 0 {
                    let boundary = u64::from(boundary);
                    assert_eq!(slba / boundary, (slba + u64::from(blocks) - 1) / boundary);
                }
                at += u64::from(blocks);
            }
            assert_eq!(at, 520);
        }
    }

    #[test]
    fn no_command_has_more_blocks_than_its_field_holds() {
        let split: Vec<_> = geometry(4096, 5).split(0, 100_000).collect();
        let expected = [(0, 65536), (65536, 34464)];
        assert_eq!(split.len(), 2);
        for (extent, (slba, blocks)) in split.iter().zip(expected) {
            assert_eq!((extent.slba, extent.blocks), (slba, blocks));
        }
    }

    #[test]
    fn what_is_not_inside_or_not_whole_is_refused() {
        let geometry = geometry(4096, 0);
        assert_eq!(geometry.place(read(512, 1024)), Ok((1, 2)));
        assert_eq!(geometry.place(read(512_000, 0)), Ok((1000, 0)));
        for (offset, length) in [(0, 512_001), (512_000, 512), (u64::MAX, 512)] {
            let refused = geometry.place(read(offset, length));
            assert!(matches!(refused, Err(IoError::OutOfRange { size: 512_000, .. })), "{offset}");
        }
        for (offset, length) in [(1, 512), (0, 511)] {
            let refused = geometry.place(read(offset, length));
            assert!(matches!(refused, Err(IoError::Unaligned { block_size: 512, .. })));
        }
    }
}
