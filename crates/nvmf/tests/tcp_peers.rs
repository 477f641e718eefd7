//! Peers over TCP that are slow, silent, greedy, or something else altogether.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod ends;

use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ends::{Carrier, at, carriers, options, serve_ram, soon, spawn};
use nvmf::controller::{self, AcceptOptions};
use nvmf::host::QueuePair;
use nvmf::proto::queue::QueueSize;
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::spec::fabrics::ConnectData;
use nvmf::spec::{Sqe, opcode::nvm};
use nvmf::transport::tcp::{ControllerTcp, HostTcp};
use nvmf::transport::{TakeApartError, TransportError};
use nvmf::{Data, Deadline};

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
    assert!(matches!(error, TransportError::NoIcResp), "{error}");
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
    // On a slow machine it may have been given up before.
    let shut = host.shutdown(std::net::Shutdown::Write);
    assert!(!shut.is_err_and(|error| error.kind() != std::io::ErrorKind::NotConnected));
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

#[test]
fn an_idle_queue_pair_is_taken_apart_and_its_connection_goes_on() {
    let (host, controller) =
        Carrier::Tcp(HostConfig::default(), ControllerConfig::default()).join();
    let controller = spawn(controller, AcceptOptions::default(), serve_ram);
    let size = QueueSize::new(16).unwrap();
    let mut queue = QueuePair::connect(host, &options().io_queue(3, size, 7), soon()).unwrap();
    queue.submit(at(nvm::WRITE, 0), Data::write(vec![1; 512])).unwrap();
    queue.wait_any(soon()).unwrap().into_result("Write").unwrap();
    let mut parts = queue.into_tcp().unwrap();
    assert_eq!((parts.qid, parts.host.queue().capacity(), parts.received.len()), (3, 15, 0));
    // The next command goes out by hand and is answered.
    parts.host.submit(at(nvm::FLUSH, 0), nvmf::proto::tcp::Transfer::None).unwrap();
    let mut batch = nvmf::proto::pdu::Batch::new();
    parts.host.poll_transmit(&nvmf::proto::pdu::NoPayload, &mut batch, usize::MAX);
    parts.stream.set_nonblocking(false).unwrap();
    let bytes = batch.to_vec(&nvmf::proto::pdu::NoPayload).unwrap();
    std::io::Write::write_all(&mut parts.stream, &bytes).unwrap();
    let mut answer = [0; 24];
    std::io::Read::read_exact(&mut parts.stream, &mut answer).unwrap();
    let (used, event) = parts.host.handle_bytes(&answer).unwrap();
    assert!(matches!(event, Some(nvmf::proto::tcp::HostEvent::Completion(_))), "{event:?}");
    assert_eq!(used, 24);
    drop(parts);
    controller.join().unwrap();
}

#[test]
fn a_queue_pair_that_is_not_idle_or_not_tcp_is_not_taken_apart() {
    let connect = |carrier: Carrier| {
        let (host, controller) = carrier.join();
        let controller = spawn(controller, AcceptOptions::default(), serve_ram);
        let size = QueueSize::new(16).unwrap();
        (QueuePair::connect(host, &options().io_queue(1, size, 7), soon()).unwrap(), controller)
    };
    let tcp = Carrier::Tcp(HostConfig::default(), ControllerConfig::default());
    let (mut queue, controller) = connect(tcp);
    for _ in 0..2 {
        queue.submit(at(nvm::FLUSH, 0), Data::None).unwrap();
    }
    let error = queue.into_tcp().unwrap_err();
    assert_eq!(error, TakeApartError::Outstanding { outstanding: 2 });
    controller.join().unwrap();

    let (mut queue, controller) = connect(tcp);
    let other = queue.submit(at(nvm::FLUSH, 0), Data::None).unwrap();
    let id = queue.submit(at(nvm::FLUSH, 0), Data::None).unwrap();
    queue.wait(id, soon()).unwrap();
    assert_ne!(other, id);
    assert_eq!(queue.into_tcp().unwrap_err(), TakeApartError::Unfetched { completions: 1 });
    controller.join().unwrap();

    let (queue, controller) = connect(Carrier::InProcess);
    assert_eq!(queue.into_tcp().unwrap_err(), TakeApartError::NotTcp);
    controller.join().unwrap();
}
