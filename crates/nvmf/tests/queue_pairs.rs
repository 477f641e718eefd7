//! Queue pairs of both roles, over each transport: the same tests for both.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

use std::io::{IoSlice, IoSliceMut};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nvmf::controller::{self, AcceptError, AcceptOptions, Command};
use nvmf::host::{ConnectOptions, QueuePair};
use nvmf::proto::connect::{ConnectError, ControllerChoice, Refusal};
use nvmf::proto::queue::QueueSize;
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::spec::fabrics::ConnectData;
use nvmf::spec::{Cqe, DataDirection, HostId, Nqn, Sqe, Status, opcode::nvm};
use nvmf::transport::tcp::{ControllerTcp, HostTcp};
use nvmf::transport::{ControllerTransport, DataError, HostTransport, TransportError, in_process};
use nvmf::{Data, Deadline, Error, Transfer};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// A way to join two ends.
#[derive(Clone, Copy, Debug)]
enum Carrier {
    InProcess,
    Tcp(HostConfig, ControllerConfig),
}

type Ends = (Box<dyn HostTransport>, Box<dyn ControllerTransport>);

impl Carrier {
    fn join(self) -> Ends {
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
fn carriers() -> Vec<Carrier> {
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

fn options() -> ConnectOptions {
    let nqn = |name: &str| Nqn::lenient(name).unwrap();
    ConnectOptions::new(nqn("nqn.2026-01.test:host"), HostId([9; 16]), nqn("nqn.2026-01.test:disk"))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// A controller on its own thread that runs `serve` for the accepted queue pair.
fn spawn(
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
fn serve_ram(mut queue: controller::QueuePair) {
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

fn at(opcode: u8, offset: u64) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.set_slba(offset);
    sqe
}

/// Runs `test` over every carrier, against a controller that does `serve`.
fn over_each(serve: fn(controller::QueuePair), test: impl Fn(&mut QueuePair)) {
    for carrier in carriers() {
        println!("{carrier:?}");
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), serve);
        let mut queue = QueuePair::connect(host, &options(), soon()).unwrap();
        assert_eq!((queue.qid(), queue.cntlid()), (0, 7));
        test(&mut queue);
        drop(queue);
        controller.join().unwrap();
    }
}

#[test]
fn what_is_written_is_read_whatever_its_length() {
    over_each(serve_ram, |queue| {
        for length in [1, 512, 513, 4096, 8192, 8193, 65536, 1 << 20, (1 << 20) + 5] {
            let bytes = pattern(length);
            let (a, b) = bytes.split_at(length / 2);
            let pieces = [IoSlice::new(a), IoSlice::new(b)];
            queue.execute(at(nvm::WRITE, 99), Transfer::Write(&pieces), soon()).unwrap();
            let mut back = vec![0; length];
            let (a, b) = back.split_at_mut(length / 5);
            let room = &mut [IoSliceMut::new(a), IoSliceMut::new(b)];
            queue.execute(at(nvm::READ, 99), Transfer::Read(room), soon()).unwrap();
            assert!(back == bytes, "{length} bytes");
        }
    });
}

#[test]
fn many_commands_are_outstanding_and_each_gets_its_own_data() {
    over_each(serve_ram, |queue| {
        let block = |i: usize| Bytes::from(vec![u8::try_from(i).unwrap(); 3000]);
        let place = |i: usize| u64::try_from(i * 3000).unwrap();
        for i in 0..20 {
            queue.submit(at(nvm::WRITE, place(i)), Data::write(block(i))).unwrap();
        }
        assert_eq!(queue.outstanding(), 20);
        for _ in 0..20 {
            queue.wait_any(soon()).unwrap().into_result("Write").unwrap();
        }
        let ids: Vec<_> = (0..20)
            .map(|i| {
                let room = vec![BytesMut::zeroed(1000), BytesMut::zeroed(2000)];
                queue.submit(at(nvm::READ, place(i)), Data::Read(room)).unwrap()
            })
            .collect();
        for (i, id) in ids.into_iter().enumerate().rev() {
            let completion = queue.wait(id, soon()).unwrap().into_result("Read").unwrap();
            assert_eq!(completion.data.into_bytes(), block(i));
        }
        assert_eq!(queue.outstanding(), 0);
    });
}

#[test]
fn identifiers_used_again_mix_nothing_up() {
    // Small commands in a full queue: their answers come many at once, and each that is taken
    // makes room for a new command while others are still waiting to be taken.
    over_each(serve_ram, |queue| {
        let mut written = std::collections::HashMap::new();
        let mut seen = std::collections::HashSet::new();
        for i in 0..2000u64 {
            while !queue.has_room() {
                let completion = queue.wait_any(soon()).unwrap().into_result("Write").unwrap();
                assert_eq!(written.remove(&completion.id), Some(completion.data));
            }
            let bytes = Data::write(i.to_le_bytes().repeat(75));
            let id = queue.submit(at(nvm::WRITE, i * 600), bytes.clone()).unwrap();
            assert!(seen.insert(id), "an identifier given out twice");
            written.insert(id, bytes);
        }
        while !written.is_empty() {
            let completion = queue.wait_any(soon()).unwrap().into_result("Write").unwrap();
            assert_eq!(written.remove(&completion.id), Some(completion.data));
        }
        for i in 0..2000u64 {
            let id = queue.submit(at(nvm::READ, i * 600), Data::read(600)).unwrap();
            let completion = queue.wait(id, soon()).unwrap().into_result("Read").unwrap();
            assert_eq!(completion.data.into_bytes(), i.to_le_bytes().repeat(75), "block {i}");
        }
    });
}

#[test]
fn a_command_with_lent_data_passes_between_those_outstanding() {
    over_each(serve_ram, |queue| {
        let id = queue.submit(at(nvm::WRITE, 0), Data::write(pattern(100_000))).unwrap();
        let mut room = [1; 10];
        let read = Transfer::Read(&mut [IoSliceMut::new(&mut room)]);
        queue.execute(at(nvm::READ, 2 << 20), read, soon()).unwrap();
        assert_eq!(room, [0; 10]);
        queue.wait(id, soon()).unwrap().into_result("Write").unwrap();
        assert!(matches!(queue.wait(id, soon()), Err(Error::NotOutstanding(_))));
    });
}

#[test]
fn a_failure_names_the_command_and_its_status() {
    over_each(serve_ram, |queue| {
        let error = queue.execute(Sqe::new(nvm::COMPARE), Transfer::None, soon()).unwrap_err();
        assert_eq!(error.status(), Some(Status::INVALID_OPCODE.with_dnr(true)));
    });
}

#[test]
fn a_full_queue_says_so_and_makes_room_by_completions() {
    over_each(serve_ram, |queue| {
        let capacity = queue.capacity();
        for _ in 0..capacity {
            queue.submit(at(nvm::READ, 0), Data::read(8)).unwrap();
        }
        let error = queue.submit(at(nvm::READ, 0), Data::read(8)).unwrap_err();
        assert!(matches!(error, Error::Transport(TransportError::Submit(_))), "{error}");
        let mut room = [1; 8];
        let read = Transfer::Read(&mut [IoSliceMut::new(&mut room)]);
        queue.execute(at(nvm::READ, 0), read, soon()).unwrap();
        for _ in 0..capacity {
            queue.wait_any(soon()).unwrap();
        }
    });
}

/// Answers the first command only after a while; a second one at once.
fn serve_late(mut queue: controller::QueuePair) {
    let first = queue.receive(soon()).unwrap().unwrap();
    let second = queue.receive(soon()).unwrap().unwrap();
    queue.fail(second, Status::ABORT_REQUESTED);
    queue.flush(soon()).unwrap();
    let third = queue.receive(soon()).unwrap().unwrap();
    queue.respond_with_data(first, &[IoSlice::new(&[5; 64])], soon()).unwrap();
    queue.succeed(third);
    assert!(queue.receive(soon()).unwrap().is_none());
}

#[test]
fn a_wait_that_timed_out_can_be_taken_up_again() {
    over_each(serve_late, |queue| {
        let id = queue.submit(at(nvm::READ, 0), Data::read(64)).unwrap();
        let error = queue.wait(id, Deadline::after(Duration::from_millis(20))).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        let second = queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
        let completion = queue.wait_any(soon()).unwrap();
        assert_eq!((completion.id, completion.status()), (second, Status::ABORT_REQUESTED));
        let third = queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
        queue.wait(third, soon()).unwrap();
        let data = queue.wait(id, soon()).unwrap().data;
        assert_eq!(data.into_bytes(), [5; 64].as_slice());
    });
}

#[test]
fn a_command_given_up_is_reported_no_more() {
    over_each(serve_late, |queue| {
        let mut room = [0; 64];
        let read = Transfer::Read(&mut [IoSliceMut::new(&mut room)]);
        let brief = Deadline::after(Duration::from_millis(20));
        assert!(queue.execute(at(nvm::READ, 0), read, brief).unwrap_err().is_timeout());
        let second = queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
        queue.forget(second);
        let third = queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
        assert_eq!(queue.wait_any(soon()).unwrap().id, third);
        assert_eq!(room, [0; 64], "data that came too late is dropped");
    });
}

/// Drops every command unanswered.
fn serve_nothing(mut queue: controller::QueuePair) {
    while let Some(command) = queue.receive(soon()).unwrap() {
        drop(command);
    }
}

#[test]
fn a_command_dropped_unanswered_is_answered_with_internal_error() {
    over_each(serve_nothing, |queue| {
        for length in [0, 64, 100_000] {
            let write = queue.submit(at(nvm::WRITE, 0), Data::write(vec![1; length])).unwrap();
            let completion = queue.wait(write, soon()).unwrap();
            assert_eq!(completion.status(), Status::INTERNAL_ERROR);
        }
    });
}

/// Receives a write's data in odd ranges and answers a read in pieces.
fn serve_pieces(mut queue: controller::QueuePair) {
    let mut write = queue.receive(soon()).unwrap().unwrap();
    assert_eq!(write.direction(), DataDirection::ToController);
    let length = write.data_len() as usize;
    let mut all = vec![0; length];
    let mut take = |queue: &mut controller::QueuePair, from: usize, to: usize| {
        let offset = u32::try_from(from).unwrap();
        let into = &mut [IoSliceMut::new(&mut all[from..to])];
        queue.receive_data(&mut write, offset, into, soon())
    };
    take(&mut queue, 0, 100).unwrap();
    take(&mut queue, 5000, 9000).unwrap();
    take(&mut queue, 100, 5000).unwrap();
    take(&mut queue, 9000, length).unwrap();
    assert!(matches!(take(&mut queue, 0, 1), Err(DataError::Range(_))), "given out already");
    queue.succeed(write);
    let mut read = queue.receive(soon()).unwrap().unwrap();
    let (a, b) = all.split_at(1234);
    queue.send_data(&mut read, &[IoSlice::new(a)], soon()).unwrap();
    queue.respond_with_data(read, &[IoSlice::new(b)], soon()).unwrap();
    let mut read = queue.receive(soon()).unwrap().unwrap();
    queue.send_data(&mut read, &[IoSlice::new(&all)], soon()).unwrap();
    queue.respond(read, Cqe::with_dw0(0, 0xabcd));
    let read = queue.receive(soon()).unwrap().unwrap();
    let error = queue.respond_with_data(read, &[IoSlice::new(a)], soon()).unwrap_err();
    assert!(matches!(error, DataError::Range(_)), "{error}");
    assert!(queue.receive(soon()).unwrap().is_none());
}

#[test]
fn data_moves_in_any_ranges_and_pieces() {
    over_each(serve_pieces, |queue| {
        let bytes = pattern(50_000);
        let pieces = [IoSlice::new(&bytes)];
        queue.execute(at(nvm::WRITE, 0), Transfer::Write(&pieces), soon()).unwrap();
        for result in [0, 0xabcd] {
            let mut back = vec![0; bytes.len()];
            let read = Transfer::Read(&mut [IoSliceMut::new(&mut back)]);
            let cqe = queue.execute(at(nvm::READ, 0), read, soon()).unwrap();
            assert_eq!(cqe.result(), result);
            assert!(back == bytes);
        }
        let read = queue.submit(at(nvm::READ, 0), Data::read(50_000)).unwrap();
        let completion = queue.wait(read, soon()).unwrap();
        assert_eq!(completion.status(), Status::INTERNAL_ERROR);
    });
}

#[test]
fn flow_control_is_off_only_if_both_ends_agree() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        for (ask_off, keep_on, on) in
            [(false, false, true), (true, false, false), (true, true, true)]
        {
            let (host, controller) = carrier.join();
            let accept = AcceptOptions { flow_control: keep_on, ..AcceptOptions::default() };
            let controller = spawn(controller, accept, serve_ram);
            let options = ConnectOptions { disable_flow_control: ask_off, ..options() };
            let mut queue = QueuePair::connect(host, &options, soon()).unwrap();
            assert_eq!(queue.flow_control(), on);
            for i in 0..200 {
                let room = Data::read(16);
                let id = queue.submit(at(nvm::READ, i), room).unwrap();
                queue.wait(id, soon()).unwrap().into_result("Read").unwrap();
            }
            drop(queue);
            controller.join().unwrap();
        }
    }
}

#[test]
fn a_refused_connect_tells_why() {
    let refusals = [
        (Refusal::Busy, ConnectError::Status(Status::CONNECT_CONTROLLER_BUSY)),
        (Refusal::Host, ConnectError::Status(Status::CONNECT_INVALID_HOST.with_dnr(true))),
        (
            Refusal::data(ConnectData::OFFSET_SUBNQN, "no such subsystem"),
            ConnectError::Invalid(nvmf::spec::fabrics::InvalidParameter {
                in_data: true,
                offset: ConnectData::OFFSET_SUBNQN,
            }),
        ),
    ];
    for carrier in [Carrier::InProcess, carriers()[1]] {
        for (refusal, expected) in refusals.clone() {
            let (host, controller) = carrier.join();
            let controller = thread::spawn(move || {
                let accept = AcceptOptions::default();
                let pending = controller::accept(controller, &accept, soon()).unwrap();
                assert_eq!(pending.request().host, options().host);
                pending.refuse(&refusal, soon()).unwrap();
            });
            let error = QueuePair::connect(host, &options(), soon()).unwrap_err();
            assert!(matches!(&error, Error::Connect(e) if *e == expected), "{error}");
            controller.join().unwrap();
        }
    }
}

#[test]
fn an_ill_formed_connect_is_refused_before_the_target_sees_it() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (host, controller) = carrier.join();
        let controller = thread::spawn(move || {
            controller::accept(controller, &AcceptOptions::default(), soon()).unwrap_err()
        });
        let asks = ConnectOptions { controller: ControllerChoice::StaticAny, ..options() };
        let error = QueuePair::connect(host, &asks, soon()).unwrap_err();
        let Error::Connect(ConnectError::Invalid(parameter)) = error else { panic!("{error}") };
        assert_eq!(parameter.name(), "cntlid");
        let refused = controller.join().unwrap();
        assert!(matches!(refused, AcceptError::Refused(Refusal::Invalid { .. })), "{refused}");
    }
}

