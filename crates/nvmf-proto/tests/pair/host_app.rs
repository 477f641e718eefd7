//! A host's application: submits commands, checks what comes back.

use std::collections::HashMap;

use nvme_spec::{Cqe, Sqe, opcode};
use nvmf_proto::pdu::{Batch, PayloadSource};
use nvmf_proto::tcp::{Completion, Host, HostEvent, SubmitError, Transfer};
use nvmf_proto::{Violation, tcp};

use crate::link::Rng;

/// A command to be submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Writes this many bytes to a region of the target's memory.
    Write { region: u32, length: u32 },
    /// Reads this many bytes of it.
    Read { region: u32, length: u32 },
    /// No data.
    Flush,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Done {
    pub cid: u16,
    pub cqe: Cqe,
    pub violation: Option<Violation>,
    /// The data read.
    pub data: Vec<u8>,
}

struct Live {
    transfer: Transfer,
    data: Vec<u8>,
    received: u32,
}

/// The host and its application.
pub struct HostApp {
    pub host: Host,
    pub batch: Batch,
    live: HashMap<u16, Live>,
    /// Complete, but the batch still refers to their data.
    lingering: Vec<u16>,
    pub done: Vec<Done>,
    pub ended: Option<Violation>,
    pub terminated: Option<tcp::Terminated>,
    /// Commands are encoded when they are submitted.
    pub at_once: bool,
}

/// The data of the commands outstanding.
struct Source<'a>(&'a HashMap<u16, Live>);

impl PayloadSource for Source<'_> {
    fn for_each<'a>(&'a self, tag: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        // In two pieces, as a scattered buffer gives it.
        let data = &self.0[&tag].data[offset as usize..][..length as usize];
        let (a, b) = data.split_at(data.len() / 3);
        each(a);
        each(b);
    }
}

/// What is written to a region, or lies there from the start.
pub fn region_data(region: u32, length: u32) -> Vec<u8> {
    (0..length).map(|i| (region.wrapping_mul(37) ^ i ^ i >> 8).to_le_bytes()[0]).collect()
}

impl HostApp {
    pub fn new(config: tcp::HostConfig) -> Self {
        Self {
            host: Host::new(config),
            batch: Batch::new(),
            live: HashMap::new(),
            lingering: Vec::new(),
            done: Vec::new(),
            ended: None,
            terminated: None,
            at_once: false,
        }
    }

    pub fn outstanding(&self) -> usize {
        self.live.len() - self.lingering.len()
    }

    /// Whether a command can be submitted: its identifier may be one that the batch refers to.
    pub fn has_room(&self) -> bool {
        let free = self.at_once || self.batch.is_empty();
        !self.host.has_ended() && self.host.queue().has_room() && free
    }

    pub fn submit_op(&mut self, op: Op) -> u16 {
        let (code, region, transfer, data) = match op {
            Op::Write { region, length } => {
                let data = region_data(!region, length);
                (opcode::nvm::WRITE, region, Transfer::ToController { length }, data)
            }
            Op::Read { region, length } => {
                let data = vec![0; length as usize];
                (opcode::nvm::READ, region, Transfer::ToHost { length }, data)
            }
            Op::Flush => (opcode::nvm::FLUSH, 0, Transfer::None, Vec::new()),
        };
        let mut sqe = Sqe::new(code);
        sqe.nsid.set(1);
        sqe.set_slba(region.into());
        self.submit(sqe, transfer, data).unwrap()
    }

    pub fn submit(
        &mut self,
        sqe: Sqe,
        transfer: Transfer,
        data: Vec<u8>,
    ) -> Result<u16, SubmitError> {
        let cid = match self.at_once {
            true => self.host.submit_to(sqe, transfer, &mut self.batch)?,
            false => self.host.submit(sqe, transfer)?,
        };
        let live = Live { transfer, data, received: 0 };
        assert!(self.live.insert(cid, live).is_none(), "identifier {cid} given out twice");
        assert_eq!(self.host.queue().outstanding() as usize, self.live.len());
        assert!(self.live.len() as u32 <= self.host.queue().capacity());
        Ok(cid)
    }

    /// Encodes what is ready and takes some of it off to be sent.
    pub fn transmit(&mut self, rng: &mut Rng) -> Vec<u8> {
        let source = Source(&self.live);
        if self.host.wants_transmit() {
            self.host.poll_transmit(&source, &mut self.batch, rng.up_to(40_000));
        }
        let mut bytes = self.batch.to_vec(&source).unwrap();
        assert_eq!(bytes.len(), self.batch.len());
        bytes.truncate(rng.up_to(60_000));
        self.advance(bytes.len());
        bytes
    }

    /// Everything that is ready.
    pub fn transmit_all(&mut self) -> Vec<u8> {
        let source = Source(&self.live);
        self.host.poll_transmit(&source, &mut self.batch, usize::MAX);
        let bytes = self.batch.to_vec(&source).unwrap();
        self.advance(bytes.len());
        bytes
    }

    fn advance(&mut self, n: usize) {
        self.batch.advance(n);
        if self.batch.is_empty() {
            for cid in self.lingering.drain(..) {
                self.live.remove(&cid);
                self.host.release(cid);
            }
        }
    }

    pub fn receive(&mut self, mut bytes: &[u8]) {
        loop {
            let (used, event) = match self.host.handle_bytes(bytes) {
                Ok(handled) => handled,
                Err(violation) => return self.ended = Some(violation),
            };
            bytes = &bytes[used..];
            match event {
                None => return assert!(bytes.is_empty()),
                Some(HostEvent::Payload(payload)) => {
                    let live = self.live.get_mut(&payload.tag.unwrap()).unwrap();
                    assert_eq!(payload.offset, live.received, "data out of order");
                    let n = bytes.len().min(payload.length as usize);
                    live.data[payload.offset as usize..][..n].copy_from_slice(&bytes[..n]);
                    assert_eq!(self.host.handle_payload(bytes), n);
                    live.received += n as u32;
                    bytes = &bytes[n..];
                    if bytes.is_empty() && n < payload.length as usize {
                        return;
                    }
                }
                Some(HostEvent::Completion(completion)) => self.complete(completion),
                Some(HostEvent::Terminated(terminated)) => self.terminated = Some(terminated),
                Some(_) => {}
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { cid, cqe, violation } = completion;
        assert!(!self.lingering.contains(&cid), "command {cid} completed twice");
        let live = self.live.get(&cid).expect("a command outstanding");
        if cqe.status().is_success()
            && let Transfer::ToHost { length } = live.transfer
        {
            assert_eq!(live.received, length, "command {cid} succeeded early");
        }
        let done = Done { cid, cqe, violation, data: live.data.clone() };
        self.done.push(done);
        if self.batch.refers_to(cid) {
            // The early end of a write whose data is already encoded: it is still sent.
            self.lingering.push(cid);
        } else {
            self.live.remove(&cid);
            self.host.release(cid);
        }
    }

    /// Waits for this command's end.
    pub fn take(&mut self, cid: u16) -> Option<Done> {
        let index = self.done.iter().position(|done| done.cid == cid)?;
        Some(self.done.remove(index))
    }
}
