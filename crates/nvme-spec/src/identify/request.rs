//! The Identify command (Base 2.1, section 5.1.13): which structure, of what.

use crate::opcode;
use crate::sqe::Sqe;

/// What an Identify command asks for, unpacked from NSID and dwords 10, 11 and 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IdentifyRequest {
    /// NSID: the namespace, or the one after which a list starts.
    pub nsid: u32,
    /// Controller or Namespace Structure ([`super::cns`]).
    pub cns: u8,
    /// Controller Identifier, where the structure is of another controller, or a list starts at it.
    pub cntid: u16,
    /// CNS Specific Identifier.
    pub cnssid: u16,
    /// Command Set Identifier, of the structures that belong to one.
    pub csi: u8,
    /// UUID Index, seven bits.
    pub uuid_index: u8,
}

impl IdentifyRequest {
    /// Asks for the structure `cns` of the namespace `nsid`.
    pub fn new(cns: u8, nsid: u32) -> Self {
        Self { cns, nsid, ..Self::default() }
    }

    /// From a command, whatever its opcode. Reserved bits are not looked at.
    pub fn from_sqe(sqe: &Sqe) -> Self {
        let [cns, _, cntid0, cntid1] = sqe.cdw(10).to_le_bytes();
        let [cnssid0, cnssid1, _, csi] = sqe.cdw(11).to_le_bytes();
        let [uuid_index, ..] = sqe.cdw(14).to_le_bytes();
        Self {
            nsid: sqe.nsid.get(),
            cns,
            cntid: u16::from_le_bytes([cntid0, cntid1]),
            cnssid: u16::from_le_bytes([cnssid0, cnssid1]),
            csi,
            uuid_index: uuid_index & 0x7f,
        }
    }

    /// A command that asks for this, without its SGL.
    pub fn to_sqe(&self) -> Sqe {
        let [cntid0, cntid1] = self.cntid.to_le_bytes();
        let [cnssid0, cnssid1] = self.cnssid.to_le_bytes();
        let mut sqe = Sqe::new(opcode::admin::IDENTIFY);
        sqe.nsid.set(self.nsid);
        sqe.set_cdw(10, u32::from_le_bytes([self.cns, 0, cntid0, cntid1]));
        sqe.set_cdw(11, u32::from_le_bytes([cnssid0, cnssid1, 0, self.csi]));
        sqe.set_cdw(14, u32::from(self.uuid_index & 0x7f));
        sqe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_place_in_the_dwords() {
        let request = IdentifyRequest {
            nsid: 5,
            cns: 0x13,
            cntid: 0x0102,
            cnssid: 0x0304,
            csi: 2,
            uuid_index: 1,
        };
        let sqe = request.to_sqe();
        assert_eq!((sqe.opcode, sqe.nsid.get()), (6, 5));
        assert_eq!((sqe.cdw(10), sqe.cdw(11), sqe.cdw(14)), (0x0102_0013, 0x0200_0304, 1));
        assert_eq!(IdentifyRequest::from_sqe(&sqe), request);
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut sqe = Sqe::new(6);
        sqe.set_cdw(10, 0xff01);
        sqe.set_cdw(11, 0x00ff_0000);
        sqe.set_cdw(14, 0xffff_ff80);
        assert_eq!(IdentifyRequest::from_sqe(&sqe), IdentifyRequest::new(1, 0));
    }
}
