//! The Completion Queue Entry: a response (Base 2.1, section 4.2).

use core::fmt;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::Status;
use crate::wire::wire;

wire! {
    /// A Completion Queue Entry: 16 bytes.
    pub struct Cqe: 16 bytes {
        /// Dword 0: the command's result.
        0 => dw0: U32,
        /// Dword 1: the upper half of an eight-byte result.
        4 => dw1: U32,
        /// Submission queue head: how far the controller has consumed, modulo the queue's size.
        8 => sqhd: U16,
        /// Submission queue identifier: reserved on fabrics.
        10 => sqid: U16,
        /// Identifier of the command this answers.
        12 => cid: U16,
        /// Status (bits 15:1); bit 0, the phase tag, is 0 on fabrics.
        14 => status: U16,
    }
}

impl Cqe {
    /// An answer to command `cid` with this status and no result.
    pub fn new(cid: u16, status: Status) -> Self {
        Self { cid: U16::new(cid), status: U16::new(status.to_wire()), ..Self::default() }
    }

    /// Success with a result in dword 0.
    pub fn with_dw0(cid: u16, dw0: u32) -> Self {
        Self { dw0: U32::new(dw0), ..Self::new(cid, Status::SUCCESS) }
    }

    /// Success with a result in dwords 0 and 1.
    pub fn with_result(cid: u16, result: u64) -> Self {
        let value = U64::new(result);
        let mut cqe = Self::new(cid, Status::SUCCESS);
        cqe.as_mut_bytes()[..8].copy_from_slice(value.as_bytes());
        cqe
    }

    /// The status.
    pub fn status(&self) -> Status {
        Status::from_wire(self.status.get())
    }

    /// Dwords 0 and 1 as one number.
    pub fn result(&self) -> u64 {
        u64::from(self.dw0.get()) | u64::from(self.dw1.get()) << 32
    }
}

impl fmt::Debug for Cqe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cqe")
            .field("cid", &self.cid.get())
            .field("status", &self.status())
            .field("result", &format_args!("{:#x}", self.result()))
            .field("sqhd", &self.sqhd.get())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_has_its_bytes_where_the_specification_puts_them() {
        let mut cqe = Cqe::with_result(0x0102, 0x1122_3344_5566_7788);
        cqe.sqhd.set(0x0304);
        cqe.status.set(Status::INVALID_FIELD.with_dnr(true).to_wire());
        assert_eq!(
            cqe.as_bytes(),
            [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 4, 3, 0, 0, 2, 1, 0x04, 0x80]
        );
        assert_eq!(cqe.result(), 0x1122_3344_5566_7788);
        assert_eq!(cqe.status(), Status::INVALID_FIELD.with_dnr(true));
    }
}
