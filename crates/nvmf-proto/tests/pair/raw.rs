//! PDUs byte by byte, and single ends to give them to.

use nvme_spec::{Cqe, Sqe, Status};
use nvmf_proto::Violation;
use nvmf_proto::pdu::{Batch, NoPayload, PayloadSource};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::{
    Completion, Controller, ControllerConfig, ControllerEvent, Established, Host, HostConfig,
    HostEvent, Transfer,
};

use crate::inspect::crc32c;

/// A PDU whose fields can all be wrong. By default they are right.
#[derive(Clone, Debug)]
pub struct Raw {
    pub kind: u8,
    pub flags: u8,
    pub hlen: u8,
    pub pdo: u8,
    pub plen: u32,
    /// What follows the common header.
    pub rest: Vec<u8>,
}

impl Raw {
    /// A PDU with these fields behind the common header, and data.
    pub fn new(kind: u8, fields: &[u8], data: &[u8]) -> Self {
        let hlen = 8 + u8::try_from(fields.len()).unwrap();
        let pdo = if data.is_empty() { 0 } else { hlen };
        let plen = u32::from(hlen) + u32::try_from(data.len()).unwrap();
        Self { kind, flags: 0, hlen, pdo, plen, rest: [fields, data].concat() }
    }

    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    pub fn hlen(mut self, hlen: u8) -> Self {
        self.hlen = hlen;
        self
    }

    pub fn pdo(mut self, pdo: u8) -> Self {
        self.pdo = pdo;
        self
    }

    pub fn plen(mut self, plen: u32) -> Self {
        self.plen = plen;
        self
    }

    /// With a byte of the PDU changed.
    pub fn byte(self, at: usize, byte: u8) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes[at] = byte;
        bytes
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.flags, self.hlen, self.pdo];
        bytes.extend(self.plen.to_le_bytes());
        bytes.extend(&self.rest);
        bytes
    }

    /// With both digests, or the header's alone where there is no data.
    pub fn digested(&self) -> Vec<u8> {
        let plain = self.bytes();
        let (header, data) = plain.split_at(self.hlen.into());
        let ddgst = if data.is_empty() { 0 } else { 4 };
        let raw = Self {
            flags: self.flags | 1 | if ddgst > 0 { 2 } else { 0 },
            pdo: if data.is_empty() { 0 } else { self.hlen + 4 },
            plen: self.plen + 4 + ddgst,
            ..self.clone()
        };
        let mut bytes = raw.bytes()[..header.len()].to_vec();
        bytes.extend(crc32c(&bytes).to_le_bytes());
        bytes.extend(data);
        if ddgst > 0 {
            bytes.extend(crc32c(data).to_le_bytes());
        }
        bytes
    }
}

/// An ICReq or ICResp: PFV, HPDA or CPDA, digests, MAXR2T or MAXH2CDATA.
pub fn ic(kind: u8, pfv: u16, pda: u8, dgst: u8, last: u32) -> Raw {
    let mut fields = [0; 120];
    fields[..2].copy_from_slice(&pfv.to_le_bytes());
    (fields[2], fields[3]) = (pda, dgst);
    fields[4..8].copy_from_slice(&last.to_le_bytes());
    Raw::new(kind, &fields, &[])
}

pub fn ic_req() -> Raw {
    ic(0, 0, 0, 0, 3)
}

pub fn ic_resp() -> Raw {
    ic(1, 0, 0, 0, 4096)
}

/// A data PDU or an R2T: command, transfer tag, offset, length.
pub fn data(kind: u8, cid: u16, ttag: u16, offset: u32, length: u32, bytes: &[u8]) -> Raw {
    let mut fields = [0; 16];
    fields[..2].copy_from_slice(&cid.to_le_bytes());
    fields[2..4].copy_from_slice(&ttag.to_le_bytes());
    fields[4..8].copy_from_slice(&offset.to_le_bytes());
    fields[8..12].copy_from_slice(&length.to_le_bytes());
    Raw::new(kind, &fields, bytes)
}

/// A response capsule.
pub fn response(cid: u16, sqhd: u16, status: Status) -> Raw {
    let mut fields = [0; 16];
    fields[8..10].copy_from_slice(&sqhd.to_le_bytes());
    fields[12..14].copy_from_slice(&cid.to_le_bytes());
    fields[14..16].copy_from_slice(&status.to_wire().to_le_bytes());
    Raw::new(5, &fields, &[])
}

/// A command capsule: opcode 01h, PSDT 01b, this SGL, and data.
pub fn capsule(cid: u16, sgl: u8, length: u32, bytes: &[u8]) -> Raw {
    let mut sqe = [0; 64];
    (sqe[0], sqe[1]) = (1, 0x40);
    sqe[2..4].copy_from_slice(&cid.to_le_bytes());
    sqe[32..36].copy_from_slice(&length.to_le_bytes());
    sqe[39] = sgl;
    Raw::new(4, &sqe, bytes)
}

/// Payload of zeroes, as much as is wanted.
struct Zeroes;

impl PayloadSource for Zeroes {
    fn for_each<'a>(&'a self, _: u16, _: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        each(&ZEROES[..length as usize]);
    }
}

/// A host by itself.
pub struct HostEnd {
    pub host: Host,
    pub completions: Vec<Completion>,
    pub events: Vec<HostEvent>,
}

