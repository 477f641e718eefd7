//! The Copy command (NVM Command Set 1.1, section 3.3.2): from ranges of blocks to one after another.

use zerocopy::little_endian::{U16, U64};

use crate::opcode;
use crate::sqe::Sqe;
use crate::wire::wire;

/// What a Copy command asks for, unpacked from dwords 10 to 12. Its data are the source ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CopyRequest {
    /// SDLBA: where the first block goes.
    pub sdlba: u64,
    /// NR: source ranges, 0's based; [`CopyRequest::ranges`] is their number.
    pub nr: u8,
    /// DESFMT: descriptor format of the ranges, four bits; 0: [`SourceRange`].
    pub format: u8,
    /// PRINFOR: what to do with the protection information that is read, four bits.
    pub prinfor: u8,
    /// PRINFOW: what to do with the protection information that is written, four bits.
    pub prinfow: u8,
    /// FUA: what was written is durable when the command completes.
    pub fua: bool,
    /// LR: limited retry.
    pub lr: bool,
}

impl CopyRequest {
    /// The number of source ranges, 1 to 256.
    pub const fn ranges(&self) -> u16 {
        self.nr as u16 + 1
    }

    /// From a command, whatever its opcode. Directive and storage tags are not looked at.
    pub fn from_sqe(sqe: &Sqe) -> Self {
        let [nr, formats, _, top] = sqe.cdw(12).to_le_bytes();
        Self {
            sdlba: sqe.slba(),
            nr,
            format: formats & 0xf,
            prinfor: formats >> 4,
            prinfow: top >> 2 & 0xf,
            fua: top & 0x40 != 0,
            lr: top & 0x80 != 0,
        }
    }

    /// A command that asks for this, without NSID and SGL.
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::new(opcode::nvm::COPY);
        sqe.set_slba(self.sdlba);
        let formats = self.format & 0xf | self.prinfor << 4;
        let top = (self.prinfow & 0xf) << 2 | u8::from(self.fua) << 6 | u8::from(self.lr) << 7;
        sqe.set_cdw(12, u32::from_le_bytes([self.nr, formats, 0, top]));
        sqe
    }
}

wire! {
    /// Source Range Entry, descriptor format 0h: blocks of the namespace that is written, without
    /// protection information or with 16-bit guards.
    pub struct SourceRange: 32 bytes {
        /// Reserved.
        0 => reserved1: [u8; 8],
        /// Starting LBA.
        8 => slba: U64,
        /// Number of Logical Blocks, 0's based; [`SourceRange::blocks`] is their number.
        16 => nlb: U16,
        /// Reserved.
        18 => reserved2: [u8; 4],
        /// Source Options.
        22 => sopt: U16,
        /// What the reference and application tags are expected to be, for protection information.
        24 => tags: [u8; 8],
    }
}

impl SourceRange {
    /// Descriptor format 0h, as in [`CopyRequest::format`] and as a bit of Identify Controller's
    /// OCFS.
    pub const FORMAT: u8 = 0;

    /// The number of blocks, 1 to 65536.
    pub const fn blocks(&self) -> u32 {
        self.nlb.get() as u32 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn each_field_of_a_copy_has_its_place_in_the_dwords() {
        let request = CopyRequest {
            sdlba: 0x1122_3344_5566_7788,
            nr: 3,
            format: 2,
            prinfor: 0x9,
            prinfow: 0x5,
            fua: true,
            lr: false,
        };
        let sqe = request.to_sqe();
        assert_eq!((sqe.opcode, sqe.cdw(10), sqe.cdw(11)), (0x19, 0x5566_7788, 0x1122_3344));
        assert_eq!(sqe.cdw(12), 0x5400_9203);
        assert_eq!(CopyRequest::from_sqe(&sqe), request);
        assert_eq!(request.ranges(), 4);
    }

    #[test]
    fn any_dwords_are_a_copy() {
        let mut sqe = Sqe::new(opcode::nvm::COPY);
        sqe.set_cdw(12, u32::MAX);
        let request = CopyRequest::from_sqe(&sqe);
        assert_eq!((request.ranges(), request.format, request.prinfow), (256, 0xf, 0xf));
        assert!(request.fua && request.lr);
        // The fields between are not part of it, and wider values do not spill.
        assert_eq!(request.to_sqe().cdw(12), 0xfc00_ffff);
        let wide = CopyRequest { format: 0xff, prinfow: 0xff, ..CopyRequest::default() };
        assert_eq!(wide.to_sqe().cdw(12), 0x3c00_0f00);
    }

    #[test]
    fn a_source_range_has_its_bytes_where_the_specification_puts_them() {
        let mut bytes = [0; 32];
        bytes[8..18].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1, 0xff, 0xff]);
        let range = SourceRange::read_from_bytes(&bytes).unwrap();
        assert_eq!(range.slba, 0x0102_0304_0506_0708);
        assert_eq!(range.blocks(), 65536);
        assert_eq!(SourceRange::default().blocks(), 1);
        assert_eq!(range.as_bytes(), bytes);
    }
}
