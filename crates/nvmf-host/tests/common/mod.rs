//! Queues to drive, and controllers at their other ends.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nvmf::Deadline;
use nvmf::controller::{self, AcceptOptions};
use nvmf::host::{ConnectOptions, QueuePair, TcpQueue};
use nvmf::proto::queue::QueueSize;
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::spec::{Cqe, HostId, Nqn, Sqe, Status, opcode::nvm};
use nvmf::transport::tcp::{ControllerTcp, HostTcp};
use nvmf_host::{Buffer, CommandError, EngineChoice, EngineKind, Next, Options, Workload};

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// The engines that work here.
pub(crate) fn engines() -> Vec<EngineChoice> {
    [EngineKind::Poll, EngineKind::Uring]
        .map(EngineChoice::Only)
        .into_iter()
        .filter(|choice| EngineKind::probe(*choice).is_ok())
        .collect()
}

pub(crate) fn options(engine: EngineChoice, depth: usize) -> Options {
    let mut options = Options::new(depth);
    options.engine = engine;
    options.timeout = Duration::from_secs(20);
    options
}

/// A queue of `entries` entries, connected to whoever listens at this address.
pub(crate) fn connect(address: SocketAddr, config: &HostConfig, qid: u16) -> TcpQueue {
    let nqn = |name: &str| Nqn::lenient(name).unwrap();
    let connect = ConnectOptions::new(
        nqn("nqn.2026-01.test:host"),
        HostId([9; 16]),
        nqn("nqn.2026-01.test:disk"),
    );
    let transport = HostTcp::connect(address, config, soon()).unwrap();
    let connect = connect.io_queue(qid, QueueSize::new(128).unwrap(), 7);
    QueuePair::connect(Box::new(transport), &connect, soon()).unwrap().into_tcp().unwrap()
}

/// A queue whose controller does `serve` on a thread of its own.
pub(crate) fn queue_with(
    host: HostConfig,
    config: ControllerConfig,
    qid: u16,
    serve: impl FnOnce(controller::QueuePair) + Send + 'static,
) -> (TcpQueue, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let controller = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let transport = ControllerTcp::accept(stream, &config, soon()).unwrap();
        let accept = AcceptOptions::default();
        let pending = controller::accept(Box::new(transport), &accept, soon()).unwrap();
        serve(pending.accept(7, soon()).unwrap());
    });
    (connect(address, &host, qid), controller)
}

pub(crate) fn queue(
    qid: u16,
    serve: impl FnOnce(controller::QueuePair) + Send + 'static,
) -> (TcpQueue, JoinHandle<()>) {
    queue_with(HostConfig::default(), ControllerConfig::default(), qid, serve)
}

/// Serves bytes until the host hangs up: Write and Read at a byte offset given in dwords 10 and
/// 11. Flush succeeds, and everything else fails.
pub(crate) fn serve_ram(mut queue: controller::QueuePair) {
    let mut ram = vec![0; 8 << 20];
    while let Ok(Some(mut command)) = queue.receive(soon()) {
        let at = usize::try_from(command.sqe().slba()).unwrap();
        let length = command.data_len() as usize;
        match command.sqe().opcode {
            nvm::WRITE => {
                let into = &mut [IoSliceMut::new(&mut ram[at..at + length])];
                if queue.receive_data(&mut command, 0, into, soon()).is_err() {
                    return;
                }
                queue.succeed(command);
            }
            nvm::READ => {
                let pieces = [IoSlice::new(&ram[at..at + length])];
                if queue.respond_with_data(command, &pieces, soon()).is_err() {
                    return;
                }
            }
            nvm::FLUSH => queue.succeed(command),
            _ => queue.fail(command, Status::INVALID_OPCODE.with_dnr(true)),
        }
    }
}

pub(crate) fn at(opcode: u8, offset: usize) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.set_slba(offset.try_into().unwrap());
    sqe
}

pub(crate) fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((seed + i * 7 + i / 251) % 256).unwrap()).collect()
}

pub(crate) fn room(length: usize) -> Buffer {
    Buffer::Read(BytesMut::zeroed(length))
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) queue: usize,
    pub(crate) token: u64,
    pub(crate) result: Result<Cqe, CommandError>,
    pub(crate) buffer: Buffer,
    pub(crate) at: Instant,
}

/// A workload that asks a closure, given the queue, the time and what is complete so far.
pub(crate) struct Ask<F> {
    pub(crate) ask: F,
    pub(crate) done: Vec<Done>,
}

impl<F: FnMut(usize, Instant, &[Done]) -> Next> Ask<F> {
    pub(crate) fn new(ask: F) -> Self {
        Self { ask, done: Vec::new() }
    }
}

impl<F: FnMut(usize, Instant, &[Done]) -> Next> Workload for Ask<F> {
    fn next(&mut self, queue: usize, now: Instant) -> Next {
        (self.ask)(queue, now, &self.done)
    }

    fn complete(
        &mut self,
        queue: usize,
        token: u64,
        result: Result<&Cqe, CommandError>,
        buffer: Buffer,
        at: Instant,
    ) {
        self.done.push(Done { queue, token, result: result.copied(), buffer, at });
    }
}
