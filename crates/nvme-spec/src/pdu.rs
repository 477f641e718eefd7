//! PDU headers of the TCP transport (NVMe/TCP Transport 1.1, section 3.6).
//!
//! Each header begins with a [`CommonHeader`]; offsets in the documentation count from the
//! start of the PDU.

use zerocopy::little_endian::{U16, U32};

use crate::wire::wire;
use crate::{Cqe, Sqe};

/// PDU types.
pub mod kind {
    /// Initialize Connection Request, host to controller.
    pub const IC_REQ: u8 = 0x00;
    /// Initialize Connection Response, controller to host.
    pub const IC_RESP: u8 = 0x01;
    /// Host to Controller Terminate Connection Request.
    pub const H2C_TERM_REQ: u8 = 0x02;
    /// Controller to Host Terminate Connection Request.
    pub const C2H_TERM_REQ: u8 = 0x03;
    /// Command Capsule, host to controller.
    pub const CAPSULE_CMD: u8 = 0x04;
    /// Response Capsule, controller to host.
    pub const CAPSULE_RESP: u8 = 0x05;
    /// Host to Controller Data.
    pub const H2C_DATA: u8 = 0x06;
    /// Controller to Host Data.
    pub const C2H_DATA: u8 = 0x07;
    /// Ready to Transfer, controller to host.
    pub const R2T: u8 = 0x09;
}

/// The printable name of a PDU type, or `"Unknown"`.
pub const fn name(kind: u8) -> &'static str {
    match kind {
        kind::IC_REQ => "ICReq",
        kind::IC_RESP => "ICResp",
        kind::H2C_TERM_REQ => "H2CTermReq",
        kind::C2H_TERM_REQ => "C2HTermReq",
        kind::CAPSULE_CMD => "CapsuleCmd",
        kind::CAPSULE_RESP => "CapsuleResp",
        kind::H2C_DATA => "H2CData",
        kind::C2H_DATA => "C2HData",
        kind::R2T => "R2T",
        _ => "Unknown",
    }
}

/// Bits of [`CommonHeader::flags`].
pub mod flags {
    /// HDGSTF: a header digest follows the header.
    pub const HDGST: u8 = 0x01;
    /// DDGSTF: a data digest follows the data.
    pub const DDGST: u8 = 0x02;
    /// LAST_PDU: the last data PDU of this transfer.
    pub const LAST: u8 = 0x04;
    /// SUCCESS: the command ended well and no response capsule follows.
    pub const SUCCESS: u8 = 0x08;
}

/// Bits of the digest fields of ICReq and ICResp.
pub mod digest {
    /// Header digest.
    pub const HEADER: u8 = 0x01;
    /// Data digest.
    pub const DATA: u8 = 0x02;
    /// Reserved bits.
    pub const RESERVED: u8 = 0xfc;
}

/// Length of a header or data digest (CRC32C) in bytes.
pub const DIGEST_LEN: usize = 4;
/// The largest PDO, data offset, that a PDU can have in bytes.
pub const PDO_MAX: u8 = 128;
/// Highest HPDA and CPDA: data aligned to 128 bytes.
pub const PDA_MAX: u8 = 31;
/// The least MAXH2CDATA that a controller may give, in bytes.
pub const MAXH2CDATA_MIN: u32 = 4096;
/// In-capsule data that every admin queue takes, in bytes.
pub const ADMIN_IN_CAPSULE: u32 = 8192;
/// Length of a TermReq's header; what follows is a copy of the offending PDU's header.
pub const TERM_REQ_LEN: u32 = 24;
/// The longest TermReq: its header and 128 bytes of copy.
pub const TERM_REQ_MAX: u32 = 152;

wire! {
    /// What every PDU begins with: 8 bytes.
    #[derive(Debug)]
    pub struct CommonHeader: 8 bytes {
        /// PDU type; see [`kind`].
        0 => kind: u8,
        /// See [`flags`].
        1 => flags: u8,
        /// Length of the header, without digest, in bytes.
        2 => hlen: u8,
        /// Offset of the data from the start of the PDU; 0 without data.
        3 => pdo: u8,
        /// Length of the whole PDU with digests and padding, in bytes.
        4 => plen: U32,
    }
}

wire! {
    /// Initialize Connection Request (3.6.2.2): 128 bytes.
    #[derive(Debug)]
    pub struct IcReq: 128 bytes {
        /// Common header.
        0 => ch: CommonHeader,
        /// PDU format version: 0.
        8 => pfv: U16,
        /// Host PDU data alignment, in dwords, 0's based, up to 31.
        10 => hpda: u8,
        /// Digests asked for; see [`digest`].
        11 => dgst: u8,
        /// Outstanding R2Ts that the host takes per command, 0's based.
        12 => maxr2t: U32,
        /// Reserved.
        16 => reserved: [u8; 112],
    }
}

wire! {
    /// Initialize Connection Response (3.6.2.3): 128 bytes.
    #[derive(Debug)]
    pub struct IcResp: 128 bytes {
        /// Common header.
        0 => ch: CommonHeader,
        /// PDU format version: 0.
        8 => pfv: U16,
        /// Controller PDU data alignment, in dwords, 0's based, up to 31.
        10 => cpda: u8,
        /// Digests enabled; see [`digest`].
        11 => dgst: u8,
        /// The most data in one H2CData PDU, in bytes; at least 4096 and a multiple of 4.
        12 => maxh2cdata: U32,
        /// Reserved.
        16 => reserved: [u8; 112],
    }
}

