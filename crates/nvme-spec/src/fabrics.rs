//! Fabrics commands: Connect, properties, Disconnect, authentication (Base 2.1, section 6).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::sqe::Sqe;
use crate::wire::wire;
use crate::{HostId, Nqn, SglDescriptor, opcode};

/// The view that a Fabrics command gives of its SQE, once its type is known.
macro_rules! fabrics_view {
    ($name:ident, $fctype:expr) => {
        impl $name {
            /// The Fabrics command type.
            pub const FCTYPE: u8 = $fctype;

            /// The same bytes, seen as this command; `None` if they are another command.
            pub fn from_sqe(sqe: &Sqe) -> Option<&Self> {
                sqe.is_fabrics_type(Self::FCTYPE)
                    .then(|| Self::ref_from_bytes(sqe.as_bytes()).ok())
                    .flatten()
            }

            /// The command as a submission queue entry.
            pub fn to_sqe(&self) -> Sqe {
                zerocopy::transmute!(*self)
            }
        }
    };
}

wire! {
    /// The fields that all Fabrics commands begin with: 40 bytes.
    #[derive(Debug)]
    pub struct FabricsHeader: 40 bytes {
        /// Always [`opcode::FABRICS`].
        0 => opcode: u8,
        /// PSDT, as in [`Sqe::flags`].
        1 => flags: u8,
        /// Command identifier.
        2 => cid: U16,
        /// Fabrics command type.
        4 => fctype: u8,
        /// Reserved.
        5 => reserved: [u8; 19],
        /// SGL descriptor 1, where the command has data.
        24 => sgl: SglDescriptor,
    }
}

impl FabricsHeader {
    fn new(fctype: u8) -> Self {
        Self { opcode: opcode::FABRICS, flags: Sqe::PSDT_SGL, fctype, ..Self::default() }
    }
}

wire! {
    /// The Connect command (Base 2.1, section 6.3).
    #[derive(Debug)]
    pub struct Connect: 64 bytes {
        /// Common fields.
        0 => header: FabricsHeader,
        /// Record format: 0.
        40 => recfmt: U16,
        /// Queue identifier: 0 is the admin queue.
        42 => qid: U16,
        /// Submission queue size in entries, 0's based.
        44 => sqsize: U16,
        /// Connect attributes; see [`Connect::CATTR_DISABLE_SQ_FLOW`].
        46 => cattr: u8,
        /// Reserved.
        47 => reserved1: u8,
        /// Keep Alive Timeout in milliseconds; 0 disables it. Admin queue only.
        48 => kato: U32,
        /// Reserved.
        52 => reserved2: [u8; 12],
    }
}
fabrics_view!(Connect, opcode::fabrics::CONNECT);

impl Connect {
    /// CATTR bit 2: the host asks to switch submission queue flow control off.
    pub const CATTR_DISABLE_SQ_FLOW: u8 = 1 << 2;

    /// Where [`recfmt`](Self::recfmt) stands, for Connect's "invalid parameter" answer.
    pub const OFFSET_RECFMT: u16 = 40;
    /// Where [`qid`](Self::qid) stands.
    pub const OFFSET_QID: u16 = 42;
    /// Where [`sqsize`](Self::sqsize) stands.
    pub const OFFSET_SQSIZE: u16 = 44;
    /// Where [`cattr`](Self::cattr) stands.
    pub const OFFSET_CATTR: u16 = 46;
    /// Where [`kato`](Self::kato) stands.
    pub const OFFSET_KATO: u16 = 48;

    /// A Connect for queue `qid` of `sqsize` entries, given 0's based.
    pub fn new(qid: u16, sqsize: u16, cattr: u8, kato_ms: u32) -> Self {
        Self {
            header: FabricsHeader::new(Self::FCTYPE),
            qid: U16::new(qid),
            sqsize: U16::new(sqsize),
            cattr,
            kato: U32::new(kato_ms),
            ..Self::default()
        }
    }
}

wire! {
    /// The data of a Connect command: 1024 bytes (Base 2.1, figure 546).
    pub struct ConnectData: 1024 bytes {
        /// Host identifier.
        0 => hostid: [u8; 16],
        /// Controller identifier: [`Self::CNTLID_DYNAMIC`], [`Self::CNTLID_STATIC_ANY`], or one.
        16 => cntlid: U16,
        /// Reserved.
        18 => reserved1: [u8; 238],
        /// NVM subsystem NQN, NUL-terminated.
        256 => subnqn: [u8; 256],
        /// Host NQN, NUL-terminated.
        512 => hostnqn: [u8; 256],
        /// Reserved.
        768 => reserved2: [u8; 256],
    }
}

