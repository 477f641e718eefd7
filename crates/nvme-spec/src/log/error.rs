//! Error Information log page (LID 01h; Base 2.1, section 5.1.12): entries, newest first.

use zerocopy::little_endian::{U16, U32, U64};

use crate::status::Status;
use crate::wire::wire;

wire! {
    /// One entry of the Error Information log page.
    pub struct ErrorLogEntry: 64 bytes {
        /// Error Count, unique over the life of the controller; 0: no entry.
        0 => error_count: U64,
        /// Submission Queue ID; FFFFh if not of one command.
        8 => sqid: U16,
        /// Command ID; FFFFh if not of one command.
        10 => cmdid: U16,
        /// Status, as in the completion, with the phase tag in bit 0.
        12 => status_field: U16,
        /// Parameter Error Location: byte of the command 7:0 and bit in it 10:8; FFFFh: not known.
        14 => parm_error_location: U16,
        /// The first LBA that met the error.
        16 => lba: U64,
        /// Namespace.
        24 => nsid: U32,
        /// Vendor Specific Information Available.
        28 => vs: u8,
        /// Transport Type ([`super::trtype`]); 0 if not related to the transport.
        29 => trtype: u8,
        /// Command Set Indicator.
        30 => csi: u8,
        /// Opcode of the command.
        31 => opcode: u8,
        /// Command Specific Information.
        32 => cs: U64,
        /// Transport Type Specific Information.
        40 => trtype_spec_info: U16,
        /// Reserved.
        42 => reserved: [u8; 21],
        /// Log Page Version: 1 if CSI and opcode are given.
        63 => lpver: u8,
    }
}

impl ErrorLogEntry {
    /// The status the command completed with.
    pub fn status(&self) -> Status {
        Status::from_wire(self.status_field.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn an_entry_has_its_bytes_where_the_specification_puts_them() {
        let mut entry = ErrorLogEntry::default();
        entry.error_count.set(0x0102);
        entry.sqid.set(3);
        entry.cmdid.set(4);
        entry.status_field.set(Status::INVALID_FIELD.with_dnr(true).to_wire());
        entry.parm_error_location.set(40);
        entry.lba.set(5);
        entry.nsid.set(6);
        let bytes = entry.as_bytes();
        assert_eq!(bytes[..12], [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 4, 0]);
        assert_eq!(bytes[12..17], [4, 0x80, 40, 0, 5]);
        assert_eq!(bytes[24], 6);
        assert_eq!(entry.status(), Status::INVALID_FIELD.with_dnr(true));
    }
}
