//! A controller's connection.

use std::collections::HashMap;

use nvme_spec::{Cqe, SglDescriptor, Sqe, Status};
use nvmf_proto::Role;
use nvmf_proto::pdu::{Batch, Format, Pdu};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::{Controller, ControllerConfig, ControllerEvent, DataLocation, Established};
use zerocopy::IntoBytes;

use super::host::data_fields;
use super::{DATA_MAX, Listener, Pattern, check_goodbye, pdu};
use crate::bytes::Bytes;

/// A controller with commands under way, at the mercy of its host.
pub fn controller_connection(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut run = Run::handshake(&mut bytes);
    while !bytes.is_empty() && !run.controller.has_ended() {
        run.step(&mut bytes);
    }
    run.finish();
}

struct Live {
    data: DataLocation,
    requested: u32,
    sent: u32,
    answered: bool,
}

/// What an R2T still waits for.
#[derive(Clone, Copy)]
struct Wanted {
    cid: u16,
    ttag: u16,
    offset: u32,
    length: u32,
}

struct Run {
    controller: Controller,
    config: ControllerConfig,
    size: u32,
    /// By slot.
    live: HashMap<u16, Live>,
    order: Vec<u16>,
    wanted: Vec<Wanted>,
    /// Nothing but whole PDUs came so far.
    clean: bool,
    /// Data came that was not what its digest says: its command asks for no more of it, whatever
    /// the application asked for.
    corrupt: bool,
    pattern: Pattern,
    listener: Listener,
    inward: Format,
    outward: Format,
}

impl Run {
    fn handshake(bytes: &mut Bytes<'_>) -> Self {
        let config = ControllerConfig {
            cpda: bytes.u8() & 31,
            header_digest: bytes.flag(),
            data_digest: bytes.flag(),
            maxh2cdata: 4096 + bytes.below(1000) * 4,
            r2ts_per_command: bytes.below(5).max(1),
            r2t_length: 512 + bytes.below(9000),
            c2h_data_length: 512 + bytes.below(9000),
        };
        let hpda = bytes.u8() & 31;
        let ControllerConfig { header_digest, data_digest, .. } = config;
        let format = |pda: u8| Format { header_digest, data_digest, alignment: pda * 4 + 4 };
        let mut run = Self {
            controller: Controller::new(config),
            config,
            size: 2,
            live: HashMap::new(),
            order: Vec::new(),
            wanted: Vec::new(),
            clean: true,
            corrupt: false,
            pattern: Pattern::new(),
            listener: Listener::new(Role::Host),
            inward: format(config.cpda),
            outward: format(hpda),
        };
        let mut fields = [0; 120];
        fields[2] = hpda;
        fields[3] = 3;
        fields[4..8].copy_from_slice(&bytes.below(4).to_le_bytes());
        run.feed(&pdu(run.inward, 0, 0, &fields, &[]), &[0]);
        run.transmit();
        if bytes.flag() {
            run.connect(QueueSize::new(2 + bytes.below(30)).unwrap(), bytes.flag());
        }
        run
    }

    fn connect(&mut self, size: QueueSize, flow_control: bool) {
        self.feed(&self.command(0, 1, 1024), &[0]);
        let slot = self.order[0];
        let established = Established { size, flow_control, in_capsule: 8192 };
        self.controller.accept(slot, Cqe::new(0, Status::SUCCESS), established);
        self.live.get_mut(&slot).unwrap().answered = true;
        self.size = size.entries();
        self.transmit();
        assert!(self.live.is_empty());
    }

    /// A command capsule; `sgl` is the kind of its data: 0 none, 1 in the capsule, 2 transport.
    fn command(&self, cid: u16, sgl: u8, length: u32) -> Vec<u8> {
        let mut sqe = Sqe::new(1);
        sqe.cid.set(cid);
        let mut data = Vec::new();
        match sgl {
            0 => sqe.sgl = SglDescriptor::transport(0),
            1 => {
                sqe.sgl = SglDescriptor::in_capsule(length);
                data.resize(length as usize, 0xa5);
            }
            _ => sqe.sgl = SglDescriptor::transport(length),
        }
        pdu(self.inward, 4, 0, sqe.as_bytes(), &data)
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let op = bytes.u8();
        match op % 16 {
            0..4 => {
                let cid = u16::from(bytes.u8() % 40);
                let kind = bytes.u8() % 3;
                let most = if kind == 1 { 8300 } else { DATA_MAX as u32 };
                let mut pdu = self.command(cid, kind, bytes.below(most).max(1));
                if bytes.u8() > 245 {
                    self.damage(&mut pdu, bytes);
                }
                self.feed(&pdu, &bytes.array::<4>());
            }
            4..7 => self.send_wanted(bytes),
            7 | 8 => self.request(bytes),
            9 | 10 => self.send_data(bytes),
            11 | 12 => {
                if let Some(slot) = self.pick(bytes) {
                    let failed = bytes.flag();
                    let status = if failed { Status::INTERNAL_ERROR } else { Status::SUCCESS };
                    self.respond(slot, status);
                }
            }
            13 | 14 => self.transmit(),
            _ => {
                (self.clean, self.corrupt) = (false, true);
                let n = bytes.u8().into();
                let raw = bytes.take(n);
                self.feed(raw, &[op]);
            }
        }
    }

