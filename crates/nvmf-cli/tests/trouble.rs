//! Peers that misbehave, against `nvmf serve` on every event loop: what they get, what it costs, and
//! that others do not notice.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{NQN, Server, image};
use nvmf::host::{Association, HostOptions, QueuePair, TcpQueue};
use nvmf::spec::pdu::{CommonHeader, Data as DataPdu, flags, kind};
use nvmf::spec::{HostId, Nqn, Sqe, opcode};
use nvmf::{Deadline, Transfer};
use nvmf_proto::pdu::{Batch, Piece};
use nvmf_proto::tcp::{self, HostEvent};
use zerocopy::IntoBytes;

const ENGINES: [&str; 2] = ["uring", "poll"];
const SOON: Duration = Duration::from_secs(20);

fn serve(engine: &str, namespace: &str) -> Server {
    Server::start_with(&[
        "--nqn",
        NQN,
        "--namespace",
        namespace,
        "--engine",
        engine,
        "--cores",
        "2",
    ])
}

fn associate(server: &Server, n: u8) -> Association {
    let host = Nqn::parse_strict(&format!("nqn.2026-01.org.example:host{n}")).unwrap();
    let subsystem = Nqn::parse_strict(NQN).unwrap();
    let options = HostOptions::new(host, HostId([n; 16]));
    Association::connect_tcp(format!("127.0.0.1:{}", server.port), &subsystem, options).unwrap()
}

fn soon() -> Deadline {
    Deadline::after(SOON)
}

fn command(opcode: u8, slba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(1);
    sqe.set_slba(slba);
    sqe.set_cdw(12, blocks - 1);
    sqe
}

/// One read, which has to succeed.
fn works(queue: &mut QueuePair) -> Duration {
    let start = Instant::now();
    let mut data = vec![0; 4096];
    let pieces = &mut [std::io::IoSliceMut::new(&mut data)];
    queue.execute(command(opcode::nvm::READ, 5, 1), Transfer::Read(pieces), soon()).unwrap();
    start.elapsed()
}

/// An I/O queue whose bytes are the test's to choose.
struct Raw {
    stream: TcpStream,
    host: tcp::Host,
}

impl Raw {
    fn new(queue: QueuePair) -> Self {
        let TcpQueue { stream, host, received, .. } = queue.into_tcp().unwrap();
        assert!(received.is_empty());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self { stream, host }
    }

    /// The bytes of what is ready to be sent, with zeroes for payload.
    fn ready(&mut self) -> Vec<u8> {
        let (mut batch, mut bytes) = (Batch::new(), Vec::new());
        self.host.poll_transmit(&nvmf_proto::pdu::NoPayload, &mut batch, usize::MAX);
        batch.drain(|piece| match piece {
            Piece::Bytes(piece) => bytes.extend_from_slice(piece),
            Piece::Payload { length, .. } => bytes.resize(bytes.len() + length as usize, 0),
        });
        bytes
    }

    fn command(&mut self, sqe: Sqe, transfer: tcp::Transfer) -> Vec<u8> {
        self.host.submit(sqe, transfer).unwrap();
        self.ready()
    }

    /// Takes what comes until a command is complete.
    fn complete(&mut self) {
        let mut room = vec![0; 1 << 20];
        loop {
            let n = self.stream.read(&mut room).unwrap();
            assert!(n > 0, "closed");
            let (mut at, mut completed) = (0, false);
            loop {
                let (used, event) = self.host.handle_bytes(&room[at..n]).unwrap();
                at += used;
                match event {
                    Some(HostEvent::Payload(_)) if at < n => {
                        at += self.host.handle_payload(&room[at..n]);
                    }
                    Some(HostEvent::Completion(completion)) => {
                        assert!(completion.cqe.status().is_success());
                        completed = true;
                    }
                    _ => break,
                }
            }
            if completed {
                return;
            }
        }
    }

    /// Closes so that the peer gets an RST.
    fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: usize,
    memory_kib: u64,
}

