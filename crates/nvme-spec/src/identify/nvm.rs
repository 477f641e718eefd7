//! What the NVM command set adds to Identify (CNS 05h and 06h with CSI 0; NVM Command Set 1.1,
//! section 4.1.5), and the list of command sets (CNS 1Ch; Base 2.1, section 5.1.13).

use zerocopy::little_endian::{U16, U32, U64};

use crate::wire::wire;

wire! {
    /// I/O Command Set Specific Identify Namespace data structure of the NVM command set.
    pub struct IdentifyNamespaceNvm: 4096 bytes {
        /// Logical Block Storage Tag Mask.
        0 => lbstm: U64,
        /// Protection Information Capabilities.
        8 => pic: u8,
        /// Protection Information Format Attribute.
        9 => pifa: u8,
        /// Reserved.
        10 => reserved1: [u8; 2],
        /// Extended LBA Formats, in the order of the LBA formats they extend.
        12 => elbaf: [ExtendedLbaFormat; 64],
        /// Namespace Preferred Deallocate Granularity Large, in blocks.
        268 => npdgl: U32,
        /// Namespace Preferred Read Granularity, in blocks.
        272 => nprg: U32,
        /// Namespace Preferred Read Alignment, in blocks.
        276 => npra: U32,
        /// Namespace Optimal Read Size, in blocks.
        280 => nors: U32,
        /// Namespace Preferred Deallocate Alignment Large, in blocks.
        284 => npdal: U32,
        /// LBA Format Placement Shard Size.
        288 => lbapss: U32,
        /// Tracked LBA Allocation Granularity.
        292 => tlbaag: U32,
        /// Reserved.
        296 => reserved2: [u8; 3800],
    }
}

wire! {
    /// Extended LBA Format: how protection information is laid out in a format.
    pub struct ExtendedLbaFormat: 4 bytes {
        /// Storage Tag Size 6:0, Protection Information Format 8:7, its qualifier 12:9.
        0 => elbaf: U32,
    }
}

impl ExtendedLbaFormat {
    /// Storage Tag Size, in bits.
    #[allow(clippy::cast_possible_truncation, reason = "masked to seven bits")]
    pub fn sts(&self) -> u8 {
        (self.elbaf.get() & 0x7f) as u8
    }

    /// Protection Information Format: 0 16-bit guard, 1 32-bit guard, 2 64-bit guard.
    #[allow(clippy::cast_possible_truncation, reason = "masked to two bits")]
    pub fn pif(&self) -> u8 {
        (self.elbaf.get() >> 7 & 0x3) as u8
    }

    /// Qualified Protection Information Format.
    #[allow(clippy::cast_possible_truncation, reason = "masked to four bits")]
    pub fn qpif(&self) -> u8 {
        (self.elbaf.get() >> 9 & 0xf) as u8
    }
}

wire! {
    /// I/O Command Set Specific Identify Controller data structure of the NVM command set.
    ///
    /// Limits given as a power of two count minimum memory pages; 0 is no limit.
    pub struct IdentifyControllerNvm: 4096 bytes {
        /// Verify Size Limit, as a power of two.
        0 => vsl: u8,
        /// Write Zeroes Size Limit, as a power of two.
        1 => wzsl: u8,
        /// Write Uncorrectable Size Limit, as a power of two.
        2 => wusl: u8,
        /// Dataset Management Ranges Limit, in ranges.
        3 => dmrl: u8,
        /// Dataset Management Range Size Limit, in blocks.
        4 => dmrsl: U32,
        /// Dataset Management Size Limit, in blocks.
        8 => dmsl: U64,
        /// Key Per I/O Capabilities.
        16 => kpiocap: u8,
        /// Write Zeroes With Deallocate Size Limit, as a power of two.
        17 => wzdsl: u8,
        /// Admin Optional Command Support.
        18 => aocs: U16,
        /// Version of the NVM command set specification.
        20 => ver: U32,
        /// LBA Migration Queue Format.
        24 => lbamqf: u8,
        /// Reserved.
        25 => reserved: [u8; 4071],
    }
}

wire! {
    /// I/O Command Set data structure: which combinations of command sets a controller offers.
    pub struct CommandSetList: 4096 bytes {
        /// I/O Command Set Combinations: bit n of a combination set for the command set of CSI n.
        /// The list ends with the first zero.
        0 => iocsc: [U64; 512],
    }
}

impl CommandSetList {
    /// Bit of the NVM command set in a combination.
    pub const NVM: u64 = 1 << super::cns::CSI_NVM;

    /// The list of a controller that has only the NVM command set.
    pub fn nvm_only() -> Self {
        let mut list = Self::default();
        list.iocsc[0].set(Self::NVM);
        list
    }

    /// The combinations, up to the first zero.
    pub fn combinations(&self) -> impl Iterator<Item = u64> + '_ {
        self.iocsc.iter().map(|c| c.get()).take_while(|&c| c != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn limits_lie_where_the_specification_puts_them() {
        let mut id =
            IdentifyControllerNvm { vsl: 1, wzsl: 2, wusl: 3, dmrl: 4, ..Default::default() };
        id.dmrsl.set(5);
        id.dmsl.set(6);
        id.ver.set(0x0001_0100);
        let bytes = id.as_bytes();
        assert_eq!(bytes[..16], [1, 2, 3, 4, 5, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[20..24], [0, 1, 1, 0]);
    }

    #[test]
    fn an_extended_format_is_three_fields() {
        let mut bytes = [0; 4096];
        bytes[12..16].copy_from_slice(&[0x90, 0x17, 0, 0]);
        let id = IdentifyNamespaceNvm::ref_from_bytes(&bytes).unwrap();
        let format = id.elbaf[0];
        assert_eq!((format.sts(), format.pif(), format.qpif()), (0x10, 3, 0xb));
    }

    #[test]
    fn the_list_of_command_sets_ends_with_zero() {
        let list = CommandSetList::nvm_only();
        assert_eq!(list.as_bytes()[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(list.combinations().eq([1]));
        let full = CommandSetList { iocsc: [U64::new(5); 512] };
        assert_eq!(full.combinations().count(), 512);
    }
}