    /// Changes a byte. Its PDU may then be anything.
    fn damage(&mut self, pdu: &mut [u8], bytes: &mut Bytes<'_>) {
        let at = bytes.below(pdu.len() as u32) as usize;
        pdu[at] ^= bytes.u8();
        (self.clean, self.corrupt) = (false, true);
    }

    /// Data that an R2T asked for, or nearly so.
    fn send_wanted(&mut self, bytes: &mut Bytes<'_>) {
        if self.wanted.is_empty() {
            return;
        }
        let index = bytes.below(self.wanted.len() as u32) as usize;
        let piece = bytes.below(9000).max(1);
        let wrong = bytes.u8() > 245;
        let mut pdu = self.take_wanted(index, piece);
        if wrong {
            self.damage(&mut pdu, bytes);
        } else if self.inward.data_digest && bytes.u8() > 240 {
            *pdu.last_mut().unwrap() ^= 1;
            self.corrupt = true;
        }
        self.feed(&pdu, &bytes.array::<4>());
    }

    fn take_wanted(&mut self, index: usize, piece: u32) -> Vec<u8> {
        let wanted = &mut self.wanted[index];
        let length = piece.min(wanted.length).min(self.config.maxh2cdata);
        let Wanted { cid, ttag, offset, .. } = *wanted;
        let fields = data_fields(cid, ttag, offset, length);
        wanted.offset += length;
        wanted.length -= length;
        let last = wanted.length == 0;
        if last {
            self.wanted.remove(index);
        }
        pdu(self.inward, 6, if last { 4 } else { 0 }, &fields, &vec![0xa5; length as usize])
    }

    /// A slot in use.
    fn pick(&self, bytes: &mut Bytes<'_>) -> Option<u16> {
        let choice = usize::from(bytes.u8());
        self.order.get(choice % self.order.len().max(1)).copied()
    }

    fn request(&mut self, bytes: &mut Bytes<'_>) {
        let Some(slot) = self.pick(bytes) else { return };
        let live = self.live.get_mut(&slot).unwrap();
        // What is sent to the host is not asked of it too.
        if live.sent > 0 {
            return;
        }
        let left = transport(live.data) - live.requested;
        let length = if bytes.flag() { left } else { bytes.below(DATA_MAX as u32) };
        let possible = length > 0 && length <= left && !live.answered;
        let accepted = self.controller.request_data(slot, length).is_ok();
        assert!(accepted == possible || self.corrupt);
        if possible {
            live.requested += length;
        }
    }

    fn send_data(&mut self, bytes: &mut Bytes<'_>) {
        let Some(slot) = self.pick(bytes) else { return };
        let live = self.live.get_mut(&slot).unwrap();
        if live.requested > 0 {
            return;
        }
        let left = transport(live.data) - live.sent;
        let most = DATA_MAX as u32;
        let length = if bytes.flag() { left.min(most) } else { bytes.below(most) };
        let finish = bytes.flag();
        let possible =
            length > 0 && length <= left && !live.answered && (!finish || length == left);
        assert_eq!(self.controller.send_data(slot, length, finish).is_ok(), possible);
        if possible {
            live.sent += length;
            live.answered = finish;
        }
    }

    fn respond(&mut self, slot: u16, status: Status) {
        self.controller.respond(slot, Cqe::new(0, status));
        self.live.get_mut(&slot).unwrap().answered = true;
    }

