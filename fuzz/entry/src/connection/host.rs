//! A host's connection.

use std::collections::HashMap;

use nvme_spec::{Cqe, Sqe, Status};
use nvmf_proto::Role;
use nvmf_proto::pdu::{Batch, Format, Pdu};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::{Host, HostConfig, HostEvent, Transfer};
use zerocopy::IntoBytes;

use super::{DATA_MAX, Listener, Pattern, check_goodbye, pdu};
use crate::bytes::Bytes;

/// A host with commands outstanding, at the mercy of its controller.
pub fn host_connection(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut run = Run::handshake(&mut bytes);
    while !bytes.is_empty() && !run.host.has_ended() {
        run.step(&mut bytes);
    }
    assert!(run.host.queue().outstanding() as usize == run.live.len());
}

/// A command outstanding, as its host knows it and as far as its controller has come.
#[derive(Clone, Copy)]
struct Live {
    transfer: Transfer,
    moved: u32,
    /// Sent, and not all in the capsule.
    by_transport: bool,
}

struct Run {
    host: Host,
    live: HashMap<u16, Live>,
    order: Vec<u16>,
    pattern: Pattern,
    listener: Listener,
    /// To the host, and from it.
    inward: Format,
    outward: Format,
    sqhd: u16,
}

impl Run {
    fn handshake(bytes: &mut Bytes<'_>) -> Self {
        let config = HostConfig {
            hpda: bytes.u8() & 31,
            header_digest: bytes.flag(),
            data_digest: bytes.flag(),
            r2ts_per_command: bytes.below(5),
            in_capsule: bytes.below(9000),
        };
        let cpda = bytes.u8() & 31;
        let HostConfig { header_digest, data_digest, .. } = config;
        let format = |pda: u8| Format { header_digest, data_digest, alignment: pda * 4 + 4 };
        let mut run = Self {
            host: Host::new(config),
            live: HashMap::new(),
            order: Vec::new(),
            pattern: Pattern::new(),
            listener: Listener::new(Role::Controller),
            inward: format(config.hpda),
            outward: format(cpda),
            sqhd: 0,
        };
        run.transmit();
        let mut fields = [0; 120];
        fields[2] = cpda;
        fields[3] = u8::from(header_digest) | u8::from(data_digest) << 1;
        let maxh2cdata = 4096 + bytes.below(1000) * 4;
        fields[4..8].copy_from_slice(&maxh2cdata.to_le_bytes());
        run.feed(&pdu(run.inward, 1, 0, &fields, &[]), &[0]);
        assert!(run.host.negotiated().is_some());
        if bytes.flag() {
            let size = QueueSize::new(2 + bytes.below(30)).unwrap_or(QueueSize::MIN);
            run.sqhd = if bytes.flag() { 0xffff } else { 0 };
            run.host.establish(size, run.sqhd, false);
        }
        run
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let op = bytes.u8();
        match op % 12 {
            0 => self.submit(Transfer::None),
            1 | 2 => self.submit(Transfer::ToHost { length: bytes.below(DATA_MAX as u32) }),
            3 | 4 => self.submit(Transfer::ToController { length: bytes.below(DATA_MAX as u32) }),
            5 => self.transmit(),
            6 | 7 => {
                let cid = self.pick(bytes);
                let failed = bytes.flag();
                let status = if failed { Status::INTERNAL_ERROR } else { Status::SUCCESS };
                let mut cqe = Cqe::new(cid, status);
                self.sqhd = if bytes.flag() { bytes.u16() } else { self.sqhd };
                cqe.sqhd.set(self.sqhd);
                let pdu = pdu(self.inward, 5, 0, cqe.as_bytes(), &[]);
                self.feed(&pdu, &bytes.array::<4>());
            }
            8 => {
                let cid = self.pick(bytes);
                let (offset, length) = self.range(cid, bytes);
                let last = self.is_end(cid, offset, length) != (bytes.u8() > 250);
                let success = last && bytes.flag();
                let flags = if last { 4 } else { 0 } | if success { 8 } else { 0 };
                let fields = data_fields(cid, 0, offset, length);
                let data = vec![0xd5; length as usize];
                let mut pdu = pdu(self.inward, 7, flags, &fields, &data);
                if self.inward.data_digest && bytes.u8() > 240 {
                    *pdu.last_mut().unwrap() ^= 1;
                }
                self.note_moved(cid, offset, length);
                self.feed(&pdu, &bytes.array::<4>());
            }
            9 => {
                let cid = self.pick(bytes);
                let (offset, length) = self.range(cid, bytes);
                let fields = data_fields(cid, bytes.u16(), offset, length);
                self.note_moved(cid, offset, length);
                self.feed(&pdu(self.inward, 9, 0, &fields, &[]), &bytes.array::<4>());
            }
            _ => {
                let n = bytes.u8().into();
                let raw = bytes.take(n);
                self.feed(raw, &[op]);
            }
        }
    }

