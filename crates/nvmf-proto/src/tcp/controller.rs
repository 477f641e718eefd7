//! The controller's end of a connection.

use std::collections::VecDeque;

use nvme_spec::pdu::{IcReq, kind};
use nvme_spec::{Cqe, Sqe};

use super::link::{Link, Negotiated, Phase, Terminated, digest_bits, judge_ic_req};
use super::{Payload, ReceivedCommand};
use crate::capsule::{DataLocation, locate_data};
use crate::pdu::{DataHeader, Format, Header, Item, Pdu, R2tHeader};
use crate::queue::{ControllerQueue, QueueSize};
use crate::{Answer, Role, Violation};

mod outgoing;
mod slots;

use outgoing::{Outgoing, Rejection};
use slots::{R2ts, Slot, Slots};

/// What a controller permits in the handshake, and what it takes and gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControllerConfig {
    /// CPDA: the alignment of data sent to this controller, in dwords, 0's based, at most 31.
    /// Linux refuses anything but 0.
    pub cpda: u8,
    /// Permit header digests.
    pub header_digest: bool,
    /// Permit data digests.
    pub data_digest: bool,
    /// MAXH2CDATA in bytes; made at least 4096 and a multiple of 4.
    pub maxh2cdata: u32,
    /// R2Ts outstanding per command, at least 1; a host may take fewer.
    pub r2ts_per_command: u32,
    /// The most data that one R2T asks for, in bytes, at least 1.
    pub r2t_length: u32,
    /// The most data in one C2HData PDU, in bytes, at least 1.
    pub c2h_data_length: u32,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            cpda: 0,
            header_digest: true,
            data_digest: true,
            maxh2cdata: 256 << 10,
            r2ts_per_command: 4,
            r2t_length: 1 << 20,
            c2h_data_length: 1 << 20,
        }
    }
}

/// What an accepted Connect settles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Established {
    /// The submission queue's size.
    pub size: QueueSize,
    /// Whether submission queue flow control is on.
    pub flow_control: bool,
    /// The most in-capsule data that commands may now carry, in bytes.
    pub in_capsule: u32,
}

/// What a controller's connection has to tell.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum ControllerEvent {
    /// The handshake is done.
    Connected(Negotiated),
    /// A command came. In-capsule data follows, then [`Data`](Self::Data).
    Command(ReceivedCommand),
    /// A command came that is wrong in itself; it is answered already.
    Rejected {
        /// The command.
        sqe: Sqe,
        /// What is wrong with it.
        violation: Violation,
    },
    /// The next bytes of the stream are a command's data.
    Payload(Payload),
    /// All of the command's data that was asked for has come.
    Data {
        /// The command's slot.
        slot: u16,
        /// The command must be failed with this violation's answer: a data digest was wrong.
        violation: Option<Violation>,
    },
    /// The host ended the connection.
    Terminated(Terminated),
}

/// The application asks for a transfer that the command does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{length} bytes at offset {offset}: the command has {total} bytes of such data left to move"
)]
pub struct TransferError {
    /// Where the transfer would begin, in bytes.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
    /// What the command has, in bytes.
    pub total: u32,
}

/// The controller's end of a connection.
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    in_capsule: u32,
    link: Link,
    queue: ControllerQueue,
    slots: Slots,
    r2ts: R2ts,
    outgoing: VecDeque<Outgoing>,
    receiving: Option<Receiving>,
    /// Slots that are owed an R2T but found all transfer tags in use.
    starved: Vec<u16>,
}

/// The PDU whose data is coming.
#[derive(Clone, Copy, Debug, Default)]
struct Receiving {
    /// `None`: the command was rejected when its header came.
    slot: Option<u16>,
    offset: u32,
    /// The transfer tag of the R2T that this data is the last of; the tag is free after it.
    ends_r2t: Option<u16>,
    /// The answer to a command that was rejected: due once its capsule has come.
    rejection: Option<Rejection>,
}