#[test]
fn a_first_command_that_is_not_connect_is_refused() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (mut host, controller) = carrier.join();
        let controller = thread::spawn(move || {
            controller::accept(controller, &AcceptOptions::default(), soon()).unwrap_err()
        });
        let sqe = Sqe::new(nvm::FLUSH);
        let completion = host.execute(sqe, Transfer::None, &mut |_, _| {}, soon()).unwrap();
        assert!(completion.cqe.status().same_code(Status::COMMAND_SEQUENCE_ERROR));
        let refused = controller.join().unwrap();
        assert!(matches!(refused, AcceptError::Refused(Refusal::NotConnect)), "{refused}");
    }
}

#[test]
fn an_io_queue_is_left_by_disconnect() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), |mut queue| {
            assert_eq!(queue.qid(), 3);
            let command: Command = queue.receive(soon()).unwrap().unwrap();
            assert!(command.sqe().is_fabrics_type(nvmf::spec::opcode::fabrics::DISCONNECT));
            queue.succeed(command);
            assert!(queue.receive(soon()).unwrap().is_none());
        });
        let size = QueueSize::new(16).unwrap();
        let queue = QueuePair::connect(host, &options().io_queue(3, size, 7), soon()).unwrap();
        queue.disconnect(soon()).unwrap();
        controller.join().unwrap();
    }
}

