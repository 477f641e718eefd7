//! A controller's application: memory in regions, and commands done in any order and any pieces.

use std::collections::HashMap;

use nvme_spec::fabrics::{Disconnect, PropertyGet, PropertySet};
use nvme_spec::property::{Cap, Vs};
use nvme_spec::{Cqe, Sqe, Status, opcode};
use nvmf_proto::connect::{
    ConnectCommand, ConnectLimits, ConnectRequest, ControllerModel, judge_command, judge_data,
};
use nvmf_proto::pdu::{Batch, PayloadSource};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::registers::Registers;
use nvmf_proto::tcp::{
    self, Controller, ControllerEvent, DataLocation, Established, ReceivedCommand,
};
use nvmf_proto::{Violation, tcp::ControllerConfig};

use crate::host_app::region_data;
use crate::link::Rng;

/// The identifier that the target gives itself.
pub const CNTLID: u16 = 7;

/// How the target behaves.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// In-capsule data that commands may carry once Connect is accepted.
    pub in_capsule: u32,
    /// Commands, of a hundred, that fail: some at once, some with their data half moved.
    pub failing: usize,
    /// Answers commands by itself; else a test does.
    pub answers: bool,
}

/// A command under way.
pub struct Job {
    pub sqe: Sqe,
    pub at: DataLocation,
    pub data: Vec<u8>,
    connect: Option<ConnectCommand>,
    requested: u32,
    sent: u32,
    /// All data asked for has come.
    pub complete: bool,
    /// Up to where the command goes before it fails.
    fails_at: Option<u32>,
    pub violation: Option<Violation>,
    answered: bool,
}

/// The controller and its application.
pub struct Target {
    pub controller: Controller,
    pub batch: Batch,
    pub behaviour: Behaviour,
    /// By slot, until the slot is released.
    pub jobs: HashMap<u16, Job>,
    pub memory: HashMap<u32, Vec<u8>>,
    pub registers: Registers,
    pub connected: Option<ConnectRequest>,
    pub disconnected: bool,
    pub rejected: Vec<Violation>,
    pub ended: Option<Violation>,
    pub terminated: Option<tcp::Terminated>,
    /// Commands that came, for keep-alive.
    pub commands: usize,
    /// Bytes that came for nobody.
    pub dropped: usize,
}

struct Source<'a>(&'a HashMap<u16, Job>);

impl PayloadSource for Source<'_> {
    fn for_each<'a>(&'a self, tag: u16, offset: u32, length: u32, each: &mut dyn FnMut(&'a [u8])) {
        each(&self.0[&tag].data[offset as usize..][..length as usize]);
    }
}

impl Target {
    pub fn new(config: ControllerConfig, behaviour: Behaviour) -> Self {
        let cap = Cap(0).with_mqes(127).with_cqr(1).with_to(30).with_css(1);
        Self {
            controller: Controller::new(config),
            batch: Batch::new(),
            behaviour,
            jobs: HashMap::new(),
            memory: HashMap::new(),
            registers: Registers::new(cap, Vs::V1_4),
            connected: None,
            disconnected: false,
            rejected: Vec::new(),
            ended: None,
            terminated: None,
            commands: 0,
            dropped: 0,
        }
    }

    pub fn limits() -> ConnectLimits {
        ConnectLimits {
            admin_entries: QueueSize::MAX_ADMIN,
            io_entries: Some(QueueSize::MAX_IO),
            model: ControllerModel::Dynamic,
        }
    }

    pub fn transmit(&mut self, rng: &mut Rng) -> Vec<u8> {
        self.transmit_up_to(rng.up_to(40_000), rng.up_to(60_000))
    }

    /// Everything that is ready.
    pub fn transmit_all(&mut self) -> Vec<u8> {
        self.transmit_up_to(usize::MAX, usize::MAX)
    }

