//! Every way in which a peer can misbehave, by name, each with its one defined answer.

use nvme_spec::pdu::fes;
use nvme_spec::{Status, pdu};

use crate::Role;

/// A peer's deviation from the protocol.
///
/// Offsets given as FEI count from the start of the PDU (NVMe/TCP Transport 1.1, section 3.6.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A PDU type that does not exist, or that this end never receives.
    #[error("PDU type {kind:#04x} is none that may come here")]
    PduType {
        /// The type.
        kind: u8,
    },
    /// Flags that this PDU cannot have, or digest flags against the negotiation.
    #[error("{} with flags {flags:#04x}", pdu::name(*kind))]
    Flags {
        /// The PDU's type.
        kind: u8,
        /// Its flags.
        flags: u8,
    },
    /// HLEN is not this PDU's header length.
    #[error("{} with a header of {hlen} bytes", pdu::name(*kind))]
    HeaderLength {
        /// The PDU's type.
        kind: u8,
        /// Its HLEN.
        hlen: u8,
    },
    /// PDO lies inside the header, past the end, off the negotiated alignment, or is not 0
    /// where there is no data.
    #[error("{} with its data at offset {pdo}", pdu::name(*kind))]
    DataOffset {
        /// The PDU's type.
        kind: u8,
        /// Its PDO.
        pdo: u8,
    },
    /// PLEN does not fit this PDU, or is more than may be sent here.
    #[error("{} of {plen} bytes", pdu::name(*kind))]
    PduLength {
        /// The PDU's type.
        kind: u8,
        /// Its PLEN.
        plen: u32,
    },
    /// A TermReq whose length is not 24 to 152: the one PDU never answered with a TermReq.
    #[error("a request to terminate of {plen} bytes")]
    TermReqLength {
        /// Its PLEN.
        plen: u32,
    },
    /// The header digest is wrong: nothing in the header can be trusted.
    #[error("header digest {received:#010x} is wrong")]
    HeaderDigest {
        /// The digest that came.
        received: u32,
    },
    /// The data digest is wrong: the command fails, the connection stays.
    #[error("data digest of command {cid} is wrong")]
    DataDigest {
        /// The command.
        cid: u16,
    },
    /// A PDU before the connection is initialized, or an ICReq or ICResp after that.
    #[error("{} out of sequence", pdu::name(*kind))]
    Sequence {
        /// The PDU's type.
        kind: u8,
    },

    /// PFV is not 0.
    #[error("PDU format version {pfv}")]
    FormatVersion {
        /// The PFV.
        pfv: u16,
    },
    /// HPDA or CPDA above 31.
    #[error("PDU data alignment {pda}: more than 31")]
    Alignment {
        /// The HPDA or CPDA.
        pda: u8,
    },
    /// Reserved digest bits in an ICReq or ICResp.
    #[error("digest bits {dgst:#04x}")]
    DigestBits {
        /// The digest field.
        dgst: u8,
    },
    /// The controller switched on a digest that was not asked for.
    #[error("a digest that was not asked for: {dgst:#04x}")]
    DigestNotAsked {
        /// The digest field.
        dgst: u8,
    },
    /// MAXH2CDATA below 4096 or not a multiple of four.
    #[error("MAXH2CDATA of {maxh2cdata} bytes")]
    MaxH2cData {
        /// The MAXH2CDATA.
        maxh2cdata: u32,
    },

    /// Data, an R2T or a response for a command that is not outstanding.
    #[error("{} for command {cid}, which is not outstanding", pdu::name(*kind))]
    UnknownCommand {
        /// The PDU's type.
        kind: u8,
        /// The command identifier.
        cid: u16,
    },
    /// Data or an R2T for a command that has none of that kind.
    #[error("{} for command {cid}, which expects none", pdu::name(*kind))]
    UnexpectedTransfer {
        /// The PDU's type.
        kind: u8,
        /// The command identifier.
        cid: u16,
    },
    /// DATAL is not the length of the PDU's data, or an R2T asks for nothing.
    #[error("data length {datal} for {actual} bytes")]
    DataLength {
        /// The length that the header gives.
        datal: u32,
        /// The bytes that there are.
        actual: u32,
    },
    /// Data, or a request for it, beyond the end of the command's buffer or of the R2T.
    #[error("{} of command {cid} is out of range: {length} bytes at {offset}", pdu::name(*kind))]
    DataRange {
        /// The PDU's type.
        kind: u8,
        /// The command identifier.
        cid: u16,
        /// Offset.
        offset: u32,
        /// Length.
        length: u32,
    },
    /// Data, or a request for it, that does not follow on what came before.
    #[error("{} of command {cid} at offset {offset}, not {expected}", pdu::name(*kind))]
    DataOrder {
        /// The PDU's type.
        kind: u8,
        /// The command identifier.
        cid: u16,
        /// Where it begins.
        offset: u32,
        /// Where it should begin.
        expected: u32,
    },
    /// LAST_PDU missing on the last data, or set before it.
    #[error("the last-PDU flag of command {cid} is misplaced")]
    LastFlag {
        /// The command identifier.
        cid: u16,
    },
    /// SUCCESS on a queue with SQ flow control, where every command needs a response capsule.
    #[error("success flag for command {cid} on a queue with flow control")]
    SuccessFlag {
        /// The command identifier.
        cid: u16,
    },
    /// Success before all of the command's data was moved.
    #[error("command {cid} succeeded with {moved} of {expected} bytes moved")]
    ShortTransfer {
        /// The command identifier.
        cid: u16,
        /// Bytes moved.
        moved: u32,
        /// Bytes of the command.
        expected: u32,
    },
    /// More R2Ts at once for one command than MAXR2T allows.
    #[error("more than {limit} R2Ts outstanding for command {cid}")]
    R2tLimit {
        /// The command identifier.
        cid: u16,
        /// How many may be.
        limit: u32,
    },
    /// SQHD beyond the end of the queue.
    #[error(
        "submission queue head {sqhd} is beyond the queue, whose head was {head} and tail {tail}"
    )]
    QueueHead {
        /// The SQHD that came.
        sqhd: u16,
        /// The head before.
        head: u16,
        /// The tail.
        tail: u16,
    },

    /// H2CData with a transfer tag that no R2T gave.
    #[error("transfer tag {ttag} is unknown")]
    TransferTag {
        /// The tag.
        ttag: u16,
    },
    /// H2CData whose command is not the one its transfer tag belongs to.
    #[error("transfer tag {ttag} does not belong to command {cid}")]
    TransferCommand {
        /// The command identifier.
        cid: u16,
        /// The tag.
        ttag: u16,
    },
    /// H2CData with more data than MAXH2CDATA.
    #[error("{datal} bytes in one H2CData; {limit} are the most")]
    DataLimit {
        /// The data length.
        datal: u32,
        /// MAXH2CDATA.
        limit: u32,
    },
    /// More commands at once than the submission queue has entries.
    #[error("more than {size} commands outstanding")]
    QueueOverflow {
        /// The queue's size in entries.
        size: u32,
    },
    /// A command identifier that is still outstanding.
    #[error("command identifier {cid} is still in use")]
    CommandId {
        /// The command identifier.
        cid: u16,
    },

    /// PSDT is not 01b: fabrics know SGLs only.
    #[error("the data pointer is no SGL (PSDT {psdt})")]
    DataPointer {
        /// The PSDT.
        psdt: u8,
    },
    /// FUSE has its reserved value, or is not 0 in a Fabrics command.
    #[error("fused operation {fuse} is not possible")]
    Fused {
        /// The FUSE.
        fuse: u8,
    },
    /// An SGL descriptor that NVMe/TCP does not know.
    #[error("SGL descriptor {identifier:#04x}")]
    SglType {
        /// The descriptor's type and sub type.
        identifier: u8,
    },
    /// An SGL address that is not 0.
    #[error("SGL offset {address:#x}")]
    SglOffset {
        /// The address.
        address: u64,
    },
    /// The SGL's length is not that of the data in the capsule.
    #[error("SGL length {length} for {actual} bytes in the capsule")]
    SglLength {
        /// The SGL's length.
        length: u32,
        /// Bytes in the capsule.
        actual: u32,
    },
    /// Data in the capsule of a command whose SGL points elsewhere.
    #[error("{actual} bytes in the capsule of a command that has none there")]
    StrayCapsuleData {
        /// Bytes in the capsule.
        actual: u32,
    },
}