#[test]
fn a_controller_that_goes_away_ends_the_wait() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), drop);
        let mut queue = QueuePair::connect(host, &options(), soon()).unwrap();
        controller.join().unwrap();
        let error = queue.execute(Sqe::new(nvm::FLUSH), Transfer::None, soon()).unwrap_err();
        assert!(matches!(error, Error::Transport(TransportError::Closed)), "{error}");
    }
}

#[test]
fn both_ends_sending_much_at_once_do_not_wait_for_each_other() {
    // Reads whose answers fill the sockets, and behind them large in-capsule writes: a controller
    // that does not take in while it sends would never see the host drain its answers.
    let host = HostConfig { in_capsule: 1 << 20, ..HostConfig::default() };
    let (host, controller) = Carrier::Tcp(host, ControllerConfig::default()).join();
    let accept = AcceptOptions { in_capsule: 1 << 20, ..AcceptOptions::default() };
    let controller = spawn(controller, accept, serve_ram);
    let size = QueueSize::new(128).unwrap();
    let mut queue = QueuePair::connect(host, &options().io_queue(1, size, 7), soon()).unwrap();
    for _ in 0..30 {
        queue.submit(at(nvm::READ, 0), Data::read(1 << 20)).unwrap();
    }
    for _ in 0..30 {
        queue.submit(at(nvm::WRITE, 0), Data::write(vec![1; 1 << 20])).unwrap();
    }
    for _ in 0..60 {
        queue.wait_any(soon()).unwrap().into_result("command").unwrap();
    }
    drop(queue);
    controller.join().unwrap();
}

