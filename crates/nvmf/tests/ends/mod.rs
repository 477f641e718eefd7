//! Both ends of a queue pair, joined over any transport.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::io::{IoSlice, IoSliceMut};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nvmf::Deadline;
use nvmf::controller::{self, AcceptOptions};
use nvmf::host::ConnectOptions;
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::spec::{HostId, Nqn, Sqe, Status, opcode::nvm};
use nvmf::transport::tcp::{ControllerTcp, HostTcp};
use nvmf::transport::{ControllerTransport, HostTransport, in_process};

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// A way to join two ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Carrier {
    InProcess,
    Tcp(HostConfig, ControllerConfig),
}

pub(crate) type Ends = (Box<dyn HostTransport>, Box<dyn ControllerTransport>);

impl Carrier {
    pub(crate) fn join(self) -> Ends {
        let Self::Tcp(host, controller) = self else {
            let (host, controller) = in_process::pair();
            return (Box::new(host), Box::new(controller));
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let accepting = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            ControllerTcp::accept(stream, &controller, soon()).unwrap()
        });
        let host = HostTcp::connect(addr, &host, soon()).unwrap();
        (Box::new(host), Box::new(accepting.join().unwrap()))
    }
}

/// In process, and TCP with each combination of digests and with small limits.
pub(crate) fn carriers() -> Vec<Carrier> {
    let mut carriers = vec![Carrier::InProcess];
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)]
    {
        let host = HostConfig { header_digest, data_digest, ..HostConfig::default() };
        carriers.push(Carrier::Tcp(host, ControllerConfig::default()));
        let host = HostConfig { hpda: 11, r2ts_per_command: 3, in_capsule: 512, ..host };
        let controller = ControllerConfig {
            cpda: 6,
            maxh2cdata: 4096,
            r2t_length: 7000,
            c2h_data_length: 5000,
            ..ControllerConfig::default()
        };
        carriers.push(Carrier::Tcp(host, controller));
    }
    carriers
}

pub(crate) fn options() -> ConnectOptions {
    let nqn = |name: &str| Nqn::lenient(name).unwrap();
    ConnectOptions::new(nqn("nqn.2026-01.test:host"), HostId([9; 16]), nqn("nqn.2026-01.test:disk"))
}

pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// A controller on its own thread that runs `serve` for the accepted queue pair.
pub(crate) fn spawn(
    transport: Box<dyn ControllerTransport>,
    options: AcceptOptions,
    serve: impl FnOnce(controller::QueuePair) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let pending = controller::accept(transport, &options, soon()).unwrap();
        serve(pending.accept(7, soon()).unwrap());
    })
}

/// Serves one namespace of bytes: Write and Read at a byte offset given in dwords 10 and 11.
pub(crate) fn serve_ram(mut queue: controller::QueuePair) {
    let mut ram = vec![0; 4 << 20];
    while let Some(mut command) = queue.receive(soon()).unwrap() {
        let at = usize::try_from(command.sqe().slba()).unwrap();
        let length = command.data_len() as usize;
        match command.sqe().opcode {
            nvm::WRITE => {
                let into = &mut [IoSliceMut::new(&mut ram[at..at + length])];
                queue.receive_data(&mut command, 0, into, soon()).unwrap();
                queue.succeed(command);
            }
            nvm::READ => {
                let (a, b) = ram[at..at + length].split_at(length / 3);
                let pieces = [IoSlice::new(a), IoSlice::new(b)];
                queue.respond_with_data(command, &pieces, soon()).unwrap();
            }
            _ => queue.fail(command, Status::INVALID_OPCODE.with_dnr(true)),
        }
    }
}

pub(crate) fn at(opcode: u8, offset: u64) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.set_slba(offset);
    sqe
}
