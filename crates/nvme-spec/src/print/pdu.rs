//! PDU headers of NVMe/TCP.

use zerocopy::FromBytes;

use super::{AdminCommand, Field, FieldSink, Fields, IoCommand, give};
use crate::pdu::{
    CapsuleCmd, CapsuleResp, CommonHeader, Data, IcReq, IcResp, R2t, TERM_REQ_LEN, TermReq, fes,
    kind, name,
};

/// The fields of a PDU's header, given its bytes: which header it is says its first byte. Bytes too
/// few for that header are printed as they are.
#[derive(Clone, Copy)]
pub struct PduFields<'a>(pub &'a [u8]);

impl Fields for PduFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let bytes = self.0;
        let known = match bytes.first() {
            Some(&kind::IC_REQ) => give_header::<IcReq>(bytes, out),
            Some(&kind::IC_RESP) => give_header::<IcResp>(bytes, out),
            Some(&(kind::H2C_TERM_REQ | kind::C2H_TERM_REQ)) => give_header::<TermReq>(bytes, out),
            Some(&kind::CAPSULE_CMD) => give_header::<CapsuleCmd>(bytes, out),
            Some(&kind::CAPSULE_RESP) => give_header::<CapsuleResp>(bytes, out),
            Some(&(kind::H2C_DATA | kind::C2H_DATA)) => give_header::<Data>(bytes, out),
            Some(&kind::R2T) => give_header::<R2t>(bytes, out),
            Some(_) => give_header::<CommonHeader>(bytes, out),
            None => false,
        };
        if !known {
            out.bytes("data", bytes);
        }
    }
}

/// The same of a PDU that is known from elsewhere to be of its type, which is left out, and that was
/// seen on a queue: its command is understood as one of that queue. A TermReq has the header that
/// it complains of with it, as far as that is there.
///
/// ```
/// use nvme_spec::print::{Line, QueuePduFields};
///
/// let mut bytes = [0; 72];
/// bytes[..10].copy_from_slice(&[4, 0, 72, 0, 72, 0, 0, 0, 0x18, 0x40]);
/// let line = Line(&QueuePduFields { bytes: &bytes, qid: Some(0) }).to_string();
/// assert!(line.starts_with("flags=0x0 hlen=72 pdo=0 plen=72 sqe={opcode=0x18 (Keep Alive)"));
/// ```
#[derive(Clone, Copy)]
pub struct QueuePduFields<'a> {
    /// The header's bytes.
    pub bytes: &'a [u8],
    /// Which queue, if that is known: 0 is the admin queue.
    pub qid: Option<u16>,
}

impl Fields for QueuePduFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let bytes = self.bytes;
        let mut out = WithoutType(out);
        let out: &mut dyn FieldSink = &mut out;
        match (bytes.first(), self.qid, CapsuleCmd::ref_from_prefix(bytes)) {
            (Some(&kind::CAPSULE_CMD), Some(qid), Ok((capsule, _))) => {
                capsule.ch.fields(out);
                match qid {
                    0 => out.object("sqe", &AdminCommand(&capsule.sqe)),
                    _ => out.object("sqe", &IoCommand(&capsule.sqe)),
                }
            }
            _ => PduFields(bytes).fields(out),
        }
        let is_term = matches!(bytes.first(), Some(&(kind::H2C_TERM_REQ | kind::C2H_TERM_REQ)));
        if is_term && let Some(copy @ [_, ..]) = bytes.get(TERM_REQ_LEN as usize..) {
            out.object("pdu", &PduFields(copy));
        }
    }
}

/// Hands on all fields but the PDU's type.
struct WithoutType<'a>(&'a mut dyn FieldSink);

impl FieldSink for WithoutType<'_> {
    fn field(&mut self, field: Field<'_>) {
        if field.name != "type" {
            self.0.field(field);
        }
    }
}

fn give_header<T>(bytes: &[u8], out: &mut dyn FieldSink) -> bool
where
    T: Fields + FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    match T::ref_from_prefix(bytes) {
        Ok((header, _)) => {
            header.fields(out);
            true
        }
        Err(_) => false,
    }
}

const DIGESTS: &[(u8, &str)] = &[(0, "header"), (1, "data")];

impl Fields for CommonHeader {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.hex_as("type", self.kind, name(self.kind));
        out.bits(
            "flags",
            self.flags,
            &[(0, "header digest"), (1, "data digest"), (2, "last"), (3, "success")],
        );
        give!(out, self; number: hlen, pdo, plen);
    }
}

impl Fields for IcReq {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.ch.fields(out);
        give!(out, self; number: pfv);
        out.number_as("hpda", self.hpda, Alignment(self.hpda));
        out.bits("dgst", self.dgst, DIGESTS);
        let outstanding = u64::from(self.maxr2t.get()) + 1;
        out.number_as("maxr2t", self.maxr2t, format_args!("{outstanding} outstanding"));
    }
}

impl Fields for IcResp {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.ch.fields(out);
        give!(out, self; number: pfv);
        out.number_as("cpda", self.cpda, Alignment(self.cpda));
        out.bits("dgst", self.dgst, DIGESTS);
        give!(out, self; number: maxh2cdata);
    }
}

/// Alignment of data: 0's based, in units of 4 bytes.
struct Alignment(u8);

impl core::fmt::Display for Alignment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", (u32::from(self.0) + 1) * 4)
    }
}

impl Fields for TermReq {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.ch.fields(out);
        out.hex_as("fes", self.fes, fes::name(self.fes.get()));
        give!(out, self; hex: fei);
    }
}

impl Fields for CapsuleCmd {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.ch.fields(out);
        out.object("sqe", &self.sqe);
    }
}

impl Fields for CapsuleResp {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.ch.fields(out);
        out.object("cqe", &self.cqe);
    }
}

impl Fields for Data {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.ch.fields(out);
        give!(out, self; number: cccid, ttag, datao, datal);
    }
}

impl Fields for R2t {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.ch.fields(out);
        give!(out, self; number: cccid, ttag, r2to, r2tl);
    }
}