impl ConnectData {
    /// Any controller, allocated by the subsystem (dynamic controller model).
    pub const CNTLID_DYNAMIC: u16 = 0xffff;
    /// Any controller that is there (static controller model).
    pub const CNTLID_STATIC_ANY: u16 = 0xfffe;
    /// The highest identifier a controller can have.
    pub const CNTLID_MAX: u16 = 0xffef;

    /// Where [`hostid`](Self::hostid) stands, for Connect's "invalid parameter" answer.
    pub const OFFSET_HOSTID: u16 = 0;
    /// Where [`cntlid`](Self::cntlid) stands.
    pub const OFFSET_CNTLID: u16 = 16;
    /// Where [`subnqn`](Self::subnqn) stands.
    pub const OFFSET_SUBNQN: u16 = 256;
    /// Where [`hostnqn`](Self::hostnqn) stands.
    pub const OFFSET_HOSTNQN: u16 = 512;

    /// The data with which `host` asks `subsystem` for controller `cntlid`.
    pub fn new(host_id: HostId, cntlid: u16, subsystem: &Nqn, host: &Nqn) -> Self {
        Self {
            hostid: host_id.0,
            cntlid: U16::new(cntlid),
            reserved1: [0; 238],
            subnqn: subsystem.to_wire(),
            hostnqn: host.to_wire(),
            reserved2: [0; 256],
        }
    }
}

wire! {
    /// The Property Get command (Base 2.1, section 6.5).
    #[derive(Debug)]
    pub struct PropertyGet: 64 bytes {
        /// Common fields.
        0 => header: FabricsHeader,
        /// Bits 2:0: size, 0 for four bytes, 1 for eight.
        40 => attrib: u8,
        /// Reserved.
        41 => reserved1: [u8; 3],
        /// Offset of the property.
        44 => ofst: U32,
        /// Reserved.
        48 => reserved2: [u8; 16],
    }
}
fabrics_view!(PropertyGet, opcode::fabrics::PROPERTY_GET);

impl PropertyGet {
    /// A command that reads the property at `offset`: eight bytes if `wide`, else four.
    pub fn new(offset: u32, wide: bool) -> Self {
        Self {
            header: FabricsHeader::new(Self::FCTYPE),
            attrib: u8::from(wide),
            ofst: U32::new(offset),
            ..Self::default()
        }
    }
}

wire! {
    /// The Property Set command (Base 2.1, section 6.6).
    #[derive(Debug)]
    pub struct PropertySet: 64 bytes {
        /// Common fields.
        0 => header: FabricsHeader,
        /// Bits 2:0: size, 0 for four bytes, 1 for eight.
        40 => attrib: u8,
        /// Reserved.
        41 => reserved1: [u8; 3],
        /// Offset of the property.
        44 => ofst: U32,
        /// The value; the lower four bytes where the size is four.
        48 => value: U64,
        /// Reserved.
        56 => reserved2: [u8; 8],
    }
}
fabrics_view!(PropertySet, opcode::fabrics::PROPERTY_SET);

impl PropertySet {
    /// A command that writes `value` to the property at `offset`: eight bytes if `wide`.
    pub fn new(offset: u32, value: u64, wide: bool) -> Self {
        Self {
            header: FabricsHeader::new(Self::FCTYPE),
            attrib: u8::from(wide),
            ofst: U32::new(offset),
            value: U64::new(value),
            ..Self::default()
        }
    }
}

wire! {
    /// The Disconnect command (Base 2.1, section 6.4).
    #[derive(Debug)]
    pub struct Disconnect: 64 bytes {
        /// Common fields.
        0 => header: FabricsHeader,
        /// Record format: 0.
        40 => recfmt: U16,
        /// Reserved.
        42 => reserved: [u8; 22],
    }
}
fabrics_view!(Disconnect, opcode::fabrics::DISCONNECT);

impl Disconnect {
    /// A Disconnect for the queue it is sent on.
    pub fn new() -> Self {
        Self { header: FabricsHeader::new(Self::FCTYPE), ..Self::default() }
    }
}

wire! {
    /// The Authentication Send command (Base 2.1, section 6.2).
    #[derive(Debug)]
    pub struct AuthenticationSend: 64 bytes {
        /// Common fields.
        0 => header: FabricsHeader,
        /// Reserved.
        40 => reserved1: u8,
        /// Security protocol specific field, byte 0: 01h.
        41 => spsp0: u8,
        /// Security protocol specific field, byte 1: 01h.
        42 => spsp1: u8,
        /// Security protocol: E9h, NVMe.
        43 => secp: u8,
        /// Transfer length in bytes.
        44 => tl: U32,
        /// Reserved.
        48 => reserved2: [u8; 16],
    }
}
fabrics_view!(AuthenticationSend, opcode::fabrics::AUTHENTICATION_SEND);