impl Controller {
    /// A connection that waits for the host's ICReq.
    pub fn new(config: ControllerConfig) -> Self {
        let config = ControllerConfig {
            cpda: config.cpda.min(nvme_spec::pdu::PDA_MAX),
            maxh2cdata: config.maxh2cdata.max(nvme_spec::pdu::MAXH2CDATA_MIN) & !3,
            r2ts_per_command: config.r2ts_per_command.max(1),
            r2t_length: config.r2t_length.max(1),
            c2h_data_length: config.c2h_data_length.max(1),
            ..config
        };
        Self {
            config,
            // Enough for Connect, and for any command of an admin queue.
            in_capsule: nvme_spec::pdu::ADMIN_IN_CAPSULE,
            link: Link::new(Role::Controller),
            queue: ControllerQueue::new(),
            slots: Slots::default(),
            r2ts: R2ts::default(),
            outgoing: VecDeque::new(),
            receiving: None,
            starved: Vec::new(),
        }
    }

    /// What the handshake agreed on, once it is done.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.link.negotiated.as_ref()
    }

    /// The layout of what this end sends.
    pub fn send_format(&self) -> Format {
        self.link.send_format
    }

    /// The layout of what the host sends.
    pub fn receive_format(&self) -> Format {
        self.link.decoder.format()
    }

    /// Whether the byte that comes next is the first of a PDU: no part of one is kept here.
    pub fn is_between_pdus(&self) -> bool {
        self.link.decoder.is_between_pdus()
    }

    /// The flow control of this queue.
    pub fn queue(&self) -> &ControllerQueue {
        &self.queue
    }

    /// Nothing more is sent or heard: one end sent a TermReq.
    pub fn has_ended(&self) -> bool {
        self.link.phase == Phase::Ended
    }

    /// Takes bytes of the stream up to the next event; see the [module](super).
    pub fn handle_bytes(
        &mut self,
        input: &[u8],
    ) -> Result<(usize, Option<ControllerEvent>), Violation> {
        self.advance(input).map_err(|violation| self.link.fail(violation))
    }

    /// Takes payload that [`ControllerEvent::Payload`] announced; returns how much of it was
    /// that.
    pub fn handle_payload(&mut self, bytes: &[u8]) -> usize {
        let n = self.link.decoder.data(bytes);
        if let Some(receiving) = &mut self.receiving {
            receiving.offset =
                receiving.offset.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
        n
    }

    /// Asks for the next `length` bytes of the data that the host has for a command.
    ///
    /// They come by [`ControllerEvent::Payload`], and then [`ControllerEvent::Data`]. May be
    /// called again for the bytes after those, before or after they have come.
    pub fn request_data(&mut self, slot: u16, length: u32) -> Result<(), TransferError> {
        let Some(s) = self.slots.live(slot) else {
            return Err(TransferError { offset: 0, length, total: 0 });
        };
        let total = match s.data {
            DataLocation::Transport { length } => length,
            _ => 0,
        };
        let offset = s.requested;
        let end = offset.checked_add(length).filter(|end| *end <= total && length > 0);
        s.requested =
            end.ok_or(TransferError { offset, length, total: total.saturating_sub(offset) })?;
        self.solicit(slot);
        Ok(())
    }

    /// The slot of the command with this identifier, if it came on this queue and is not answered
    /// yet: what an Abort command looks for (Base 2.1, section 5.1.1).
    ///
    /// It is aborted by [`respond`](Self::respond) with Command Abort Requested.
    pub fn slot_of(&self, cid: u16) -> Option<u16> {
        self.slots.find(cid)
    }

    /// Whether the command in this slot has data to come: the rest of its capsule, or what was
    /// asked for by [`request_data`](Self::request_data).
    ///
    /// If it is answered before that has come, there is no [`ControllerEvent::Data`] for it any
    /// more, and what still comes is announced without a slot.
    pub fn awaits_data(&self, slot: u16) -> bool {
        let in_capsule = self.receiving.is_some_and(|receiving| receiving.slot == Some(slot));
        let asked = |s: &Slot| s.r2ts > 0 || s.solicited < s.requested;
        in_capsule || self.slots.get(slot).is_some_and(asked)
    }

    /// Sends the next `length` bytes of a command's data to the host.
    ///
    /// With `finish` they are the last ones and the command is answered with success: by the
    /// flag in the data where flow control is off, else by a response capsule. The bytes are
    /// taken from the [`PayloadSource`](crate::pdu::PayloadSource) under this slot until it is released.
    pub fn send_data(&mut self, slot: u16, length: u32, finish: bool) -> Result<(), TransferError> {
        let Some(s) = self.slots.live(slot) else {
            return Err(TransferError { offset: 0, length, total: 0 });
        };
        let total = match s.data {
            DataLocation::Transport { length } => length,
            _ => 0,
        };
        let offset = s.sent;
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= total && length > 0 && (!finish || *end == total))
            .ok_or(TransferError { offset, length, total: total.saturating_sub(offset) })?;
        s.sent = end;
        s.answered = finish;
        let cid = s.cid;
        let flow_control = self.queue.flow_control();
        let by_flag = finish && !flow_control;
        self.outgoing.push_back(Outgoing::Data { slot, offset, end, finish: by_flag });
        if finish && flow_control {
            let cqe = Cqe::new(cid, nvme_spec::Status::SUCCESS);
            self.outgoing.push_back(Outgoing::Response { slot, cqe });
        }
        Ok(())
    }

    /// Answers a command. Its identifier and SQHD are filled in here.
    ///
    /// Where the rest of the capsule, or data that R2Ts asked for, is still to come, the answer goes
    /// out behind it: transfer tags must not outlive their command, and no host expects an answer
    /// to a capsule that it is still sending. A command whose data digest was wrong cannot
    /// succeed: its answer becomes Transient Transport Error.
    pub fn respond(&mut self, slot: u16, mut cqe: Cqe) {
        let Some(s) = self.slots.live(slot) else { return };
        if s.corrupt && cqe.status().is_success() {
            cqe = Cqe::new(s.cid, nvme_spec::Status::TRANSIENT_TRANSPORT_ERROR);
        }
        cqe.cid.set(s.cid);
        s.answered = true;
        s.requested = s.solicited;
        let capsule_is_coming = self.receiving.is_some_and(|r| r.slot == Some(slot));
        if s.r2ts > 0 || capsule_is_coming {
            s.deferred = Some(cqe);
        } else {
            self.outgoing.push_back(Outgoing::Response { slot, cqe });
        }
    }

    /// Accepts a Connect command: `cqe` is its answer, whose SQHD is filled in here.
    pub fn accept(&mut self, slot: u16, mut cqe: Cqe, established: Established) {
        let Some(s) = self.slots.live(slot) else { return };
        cqe.cid.set(s.cid);
        s.answered = true;
        self.in_capsule = established.in_capsule;
        self.queue.establish(established.size, established.flow_control);
        self.outgoing.push_back(Outgoing::Connected { slot, cqe });
    }

    /// The answer of this slot is sent (see [`Batch::take_finished`](crate::pdu::Batch::take_finished)): it may be used again.
    pub fn release(&mut self, slot: u16) {
        self.slots.release(slot);
    }

    /// Takes what there is a shorter way for, else goes the long one.
    #[inline]
    fn advance(&mut self, input: &[u8]) -> Result<(usize, Option<ControllerEvent>), Violation> {
        let mut used = 0;
        if self.link.phase == Phase::Ready {
            if self.receiving.is_some()
                && let Some((n, intact)) = self.link.decoder.quick_end(input)
            {
                used = n;
                let event = self.end_of_data(intact);
                if event.is_some() {
                    return Ok((used, event));
                }
            }
            if let Some((n, capsule, data)) = self.link.decoder.quick_command(&input[used..]) {
                return Ok((used + n, Some(self.command(&capsule.sqe, data)?)));
            }
        }
        self.bytes(&input[used..]).map(|(n, event)| (used + n, event))
    }

    fn bytes(&mut self, input: &[u8]) -> Result<(usize, Option<ControllerEvent>), Violation> {
        if self.link.phase == Phase::Ended {
            return Ok((input.len(), None));
        }
        let mut used = 0;
        loop {
            let (n, item) = self.link.decoder.decode(&input[used..])?;
            used += n;
            let event = match item {
                None => return Ok((used, None)),
                Some(Item::Header(header)) => self.header(&header)?,
                Some(Item::Data { left }) => self.payload(left),
                Some(Item::End { intact }) => self.end_of_data(intact),
            };
            if event.is_some() {
                return Ok((used, event));
            }
        }
    }

    fn header(&mut self, header: &Header) -> Result<Option<ControllerEvent>, Violation> {
        let ready = self.link.phase == Phase::Ready;
        match header.pdu {
            Pdu::TermReq(term) => {
                Ok(Some(ControllerEvent::Terminated(self.link.terminated(&term))))
            }
            Pdu::IcReq(req) if !ready => self.ic_req(&req).map(Some),
            Pdu::IcReq(_) => Err(Violation::Sequence { kind: kind::IC_REQ }),
            Pdu::Command(sqe) if ready => self.command(&sqe, header.data_len).map(Some),
            Pdu::Data(data) if ready => self.data(&data, header.data_len).map(|()| None),
            Pdu::Command(_) => Err(Violation::Sequence { kind: kind::CAPSULE_CMD }),
            Pdu::Data(_) => Err(Violation::Sequence { kind: kind::H2C_DATA }),
            Pdu::IcResp(_) => Err(Violation::PduType { kind: kind::IC_RESP }),
            Pdu::Response(_) => Err(Violation::PduType { kind: kind::CAPSULE_RESP }),
            Pdu::R2t(_) => Err(Violation::PduType { kind: kind::R2T }),
        }
    }

    fn ic_req(&mut self, req: &IcReq) -> Result<ControllerEvent, Violation> {
        judge_ic_req(req)?;
        let permitted = digest_bits(self.config.header_digest, self.config.data_digest);
        let dgst = req.dgst & permitted;
        let negotiated = Negotiated {
            header_digest: dgst & nvme_spec::pdu::digest::HEADER != 0,
            data_digest: dgst & nvme_spec::pdu::digest::DATA != 0,
            r2ts_per_command: req.maxr2t.get().saturating_add(1).min(self.config.r2ts_per_command),
            maxh2cdata: self.config.maxh2cdata,
        };
        self.link.establish(negotiated, self.config.cpda, req.hpda);
        self.outgoing.push_back(Outgoing::IcResp(dgst));
        Ok(ControllerEvent::Connected(negotiated))
    }

    fn command(&mut self, sqe: &Sqe, in_capsule: u32) -> Result<ControllerEvent, Violation> {
        if in_capsule > self.in_capsule {
            let plen = in_capsule.saturating_add(72);
            return Err(Violation::PduLength { kind: kind::CAPSULE_CMD, plen });
        }
        let cid = sqe.cid.get();
        let mut receiving = Receiving::default();
        let event = match self.admit(sqe, in_capsule) {
            Ok(data) => {
                let mut new = Slot::new(cid, data);
                if let DataLocation::InCapsule { length } = data {
                    new.requested = length;
                    new.solicited = length;
                }
                let size = self.queue.size().entries();
                let index = self.slots.insert(new).ok_or(Violation::QueueOverflow { size })?;
                receiving.slot = Some(index);
                ControllerEvent::Command(ReceivedCommand { slot: index, sqe: *sqe, data })
            }
            Err(violation) => {
                let Answer::Fail(status) = violation.answer() else { return Err(violation) };
                let owns_cid = !matches!(violation, Violation::CommandId { .. });
                let cqe = Cqe::new(cid, status);
                receiving.rejection = Some(Rejection { cqe, owns_cid });
                ControllerEvent::Rejected { sqe: *sqe, violation }
            }
        };
        if in_capsule > 0 {
            self.receiving = Some(receiving);
        } else if let Some(rejection) = receiving.rejection {
            self.outgoing.push_back(Outgoing::Rejection(rejection));
        }
        Ok(event)
    }

    /// Judges a command by the queue and by its data pointer.
    fn admit(&mut self, sqe: &Sqe, in_capsule: u32) -> Result<DataLocation, Violation> {
        self.queue.receive(sqe.cid.get())?;
        locate_data(sqe, in_capsule)
    }

    fn data(&mut self, data: &DataHeader, actual: u32) -> Result<(), Violation> {
        let DataHeader { cid, ttag, offset, length, last, .. } = *data;
        let kind = kind::H2C_DATA;
        let r2t = self.r2ts.get(ttag).ok_or(Violation::TransferTag { ttag })?;
        if cid != r2t.cid {
            return Err(Violation::TransferCommand { cid, ttag });
        }
        if length != actual {
            return Err(Violation::DataLength { datal: length, actual });
        }
        let end = offset
            .checked_add(length)
            .filter(|end| offset >= r2t.start && *end <= r2t.end)
            .ok_or(Violation::DataRange { kind, cid, offset, length })?;
        if offset != r2t.next {
            return Err(Violation::DataOrder { kind, cid, offset, expected: r2t.next });
        }
        let limit = self.config.maxh2cdata;
        if length > limit {
            return Err(Violation::DataLimit { datal: length, limit });
        }
        if last != (end == r2t.end) {
            return Err(Violation::LastFlag { cid });
        }
        r2t.next = end;
        let slot = Some(r2t.slot);
        let ends_r2t = last.then_some(ttag);
        self.receiving = Some(Receiving { slot, offset, ends_r2t, rejection: None });
        Ok(())
    }

    fn payload(&self, left: u32) -> Option<ControllerEvent> {
        let receiving = self.receiving?;
        let wanted = |slot: &u16| self.slots.get(*slot).is_some_and(|s| !s.answered);
        Some(ControllerEvent::Payload(Payload {
            tag: receiving.slot.filter(wanted),
            offset: receiving.offset,
            length: left,
        }))
    }

    /// A PDU's data is complete: perhaps so is all that was asked for, or the next R2T is due.
    fn end_of_data(&mut self, intact: bool) -> Option<ControllerEvent> {
        let receiving = self.receiving.take()?;
        if let Some(rejection) = receiving.rejection {
            self.outgoing.push_back(Outgoing::Rejection(rejection));
        }
        let slot = receiving.slot?;
        let s = self.slots.get_mut(slot)?;
        s.corrupt |= !intact;
        if s.corrupt {
            // The command fails in any case: what is not yet under way may stay where it is.
            s.requested = s.solicited;
        }
        if let Some(ttag) = receiving.ends_r2t {
            s.r2ts -= 1;
            self.r2ts.remove(ttag);
            self.solicit(slot);
            // Some of those that wait may need no tag any more.
            while self.r2ts.has_room()
                && let Some(starved) = self.starved.pop()
            {
                self.solicit(starved);
            }
        }
        let s = self.slots.get_mut(slot)?;
        let complete = s.r2ts == 0
            && s.solicited == s.requested
            && (receiving.ends_r2t.is_some() || matches!(s.data, DataLocation::InCapsule { .. }));
        if !complete {
            return None;
        }
        if s.answered {
            if let Some(cqe) = s.deferred.take() {
                self.outgoing.push_back(Outgoing::Response { slot, cqe });
            }
            return None;
        }
        let violation = s.corrupt.then_some(Violation::DataDigest { cid: s.cid });
        Some(ControllerEvent::Data { slot, violation })
    }

    /// Sends as many R2Ts as the command may have.
    fn solicit(&mut self, slot: u16) {
        let limit = self.link.negotiated.map_or(1, |n| n.r2ts_per_command);
        while let Some(s) = self.slots.get_mut(slot)
            && s.r2ts < limit
            && s.solicited < s.requested
        {
            let offset = s.solicited;
            let length = (s.requested - offset).min(self.config.r2t_length);
            let Some(ttag) = self.r2ts.insert(slot, s.cid, offset, offset + length) else {
                self.starved.push(slot);
                return;
            };
            s.solicited += length;
            s.r2ts += 1;
            let r2t = R2tHeader { cid: s.cid, ttag, offset, length };
            self.outgoing.push_back(Outgoing::R2t(r2t));
        }
    }
}