    fn transmit_up_to(&mut self, encode: usize, send: usize) -> Vec<u8> {
        let source = Source(&self.jobs);
        if self.controller.wants_transmit() {
            self.controller.poll_transmit(&source, &mut self.batch, encode);
        }
        let mut bytes = self.batch.to_vec(&source).unwrap();
        bytes.truncate(send);
        self.batch.advance(bytes.len());
        for slot in self.batch.take_finished() {
            let job = self.jobs.remove(&slot).expect("a slot in use");
            assert!(job.answered);
            self.controller.release(slot);
        }
        bytes
    }

    pub fn receive(&mut self, mut bytes: &[u8], rng: &mut Rng) {
        loop {
            let (used, event) = match self.controller.handle_bytes(bytes) {
                Ok(handled) => handled,
                Err(violation) => return self.ended = Some(violation),
            };
            bytes = &bytes[used..];
            match event {
                None => return assert!(bytes.is_empty()),
                Some(ControllerEvent::Command(command)) => self.command(command, rng),
                Some(ControllerEvent::Rejected { violation, .. }) => self.rejected.push(violation),
                Some(ControllerEvent::Payload(payload)) => {
                    let n = bytes.len().min(payload.length as usize);
                    match payload.tag {
                        Some(slot) => {
                            let job = self.jobs.get_mut(&slot).expect("a slot in use");
                            assert!(!job.answered, "data for an answered command");
                            let to = &mut job.data[payload.offset as usize..][..n];
                            to.copy_from_slice(&bytes[..n]);
                        }
                        None => self.dropped += n,
                    }
                    assert_eq!(self.controller.handle_payload(bytes), n);
                    bytes = &bytes[n..];
                    if bytes.is_empty() && n < payload.length as usize {
                        return;
                    }
                }
                Some(ControllerEvent::Data { slot, violation }) => {
                    let job = self.jobs.get_mut(&slot).expect("a slot in use");
                    assert!(!job.answered, "data for an answered command");
                    job.complete = true;
                    job.violation = violation;
                }
                Some(ControllerEvent::Terminated(terminated)) => self.terminated = Some(terminated),
                Some(_) => {}
            }
        }
    }

    fn command(&mut self, command: ReceivedCommand, rng: &mut Rng) {
        self.commands += 1;
        let ReceivedCommand { slot, sqe, data: at } = command;
        let length = at.length();
        let mut job = Job {
            sqe,
            at,
            data: vec![0; length as usize],
            connect: None,
            requested: 0,
            sent: 0,
            complete: false,
            fails_at: None,
            violation: None,
            answered: false,
        };
        if self.connected.is_none() {
            let connect = judge_command(&sqe, at, &Self::limits()).expect("a right Connect");
            job.connect = Some(connect);
        } else if !sqe.is_fabrics() && rng.chance(self.behaviour.failing) {
            job.fails_at = Some(rng.below(length as usize + 1) as u32);
        }
        if sqe.opcode == opcode::nvm::READ {
            let region = u32::try_from(sqe.slba()).unwrap();
            let stored = self.memory.get(&region).cloned();
            job.data = stored.unwrap_or_else(|| region_data(region, length));
            job.data.resize(length as usize, 0);
        }
        assert!(self.jobs.insert(slot, job).is_none(), "slot {slot} is in use");
        let outstanding = self.controller.queue().outstanding();
        assert!(outstanding <= self.controller.queue().size().entries() as usize);
    }

    /// Does something for some command. Returns whether there was anything to do.
    pub fn work(&mut self, rng: &mut Rng) -> bool {
        if !self.behaviour.answers || self.controller.has_ended() {
            return false;
        }
        let mut slots: Vec<u16> = self.jobs.keys().copied().collect();
        slots.sort_unstable();
        slots.retain(|slot| self.can_work(*slot));
        let Some(slot) = slots.get(rng.below(slots.len())).copied() else { return false };
        self.work_on(slot, rng);
        true
    }

    fn can_work(&self, slot: u16) -> bool {
        let job = &self.jobs[&slot];
        // A command that is to fail does not wait for its data.
        let waiting = !job.complete
            && job.fails_at.is_none()
            && match job.at {
                DataLocation::None => false,
                DataLocation::InCapsule { .. } => true,
                DataLocation::Transport { length } => job.requested == length,
            };
        !job.answered && !waiting
    }

