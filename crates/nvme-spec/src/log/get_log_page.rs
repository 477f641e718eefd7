//! The Get Log Page command (Base 2.1, section 5.1.12): which page, which part of it.

use crate::opcode;
use crate::sqe::Sqe;

/// What a Get Log Page command asks for, unpacked from NSID and dwords 10 to 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GetLogPage {
    /// NSID: the namespace the page is about, 0 or FFFFFFFFh for the controller.
    pub nsid: u32,
    /// Log Page Identifier ([`super::lid`]).
    pub lid: u8,
    /// Log Specific Parameter, seven bits.
    pub lsp: u8,
    /// Retain Asynchronous Event: reading does not rearm the event.
    pub rae: bool,
    /// Number of Dwords, 0's based; [`GetLogPage::len`] is in bytes.
    pub numd: u32,
    /// Log Specific Identifier.
    pub lsi: u16,
    /// Log Page Offset, in bytes or, if `ot` is set, an index of entries.
    pub offset: u64,
    /// UUID Index, seven bits.
    pub uuid_index: u8,
    /// Offset Type: `offset` counts entries.
    pub ot: bool,
    /// Command Set Identifier.
    pub csi: u8,
}

impl GetLogPage {
    /// Asks for `len` bytes from `offset` of a page of the controller, leaving pending events be.
    ///
    /// `None` if `len` is not a multiple of 4, is 0, or passes 16 GiB.
    pub fn new(lid: u8, offset: u64, len: u64) -> Option<Self> {
        if !len.is_multiple_of(4) {
            return None;
        }
        let numd = u32::try_from((len / 4).checked_sub(1)?).ok()?;
        Some(Self { lid, offset, numd, ..Self::default() })
    }

    /// The bytes asked for, 4 to 16 GiB: more than 32 bits can hold.
    #[allow(clippy::len_without_is_empty, reason = "no request is empty")]
    pub const fn len(&self) -> u64 {
        (self.numd as u64 + 1) * 4
    }

    /// From NSID and dwords 10 to 15. Reserved bits are not looked at.
    pub const fn from_dwords(nsid: u32, cdw10: &[u32; 6]) -> Self {
        let [lid, lsp_rae, numdl0, numdl1] = cdw10[0].to_le_bytes();
        let [numdu0, numdu1, lsi0, lsi1] = cdw10[1].to_le_bytes();
        let [uuid, _, ot, csi] = cdw10[4].to_le_bytes();
        Self {
            nsid,
            lid,
            lsp: lsp_rae & 0x7f,
            rae: lsp_rae & 0x80 != 0,
            numd: u32::from_le_bytes([numdl0, numdl1, numdu0, numdu1]),
            lsi: u16::from_le_bytes([lsi0, lsi1]),
            offset: cdw10[2] as u64 | (cdw10[3] as u64) << 32,
            uuid_index: uuid & 0x7f,
            ot: ot & 0x80 != 0,
            csi,
        }
    }

    /// To dwords 10 to 15.
    #[allow(clippy::cast_possible_truncation, reason = "the offset is cut in two")]
    pub const fn to_dwords(&self) -> [u32; 6] {
        let [numdl0, numdl1, numdu0, numdu1] = self.numd.to_le_bytes();
        let [lsi0, lsi1] = self.lsi.to_le_bytes();
        let lsp_rae = self.lsp & 0x7f | if self.rae { 0x80 } else { 0 };
        let ot = if self.ot { 0x80 } else { 0 };
        [
            u32::from_le_bytes([self.lid, lsp_rae, numdl0, numdl1]),
            u32::from_le_bytes([numdu0, numdu1, lsi0, lsi1]),
            self.offset as u32,
            (self.offset >> 32) as u32,
            u32::from_le_bytes([self.uuid_index & 0x7f, 0, ot, self.csi]),
            0,
        ]
    }

    /// From a command, whatever its opcode.
    pub fn from_sqe(sqe: &Sqe) -> Self {
        Self::from_dwords(sqe.nsid.get(), &sqe.cdw10.map(|dword| dword.get()))
    }

    /// A command that asks for this, without its SGL.
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::new(opcode::admin::GET_LOG_PAGE);
        sqe.nsid.set(self.nsid);
        sqe.cdw10 = self.to_dwords().map(Into::into);
        sqe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_place_in_the_dwords() {
        let dwords = [0x5678_8f70, 0x9abc_1234, 0x0000_1000, 0x0000_0002, 0x0180_0003, 0];
        let get = GetLogPage::from_dwords(9, &dwords);
        let want = GetLogPage {
            nsid: 9,
            lid: 0x70,
            lsp: 0x0f,
            rae: true,
            numd: 0x1234_5678,
            lsi: 0x9abc,
            offset: 0x2_0000_1000,
            uuid_index: 3,
            ot: true,
            csi: 1,
        };
        assert_eq!(get, want);
        assert_eq!(get.to_dwords(), dwords);
        let sqe = get.to_sqe();
        assert_eq!((sqe.opcode, sqe.cdw(10)), (2, 0x5678_8f70));
        assert_eq!(GetLogPage::from_sqe(&sqe), get);
    }

    #[test]
    fn the_largest_request_does_not_overflow() {
        let get = GetLogPage::from_dwords(0, &[u32::MAX; 6]);
        assert_eq!(get.len(), 1 << 34);
        assert_eq!(get.offset, u64::MAX);
        assert_eq!(GetLogPage::from_dwords(0, &get.to_dwords()), GetLogPage { nsid: 0, ..get });
    }

    #[test]
    fn a_length_is_whole_dwords() {
        assert_eq!(GetLogPage::new(2, 0, 512).map(|g| (g.numd, g.len())), Some((127, 512)));
        assert_eq!(GetLogPage::new(2, 0, 4).map(|g| g.numd), Some(0));
        assert_eq!(GetLogPage::new(2, 0, 1 << 34).map(|g| g.numd), Some(u32::MAX));
        for len in [0, 3, 510, (1 << 34) + 4, u64::MAX] {
            assert_eq!(GetLogPage::new(2, 0, len), None, "{len}");
        }
    }
}
