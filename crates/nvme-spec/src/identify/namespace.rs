//! Identify Namespace (CNS 00h; NVM Command Set 1.1, section 4.1.5.1) and what is common to all
//! command sets (CNS 08h; Base 2.1, section 5.1.13).

use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::wire::wire;

wire! {
    /// Identify Namespace data structure of the NVM command set.
    pub struct IdentifyNamespace: 4096 bytes {
        /// Namespace Size, in blocks.
        0 => nsze: U64,
        /// Namespace Capacity, in blocks.
        8 => ncap: U64,
        /// Namespace Utilization, in blocks.
        16 => nuse: U64,
        /// Namespace Features (`NSFEAT_*`).
        24 => nsfeat: u8,
        /// Number of LBA Formats, 0's based.
        25 => nlbaf: u8,
        /// Formatted LBA Size: index of the format in use, bits 3:0 and 6:5; bit 4: metadata is
        /// interleaved with the data.
        26 => flbas: u8,
        /// Metadata Capabilities.
        27 => mc: u8,
        /// End-to-end Data Protection Capabilities.
        28 => dpc: u8,
        /// End-to-end Data Protection Type Settings.
        29 => dps: u8,
        /// Namespace Multi-path I/O and Namespace Sharing Capabilities (`NMIC_*`).
        30 => nmic: u8,
        /// Reservation Capabilities (`RESCAP_*`).
        31 => rescap: u8,
        /// Format Progress Indicator.
        32 => fpi: u8,
        /// Deallocate Logical Block Features (`DLFEAT_*`).
        33 => dlfeat: u8,
        /// Namespace Atomic Write Unit Normal, in blocks, 0's based.
        34 => nawun: U16,
        /// Namespace Atomic Write Unit Power Fail, in blocks, 0's based.
        36 => nawupf: U16,
        /// Namespace Atomic Compare & Write Unit, in blocks, 0's based.
        38 => nacwu: U16,
        /// Namespace Atomic Boundary Size Normal, in blocks, 0's based; 0: no boundary.
        40 => nabsn: U16,
        /// Namespace Atomic Boundary Offset.
        42 => nabo: U16,
        /// Namespace Atomic Boundary Size Power Fail, in blocks, 0's based.
        44 => nabspf: U16,
        /// Namespace Optimal I/O Boundary, in blocks.
        46 => noiob: U16,
        /// NVM Capacity, in bytes.
        48 => nvmcap: U128,
        /// Namespace Preferred Write Granularity, in blocks, 0's based.
        64 => npwg: U16,
        /// Namespace Preferred Write Alignment, in blocks, 0's based.
        66 => npwa: U16,
        /// Namespace Preferred Deallocate Granularity, in blocks, 0's based.
        68 => npdg: U16,
        /// Namespace Preferred Deallocate Alignment, in blocks, 0's based.
        70 => npda: U16,
        /// Namespace Optimal Write Size, in blocks, 0's based.
        72 => nows: U16,
        /// Maximum Single Source Range Length of Copy, in blocks.
        74 => mssrl: U16,
        /// Maximum Copy Length, in blocks.
        76 => mcl: U32,
        /// Maximum Source Range Count of Copy, 0's based.
        80 => msrc: u8,
        /// Key Per I/O Status.
        81 => kpios: u8,
        /// Number of Unique Capability LBA Formats.
        82 => nulbaf: u8,
        /// Reserved.
        83 => reserved1: u8,
        /// Key Per I/O Data Access Alignment and Granularity.
        84 => kpiodaag: U32,
        /// Reserved.
        88 => reserved2: [u8; 4],
        /// ANA Group Identifier; 0: none.
        92 => anagrpid: U32,
        /// Reserved.
        96 => reserved3: [u8; 3],
        /// Namespace Attributes (`NSATTR_*`).
        99 => nsattr: u8,
        /// NVM Set Identifier.
        100 => nvmsetid: U16,
        /// Endurance Group Identifier.
        102 => endgid: U16,
        /// Namespace Globally Unique Identifier, in the order it is printed; zero: none.
        104 => nguid: [u8; 16],
        /// IEEE Extended Unique Identifier, in the order it is printed; zero: none.
        120 => eui64: [u8; 8],
        /// LBA Formats, of which NLBAF + 1 mean something.
        128 => lbaf: [LbaFormat; 64],
        /// Vendor specific.
        384 => vs: [u8; 3712],
    }
}

wire! {
    /// LBA Format: the size of a block and of its metadata.
    pub struct LbaFormat: 4 bytes {
        /// Metadata Size, in bytes.
        0 => ms: U16,
        /// LBA Data Size, as a power of two of bytes; 0: the format is not available.
        2 => ds: u8,
        /// Relative Performance, bits 1:0, 0 is best.
        3 => rp: u8,
    }
}

impl LbaFormat {
    /// A format of blocks of `2^ds` bytes without metadata.
    pub const fn new(ds: u8) -> Self {
        Self { ms: U16::ZERO, ds, rp: 0 }
    }

    /// Bytes of data in a block, if the exponent is one that a format can have (9..=31).
    pub const fn block_size(&self) -> Option<u32> {
        match self.ds {
            9..=31 => Some(1 << self.ds),
            _ => None,
        }
    }
}