    fn work_on(&mut self, slot: u16, rng: &mut Rng) {
        let job = self.jobs.get_mut(&slot).unwrap();
        let length = job.at.length();
        let goal = job.fails_at.unwrap_or(length);
        let to_host = job.sqe.opcode == opcode::nvm::READ;
        let transport = matches!(job.at, DataLocation::Transport { .. });
        if transport && to_host && job.sent < goal {
            let piece = rng.up_to((goal - job.sent) as usize) as u32;
            let piece = if rng.chance(50) { goal - job.sent } else { piece };
            job.sent += piece;
            let finish = job.fails_at.is_none() && job.sent == length && rng.chance(70);
            job.answered = finish;
            return self.controller.send_data(slot, piece, finish).unwrap();
        }
        if transport && !to_host && job.requested < goal {
            let piece = rng.up_to((goal - job.requested) as usize) as u32;
            let piece = if rng.chance(50) { goal - job.requested } else { piece };
            job.requested += piece;
            job.complete = false;
            return self.controller.request_data(slot, piece).unwrap();
        }
        if job.fails_at.is_some() {
            return self.respond(slot, Cqe::new(0, Status::INTERNAL_ERROR));
        }
        self.execute(slot);
    }

    fn execute(&mut self, slot: u16) {
        let job = &self.jobs[&slot];
        if job.violation.is_some() {
            return self.respond(slot, Cqe::new(0, Status::SUCCESS));
        }
        if let Some(command) = job.connect {
            return self.connect(slot, command);
        }
        let sqe = job.sqe;
        if sqe.opcode == opcode::nvm::WRITE {
            let data = job.data.clone();
            self.memory.insert(u32::try_from(sqe.slba()).unwrap(), data);
        }
        let cqe = if let Some(get) = PropertyGet::from_sqe(&sqe) {
            match self.registers.read(get.ofst.get(), get.attrib & 7 == 1) {
                Ok(value) => Cqe::with_result(0, value),
                Err(status) => Cqe::new(0, status),
            }
        } else if let Some(set) = PropertySet::from_sqe(&sqe) {
            match self.registers.write(set.ofst.get(), set.value.get(), set.attrib & 7 == 1) {
                Ok(_) => Cqe::new(0, Status::SUCCESS),
                Err(status) => Cqe::new(0, status),
            }
        } else {
            self.disconnected |= Disconnect::from_sqe(&sqe).is_some();
            Cqe::new(0, Status::SUCCESS)
        };
        self.respond(slot, cqe);
    }

    fn connect(&mut self, slot: u16, command: ConnectCommand) {
        match judge_data(command, &self.jobs[&slot].data, &Self::limits()) {
            Err(refusal) => self.respond(slot, refusal.cqe()),
            Ok(request) => {
                let established = Established {
                    size: command.size,
                    flow_control: !command.disable_flow_control,
                    in_capsule: self.behaviour.in_capsule,
                };
                let cqe = Cqe::with_dw0(0, CNTLID.into());
                self.controller.accept(slot, cqe, established);
                self.jobs.get_mut(&slot).unwrap().answered = true;
                self.connected = Some(request);
            }
        }
    }

    pub fn respond(&mut self, slot: u16, cqe: Cqe) {
        self.jobs.get_mut(&slot).unwrap().answered = true;
        self.controller.respond(slot, cqe);
    }

    /// Sends these last bytes of a read, and success with them.
    pub fn finish(&mut self, slot: u16, length: u32) {
        self.controller.send_data(slot, length, true).unwrap();
        self.jobs.get_mut(&slot).unwrap().answered = true;
    }

    /// The slot of the only command under way.
    pub fn only_slot(&self) -> u16 {
        assert_eq!(self.jobs.len(), 1);
        *self.jobs.keys().next().unwrap()
    }
}
