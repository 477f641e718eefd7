//! What both ends of a connection have in common: the handshake's outcome and its end.

use nvme_spec::pdu::{self, IcReq, IcResp, digest, kind};
use zerocopy::FromZeros;

use crate::pdu::{Batch, Decoder, Format};
use crate::{Answer, Role, Violation};

/// What the handshake agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Header digests are on.
    pub header_digest: bool,
    /// Data digests are on.
    pub data_digest: bool,
    /// R2Ts that the host takes at once per command.
    pub r2ts_per_command: u32,
    /// The most data in one H2CData PDU, in bytes.
    pub maxh2cdata: u32,
}

/// The peer ended the connection with a TermReq.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} (FES {fes}, FEI {fei:#x})", pdu::fes::name(*fes))]
pub struct Terminated {
    /// Fatal Error Status.
    pub fes: u16,
    /// Fatal Error Information.
    pub fei: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// ICReq or ICResp is still to come.
    Handshake,
    /// Capsules and data flow.
    Ready,
    /// A TermReq was sent or came: nothing more is sent or heard.
    Ended,
}

/// The parts of a connection that do not depend on commands.
#[derive(Debug)]
pub(super) struct Link {
    role: Role,
    pub(super) decoder: Decoder,
    pub(super) phase: Phase,
    /// Layout of what this end sends.
    pub(super) send_format: Format,
    pub(super) negotiated: Option<Negotiated>,
    /// The TermReq to send, with the copied header.
    goodbye: Option<(u16, u32, Vec<u8>)>,
}

impl Link {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            decoder: Decoder::new(role),
            phase: Phase::Handshake,
            send_format: Format::INITIAL,
            negotiated: None,
            goodbye: None,
        }
    }

    /// The handshake is done; `own_pda` is the alignment this end asked for, `peer_pda` the
    /// other's.
    pub(super) fn establish(&mut self, negotiated: Negotiated, own_pda: u8, peer_pda: u8) {
        let Negotiated { header_digest, data_digest, .. } = negotiated;
        let format =
            |pda| Format { header_digest, data_digest, alignment: Format::alignment_of(pda) };
        self.decoder.set_format(format(own_pda));
        self.send_format = format(peer_pda);
        self.negotiated = Some(negotiated);
        self.phase = Phase::Ready;
    }

    /// Ends the connection for a violation, with a TermReq where one is due.
    pub(super) fn fail(&mut self, violation: Violation) -> Violation {
        if let Answer::Terminate { fes, fei } = violation.answer()
            && self.phase != Phase::Ended
        {
            self.goodbye = Some((fes, fei, self.decoder.offending_header().to_vec()));
        }
        self.phase = Phase::Ended;
        violation
    }

    /// The peer sent a TermReq. It is never answered with another.
    pub(super) fn terminated(&mut self, term: &pdu::TermReq) -> Terminated {
        self.phase = Phase::Ended;
        Terminated { fes: term.fes.get(), fei: term.fei.get() }
    }

    /// Encodes the TermReq, if one is due.
    pub(super) fn transmit_goodbye(&mut self, batch: &mut Batch) {
        let kind = match self.role {
            Role::Host => kind::H2C_TERM_REQ,
            Role::Controller => kind::C2H_TERM_REQ,
        };
        if let Some((fes, fei, offending)) = self.goodbye.take() {
            batch.term_req(kind, fes, fei, &offending);
        }
    }

    pub(super) fn has_goodbye(&self) -> bool {
        self.goodbye.is_some()
    }
}

/// The digest field of an ICReq or ICResp.
pub(super) fn digest_bits(header: bool, data: bool) -> u8 {
    let header = if header { digest::HEADER } else { 0 };
    header | if data { digest::DATA } else { 0 }
}

/// Checks what ICReq and ICResp have in common, the lowest bad field first.
fn check_ic(pfv: u16, pda: u8, dgst: u8) -> Result<(), Violation> {
    if pfv != 0 {
        return Err(Violation::FormatVersion { pfv });
    }
    if pda > pdu::PDA_MAX {
        return Err(Violation::Alignment { pda });
    }
    if dgst & digest::RESERVED != 0 {
        return Err(Violation::DigestBits { dgst });
    }
    Ok(())
}

/// What a host wants, against what the controller answers.
pub(super) fn judge_ic_resp(asked: u8, resp: &IcResp) -> Result<(), Violation> {
    check_ic(resp.pfv.get(), resp.cpda, resp.dgst)?;
    if resp.dgst & !asked != 0 {
        return Err(Violation::DigestNotAsked { dgst: resp.dgst });
    }
    let maxh2cdata = resp.maxh2cdata.get();
    if maxh2cdata < pdu::MAXH2CDATA_MIN || !maxh2cdata.is_multiple_of(4) {
        return Err(Violation::MaxH2cData { maxh2cdata });
    }
    Ok(())
}

/// What a host asks for.
pub(super) fn judge_ic_req(req: &IcReq) -> Result<(), Violation> {
    check_ic(req.pfv.get(), req.hpda, req.dgst)
}

pub(super) fn ic_req(hpda: u8, dgst: u8, r2ts_per_command: u32) -> IcReq {
    IcReq { hpda, dgst, maxr2t: r2ts_per_command.saturating_sub(1).into(), ..IcReq::new_zeroed() }
}

pub(super) fn ic_resp(cpda: u8, dgst: u8, maxh2cdata: u32) -> IcResp {
    IcResp { cpda, dgst, maxh2cdata: maxh2cdata.into(), ..IcResp::new_zeroed() }
}