#[test]
fn a_socket_of_the_callers_own_becomes_a_queue_pair() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let own = stream.local_addr().unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    assert_eq!(peer, own);
    let controller = thread::spawn(move || {
        let config = ControllerConfig::default();
        let transport = ControllerTcp::accept(accepted, &config, soon()).unwrap();
        let accept = AcceptOptions::default();
        let pending = controller::accept(Box::new(transport), &accept, soon()).unwrap();
        serve_ram(pending.accept(7, soon()).unwrap());
    });
    let host = HostTcp::from_stream(stream, &HostConfig::default(), soon()).unwrap();
    assert_eq!(host.stream().local_addr().unwrap(), own);
    let mut queue = QueuePair::connect(Box::new(host), &options(), soon()).unwrap();
    let id = queue.submit(at(nvm::READ, 0), Data::read(512)).unwrap();
    queue.wait(id, soon()).unwrap().into_result("Read").unwrap();
    drop(queue);
    controller.join().unwrap();
}

#[test]
fn a_handshake_with_a_silent_peer_ends_at_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let brief = || Deadline::after(Duration::from_millis(50));
    let error = HostTcp::connect(addr, &HostConfig::default(), brief()).unwrap_err();
    assert!(matches!(error, TransportError::TimedOut), "{error}");
    let _silent = TcpStream::connect(addr).unwrap();
    let (_, _) = listener.accept().unwrap();
    let (stream, _) = listener.accept().unwrap();
    let error = ControllerTcp::accept(stream, &ControllerConfig::default(), brief()).unwrap_err();
    assert!(matches!(error, TransportError::TimedOut), "{error}");
}

