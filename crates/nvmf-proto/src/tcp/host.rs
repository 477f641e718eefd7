//! The host's end of a connection.

use std::collections::VecDeque;

use nvme_spec::pdu::{IcResp, kind};
use nvme_spec::{Cqe, SglDescriptor, Sqe, Status};

use super::Payload;
use super::link::{Link, Negotiated, Phase, Terminated, digest_bits, ic_req, judge_ic_resp};
use crate::pdu::{
    Batch, DataHeader, Format, Header, Item, NoPayload, PayloadSource, Pdu, R2tHeader,
};
use crate::queue::{HostQueue, QueueFull, QueueSize};
use crate::{Role, Violation};

/// What a host asks for in the handshake, and what it may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostConfig {
    /// HPDA: the alignment of data sent to this host, in dwords, 0's based, at most 31.
    pub hpda: u8,
    /// Ask for header digests.
    pub header_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// R2Ts taken at once per command, at least 1.
    pub r2ts_per_command: u32,
    /// The most in-capsule data in bytes: 8192 on the admin queue, (IOCCSZ − 4) · 16 on others.
    pub in_capsule: u32,
}

impl Default for HostConfig {
    /// An admin queue without digests.
    fn default() -> Self {
        Self {
            hpda: 0,
            header_digest: false,
            data_digest: false,
            r2ts_per_command: 4,
            in_capsule: nvme_spec::pdu::ADMIN_IN_CAPSULE,
        }
    }
}

/// The data that goes with a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// None.
    None,
    /// Host to controller.
    ToController {
        /// Bytes.
        length: u32,
    },
    /// Controller to host.
    ToHost {
        /// Bytes.
        length: u32,
    },
}

/// What a host's connection has to tell.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum HostEvent {
    /// The handshake is done.
    Connected(Negotiated),
    /// The next bytes of the stream are a command's data.
    Payload(Payload),
    /// A command is complete; its identifier stays taken until [`Host::release`].
    Completion(Completion),
    /// The controller ended the connection.
    Terminated(Terminated),
}

/// A command's completion.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Completion {
    /// The command.
    pub cid: u16,
    /// The response; made up from the success flag where no capsule came.
    pub cqe: Cqe,
    /// Why [`cqe`](Self::cqe) holds a failure that the controller did not send.
    pub violation: Option<Violation>,
}

/// A command cannot be submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error(transparent)]
    Full(#[from] QueueFull),
    /// The handshake is not done, or the connection has ended.
    #[error("the connection is not ready for commands")]
    NotReady,
}

/// The host's end of a connection.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    link: Link,
    queue: HostQueue,
    /// By command identifier.
    commands: Vec<Command>,
    outgoing: VecDeque<Outgoing>,
    /// The C2HData PDU whose data is coming.
    receiving: Option<DataHeader>,
    flow_control_off_asked: bool,
}

/// Progress of an outstanding command's data, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Command {
    data: CommandData,
    /// Its capsule is encoded: before that, nothing can come for it.
    sent: bool,
    /// A data digest was wrong.
    corrupt: bool,
    /// It is complete: nothing can come for it any more.
    complete: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum CommandData {
    #[default]
    None,
    InCapsule,
    Receive {
        length: u32,
        received: u32,
    },
    Send {
        length: u32,
        requested: u32,
        sent: u32,
        r2ts: u32,
    },
}

#[derive(Clone, Copy, Debug)]
enum Outgoing {
    IcReq,
    Command {
        sqe: Sqe,
        in_capsule: u32,
    },
    /// What an R2T asked for and is not yet sent.
    Data {
        cid: u16,
        ttag: u16,
        offset: u32,
        end: u32,
    },
}

impl Host {
    /// A connection whose first PDU, the ICReq, is ready to be sent.
    pub fn new(config: HostConfig) -> Self {
        let config = HostConfig { r2ts_per_command: config.r2ts_per_command.max(1), ..config };
        Self {
            config,
            link: Link::new(Role::Host),
            queue: HostQueue::new(),
            commands: Vec::new(),
            outgoing: VecDeque::from([Outgoing::IcReq]),
            receiving: None,
            flow_control_off_asked: false,
        }
    }