impl HostEnd {
    /// The ICReq is sent.
    pub fn fresh(digests: bool) -> Self {
        let config = HostConfig {
            header_digest: digests,
            data_digest: digests,
            r2ts_per_command: 2,
            ..HostConfig::default()
        };
        let mut end = Self { host: Host::new(config), completions: Vec::new(), events: Vec::new() };
        end.sent();
        end
    }

    /// Connected, with four entries and flow control.
    pub fn ready(digests: bool) -> Self {
        Self::ready_with(digests, 0)
    }

    pub fn ready_with(digests: bool, sqhd: u16) -> Self {
        let mut end = Self::fresh(digests);
        let dgst = if digests { 3 } else { 0 };
        end.give(&ic(1, 0, 0, dgst, 4096).bytes()).unwrap();
        end.host.establish(QueueSize::new(4).unwrap(), sqhd, false);
        end
    }

    /// With this command outstanding, as identifier 0 if it is the first.
    pub fn with(mut self, transfer: Transfer) -> Self {
        self.host.submit(Sqe::new(1), transfer).unwrap();
        self.sent();
        self
    }

    /// What the host has to send.
    pub fn sent(&mut self) -> Vec<u8> {
        let mut batch = Batch::new();
        self.host.poll_transmit(&Zeroes, &mut batch, usize::MAX);
        batch.to_vec(&Zeroes).unwrap()
    }

    pub fn give(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        loop {
            let (used, event) = self.host.handle_bytes(bytes)?;
            bytes = &bytes[used..];
            match event {
                None => return Ok(()),
                Some(HostEvent::Payload(payload)) => {
                    let n = self.host.handle_payload(bytes);
                    bytes = &bytes[n..];
                    if n < payload.length as usize {
                        return Ok(());
                    }
                }
                Some(HostEvent::Completion(completion)) => {
                    self.host.release(completion.cid);
                    self.completions.push(completion);
                }
                Some(event) => self.events.push(event),
            }
        }
    }
}

/// A controller by itself.
pub struct ControllerEnd {
    pub controller: Controller,
    pub events: Vec<ControllerEvent>,
    /// Bytes that came for a command, and for nobody.
    pub taken: usize,
    pub dropped: usize,
}

impl ControllerEnd {
    pub fn fresh() -> Self {
        let config = ControllerConfig {
            maxh2cdata: 4096,
            r2ts_per_command: 2,
            r2t_length: 8192,
            ..ControllerConfig::default()
        };
        Self { controller: Controller::new(config), events: Vec::new(), taken: 0, dropped: 0 }
    }

    /// Connected, with four entries and flow control.
    pub fn ready(digests: bool) -> Self {
        let mut end = Self::fresh();
        end.give(&ic(0, 0, 0, if digests { 3 } else { 0 }, 3).bytes()).unwrap();
        let connect = capsule(0xc0, 0x5a, 0, &[]);
        end.give(&if digests { connect.digested() } else { connect.bytes() }).unwrap();
        let established =
            Established { size: QueueSize::new(4).unwrap(), flow_control: true, in_capsule: 4096 };
        let slot = end.slot();
        end.controller.accept(slot, Cqe::new(0, Status::SUCCESS), established);
        end.sent();
        end.events.clear();
        end
    }

    /// With command 5 outstanding, which writes 16384 bytes, and R2Ts sent for all of it: tag 0
    /// for the first half and tag 1 for the second.
    pub fn asked(digests: bool) -> Self {
        let mut end = Self::ready(digests);
        let write = capsule(5, 0x5a, 16384, &[]);
        end.give(&if digests { write.digested() } else { write.bytes() }).unwrap();
        let slot = end.slot();
        end.controller.request_data(slot, 16384).unwrap();
        end.sent();
        end.events.clear();
        end
    }

    /// The slot of the command that came last.
    pub fn slot(&self) -> u16 {
        let slot = |event: &ControllerEvent| match event {
            ControllerEvent::Command(command) => Some(command.slot),
            _ => None,
        };
        self.events.iter().rev().find_map(slot).expect("a command")
    }

    /// What the controller has to send; what is answered with that is released.
    pub fn sent(&mut self) -> Vec<u8> {
        let mut batch = Batch::new();
        self.controller.poll_transmit(&Zeroes, &mut batch, usize::MAX);
        let bytes = batch.to_vec(&Zeroes).unwrap();
        batch.advance(bytes.len());
        for slot in batch.take_finished() {
            self.controller.release(slot);
        }
        bytes
    }

    pub fn give(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        loop {
            let (used, event) = self.controller.handle_bytes(bytes)?;
            bytes = &bytes[used..];
            match event {
                None => return Ok(()),
                Some(ControllerEvent::Payload(payload)) => {
                    let n = self.controller.handle_payload(bytes);
                    bytes = &bytes[n..];
                    *if payload.tag.is_some() { &mut self.taken } else { &mut self.dropped } += n;
                    if n < payload.length as usize {
                        return Ok(());
                    }
                }
                Some(event) => self.events.push(event),
            }
        }
    }
}

/// The first PDU of what an end sent, and no more than that.
pub fn only_pdu(bytes: &[u8]) -> &[u8] {
    let plen = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
    assert_eq!(plen as usize, bytes.len(), "one PDU");
    bytes
}

/// Used where an end has nothing to send.
pub fn nothing_sent(host: &mut Host) -> bool {
    let mut batch = Batch::new();
    host.poll_transmit(&NoPayload, &mut batch, usize::MAX);
    batch.is_empty()
}