#[test]
fn a_peer_that_speaks_another_protocol_is_told_and_left() {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap_or_default();
        answer
    });
    let (stream, _) = listener.accept().unwrap();
    let error = ControllerTcp::accept(stream, &ControllerConfig::default(), soon()).unwrap_err();
    assert!(matches!(error, TransportError::Violation(_)), "{error}");
    assert_eq!(peer.join().unwrap()[..10], [3, 0, 24, 0, 32, 0, 0, 0, 1, 0]);
}

#[test]
fn success_without_all_of_the_data_is_a_violation() {
    for carrier in [Carrier::InProcess, carriers()[1]] {
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), |mut queue| {
            let mut read = queue.receive(soon()).unwrap().unwrap();
            queue.send_data(&mut read, &[IoSlice::new(&[1; 500])], soon()).unwrap();
            queue.succeed(read);
            let _ = queue.receive(soon());
        });
        let mut queue = QueuePair::connect(host, &options(), soon()).unwrap();
        let mut room = [0; 512];
        let read = Transfer::Read(&mut [IoSliceMut::new(&mut room)]);
        let error = queue.execute(at(nvm::READ, 0), read, soon()).unwrap_err();
        assert!(error.to_string().contains("with 500 of 512 bytes moved"), "{error}");
        drop(queue);
        controller.join().unwrap();
    }
}

