//! The Submission Queue Entry: a command (Base 2.1, section 4.1).

use core::fmt;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::wire::wire;
use crate::{SglDescriptor, opcode};

wire! {
    /// A Submission Queue Entry: 64 bytes.
    pub struct Sqe: 64 bytes {
        /// Opcode; see [`opcode`].
        0 => opcode: u8,
        /// Fused operation (bits 1:0) and PRP or SGL for data transfer (bits 7:6).
        1 => flags: u8,
        /// Command identifier, unique among the commands outstanding on the queue.
        2 => cid: U16,
        /// Namespace identifier; in a Fabrics command the first byte is its type.
        4 => nsid: U32,
        /// Command dwords 2 and 3.
        8 => cdw2: [U32; 2],
        /// Metadata pointer: unused by NVMe/TCP.
        16 => mptr: U64,
        /// Data pointer: SGL descriptor 1.
        24 => sgl: SglDescriptor,
        /// Command dwords 10 to 15.
        40 => cdw10: [U32; 6],
    }
}

/// Which way a command's data flows (Base 2.1, figure 91).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DataDirection {
    /// No data.
    None,
    /// Host to controller.
    ToController,
    /// Controller to host.
    ToHost,
    /// Both ways: no command of NVMe over Fabrics does that.
    Bidirectional,
}

impl Sqe {
    /// PSDT, the data pointer's kind: bits 7:6 of [`flags`](Self::flags).
    pub const PSDT_MASK: u8 = 0xc0;
    /// PSDT 01b: the data pointer is an SGL. NVMe over Fabrics allows nothing else.
    pub const PSDT_SGL: u8 = 0x40;
    /// FUSE, the fused operation: bits 1:0 of [`flags`](Self::flags).
    pub const FUSE_MASK: u8 = 0x03;

    /// A command with this opcode, an SGL as data pointer, and everything else zero.
    pub fn new(opcode: u8) -> Self {
        Self { opcode, flags: Self::PSDT_SGL, ..Self::default() }
    }

    /// A Fabrics command of this type; see [`opcode::fabrics`].
    pub fn fabrics(fctype: u8) -> Self {
        let mut sqe = Self::new(opcode::FABRICS);
        sqe.nsid.set(u32::from(fctype));
        sqe
    }

    /// Whether this is a Fabrics command.
    pub fn is_fabrics(&self) -> bool {
        self.opcode == opcode::FABRICS
    }

    /// The Fabrics command type, byte 4.
    pub fn fctype(&self) -> u8 {
        self.nsid.as_bytes()[0]
    }

    /// Whether this is the Fabrics command of type `fctype`.
    pub fn is_fabrics_type(&self, fctype: u8) -> bool {
        self.is_fabrics() && self.fctype() == fctype
    }

    /// Command dword `n`, 10 to 15; other numbers give 0.
    pub fn cdw(&self, n: usize) -> u32 {
        n.checked_sub(10).and_then(|i| self.cdw10.get(i)).map_or(0, |w| w.get())
    }

    /// Sets command dword `n`, 10 to 15; other numbers change nothing.
    pub fn set_cdw(&mut self, n: usize, value: u32) {
        if let Some(word) = n.checked_sub(10).and_then(|i| self.cdw10.get_mut(i)) {
            word.set(value);
        }
    }

    /// Which way the data flows, from bits 1:0 of the opcode, or of a Fabrics command's type.
    pub fn data_direction(&self) -> DataDirection {
        let code = if self.is_fabrics() { self.fctype() } else { self.opcode };
        match code & 3 {
            0 => DataDirection::None,
            1 => DataDirection::ToController,
            2 => DataDirection::ToHost,
            _ => DataDirection::Bidirectional,
        }
    }

    /// Sets the starting LBA, dwords 10 and 11 of the NVM Command Set's I/O commands.
    pub fn set_slba(&mut self, lba: u64) {
        let bytes = lba.to_le_bytes();
        let (low, high) = bytes.split_at(4);
        self.cdw10[0].as_mut_bytes().copy_from_slice(low);
        self.cdw10[1].as_mut_bytes().copy_from_slice(high);
    }

    /// The starting LBA, dwords 10 and 11 of the NVM Command Set's I/O commands.
    pub fn slba(&self) -> u64 {
        u64::from(self.cdw(10)) | u64::from(self.cdw(11)) << 32
    }

    /// The number of blocks of an I/O command: dword 12 bits 15:0 plus one, 1 to 65536.
    pub fn block_count(&self) -> u32 {
        (self.cdw(12) & 0xffff) + 1
    }

    /// The fused operation: 0 none, 1 first command, 2 second, 3 reserved.
    pub fn fuse(&self) -> u8 {
        self.flags & Self::FUSE_MASK
    }

    /// The PRP or SGL for Data Transfer field; must be 01b on fabrics.
    pub fn psdt(&self) -> u8 {
        (self.flags & Self::PSDT_MASK) >> 6
    }
}

impl fmt::Debug for Sqe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqe")
            .field("opcode", &format_args!("{:#04x}", self.opcode))
            .field("flags", &format_args!("{:#04x}", self.flags))
            .field("cid", &self.cid.get())
            .field("nsid", &format_args!("{:#x}", self.nsid.get()))
            .field("sgl", &format_args!("{:#04x}+{}", self.sgl.identifier, self.sgl.length.get()))
            .field("cdw10", &format_args!("{:x?}", self.cdw10.map(|w| w.get())))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_has_its_bytes_where_the_specification_puts_them() {
        let mut sqe = Sqe::new(opcode::nvm::READ);
        sqe.cid.set(0x1234);
        sqe.nsid.set(0x0a0b_0c0d);
        sqe.sgl = SglDescriptor::transport(0x1000);
        sqe.set_slba(0x1122_3344_5566_7788);
        sqe.set_cdw(12, 7);
        let b = sqe.as_bytes();
        assert_eq!(b[..8], [0x02, 0x40, 0x34, 0x12, 0x0d, 0x0c, 0x0b, 0x0a]);
        assert_eq!(b[24..40], [0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x10, 0, 0, 0, 0, 0, 0x5a]);
        assert_eq!(b[40..52], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 7, 0, 0, 0]);
        assert_eq!((sqe.slba(), sqe.block_count()), (0x1122_3344_5566_7788, 8));
    }

    #[test]
    fn the_direction_of_data_is_in_the_opcode_or_the_fabrics_type() {
        assert_eq!(Sqe::new(opcode::nvm::WRITE).data_direction(), DataDirection::ToController);
        assert_eq!(Sqe::new(opcode::nvm::READ).data_direction(), DataDirection::ToHost);
        assert_eq!(Sqe::new(opcode::nvm::FLUSH).data_direction(), DataDirection::None);
        let connect = Sqe::fabrics(opcode::fabrics::CONNECT);
        assert_eq!(connect.data_direction(), DataDirection::ToController);
        let get = Sqe::fabrics(opcode::fabrics::PROPERTY_GET);
        assert_eq!(get.data_direction(), DataDirection::None);
        assert!(get.is_fabrics_type(opcode::fabrics::PROPERTY_GET));
    }

    #[test]
    fn dwords_outside_ten_to_fifteen_do_not_exist() {
        let mut sqe = Sqe::new(0);
        sqe.set_cdw(9, 1);
        sqe.set_cdw(16, 1);
        assert_eq!((sqe.cdw(9), sqe.cdw(16), sqe.cdw10), (0, 0, [U32::ZERO; 6]));
    }
}
