//! A PDU's header: its shape judged from the first eight bytes, its fields once all are there.

use nvme_spec::pdu::{
    self, CapsuleCmd, CapsuleResp, CommonHeader, Data, IcReq, IcResp, R2t, TermReq, flags, kind,
};
use nvme_spec::{Cqe, Sqe};
use zerocopy::FromBytes;

use super::Format;
use crate::{Role, Violation};

/// A PDU's header, decoded; its data, if any, follows in the stream.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Header {
    /// What it says.
    pub pdu: Pdu,
    /// Length of the data behind it in bytes, without padding and digest.
    pub data_len: u32,
}

/// The fields of each kind of PDU.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pdu {
    /// Initialize Connection Request.
    IcReq(IcReq),
    /// Initialize Connection Response.
    IcResp(IcResp),
    /// Terminate Connection Request, in either direction.
    TermReq(TermReq),
    /// Command Capsule.
    Command(Sqe),
    /// Response Capsule.
    Response(Cqe),
    /// Data, in either direction.
    Data(DataHeader),
    /// Ready to Transfer.
    R2t(R2tHeader),
}

/// The fields of an H2CData or C2HData PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataHeader {
    /// Command identifier.
    pub cid: u16,
    /// Transfer tag; reserved in C2HData.
    pub ttag: u16,
    /// Offset of the data in the command's data, in bytes.
    pub offset: u32,
    /// DATAL, in bytes. Whether the PDU has just as many is judged after the fields before it.
    pub length: u32,
    /// LAST_PDU.
    pub last: bool,
    /// SUCCESS; C2HData only.
    pub success: bool,
}

/// The fields of an R2T PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R2tHeader {
    /// Command identifier.
    pub cid: u16,
    /// Transfer tag, to be given back.
    pub ttag: u16,
    /// Offset of the data asked for, in bytes.
    pub offset: u32,
    /// Length of the data asked for, in bytes.
    pub length: u32,
}

/// What the first eight bytes of a PDU say about the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// PDU type.
    pub(super) kind: u8,
    /// Flags.
    pub(super) flags: u8,
    /// Length of the header without digest.
    pub(super) hlen: u8,
    /// Length of the header digest.
    pub(super) digest_len: u8,
    /// Bytes of padding between header and data.
    pub(super) padding: u8,
    /// Bytes of data; of a TermReq: of the copied header.
    pub(super) data_len: u32,
}

