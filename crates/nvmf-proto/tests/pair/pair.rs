//! The two ends, joined.

use std::time::{Duration, Instant};

use nvme_spec::fabrics::{Connect, ConnectData};
use nvme_spec::{Cqe, HostId, Nqn, Sqe, Status};
use nvmf_proto::connect::{Accepted, ConnectError, judge_response};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::{ControllerConfig, HostConfig, Transfer};
use zerocopy::IntoBytes;

use crate::host_app::{Done, HostApp, Op};
use crate::inspect::{Inspector, Limits};
use crate::link::{Rng, Stream};
use crate::target::{Behaviour, Target};

/// Everything that a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub seed: u64,
    pub host: HostConfig,
    pub controller: ControllerConfig,
    pub behaviour: Behaviour,
    pub entries: u32,
    pub flow_control: bool,
    /// The longest segment in bytes, to the controller and to the host.
    pub segments: (usize, usize),
    /// The longest delay of a segment in microseconds.
    pub delay_us: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            host: HostConfig::default(),
            controller: ControllerConfig::default(),
            behaviour: Behaviour { in_capsule: 8192, failing: 0, answers: true },
            entries: 16,
            flow_control: true,
            segments: (1 << 20, 1 << 20),
            delay_us: 0,
        }
    }
}

/// A host, a controller, and what is on its way between them.
pub struct Pair {
    pub setup: Setup,
    pub now: Instant,
    pub rng: Rng,
    pub host: HostApp,
    pub target: Target,
    pub to_controller: Stream,
    pub to_host: Stream,
    pub inspector: Inspector,
}

impl Pair {
    /// Nothing is sent yet.
    pub fn new(setup: Setup) -> Self {
        let now = Instant::now();
        let delay = Duration::from_micros(setup.delay_us);
        let limits = Limits {
            in_capsule: setup.host.in_capsule,
            admin_in_capsule: 8192,
            r2t_length: setup.controller.r2t_length,
            c2h_data_length: setup.controller.c2h_data_length,
        };
        Self {
            setup,
            now,
            rng: Rng::new(setup.seed),
            host: HostApp::new(setup.host),
            target: Target::new(setup.controller, setup.behaviour),
            to_controller: Stream::new(now, setup.segments.0, delay),
            to_host: Stream::new(now, setup.segments.1, delay),
            inspector: Inspector::new(limits),
        }
    }

    /// After the handshake and an accepted Connect.
    pub fn connected(setup: Setup) -> Self {
        let mut pair = Self::new(setup);
        pair.handshake();
        pair.connect().unwrap();
        pair
    }

    pub fn handshake(&mut self) {
        self.run();
        assert!(self.host.host.negotiated().is_some(), "{:?}", self.host.ended);
    }

    /// Sends Connect for queue 1 and takes over what comes back.
    pub fn connect(&mut self) -> Result<Accepted, ConnectError> {
        let size = QueueSize::new(self.setup.entries).unwrap();
        let cattr = if self.setup.flow_control { 0 } else { Connect::CATTR_DISABLE_SQ_FLOW };
        let sqe = Connect::new(1, size.zero_based(), cattr, 0).to_sqe();
        let cqe = self.exchange(sqe, connect_data(7)).cqe;
        let accepted = judge_response(&cqe, !self.setup.flow_control)?;
        self.host.host.establish(size, accepted.sqhd, false);
        assert_eq!(self.host.host.queue().flow_control(), self.setup.flow_control);
        Ok(accepted)
    }

    /// Sends a command with this data for the controller, and runs until it is answered.
    pub fn exchange(&mut self, sqe: Sqe, data: Vec<u8>) -> Done {
        let length = u32::try_from(data.len()).unwrap();
        let transfer = if length == 0 { Transfer::None } else { Transfer::ToController { length } };
        let cid = self.host.submit(sqe, transfer, data).unwrap();
        self.run();
        self.host.take(cid).expect("an answer")
    }

    /// Does one operation.
    pub fn operate(&mut self, op: Op) -> Done {
        let cid = self.host.submit_op(op);
        self.run();
        self.host.take(cid).expect("an answer")
    }

    /// Runs until nothing happens any more.
    pub fn run(&mut self) {
        while self.step() {}
    }

    /// Lets each end do something, or lets time pass. Returns whether anything happened.
    pub fn step(&mut self) -> bool {
        let mut busy = false;
        let sent = self.host.transmit(&mut self.rng);
        busy |= !sent.is_empty();
        self.inspector.hear_host(&sent);
        self.to_controller.send(self.now, &sent, &mut self.rng);

        busy |= self.target.work(&mut self.rng);
        let sent = self.target.transmit(&mut self.rng);
        busy |= !sent.is_empty();
        self.inspector.hear_controller(&sent);
        self.to_host.send(self.now, &sent, &mut self.rng);

        if let Some(segment) = self.to_controller.receive(self.now) {
            busy = true;
            self.target.receive(&segment, &mut self.rng);
        }
        if let Some(segment) = self.to_host.receive(self.now) {
            busy = true;
            self.host.receive(&segment);
        }
        if busy {
            return true;
        }
        // Nothing to do now: wait for what is on its way.
        let next =
            [&self.to_controller, &self.to_host].into_iter().filter_map(Stream::next_arrival);
        match next.min() {
            None => false,
            Some(at) => {
                self.now = self.now.max(at);
                true
            }
        }
    }

    /// Nothing is left over anywhere.
    pub fn assert_idle(&self) {
        assert!(self.host.ended.is_none(), "{:?}", self.host.ended);
        assert!(self.target.ended.is_none(), "{:?}", self.target.ended);
        assert_eq!(self.host.outstanding(), 0);
        assert_eq!(self.host.host.queue().outstanding(), 0);
        assert!(!self.host.host.wants_transmit() && self.host.batch.is_empty());
        assert!(self.target.jobs.is_empty(), "slots are not released");
        assert_eq!(self.target.controller.queue().outstanding(), 0);
        assert!(!self.target.controller.wants_transmit() && self.target.batch.is_empty());
        self.inspector.assert_idle();
    }
}

/// The data of a right Connect for this controller.
pub fn connect_data(cntlid: u16) -> Vec<u8> {
    let subsystem = Nqn::lenient("nqn.2024-01.com.example:disk").unwrap();
    let host = Nqn::lenient("nqn.2024-01.com.example:host").unwrap();
    ConnectData::new(HostId([9; 16]), cntlid, &subsystem, &host).as_bytes().to_vec()
}

/// A successful answer.
pub fn success() -> Cqe {
    Cqe::new(0, Status::SUCCESS)
}