wire! {
    /// Terminate Connection Request (3.6.2.4, 3.6.2.5): 24 bytes, then the offending header.
    #[derive(Debug)]
    pub struct TermReq: 24 bytes {
        /// Common header.
        0 => ch: CommonHeader,
        /// Fatal Error Status; see [`fes`].
        8 => fes: U16,
        /// Fatal Error Information: offset of the bad field, or the bad digest; at byte 10.
        10 => fei: U32,
        /// Reserved.
        14 => reserved: [u8; 10],
    }
}

/// Fatal Error Status values of a [`TermReq`] (NVMe/TCP Transport 1.1, figure 31).
pub mod fes {
    /// Invalid PDU Header Field; FEI is the field's offset.
    pub const INVALID_HEADER_FIELD: u16 = 1;
    /// PDU Sequence Error.
    pub const SEQUENCE_ERROR: u16 = 2;
    /// Header Digest Error; FEI is the digest received.
    pub const HEADER_DIGEST_ERROR: u16 = 3;
    /// Data Transfer Out of Range.
    pub const DATA_OUT_OF_RANGE: u16 = 4;
    /// R2T Limit Exceeded (by a controller) or Data Transfer Limit Exceeded (by a host).
    pub const LIMIT_EXCEEDED: u16 = 5;
    /// Unsupported Parameter; FEI is the field's offset.
    pub const UNSUPPORTED_PARAMETER: u16 = 6;

    /// The printable name of a Fatal Error Status.
    pub const fn name(fes: u16) -> &'static str {
        match fes {
            INVALID_HEADER_FIELD => "Invalid PDU Header Field",
            SEQUENCE_ERROR => "PDU Sequence Error",
            HEADER_DIGEST_ERROR => "Header Digest Error",
            DATA_OUT_OF_RANGE => "Data Transfer Out of Range",
            LIMIT_EXCEEDED => "Transfer Limit Exceeded",
            UNSUPPORTED_PARAMETER => "Unsupported Parameter",
            _ => "Unknown",
        }
    }
}

wire! {
    /// Command Capsule (3.6.2.6): 72 bytes, then in-capsule data.
    #[derive(Debug)]
    pub struct CapsuleCmd: 72 bytes {
        /// Common header.
        0 => ch: CommonHeader,
        /// The command.
        8 => sqe: Sqe,
    }
}

wire! {
    /// Response Capsule (3.6.2.7): 24 bytes.
    #[derive(Debug)]
    pub struct CapsuleResp: 24 bytes {
        /// Common header.
        0 => ch: CommonHeader,
        /// The response.
        8 => cqe: Cqe,
    }
}

wire! {
    /// Data, in either direction (3.6.2.8, 3.6.2.9): 24 bytes, then the data.
    #[derive(Debug)]
    pub struct Data: 24 bytes {
        /// Common header.
        0 => ch: CommonHeader,
        /// Command identifier.
        8 => cccid: U16,
        /// H2CData: the transfer tag of the R2T this answers. C2HData: reserved.
        10 => ttag: U16,
        /// Offset of this PDU's data from the start of the command's data, in bytes.
        12 => datao: U32,
        /// Length of this PDU's data, in bytes.
        16 => datal: U32,
        /// Reserved.
        20 => reserved: [u8; 4],
    }
}

wire! {
    /// Ready to Transfer (3.6.2.10): 24 bytes.
    #[derive(Debug)]
    pub struct R2t: 24 bytes {
        /// Common header.
        0 => ch: CommonHeader,
        /// Command identifier.
        8 => cccid: U16,
        /// Transfer tag, to be given back in the H2CData PDUs.
        10 => ttag: U16,
        /// Offset of the data asked for, from the start of the command's data, in bytes.
        12 => r2to: U32,
        /// Length of the data asked for, in bytes.
        16 => r2tl: U32,
        /// Reserved.
        20 => reserved: [u8; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros, IntoBytes};

    #[test]
    fn ic_headers_have_their_bytes_where_the_specification_puts_them() {
        let mut req = IcReq::new_zeroed();
        req.ch.hlen = 128;
        req.ch.plen.set(128);
        req.hpda = 3;
        req.dgst = digest::HEADER | digest::DATA;
        req.maxr2t.set(0x0a0b);
        let b = req.as_bytes();
        assert_eq!(b[..16], [0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 3, 3, 0x0b, 0x0a, 0, 0]);
        let mut resp = IcResp::new_zeroed();
        resp.ch.kind = kind::IC_RESP;
        resp.cpda = 1;
        resp.maxh2cdata.set(0x2_0000);
        assert_eq!(resp.as_bytes()[8..16], [0, 0, 1, 0, 0, 0, 2, 0]);
    }

    #[test]
    fn data_r2t_and_term_headers_have_their_bytes_where_the_specification_puts_them() {
        let mut data = Data::new_zeroed();
        data.cccid.set(0x0102);
        data.ttag.set(0x0304);
        data.datao.set(0x1000);
        data.datal.set(0x2000);
        assert_eq!(data.as_bytes()[8..20], [2, 1, 4, 3, 0, 0x10, 0, 0, 0, 0x20, 0, 0]);
        let r2t: R2t = zerocopy::transmute!(data);
        assert_eq!((r2t.r2to.get(), r2t.r2tl.get(), r2t.ttag.get()), (0x1000, 0x2000, 0x0304));
        let mut term = TermReq::new_zeroed();
        term.fes.set(fes::SEQUENCE_ERROR);
        term.fei.set(0x1122_3344);
        assert_eq!(term.as_bytes()[8..14], [2, 0, 0x44, 0x33, 0x22, 0x11]);
    }
}