/// A queue pair over TCP whose controller serves RAM, and how its service ended.
fn with_stall_limit(
    limit: Duration,
    serve: fn(controller::QueuePair) -> Result<(), TransportError>,
) -> (TcpStream, JoinHandle<Result<(), TransportError>>) {
    use std::io::{Read, Write};
    use zerocopy::IntoBytes;

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let controller = thread::spawn(move || {
        let config = ControllerConfig::default();
        let mut transport = ControllerTcp::accept(accepted, &config, soon())?;
        transport.set_stall_limit(limit);
        let accept = AcceptOptions::default();
        let pending = controller::accept(Box::new(transport), &accept, soon()).unwrap();
        serve(pending.accept(7, soon())?)
    });
    // A host written by hand, which does what no host of this library would.
    let mut ic_req = [0; 128];
    (ic_req[2], ic_req[4]) = (128, 128);
    host.write_all(&ic_req).unwrap();
    host.read_exact(&mut [0; 128]).unwrap();
    let options = options();
    let mut sqe = nvmf::spec::fabrics::Connect::new(1, 1023, 4, 0).to_sqe();
    sqe.sgl = nvmf::spec::SglDescriptor::in_capsule(1024);
    let data = ConnectData::new(options.host_id, 7, &options.subsystem, &options.host);
    host.write_all(&[4, 0, 72, 72, 0x48, 4, 0, 0]).unwrap();
    host.write_all(sqe.as_bytes()).unwrap();
    host.write_all(data.as_bytes()).unwrap();
    host.read_exact(&mut [0; 24]).unwrap();
    (host, controller)
}

fn flush_capsule(cid: u16) -> Vec<u8> {
    use zerocopy::IntoBytes;
    let mut sqe = Sqe::new(nvm::FLUSH);
    sqe.cid.set(cid);
    [&[4, 0, 72, 0, 72, 0, 0, 0], sqe.as_bytes()].concat()
}

/// Answers everything with success, and ends as the connection does.
fn serve_success(mut queue: controller::QueuePair) -> Result<(), TransportError> {
    loop {
        match queue.receive(Deadline::after(Duration::from_millis(50))) {
            Ok(Some(command)) => queue.succeed(command),
            Ok(None) => return Ok(()),
            Err(TransportError::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn a_host_that_reads_no_answers_is_heard_no_more_and_given_up() {
    use std::io::Write;
    let (mut host, controller) = with_stall_limit(Duration::from_millis(300), serve_success);
    host.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let commands: Vec<u8> = (0..100).flat_map(flush_capsule).collect();
    // Far more than the sockets of both ends can hold: without a limit it would all be taken.
    let mut sent = 0;
    while sent < 300 << 20 {
        match host.write(&commands) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
        if controller.is_finished() {
            break;
        }
    }
    assert!(sent < 100 << 20, "{sent} bytes of commands were taken");
    let error = controller.join().unwrap().unwrap_err();
    assert!(matches!(error, TransportError::Stalled(_)), "{error}");
}

#[test]
fn a_host_that_closes_with_answers_unread_is_given_up() {
    use std::io::Write;
    let (mut host, controller) = with_stall_limit(Duration::from_secs(2), serve_success);
    host.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let commands: Vec<u8> = (0..100).flat_map(flush_capsule).collect();
    while host.write(&commands).is_ok() {}
    host.shutdown(std::net::Shutdown::Write).unwrap();
    // Not read as quiet for ever: given up once nothing was taken for long enough.
    let error = controller.join().unwrap().unwrap_err();
    assert!(matches!(error, TransportError::Stalled(_)), "{error}");
}

#[test]
fn answers_do_not_wait_for_commands_that_came_with_theirs() {
    let (host, controller) = carriers()[1].join();
    let controller = spawn(controller, AcceptOptions::default(), |mut queue| {
        while let Some(command) = queue.receive(soon()).unwrap() {
            thread::sleep(Duration::from_millis(100));
            queue.succeed(command);
        }
    });
    let mut queue = QueuePair::connect(host, &options(), soon()).unwrap();
    for _ in 0..20 {
        queue.submit(Sqe::new(nvm::FLUSH), Data::None).unwrap();
    }
    queue.wait_any(Deadline::after(Duration::from_millis(1000))).unwrap();
    drop(queue);
    controller.join().unwrap();
}