    fn transmit(&mut self) {
        let mut batch = Batch::new();
        self.controller.poll_transmit(&self.pattern, &mut batch, usize::MAX);
        assert!(!self.controller.wants_transmit());
        let headers = self
            .listener
            .hear(&batch.to_vec(&self.pattern).expect("a pattern without end"), self.outward);
        for header in headers {
            match header.pdu {
                Pdu::R2t(r2t) => {
                    let (cid, ttag) = (r2t.cid, r2t.ttag);
                    assert!(self.wanted.iter().all(|w| w.ttag != ttag), "tag given out twice");
                    let wanted = Wanted { cid, ttag, offset: r2t.offset, length: r2t.length };
                    self.wanted.push(wanted);
                    let outstanding = self.wanted.iter().filter(|w| w.cid == cid).count();
                    let limit = self.controller.negotiated().unwrap().r2ts_per_command;
                    assert!(outstanding <= limit as usize);
                }
                Pdu::Data(data) => assert!(!data.success || data.last),
                _ => {}
            }
        }
        batch.advance(usize::MAX);
        for slot in batch.take_finished() {
            let live = self.live.remove(&slot).expect("a slot in use");
            assert!(live.answered);
            self.order.retain(|s| *s != slot);
            self.controller.release(slot);
        }
    }

    /// Gives the controller bytes in segments of these lengths.
    fn feed(&mut self, mut bytes: &[u8], cuts: &[u8]) {
        for cut in cuts.iter().cycle() {
            let n = if *cut == 0 { bytes.len() } else { bytes.len().min((*cut).into()) };
            let (segment, rest) = bytes.split_at(n);
            self.feed_segment(segment);
            bytes = rest;
            if bytes.is_empty() {
                return;
            }
        }
    }

    fn feed_segment(&mut self, mut bytes: &[u8]) {
        loop {
            let (used, event) = match self.controller.handle_bytes(bytes) {
                Ok(handled) => handled,
                Err(violation) => {
                    assert!(self.controller.has_ended());
                    let mut batch = Batch::new();
                    self.controller.poll_transmit(&self.pattern, &mut batch, usize::MAX);
                    check_goodbye(
                        violation,
                        Role::Controller,
                        &batch.to_vec(&self.pattern).expect("a pattern without end"),
                    );
                    assert!(!self.controller.wants_transmit());
                    return;
                }
            };
            assert!(used <= bytes.len());
            bytes = &bytes[used..];
            match event {
                None => return assert!(bytes.is_empty(), "bytes left behind"),
                Some(ControllerEvent::Command(command)) => {
                    let live = Live { data: command.data, requested: 0, sent: 0, answered: false };
                    assert!(self.live.insert(command.slot, live).is_none(), "slot in use");
                    self.order.push(command.slot);
                    assert!(self.controller.queue().outstanding() <= self.size as usize);
                }
                Some(ControllerEvent::Payload(payload)) => {
                    if let Some(slot) = payload.tag {
                        let live = &self.live[&slot];
                        assert!(!live.answered, "data for an answered command");
                        assert!(payload.offset + payload.length <= live.data.length());
                    }
                    assert!(payload.length > 0);
                    let n = self.controller.handle_payload(bytes);
                    assert_eq!(n, bytes.len().min(payload.length as usize));
                    bytes = &bytes[n..];
                    if n < payload.length as usize {
                        return;
                    }
                }
                Some(ControllerEvent::Data { slot, violation }) => {
                    assert!(!self.live[&slot].answered);
                    assert!(violation.is_none_or(|v| !v.is_fatal()));
                }
                Some(ControllerEvent::Rejected { violation, .. }) => {
                    assert!(violation.seen_by(Role::Controller) && !violation.is_fatal());
                }
                Some(_) => {}
            }
        }
    }

    /// Where the host did nothing wrong, everything can be brought to its end.
    fn finish(&mut self) {
        if !self.clean || self.controller.has_ended() {
            return;
        }
        loop {
            for slot in self.order.clone() {
                if !self.live[&slot].answered {
                    self.respond(slot, Status::INTERNAL_ERROR);
                }
            }
            self.transmit();
            if self.wanted.is_empty() {
                break;
            }
            while !self.wanted.is_empty() {
                let pdu = self.take_wanted(0, u32::MAX);
                self.feed(&pdu, &[0]);
            }
        }
        assert!(self.live.is_empty(), "slots are left");
        assert_eq!(self.controller.queue().outstanding(), 0);
    }
}

/// The length of data that the transport moves.
fn transport(data: DataLocation) -> u32 {
    match data {
        DataLocation::Transport { length } => length,
        _ => 0,
    }
}