wire! {
    /// The Authentication Receive command (Base 2.1, section 6.1).
    #[derive(Debug)]
    pub struct AuthenticationReceive: 64 bytes {
        /// Common fields.
        0 => header: FabricsHeader,
        /// Reserved.
        40 => reserved1: u8,
        /// Security protocol specific field, byte 0: 01h.
        41 => spsp0: u8,
        /// Security protocol specific field, byte 1: 01h.
        42 => spsp1: u8,
        /// Security protocol: E9h, NVMe.
        43 => secp: u8,
        /// Allocation length in bytes.
        44 => al: U32,
        /// Reserved.
        48 => reserved2: [u8; 16],
    }
}
fabrics_view!(AuthenticationReceive, opcode::fabrics::AUTHENTICATION_RECEIVE);

/// The security protocol of NVMe's in-band authentication.
pub const SECURITY_PROTOCOL_NVME: u8 = 0xe9;

/// Dword 0 of a successful Connect (Base 2.1, figure 548).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectResult(pub u32);

impl ConnectResult {
    /// The controller's identifier.
    pub const fn cntlid(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// Authentication requirements: nonzero if the host must authenticate first.
    pub const fn authreq(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// Dword 0 of a Connect refused for an invalid parameter (Base 2.1, figure 548).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct InvalidParameter {
    /// IATTR: the offset points into the Connect data; else into the SQE.
    pub in_data: bool,
    /// IPO: offset in bytes of the invalid parameter.
    pub offset: u16,
}

impl InvalidParameter {
    /// From dword 0 of the completion.
    pub const fn from_dw0(dw0: u32) -> Self {
        Self { in_data: dw0 >> 16 & 1 == 1, offset: (dw0 & 0xffff) as u16 }
    }

    /// As dword 0 of the completion.
    pub const fn to_dw0(self) -> u32 {
        (self.in_data as u32) << 16 | self.offset as u32
    }

    /// The name of the parameter, or `"unknown"`.
    pub const fn name(self) -> &'static str {
        match (self.in_data, self.offset) {
            (false, Connect::OFFSET_RECFMT) => "recfmt",
            (false, Connect::OFFSET_QID) => "qid",
            (false, Connect::OFFSET_SQSIZE) => "sqsize",
            (false, Connect::OFFSET_CATTR) => "cattr",
            (false, Connect::OFFSET_KATO) => "kato",
            (false, 24) => "sgl",
            (true, ConnectData::OFFSET_HOSTID) => "hostid",
            (true, ConnectData::OFFSET_CNTLID) => "cntlid",
            (true, ConnectData::OFFSET_SUBNQN) => "subnqn",
            (true, ConnectData::OFFSET_HOSTNQN) => "hostnqn",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_has_its_bytes_where_the_specification_puts_them() {
        let sqe = Connect::new(3, 127, Connect::CATTR_DISABLE_SQ_FLOW, 0x0102_0304).to_sqe();
        let b = sqe.as_bytes();
        assert_eq!(b[..5], [0x7f, 0x40, 0, 0, 0x01]);
        assert_eq!(b[40..52], [0, 0, 3, 0, 127, 0, 4, 0, 4, 3, 2, 1]);
        assert_eq!(Connect::from_sqe(&sqe).unwrap().qid, 3);
        assert!(PropertyGet::from_sqe(&sqe).is_none());
    }

    #[test]
    fn connect_data_has_its_fields_at_their_offsets() {
        let nqn = Nqn::lenient("nqn.2024-01.test:s").unwrap();
        let host = Nqn::lenient("nqn.2024-01.test:h").unwrap();
        let data = ConnectData::new(HostId([7; 16]), 0xfffe, &nqn, &host);
        let b = data.as_bytes();
        assert_eq!((b[0], b[15], b[16], b[17]), (7, 7, 0xfe, 0xff));
        assert_eq!(&b[256..274], b"nqn.2024-01.test:s");
        assert_eq!(&b[512..530], b"nqn.2024-01.test:h");
        assert!(b[530..].iter().all(|&x| x == 0));
    }

    #[test]
    fn property_commands_have_their_bytes_where_the_specification_puts_them() {
        let get = PropertyGet::new(0x1c, false).to_sqe();
        assert_eq!(get.as_bytes()[40..48], [0, 0, 0, 0, 0x1c, 0, 0, 0]);
        let set = PropertySet::new(0x14, 0x46_0001, false).to_sqe();
        assert_eq!(set.as_bytes()[40..56], [0, 0, 0, 0, 0x14, 0, 0, 0, 1, 0, 0x46, 0, 0, 0, 0, 0]);
        let wide = PropertyGet::new(0, true);
        assert_eq!(wide.attrib, 1);
    }

    #[test]
    fn an_invalid_parameter_names_the_field_it_points_at() {
        let p = InvalidParameter::from_dw0(0x1_0100);
        assert_eq!((p.name(), p.to_dw0()), ("subnqn", 0x1_0100));
        assert_eq!(InvalidParameter::from_dw0(44).name(), "sqsize");
    }
}
