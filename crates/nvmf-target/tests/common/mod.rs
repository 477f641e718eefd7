//! A target that runs for a test, and hosts for it.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nvme_spec::{HostId, Nqn, Sqe, Status, opcode};
use nvmf::host::{Association, HostOptions, QueuePair};
use nvmf::transport::in_process;
use nvmf::{Deadline, Error, Transfer};
use nvmf_engine::EngineChoice;
use nvmf_target::{Handle, Subsystem, Target, TargetBuilder, TargetError};

pub(crate) const NQN: &str = "nqn.2026-01.org.example:disks";

pub(crate) fn nqn() -> Nqn {
    Nqn::parse_strict(NQN).unwrap()
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A subsystem of these namespace specs.
pub(crate) fn subsystem(specs: &[&str]) -> Arc<Subsystem> {
    let mut builder = Subsystem::builder(nqn());
    for spec in specs {
        builder = builder.open(&spec.parse().unwrap()).unwrap();
    }
    builder.build().unwrap()
}

/// What host number `n` connects with.
pub(crate) fn options(n: u8) -> HostOptions {
    let host = Nqn::parse_strict(&format!("nqn.2026-01.org.example:host{n}")).unwrap();
    let mut options = HostOptions::new(host, HostId([n; 16]));
    options.timeout = Duration::from_secs(20);
    options
}

/// How hosts reach the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    Tcp,
    InProcess,
}

pub(crate) const BOTH: [Over; 2] = [Over::Tcp, Over::InProcess];

/// The event loop to test: `NVMF_ENGINE` says which, as it does to the command.
pub(crate) fn engine() -> EngineChoice {
    std::env::var("NVMF_ENGINE").map_or_else(|_| Default::default(), |name| name.parse().unwrap())
}

/// A running target.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<Result<(), TargetError>>>,
}

impl Running {
    pub(crate) fn start(subsystem: Arc<Subsystem>) -> Self {
        Self::start_with(Target::builder().subsystem(subsystem))
    }

    pub(crate) fn start_with(builder: TargetBuilder) -> Self {
        Self::start_on(engine(), builder)
    }

    pub(crate) fn start_on(engine: EngineChoice, builder: TargetBuilder) -> Self {
        let builder = builder.engine(engine).listen("127.0.0.1:0".parse().unwrap());
        let target = builder.bind().unwrap();
        let (address, handle) = (target.local_addrs()[0], target.handle());
        let thread = Some(std::thread::spawn(|| target.run()));
        Self { address, handle, thread }
    }

    pub(crate) fn associate(&self, over: Over, n: u8) -> Association {
        self.associate_to(over, &nqn(), options(n)).unwrap()
    }

    pub(crate) fn associate_to(
        &self,
        over: Over,
        subsystem: &Nqn,
        options: HostOptions,
    ) -> Result<Association, Error> {
        match over {
            Over::Tcp => Association::connect_tcp(self.address, subsystem, options),
            Over::InProcess => {
                let handle = self.handle.clone();
                let dial = move |_: &nvmf_proto::tcp::HostConfig, _: Deadline| {
                    let (host, controller) = in_process::pair();
                    handle
                        .serve(Box::new(controller))
                        .map_err(nvmf::transport::TransportError::from)?;
                    let host: Box<dyn nvmf::transport::HostTransport> = Box::new(host);
                    Ok(host)
                };
                Association::connect(dial, subsystem, options)
            }
        }
    }

    /// Waits until no more than `n` connections are left.
    #[track_caller]
    pub(crate) fn wait_for_connections(&self, n: usize) {
        wait_until("connections to end", || self.handle.connections() <= n);
    }

    pub(crate) fn stop(mut self) -> Result<(), TargetError> {
        self.handle.shutdown();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A command on `blocks` blocks from `slba` on.
pub(crate) fn command(opcode: u8, nsid: u32, slba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(nsid);
    sqe.set_slba(slba);
    sqe.set_cdw(12, blocks - 1);
    sqe
}

/// Writes blocks of `block` bytes.
pub(crate) fn write(
    queue: &mut QueuePair,
    nsid: u32,
    slba: u64,
    block: usize,
    data: &[u8],
) -> Result<(), Error> {
    let blocks = u32::try_from(data.len() / block).unwrap();
    let sqe = command(opcode::nvm::WRITE, nsid, slba, blocks);
    let pieces = [std::io::IoSlice::new(data)];
    queue.execute(sqe, Transfer::Write(&pieces), soon()).map(drop)
}

pub(crate) fn read(
    queue: &mut QueuePair,
    nsid: u32,
    slba: u64,
    block: usize,
    length: usize,
) -> Result<Vec<u8>, Error> {
    let mut data = vec![0xee; length];
    let blocks = u32::try_from(length / block).unwrap();
    let sqe = command(opcode::nvm::READ, nsid, slba, blocks);
    let pieces = &mut [std::io::IoSliceMut::new(&mut data)];
    queue.execute(sqe, Transfer::Read(pieces), soon())?;
    Ok(data)
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

#[track_caller]
pub(crate) fn assert_status<T: std::fmt::Debug>(result: Result<T, Error>, expected: Status) {
    match result {
        Err(Error::Status { status, .. }) => {
            assert!(status.same_code(expected), "{status} instead of {expected}");
        }
        other => panic!("{other:?} instead of {expected}"),
    }
}