impl Shape {
    /// Judges a common header that came to `role`, the lowest bad field first.
    pub(super) fn judge(ch: &CommonHeader, role: Role, format: Format) -> Result<Self, Violation> {
        let (kind, hlen, pdo, plen) = (ch.kind, ch.hlen, ch.pdo, ch.plen.get());
        let (expected_hlen, allowed_flags): (u8, u8) = match (role, kind) {
            (Role::Controller, kind::IC_REQ) | (Role::Host, kind::IC_RESP) => (128, 0),
            (Role::Controller, kind::H2C_TERM_REQ) | (Role::Host, kind::C2H_TERM_REQ) => (24, 0),
            (Role::Controller, kind::CAPSULE_CMD) => (72, flags::HDGST | flags::DDGST),
            (Role::Controller, kind::H2C_DATA) => (24, flags::HDGST | flags::DDGST | flags::LAST),
            (Role::Host, kind::CAPSULE_RESP | kind::R2T) => (24, flags::HDGST),
            (Role::Host, kind::C2H_DATA) => {
                (24, flags::HDGST | flags::DDGST | flags::LAST | flags::SUCCESS)
            }
            _ => return Err(Violation::PduType { kind }),
        };
        let is_term = matches!(kind, kind::H2C_TERM_REQ | kind::C2H_TERM_REQ);
        if is_term && !(pdu::TERM_REQ_LEN..=pdu::TERM_REQ_MAX).contains(&plen) {
            // Judged before the rest: two ends that answer each other's bad TermReqs never end.
            return Err(Violation::TermReqLength { plen });
        }

        let with_digest = allowed_flags & flags::HDGST != 0 && format.header_digest;
        let digest_len = if with_digest { format.header_digest_len() } else { 0 };
        // By the length that it should have: a wrong HLEN must not look like wrong flags.
        let header_end = expected_hlen + digest_len;
        let has_data_part = matches!(kind, kind::CAPSULE_CMD | kind::H2C_DATA | kind::C2H_DATA);
        // Judged in the order of the fields; PLEN alone tells whether there is data.
        let with_data = has_data_part && plen > u32::from(header_end);

        let bad_flags = ch.flags & !allowed_flags != 0
            || (ch.flags & flags::HDGST != 0) != with_digest
            || (ch.flags & flags::DDGST != 0) != (with_data && format.data_digest)
            || ch.flags & (flags::SUCCESS | flags::LAST) == flags::SUCCESS;
        if bad_flags {
            return Err(Violation::Flags { kind, flags: ch.flags });
        }
        if hlen != expected_hlen {
            return Err(Violation::HeaderLength { kind, hlen });
        }
        let offset_fits = if with_data {
            (u32::from(header_end)..plen).contains(&pdo.into())
                && pdo.is_multiple_of(format.alignment.max(4))
        } else {
            // Some ends name where data would begin even if there is none.
            pdo == 0 || (has_data_part && pdo == header_end)
        };
        if !offset_fits {
            return Err(Violation::DataOffset { kind, pdo });
        }
        let data_len = if is_term {
            plen - u32::from(hlen)
        } else if with_data {
            let around = u32::from(pdo) + format.data_digest_len(1);
            plen.checked_sub(around)
                .filter(|&n| n > 0)
                .ok_or(Violation::PduLength { kind, plen })?
        } else if plen != u32::from(header_end) || kind == kind::H2C_DATA || kind == kind::C2H_DATA
        {
            return Err(Violation::PduLength { kind, plen });
        } else {
            0
        };
        let padding = if with_data { pdo - header_end } else { 0 };
        Ok(Self { kind, flags: ch.flags, hlen, digest_len, padding, data_len })
    }

    /// Length of the header with its digest.
    pub(super) fn header_len(&self) -> usize {
        usize::from(self.hlen) + usize::from(self.digest_len)
    }

    /// Reads the fields from a whole header, whose length [`judge`](Self::judge) has checked.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Header, Violation> {
        let pdu = match self.kind {
            kind::IC_REQ => Pdu::IcReq(self.parse(bytes)?),
            kind::IC_RESP => Pdu::IcResp(self.parse(bytes)?),
            kind::H2C_TERM_REQ | kind::C2H_TERM_REQ => Pdu::TermReq(self.parse(bytes)?),
            kind::CAPSULE_CMD => Pdu::Command(self.parse::<CapsuleCmd>(bytes)?.sqe),
            kind::CAPSULE_RESP => Pdu::Response(self.parse::<CapsuleResp>(bytes)?.cqe),
            kind::R2T => {
                let r2t: R2t = self.parse(bytes)?;
                Pdu::R2t(R2tHeader {
                    cid: r2t.cccid.get(),
                    ttag: r2t.ttag.get(),
                    offset: r2t.r2to.get(),
                    length: r2t.r2tl.get(),
                })
            }
            _ => {
                let data: Data = self.parse(bytes)?;
                Pdu::Data(DataHeader {
                    cid: data.cccid.get(),
                    ttag: data.ttag.get(),
                    offset: data.datao.get(),
                    length: data.datal.get(),
                    last: self.flags & flags::LAST != 0,
                    success: self.flags & flags::SUCCESS != 0,
                })
            }
        };
        Ok(Header { pdu, data_len: self.data_len })
    }

    fn parse<T: FromBytes>(&self, bytes: &[u8]) -> Result<T, Violation> {
        T::read_from_prefix(bytes)
            .map(|(header, _)| header)
            .map_err(|_| Violation::HeaderLength { kind: self.kind, hlen: self.hlen })
    }
}