/// What a [`Violation`] is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Answer {
    /// A TermReq; then nothing more is sent and the connection ends.
    Terminate {
        /// Fatal Error Status.
        fes: u16,
        /// Fatal Error Information.
        fei: u32,
    },
    /// The connection is closed without a word.
    Close,
    /// The command fails with this status; the connection stays.
    Fail(Status),
}

impl Violation {
    /// The one answer to this violation.
    pub fn answer(&self) -> Answer {
        use Violation as V;
        match *self {
            V::PduType { .. } => field(0),
            V::Flags { .. } | V::SuccessFlag { .. } => field(1),
            V::HeaderLength { .. } => field(2),
            V::DataOffset { .. } => field(3),
            V::PduLength { .. } => field(4),
            V::TermReqLength { .. } => Answer::Close,
            V::HeaderDigest { received } => {
                Answer::Terminate { fes: fes::HEADER_DIGEST_ERROR, fei: received }
            }
            V::DataDigest { .. } => Answer::Fail(Status::TRANSIENT_TRANSPORT_ERROR),
            V::FormatVersion { .. } => unsupported(8),
            V::Alignment { .. } => field(10),
            V::DigestBits { .. } => field(11),
            V::DigestNotAsked { .. } => unsupported(11),
            V::MaxH2cData { .. } => field(12),
            V::UnknownCommand { kind: pdu::kind::CAPSULE_RESP, .. } => field(20),
            V::UnknownCommand { .. } | V::TransferCommand { .. } => field(8),
            V::TransferTag { .. } => field(10),
            V::DataLength { .. } => field(16),
            V::QueueHead { .. } => field(16),
            V::DataRange { .. } => terminate(fes::DATA_OUT_OF_RANGE),
            V::R2tLimit { .. } | V::DataLimit { .. } => terminate(fes::LIMIT_EXCEEDED),
            V::Sequence { .. }
            | V::UnexpectedTransfer { .. }
            | V::DataOrder { .. }
            | V::LastFlag { .. }
            | V::ShortTransfer { .. }
            | V::QueueOverflow { .. } => terminate(fes::SEQUENCE_ERROR),
            V::CommandId { .. } => Answer::Fail(Status::COMMAND_ID_CONFLICT.with_dnr(true)),
            V::DataPointer { .. } | V::Fused { .. } | V::StrayCapsuleData { .. } => {
                Answer::Fail(Status::INVALID_FIELD.with_dnr(true))
            }
            V::SglType { .. } => Answer::Fail(Status::SGL_DESCRIPTOR_TYPE_INVALID.with_dnr(true)),
            V::SglOffset { .. } => Answer::Fail(Status::SGL_OFFSET_INVALID.with_dnr(true)),
            V::SglLength { .. } => Answer::Fail(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true)),
        }
    }

    /// Whether an end in this role can see this violation.
    pub fn seen_by(&self, role: Role) -> bool {
        use Violation as V;
        match self {
            V::PduType { .. }
            | V::Flags { .. }
            | V::HeaderLength { .. }
            | V::DataOffset { .. }
            | V::PduLength { .. }
            | V::TermReqLength { .. }
            | V::HeaderDigest { .. }
            | V::DataDigest { .. }
            | V::Sequence { .. }
            | V::FormatVersion { .. }
            | V::Alignment { .. }
            | V::DigestBits { .. }
            | V::DataLength { .. }
            | V::DataRange { .. }
            | V::DataOrder { .. }
            | V::LastFlag { .. } => true,
            V::DigestNotAsked { .. }
            | V::MaxH2cData { .. }
            | V::UnknownCommand { .. }
            | V::UnexpectedTransfer { .. }
            | V::SuccessFlag { .. }
            | V::ShortTransfer { .. }
            | V::R2tLimit { .. }
            | V::QueueHead { .. } => role == Role::Host,
            V::TransferTag { .. }
            | V::TransferCommand { .. }
            | V::DataLimit { .. }
            | V::QueueOverflow { .. }
            | V::CommandId { .. }
            | V::DataPointer { .. }
            | V::Fused { .. }
            | V::SglType { .. }
            | V::SglOffset { .. }
            | V::SglLength { .. }
            | V::StrayCapsuleData { .. } => role == Role::Controller,
        }
    }

    /// Whether the connection ends with this violation.
    pub fn is_fatal(&self) -> bool {
        !matches!(self.answer(), Answer::Fail(_))
    }
}

fn field(fei: u32) -> Answer {
    Answer::Terminate { fes: fes::INVALID_HEADER_FIELD, fei }
}

fn unsupported(fei: u32) -> Answer {
    Answer::Terminate { fes: fes::UNSUPPORTED_PARAMETER, fei }
}

fn terminate(fes: u16) -> Answer {
    Answer::Terminate { fes, fei: 0 }
}
