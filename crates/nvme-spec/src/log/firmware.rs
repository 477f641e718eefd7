//! Firmware Slot Information log page (LID 03h; Base 2.1, section 5.1.12).

use crate::identify::{Ascii, write_ascii};
use crate::wire::wire;

wire! {
    /// Firmware Slot Information log page.
    pub struct FirmwareSlotLog: 512 bytes {
        /// Active Firmware Info: active slot 2:0, slot active after the next reset 6:4.
        0 => afi: u8,
        /// Reserved.
        1 => reserved1: [u8; 7],
        /// Firmware Revision of slots 1 to 7, ASCII; zeroes: empty.
        8 => frs: [[u8; 8]; 7],
        /// Reserved.
        64 => reserved2: [u8; 448],
    }
}

impl FirmwareSlotLog {
    /// The page of a controller with one slot.
    pub fn single(revision: &str) -> Self {
        let mut log = Self { afi: 1, ..Self::default() };
        write_ascii(&mut log.frs[0], revision);
        log
    }

    /// The slots that hold something: number, from 1, and revision.
    pub fn slots(&self) -> impl Iterator<Item = (u8, Ascii<'_>)> + Clone {
        (1..)
            .zip(&self.frs)
            .map(|(slot, frs)| (slot, Ascii::new(frs)))
            .filter(|(_, frs)| !frs.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn a_single_slot_is_slot_one_and_active() {
        let log = FirmwareSlotLog::single("1.2");
        assert_eq!(&log.as_bytes()[..20], b"\x01\0\0\0\0\0\0\x001.2     \0\0\0\0");
        let mut slots = log.slots();
        assert_eq!(slots.next().map(|(n, r)| (n, r.as_str())), Some((1, Some("1.2"))));
        assert!(slots.next().is_none());
    }
}