    /// What the handshake agreed on, once it is done.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.link.negotiated.as_ref()
    }

    /// What this end asked for.
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// The layout of what this end sends.
    pub fn send_format(&self) -> Format {
        self.link.send_format
    }

    /// The layout of what the controller sends.
    pub fn receive_format(&self) -> Format {
        self.link.decoder.format()
    }

    /// Whether the byte that comes next is the first of a PDU: no part of one is kept here.
    pub fn is_between_pdus(&self) -> bool {
        self.link.decoder.is_between_pdus()
    }

    /// Connect succeeded: see [`HostQueue::establish`].
    ///
    /// A controller that was asked in the Connect to switch flow control off, and that uses the
    /// success flag, has done so, whatever the SQHD of its answer said: SPDK answers with 1.
    pub fn establish(&mut self, size: QueueSize, sqhd: u16, flow_control_off_asked: bool) {
        self.queue.establish(size, sqhd);
        self.flow_control_off_asked = flow_control_off_asked;
    }

    /// The command identifiers and flow control of this queue.
    pub fn queue(&self) -> &HostQueue {
        &self.queue
    }

    /// Nothing more is sent or heard: one end sent a TermReq.
    pub fn has_ended(&self) -> bool {
        self.link.phase == Phase::Ended
    }

    /// Submits a command; its identifier and data pointer are filled in here.
    ///
    /// Returns the identifier, by which [`PayloadSource`] is asked for data and [`Payload`] and
    /// [`Completion`] name the command.
    pub fn submit(&mut self, mut sqe: Sqe, transfer: Transfer) -> Result<u16, SubmitError> {
        let in_capsule = self.start(&mut sqe, transfer)?;
        self.outgoing.push_back(Outgoing::Command { sqe, in_capsule });
        Ok(sqe.cid.get())
    }

    /// As [`submit`](Self::submit), but the command is in `batch` at once, if there is nothing
    /// that has to go out before and no digest of its data is needed.
    #[inline]
    pub fn submit_to(
        &mut self,
        mut sqe: Sqe,
        transfer: Transfer,
        batch: &mut Batch,
    ) -> Result<u16, SubmitError> {
        let in_capsule = self.start(&mut sqe, transfer)?;
        let format = self.link.send_format;
        let cid = sqe.cid.get();
        if self.outgoing.is_empty() && !(in_capsule > 0 && format.data_digest) {
            batch.command(format, &sqe, in_capsule, &NoPayload);
            self.commands[usize::from(cid)].sent = true;
        } else {
            self.outgoing.push_back(Outgoing::Command { sqe, in_capsule });
        }
        Ok(cid)
    }

    /// Takes an identifier and fills in what is this end's; returns how much data is in the capsule.
    #[inline]
    fn start(&mut self, sqe: &mut Sqe, transfer: Transfer) -> Result<u32, SubmitError> {
        if self.link.phase != Phase::Ready {
            return Err(SubmitError::NotReady);
        }
        let cid = self.queue.submit()?;
        sqe.cid.set(cid);
        sqe.flags = sqe.flags & !Sqe::PSDT_MASK | Sqe::PSDT_SGL;
        let mut in_capsule = 0;
        let data;
        (sqe.sgl, data) = match transfer {
            Transfer::None => (SglDescriptor::transport(0), CommandData::None),
            Transfer::ToHost { length } => {
                (SglDescriptor::transport(length), CommandData::Receive { length, received: 0 })
            }
            Transfer::ToController { length } if length <= self.config.in_capsule => {
                in_capsule = length;
                (SglDescriptor::in_capsule(length), CommandData::InCapsule)
            }
            Transfer::ToController { length } => (
                SglDescriptor::transport(length),
                CommandData::Send { length, requested: 0, sent: 0, r2ts: 0 },
            ),
        };
        let index = usize::from(cid);
        if self.commands.len() <= index {
            self.commands.resize(index + 1, Command::default());
        }
        self.commands[index] = Command { data, ..Command::default() };
        Ok(in_capsule)
    }

    /// Takes bytes of the stream up to the next event; see the [module](super).
    pub fn handle_bytes(&mut self, input: &[u8]) -> Result<(usize, Option<HostEvent>), Violation> {
        let taken = self.advance(input);
        if let Err(violation) = &taken {
            self.link.fail(*violation);
        }
        taken
    }

    /// Takes payload that [`HostEvent::Payload`] announced; returns how much of it was that.
    pub fn handle_payload(&mut self, bytes: &[u8]) -> usize {
        let n = self.link.decoder.data(bytes);
        if let Some(data) = &mut self.receiving {
            let n = u32::try_from(n).unwrap_or(data.length).min(data.length);
            data.offset += n;
            data.length -= n;
        }
        n
    }

    /// The completion of command `cid` was taken note of, and no [`Batch`] refers to its data any
    /// more: its identifier may be used again.
    pub fn release(&mut self, cid: u16) {
        if self.commands.get(usize::from(cid)).is_some_and(|command| command.complete) {
            self.queue.complete(cid);
        }
    }

    /// Whether there is anything to send.
    pub fn wants_transmit(&self) -> bool {
        self.link.has_goodbye() || (self.link.phase != Phase::Ended && !self.outgoing.is_empty())
    }

    /// Encodes PDUs that are ready into `batch`, until it has `max` bytes or more.
    ///
    /// `source` has the data of the commands outstanding, by command identifier; it is read here
    /// only for data digests.
    pub fn poll_transmit(&mut self, source: &dyn PayloadSource, batch: &mut Batch, max: usize) {
        if self.link.phase == Phase::Ended {
            return self.link.transmit_goodbye(batch);
        }
        let format = self.link.send_format;
        while batch.len() < max {
            match self.outgoing.pop_front() {
                None => return,
                Some(Outgoing::IcReq) => {
                    let HostConfig { hpda, header_digest, data_digest, .. } = self.config;
                    let dgst = digest_bits(header_digest, data_digest);
                    batch.ic_req(ic_req(hpda, dgst, self.config.r2ts_per_command));
                }
                Some(Outgoing::Command { sqe, in_capsule }) => {
                    batch.command(format, &sqe, in_capsule, source);
                    if let Some(command) = self.commands.get_mut(usize::from(sqe.cid.get())) {
                        command.sent = true;
                    }
                }
                Some(Outgoing::Data { cid, ttag, offset, end }) => {
                    let most = self.link.negotiated.map_or(0, |n| n.maxh2cdata);
                    let length = (end - offset).min(most);
                    let last = offset + length == end;
                    let data = DataHeader { cid, ttag, offset, length, last, success: false };
                    batch.data(format, kind::H2C_DATA, data, cid, source);
                    if !last {
                        let offset = offset + length;
                        self.outgoing.push_front(Outgoing::Data { cid, ttag, offset, end });
                    }
                    self.note_sent(cid, length, last);
                }
            }
        }
    }

    fn note_sent(&mut self, cid: u16, length: u32, last: bool) {
        if let Some(Command { data: CommandData::Send { sent, r2ts, .. }, .. }) =
            self.commands.get_mut(usize::from(cid))
        {
            *sent += length;
            *r2ts -= u32::from(last);
        }
    }

    /// Takes what there is a shorter way for, else goes the long one.
    #[inline]
    fn advance(&mut self, input: &[u8]) -> Result<(usize, Option<HostEvent>), Violation> {
        let mut used = 0;
        if self.link.phase == Phase::Ready {
            if self.receiving.is_some()
                && let Some((n, intact)) = self.link.decoder.quick_end(input)
            {
                used = n;
                if let Some((cid, corrupt)) = self.end_of_data(intact)? {
                    let cqe = Cqe::new(cid, Status::SUCCESS);
                    return Ok((used, Some(self.complete(cid, cqe, corrupt))));
                }
            }
            if let Some((n, data, length)) = self.link.decoder.quick_data(&input[used..]) {
                self.data(data, length)?;
                let tag = Some(data.cid);
                let payload = Payload { tag, offset: data.offset, length };
                return Ok((used + n, Some(HostEvent::Payload(payload))));
            }
            if let Some((n, cqe)) = self.link.decoder.quick_response(&input[used..]) {
                return Ok((used + n, Some(self.response(cqe)?)));
            }
        }
        self.bytes(&input[used..]).map(|(n, event)| (used + n, event))
    }

    fn bytes(&mut self, input: &[u8]) -> Result<(usize, Option<HostEvent>), Violation> {
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
                Some(Item::Data { left }) => self.receiving.map(|data| {
                    let payload =
                        Payload { tag: Some(data.cid), offset: data.offset, length: left };
                    HostEvent::Payload(payload)
                }),
                Some(Item::End { intact }) => self.end_of_data(intact)?.map(|(cid, corrupt)| {
                    self.complete(cid, Cqe::new(cid, Status::SUCCESS), corrupt)
                }),
            };
            if event.is_some() {
                return Ok((used, event));
            }
        }
    }

    fn header(&mut self, header: &Header) -> Result<Option<HostEvent>, Violation> {
        let ready = self.link.phase == Phase::Ready;
        match header.pdu {
            Pdu::TermReq(term) => Ok(Some(HostEvent::Terminated(self.link.terminated(&term)))),
            Pdu::IcResp(resp) if !ready => self.ic_resp(&resp).map(Some),
            Pdu::IcResp(_) => Err(Violation::Sequence { kind: kind::IC_RESP }),
            Pdu::Response(cqe) if ready => self.response(cqe).map(Some),
            Pdu::Data(data) if ready => self.data(data, header.data_len).map(|()| None),
            Pdu::R2t(r2t) if ready => self.r2t(r2t).map(|()| None),
            Pdu::Response(_) => Err(Violation::Sequence { kind: kind::CAPSULE_RESP }),
            Pdu::Data(_) => Err(Violation::Sequence { kind: kind::C2H_DATA }),
            Pdu::R2t(_) => Err(Violation::Sequence { kind: kind::R2T }),
            Pdu::IcReq(_) => Err(Violation::PduType { kind: kind::IC_REQ }),
            Pdu::Command(_) => Err(Violation::PduType { kind: kind::CAPSULE_CMD }),
        }
    }

    fn ic_resp(&mut self, resp: &IcResp) -> Result<HostEvent, Violation> {
        let asked = digest_bits(self.config.header_digest, self.config.data_digest);
        judge_ic_resp(asked, resp)?;
        let negotiated = Negotiated {
            header_digest: resp.dgst & nvme_spec::pdu::digest::HEADER != 0,
            data_digest: resp.dgst & nvme_spec::pdu::digest::DATA != 0,
            r2ts_per_command: self.config.r2ts_per_command,
            maxh2cdata: resp.maxh2cdata.get(),
        };
        self.link.establish(negotiated, self.config.hpda, resp.cpda);
        Ok(HostEvent::Connected(negotiated))
    }

    /// The live command that a PDU of this kind names.
    fn command(&mut self, kind: u8, cid: u16) -> Result<&mut Command, Violation> {
        // One that is not live was never sent, or is complete.
        self.commands
            .get_mut(usize::from(cid))
            .filter(|command| command.sent && !command.complete)
            .ok_or(Violation::UnknownCommand { kind, cid })
    }

    fn response(&mut self, cqe: Cqe) -> Result<HostEvent, Violation> {
        let cid = cqe.cid.get();
        let command = *self.command(kind::CAPSULE_RESP, cid)?;
        self.queue.take_head(&cqe)?;
        if cqe.status().is_success() {
            let (moved, expected) = match command.data {
                CommandData::None | CommandData::InCapsule => (0, 0),
                CommandData::Receive { length, received } => (received, length),
                CommandData::Send { length, sent, .. } => (sent, length),
            };
            if moved != expected {
                return Err(Violation::ShortTransfer { cid, moved, expected });
            }
        }
        Ok(self.complete(cid, cqe, command.corrupt))
    }

    #[inline]
    fn complete(&mut self, cid: u16, cqe: Cqe, corrupt: bool) -> HostEvent {
        if let Some(command) = self.commands.get_mut(usize::from(cid)) {
            command.complete = true;
            if matches!(command.data, CommandData::Send { r2ts: 1.., .. }) {
                // It failed early and wants no more of its data.
                self.outgoing.retain(|o| !matches!(o, Outgoing::Data { cid: c, .. } if *c == cid));
            }
        }
        let mut completion = Completion { cid, cqe, violation: None };
        if corrupt {
            completion.violation = Some(Violation::DataDigest { cid });
            completion.cqe = Cqe::new(cid, Status::TRANSIENT_TRANSPORT_ERROR);
        }
        HostEvent::Completion(completion)
    }

    fn data(&mut self, data: DataHeader, actual: u32) -> Result<(), Violation> {
        let DataHeader { cid, offset, length, .. } = data;
        let kind = kind::C2H_DATA;
        let needs_capsule = self.queue.flow_control() && !self.flow_control_off_asked;
        let command = self.command(kind, cid)?;
        let CommandData::Receive { length: total, received } = command.data else {
            return Err(Violation::UnexpectedTransfer { kind, cid });
        };
        if length != actual {
            return Err(Violation::DataLength { datal: length, actual });
        }
        let end = u64::from(offset) + u64::from(length);
        if end > u64::from(total) {
            return Err(Violation::DataRange { kind, cid, offset, length });
        }
        if offset != received {
            return Err(Violation::DataOrder { kind, cid, offset, expected: received });
        }
        if data.last != (end == u64::from(total)) {
            return Err(Violation::LastFlag { cid });
        }
        if data.success && needs_capsule {
            return Err(Violation::SuccessFlag { cid });
        }
        command.data = CommandData::Receive { length: total, received: offset + length };
        self.receiving = Some(data);
        if data.success {
            self.queue.end_flow_control();
        }
        Ok(())
    }

    /// The command that is complete with the end of this data, and whether its data is damaged.
    #[inline]
    fn end_of_data(&mut self, intact: bool) -> Result<Option<(u16, bool)>, Violation> {
        let Some(data) = self.receiving.take() else { return Ok(None) };
        let command = self.command(kind::C2H_DATA, data.cid)?;
        command.corrupt |= !intact;
        Ok(data.success.then_some((data.cid, command.corrupt)))
    }

    fn r2t(&mut self, r2t: R2tHeader) -> Result<(), Violation> {
        let R2tHeader { cid, ttag, offset, length } = r2t;
        let kind = kind::R2T;
        let limit = self.config.r2ts_per_command;
        let command = self.command(kind, cid)?;
        let CommandData::Send { length: total, requested, r2ts, .. } = &mut command.data else {
            return Err(Violation::UnexpectedTransfer { kind, cid });
        };
        if length == 0 {
            return Err(Violation::DataLength { datal: 0, actual: *total - *requested });
        }
        let end = offset.checked_add(length).filter(|end| *end <= *total);
        let Some(end) = end else {
            return Err(Violation::DataRange { kind, cid, offset, length });
        };
        if offset != *requested {
            return Err(Violation::DataOrder { kind, cid, offset, expected: *requested });
        }
        if *r2ts >= limit {
            return Err(Violation::R2tLimit { cid, limit });
        }
        *requested = end;
        *r2ts += 1;
        self.outgoing.push_back(Outgoing::Data { cid, ttag, offset, end });
        Ok(())
    }
}