fn held(server: &Server) -> Held {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    Held { descriptors, memory_kib: server.anonymous_memory() >> 10 }
}

/// Waits until the process holds no more descriptors than before.
#[track_caller]
fn returns_to(server: &Server, before: Held) {
    let end = Instant::now() + SOON;
    while held(server).descriptors > before.descriptors {
        assert!(
            Instant::now() < end,
            "{:?}, before {before:?}: {:?}",
            held(server),
            std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
                .unwrap()
                .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
                .collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_peer_that_stops_reading_costs_a_bounded_amount_of_memory() {
    let directory = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        // Of a file, what is read is held in buffers of the target's own.
        let server = serve(engine, &image(&directory.path().join(engine), 64 << 20));
        let mut other = associate(&server, 2);
        let mut others = other.connect_io_queues(1, None).unwrap();
        works(&mut others[0]);
        let before = held(&server);

        let mut host = associate(&server, 1);
        let mut raw = Raw::new(host.connect_io_queues(1, None).unwrap().remove(0));
        let mut asked = 0;
        while raw.host.queue().has_room() && asked < 1000 {
            let sqe = command(opcode::nvm::READ, asked % 32 * 256, 256);
            let bytes = raw.command(sqe, tcp::Transfer::ToHost { length: 1 << 20 });
            raw.stream.write_all(&bytes).unwrap();
            asked += 1;
        }
        assert!(asked >= 100, "{asked}");
        // As much as it will ever take: nothing of it is read.
        std::thread::sleep(Duration::from_millis(500));
        let during = held(&server);
        let grown = during.memory_kib.saturating_sub(before.memory_kib);
        assert!(grown < 32 << 10, "{engine}: {grown} KiB for {asked} MiB asked for");
        let slowest = (0..50).map(|_| works(&mut others[0])).max().unwrap();
        assert!(slowest < Duration::from_secs(2), "{engine}: others wait for {slowest:?}");
        drop((raw, host));
        returns_to(&server, before);
    }
}

#[test]
fn a_peer_that_sends_one_byte_at_a_time_is_served_and_nobody_waits_for_it() {
    for engine in ENGINES {
        let server = serve(engine, "mem:16M");
        let mut other = associate(&server, 2);
        let mut others = other.connect_io_queues(1, None).unwrap();
        let mut host = associate(&server, 1);
        let mut raw = Raw::new(host.connect_io_queues(1, None).unwrap().remove(0));
        raw.stream.set_nodelay(true).unwrap();
        let mut bytes = raw.command(
            command(opcode::nvm::WRITE, 0, 1),
            tcp::Transfer::ToController { length: 4096 },
        );
        let rest = bytes.split_off(150);
        for byte in bytes {
            raw.stream.write_all(&[byte]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
            assert!(works(&mut others[0]) < Duration::from_secs(2));
        }
        raw.stream.write_all(&rest).unwrap();
        raw.complete();
    }
}

#[test]
fn a_thousand_connections_that_never_finish_connect_do_not_keep_others_out() {
    for engine in ENGINES {
        let server = serve(engine, "mem:16M");
        works(&mut associate(&server, 9).connect_io_queues(1, None).unwrap()[0]);
        let before = held(&server);
        let mut crowd = Vec::new();
        for i in 0..1000 {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            if i % 2 == 0 {
                // An ICReq, and then nothing.
                let mut ic_req = vec![0; 128];
                ic_req[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
                // It may be closed already, to make room for a later one.
                let _ = stream.write_all(&ic_req);
            }
            crowd.push(stream);
        }
        let mut host = associate(&server, 1);
        let mut queues = host.connect_io_queues(2, None).unwrap();
        works(&mut queues[1]);
        let grown = held(&server).memory_kib.saturating_sub(before.memory_kib);
        assert!(grown < 16 << 10, "{engine}: {grown} KiB");
        drop((crowd, queues, host));
        returns_to(&server, before);
    }
}

/// The bytes of one PDU of a kind, on a queue on which it may come.
fn pdu(raw: &mut Raw, which: u8) -> Vec<u8> {
    match which {
        kind::CAPSULE_CMD => raw.command(
            command(opcode::nvm::WRITE, 0, 2),
            tcp::Transfer::ToController { length: 8192 },
        ),
        kind::H2C_DATA => {
            let length = 128 << 10;
            let sqe = command(opcode::nvm::WRITE, 0, 32);
            let bytes = raw.command(sqe, tcp::Transfer::ToController { length });
            raw.stream.write_all(&bytes).unwrap();
            let mut r2t = [0; 24];
            raw.stream.read_exact(&mut r2t).unwrap();
            assert_eq!(r2t[0], kind::R2T);
            let mut header = DataPdu {
                ch: CommonHeader {
                    kind: kind::H2C_DATA,
                    flags: flags::LAST,
                    hlen: 24,
                    pdo: 24,
                    plen: (24 + length).into(),
                },
                cccid: 0.into(),
                ttag: 0.into(),
                datao: 0.into(),
                datal: length.into(),
                reserved: [0; 4],
            };
            header.cccid = u16::from_le_bytes([r2t[8], r2t[9]]).into();
            header.ttag = u16::from_le_bytes([r2t[10], r2t[11]]).into();
            let mut bytes = header.as_bytes().to_vec();
            bytes.resize(24 + length as usize, 7);
            bytes
        }
        kind::H2C_TERM_REQ => {
            let mut bytes = vec![0; 152];
            bytes[..8].copy_from_slice(&[kind::H2C_TERM_REQ, 0, 24, 0, 152, 0, 0, 0]);
            bytes
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_reset_in_the_middle_of_any_pdu_leaves_nothing_behind() {
    for engine in ENGINES {
        let server = serve(engine, "mem:16M");
        let mut other = associate(&server, 2);
        let mut others = other.connect_io_queues(1, None).unwrap();
        works(&mut others[0]);
        let before = held(&server);
        for at in [0, 1, 8, 127] {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            let mut ic_req = [0; 128];
            ic_req[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
            stream.write_all(&ic_req[..at]).unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        for which in [kind::CAPSULE_CMD, kind::H2C_DATA, kind::H2C_TERM_REQ] {
            for at in [1, 7, 23, 71, 100, 4096, 70_000] {
                let mut host = associate(&server, 1);
                let mut raw = Raw::new(host.connect_io_queues(1, None).unwrap().remove(0));
                // Something to be sent back when it breaks, too.
                let read = command(opcode::nvm::READ, 0, 256);
                let bytes = raw.command(read, tcp::Transfer::ToHost { length: 1 << 20 });
                if at % 2 == 0 {
                    raw.stream.write_all(&bytes).unwrap();
                    raw.complete();
                }
                let bytes = pdu(&mut raw, which);
                let cut = at.min(bytes.len() - 1);
                raw.stream.write_all(&bytes[..cut]).unwrap();
                raw.reset();
                works(&mut others[0]);
            }
        }
        returns_to(&server, before);
        let grown = held(&server).memory_kib.saturating_sub(before.memory_kib);
        assert!(grown < 16 << 10, "{engine}: {grown} KiB");
    }
}

#[test]
fn five_hundred_connections_cost_little_memory() {
    for engine in ENGINES {
        let server = serve(engine, "mem:16M");
        works(&mut associate(&server, 9).connect_io_queues(9, None).unwrap()[0]);
        let before = held(&server);
        let mut hosts = Vec::new();
        for n in 0..50 {
            let mut host = associate(&server, n + 1);
            let mut queues = host.connect_io_queues(9, None).unwrap();
            for queue in &mut queues {
                works(queue);
            }
            hosts.push((host, queues));
        }
        let grown = held(&server).memory_kib.saturating_sub(before.memory_kib);
        assert!(grown < 40 << 10, "{engine}: {grown} KiB");
        drop(hosts);
        returns_to(&server, before);
    }
}