    fn submit(&mut self, transfer: Transfer) {
        let room = self.host.queue().has_room();
        match self.host.submit(Sqe::new(op_of(transfer)), transfer) {
            Ok(cid) => {
                assert!(room);
                let live = Live { transfer, moved: 0, by_transport: false };
                assert!(self.live.insert(cid, live).is_none(), "identifier given out twice");
                self.order.push(cid);
                assert!(self.live.len() as u32 <= self.host.queue().capacity());
            }
            Err(_) => assert!(!room),
        }
    }

    /// A live command, or any identifier.
    fn pick(&self, bytes: &mut Bytes<'_>) -> u16 {
        let choice = bytes.u8();
        match self.order.get(usize::from(choice) % self.order.len().max(1)) {
            Some(cid) if choice < 250 => *cid,
            _ => bytes.u16(),
        }
    }

    /// A piece that comes next for this command, or any.
    fn range(&self, cid: u16, bytes: &mut Bytes<'_>) -> (u32, u32) {
        let any = bytes.below(DATA_MAX as u32);
        let Some(live) = self.live.get(&cid) else { return (0, any.max(1)) };
        match bytes.u8() {
            0..200 => (live.moved, length(live.transfer).saturating_sub(live.moved).max(1)),
            200..250 => (live.moved, any.max(1)),
            _ => (bytes.u32(), any.max(1)),
        }
    }

    fn is_end(&self, cid: u16, offset: u32, len: u32) -> bool {
        self.live
            .get(&cid)
            .is_some_and(|live| offset.checked_add(len) == Some(length(live.transfer)))
    }

    fn note_moved(&mut self, cid: u16, offset: u32, length: u32) {
        if let Some(live) = self.live.get_mut(&cid) {
            live.moved = offset.saturating_add(length);
        }
    }

    fn transmit(&mut self) {
        let mut batch = Batch::new();
        self.host.poll_transmit(&self.pattern, &mut batch, usize::MAX);
        assert!(!self.host.wants_transmit());
        for header in self
            .listener
            .hear(&batch.to_vec(&self.pattern).expect("a pattern without end"), self.outward)
        {
            match header.pdu {
                Pdu::Command(sqe) => {
                    let live = self.live.get_mut(&sqe.cid.get()).expect("a live command");
                    live.by_transport = header.data_len == 0;
                }
                Pdu::Data(data) => {
                    let live = self.live.get(&data.cid).expect("data of a live command");
                    assert!(live.by_transport);
                    assert!(data.offset + data.length <= length(live.transfer));
                    assert!(data.length <= self.host.negotiated().unwrap().maxh2cdata);
                }
                _ => {}
            }
        }
    }

    /// Gives the host bytes in segments of these lengths.
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
            let (used, event) = match self.host.handle_bytes(bytes) {
                Ok(handled) => handled,
                Err(violation) => {
                    assert!(self.host.has_ended());
                    let mut batch = Batch::new();
                    self.host.poll_transmit(&self.pattern, &mut batch, usize::MAX);
                    check_goodbye(
                        violation,
                        Role::Host,
                        &batch.to_vec(&self.pattern).expect("a pattern without end"),
                    );
                    assert!(!self.host.wants_transmit());
                    return;
                }
            };
            assert!(used <= bytes.len());
            bytes = &bytes[used..];
            match event {
                None => return assert!(bytes.is_empty(), "bytes left behind"),
                Some(HostEvent::Payload(payload)) => {
                    let live = &self.live[&payload.tag.expect("somebody waits for it")];
                    assert!(matches!(live.transfer, Transfer::ToHost { .. }));
                    assert!(payload.length > 0);
                    assert!(payload.offset + payload.length <= length(live.transfer));
                    let n = self.host.handle_payload(bytes);
                    assert_eq!(n, bytes.len().min(payload.length as usize));
                    bytes = &bytes[n..];
                    if n < payload.length as usize {
                        return;
                    }
                }
                Some(HostEvent::Completion(completion)) => {
                    assert!(self.live.remove(&completion.cid).is_some(), "completed twice");
                    self.order.retain(|cid| *cid != completion.cid);
                    self.host.release(completion.cid);
                    let success = completion.cqe.status().is_success();
                    assert!(!(success && completion.violation.is_some()));
                }
                Some(HostEvent::Terminated(_)) => assert!(!self.host.wants_transmit()),
                Some(_) => {}
            }
        }
    }
}

fn op_of(transfer: Transfer) -> u8 {
    match transfer {
        Transfer::None => 0,
        Transfer::ToController { .. } => 1,
        Transfer::ToHost { .. } => 2,
    }
}

fn length(transfer: Transfer) -> u32 {
    match transfer {
        Transfer::None => 0,
        Transfer::ToController { length } | Transfer::ToHost { length } => length,
    }
}

/// The fields of a data PDU or R2T behind the common header.
pub(super) fn data_fields(cid: u16, ttag: u16, offset: u32, length: u32) -> [u8; 16] {
    let mut fields = [0; 16];
    fields[0..2].copy_from_slice(&cid.to_le_bytes());
    fields[2..4].copy_from_slice(&ttag.to_le_bytes());
    fields[4..8].copy_from_slice(&offset.to_le_bytes());
    fields[8..12].copy_from_slice(&length.to_le_bytes());
    fields
}