/// Bits of the fields.
impl IdentifyNamespace {
    /// The namespace is thin provisioned: NCAP may be less than NSZE.
    pub const NSFEAT_THIN: u8 = 1 << 0;
    /// NAWUN, NAWUPF and NACWU apply instead of the controller's values.
    pub const NSFEAT_ATOMIC: u8 = 1 << 1;
    /// Reading deallocated blocks is an error when the host asks for that.
    pub const NSFEAT_DEALLOCATED_ERROR: u8 = 1 << 2;
    /// NGUID and EUI64 are never reused.
    pub const NSFEAT_UID_REUSE: u8 = 1 << 3;
    /// NPWG, NPWA, NPDG, NPDA and NOWS are given (bits 5:4 = 01b).
    pub const NSFEAT_OPTIMAL: u8 = 1 << 4;
    /// The namespace may be attached to several controllers at once.
    pub const NMIC_SHARED: u8 = 1 << 0;
    /// Reservations can outlast a loss of power.
    pub const RESCAP_PERSISTENCE: u8 = 1 << 0;
    /// All six types of reservations are supported; type `n` has bit `n`.
    pub const RESCAP_ALL_TYPES: u8 = 0x7e;
    /// Ignore Existing Key means what NVMe 1.3 and later say.
    pub const RESCAP_IGNORE_KEY_1_3: u8 = 1 << 7;
    /// Deallocated blocks read as zeroes (bits 2:0 = 001b).
    pub const DLFEAT_READS_ZEROES: u8 = 1;
    /// The Deallocate bit of Write Zeroes is supported.
    pub const DLFEAT_WRITE_ZEROES_DEALLOCATE: u8 = 1 << 3;
    /// The namespace is write protected.
    pub const NSATTR_WRITE_PROTECTED: u8 = 1 << 0;

    /// Index of the LBA format in use: FLBAS bits 3:0, and 6:5 above them.
    pub const fn format_index(&self) -> u8 {
        (self.flbas & 0xf) | (self.flbas & 0x60) >> 1
    }

    /// The LBA format in use.
    pub const fn format(&self) -> &LbaFormat {
        // Six bits index 64 formats.
        &self.lbaf[self.format_index() as usize]
    }

    /// Bytes of data in a block of the format in use, `None` if that format is not one.
    pub const fn block_size(&self) -> Option<u32> {
        self.format().block_size()
    }
}

wire! {
    /// I/O Command Set Independent Identify Namespace data structure.
    pub struct IndependentNamespace: 4096 bytes {
        /// Common Namespace Features.
        0 => nsfeat: u8,
        /// Namespace Multi-path I/O and Namespace Sharing Capabilities.
        1 => nmic: u8,
        /// Reservation Capabilities.
        2 => rescap: u8,
        /// Format Progress Indicator.
        3 => fpi: u8,
        /// ANA Group Identifier.
        4 => anagrpid: U32,
        /// Namespace Attributes.
        8 => nsattr: u8,
        /// Reserved.
        9 => reserved1: u8,
        /// NVM Set Identifier.
        10 => nvmsetid: U16,
        /// Endurance Group Identifier.
        12 => endgid: U16,
        /// Namespace Status: bit 0 set if ready.
        14 => nstat: u8,
        /// Key Per I/O Status.
        15 => kpios: u8,
        /// Maximum Key Tag.
        16 => maxkt: U16,
        /// Reserved.
        18 => reserved2: [u8; 2],
        /// Reachability Group Identifier.
        20 => rgrpid: U32,
        /// Reserved.
        24 => reserved3: [u8; 4072],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let mut id = IdentifyNamespace::default();
        id.nsze.set(0x0807_0605_0403_0201);
        id.flbas = 0x11;
        id.nmic = IdentifyNamespace::NMIC_SHARED;
        id.nvmcap.set(0x100);
        id.anagrpid.set(7);
        id.nguid = [0xa5; 16];
        id.eui64 = [1, 2, 3, 4, 5, 6, 7, 8];
        id.lbaf[1] = LbaFormat::new(12);
        let bytes = id.as_bytes();
        assert_eq!(bytes[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((bytes[26], bytes[30]), (0x11, 1));
        assert_eq!(bytes[48..50], [0, 1]);
        assert_eq!(bytes[92..96], [7, 0, 0, 0]);
        assert_eq!(bytes[104..120], [0xa5; 16]);
        assert_eq!(bytes[120..128], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[132..136], [0, 0, 12, 0]);
        assert_eq!(id.block_size(), Some(4096));
    }

    #[test]
    fn any_format_byte_is_an_index_within_the_table() {
        for flbas in 0..=u8::MAX {
            let id = IdentifyNamespace { flbas, ..Default::default() };
            assert!(id.format_index() < 64);
            assert_eq!(id.block_size(), None);
        }
        let id = IdentifyNamespace { flbas: 0x6f, ..Default::default() };
        assert_eq!(id.format_index(), 63);
    }

    #[test]
    fn only_sensible_exponents_are_block_sizes() {
        assert_eq!(LbaFormat::new(8).block_size(), None);
        assert_eq!(LbaFormat::new(9).block_size(), Some(512));
        assert_eq!(LbaFormat::new(31).block_size(), Some(1 << 31));
        assert_eq!(LbaFormat::new(32).block_size(), None);
        assert_eq!(LbaFormat::new(255).block_size(), None);
    }
}
