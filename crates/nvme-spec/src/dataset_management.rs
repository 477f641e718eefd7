//! The Dataset Management command (NVM Command Set 1.1, section 3.3.3): its data are ranges.

use zerocopy::little_endian::{U32, U64};

use crate::opcode;
use crate::sqe::Sqe;
use crate::wire::wire;

wire! {
    /// A range of blocks and what is said of it.
    pub struct DatasetRange: 16 bytes {
        /// Context Attributes: hints.
        0 => attributes: U32,
        /// Length in blocks.
        4 => blocks: U32,
        /// Starting LBA.
        8 => slba: U64,
    }
}

impl DatasetRange {
    /// The most ranges of one command.
    pub const MOST: usize = 256;
    /// Attribute Deallocate, bit 2 of dword 11: nobody needs what is in the ranges.
    pub const DEALLOCATE: u32 = 1 << 2;

    /// A range without hints.
    pub fn new(slba: u64, blocks: u32) -> Self {
        Self { attributes: 0.into(), blocks: blocks.into(), slba: slba.into() }
    }

    /// The command that deallocates this many ranges, 1 to 256.
    pub fn deallocate(nsid: u32, ranges: u16) -> Sqe {
        let mut sqe = Sqe::new(opcode::nvm::DATASET_MANAGEMENT);
        sqe.nsid.set(nsid);
        sqe.set_cdw(10, u32::from(ranges.saturating_sub(1) & 0xff));
        sqe.set_cdw(11, Self::DEALLOCATE);
        sqe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn a_range_is_its_bytes_and_the_count_is_0s_based() {
        let range = DatasetRange::new(0x0102, 7);
        assert_eq!(range.as_bytes(), [0, 0, 0, 0, 7, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        let sqe = DatasetRange::deallocate(3, 256);
        assert_eq!((sqe.nsid.get(), sqe.cdw(10), sqe.cdw(11)), (3, 255, 4));
    }
}
