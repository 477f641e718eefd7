//! Controllers and connections that fail.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Ask, at, connect, engines, options, queue, room, serve_ram, soon};
use nvmf::controller;
use nvmf::host::TcpQueue;
use nvmf::proto::tcp::{ControllerConfig, HostConfig};
use nvmf::proto::violation::Violation;
use nvmf::spec::opcode::nvm;
use nvmf::transport::TransportError;
use nvmf_host::{Buffer, CommandError, EngineChoice, Error, Next, Request, run};

/// Runs a workload that always reads 4 KiB, eight at once; how it failed, and what came of all.
fn read_on(engine: EngineChoice, queues: Vec<TcpQueue>) -> (Error, Vec<common::Done>) {
    let mut workload =
        Ask::new(|_, _, _: &[common::Done]| Next::Io(Request::new(at(nvm::READ, 0), room(4096))));
    let mut options = options(engine, 8);
    options.timeout = Duration::from_millis(500);
    let start = Instant::now();
    let error = run(queues, &mut workload, &options).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    (error, workload.done)
}

fn transport(error: &Error, qid: u16) -> &TransportError {
    match error {
        Error::Queue { qid: of, source: nvmf::Error::Transport(error) } if *of == qid => error,
        other => panic!("not a transport's error of queue {qid}: {other:?}"),
    }
}

/// Answers so many commands, and then leaves it.
fn answer(queue: &mut controller::QueuePair, count: usize) {
    for _ in 0..count {
        let command = queue.receive(soon()).unwrap().unwrap();
        let data = vec![7; command.data_len() as usize];
        queue.respond_with_data(command, &[std::io::IoSlice::new(&data)], soon()).unwrap();
    }
    queue.flush(soon()).unwrap();
}

#[test]
fn a_command_that_is_not_answered_in_time_ends_the_run_and_names_the_queue() {
    for engine in engines() {
        let (end, ended) = mpsc::channel::<()>();
        let (one, first) = queue(1, serve_ram);
        let (two, second) = queue(2, move |mut queue| {
            answer(&mut queue, 100);
            let _ = ended.recv();
        });
        let (error, done) = read_on(engine, vec![one, two]);
        assert!(matches!(transport(&error, 2), TransportError::TimedOut), "{error}");
        assert_eq!(error.to_string(), "I/O queue 2: no answer within the time given");
        assert!(error.is_connection());
        let lost = done.iter().filter(|done| done.result == Err(CommandError::Lost));
        assert!(lost.clone().filter(|done| done.queue == 1).count() == 4, "its share was lost");
        assert!(done.iter().filter(|done| done.result.is_ok()).count() > 100);
        drop(end);
        first.join().unwrap();
        second.join().unwrap();
    }
}

#[test]
fn a_request_may_have_a_limit_of_its_own() {
    for engine in engines() {
        let (one, controller) = queue(1, |mut queue| {
            let command = queue.receive(soon()).unwrap().unwrap();
            thread::sleep(Duration::from_millis(700));
            queue.succeed(command);
            queue.flush(soon()).unwrap();
            while let Ok(Some(command)) = queue.receive(soon()) {
                queue.succeed(command);
            }
        });
        let mut asked = 0;
        let mut workload = Ask::new(|_, _, _: &[common::Done]| {
            asked += 1;
            if asked > 1 {
                return Next::Done;
            }
            Next::Io(Request::flush(1).with_limit(Duration::from_secs(20)))
        });
        let mut options = options(engine, 8);
        options.timeout = Duration::from_millis(200);
        run(vec![one], &mut workload, &options).unwrap();
        workload.done[0].result.unwrap();
        controller.join().unwrap();
    }
}

#[test]
fn a_peer_that_hangs_up_ends_the_run_and_what_was_under_way_is_lost() {
    for engine in engines() {
        let (one, controller) = queue(5, |mut queue| answer(&mut queue, 50));
        let (error, done) = read_on(engine, vec![one]);
        assert!(matches!(transport(&error, 5), TransportError::Closed), "{error}");
        assert!(error.is_connection());
        let lost = done.iter().filter(|done| done.result == Err(CommandError::Lost)).count();
        assert!((1..=8).contains(&lost), "{lost} were under way");
        assert_eq!(done.len() - lost, 50);
        controller.join().unwrap();
    }
}

/// A queue of which the peer's end is in the hands of a test: bytes as they come.
fn by_hand(qid: u16) -> (TcpQueue, TcpStream) {
    // Flow control is off.
    by_hand_at(qid, 0xffff)
}

/// The same with this SQHD in the answer to Connect.
fn by_hand_at(qid: u16, sqhd: u16) -> (TcpQueue, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 128]).unwrap();
        let mut ic_resp = [0; 128];
        (ic_resp[0], ic_resp[2], ic_resp[4], ic_resp[13]) = (1, 128, 128, 0x10);
        stream.write_all(&ic_resp).unwrap();
        stream.read_exact(&mut [0; 72 + 1024]).unwrap();
        stream.write_all(&response(0, sqhd)).unwrap();
        stream
    });
    let queue = connect(address, &HostConfig::default(), qid);
    (queue, peer.join().unwrap())
}

/// A response capsule.
fn response(cid: u16, sqhd: u16) -> [u8; 24] {
    let mut capsule = [0; 24];
    (capsule[0], capsule[2], capsule[4]) = (5, 24, 24);
    capsule[8] = 7;
    capsule[16..18].copy_from_slice(&sqhd.to_le_bytes());
    capsule[20..22].copy_from_slice(&cid.to_le_bytes());
    capsule
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_so_before_the_connection_ends() {
    for engine in engines() {
        let (queue, mut peer) = by_hand(3);
        let told = thread::spawn(move || {
            peer.read_exact(&mut [0; 72]).unwrap();
            // Nobody asked for this.
            peer.write_all(&response(77, 0)).unwrap();
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).unwrap();
            rest
        });
        let (error, _) = read_on(engine, vec![queue]);
        let violation = Violation::UnknownCommand { kind: 5, cid: 77 };
        let expected =
            matches!(transport(&error, 3), TransportError::Violation(v) if *v == violation);
        assert!(expected, "{error}");
        assert!(!error.is_connection(), "a new connection would not help");
        let told = told.join().unwrap();
        // Behind what was sent before, an H2CTermReq with the header that was wrong.
        let term = &told[told.len() - 48..];
        assert_eq!((term[0], term[4]), (2, 48), "{told:x?}");
        assert_eq!(term[24..48], response(77, 0));
    }
}

#[test]
fn a_peer_that_says_we_broke_the_protocol_is_quoted() {
    for engine in engines() {
        let (queue, mut peer) = by_hand(1);
        let peer = thread::spawn(move || {
            peer.read_exact(&mut [0; 72]).unwrap();
            let mut term = [0; 24];
            (term[0], term[2], term[4], term[8]) = (3, 24, 24, 2);
            peer.write_all(&term).unwrap();
            let _ = peer.read_to_end(&mut Vec::new());
        });
        let (error, _) = read_on(engine, vec![queue]);
        assert!(matches!(transport(&error, 1), TransportError::Terminated(_)), "{error}");
        peer.join().unwrap();
    }
}

#[test]
fn what_was_received_before_is_not_forgotten() {
    for engine in engines() {
        let (mut queue, peer) = by_hand(1);
        // A PDU that no controller sends came with the answer to Connect.
        queue.received = vec![0xff; 8];
        let (error, _) = read_on(engine, vec![queue]);
        assert!(matches!(transport(&error, 1), TransportError::Violation(_)), "{error}");
        drop(peer);
    }
}

#[test]
fn a_peer_that_frees_no_entry_of_its_queue_does_not_hold_the_run() {
    for engine in engines() {
        let (queue, mut peer) = by_hand_at(1, 0);
        let peer = thread::spawn(move || {
            // It answers, but its head stays where it was: after 127 commands the queue is full.
            for _ in 0..127 {
                let mut capsule = [0; 72];
                peer.read_exact(&mut capsule).unwrap();
                let cid = u16::from_le_bytes([capsule[10], capsule[11]]);
                peer.write_all(&response(cid, 0)).unwrap();
            }
            let _ = peer.read_to_end(&mut Vec::new());
        });
        let mut workload = Ask::new(|_, _, _: &[common::Done]| Next::Io(Request::flush(1)));
        let mut options = options(engine, 8);
        options.timeout = Duration::from_millis(300);
        let error = run(vec![queue], &mut workload, &options).unwrap_err();
        assert!(matches!(transport(&error, 1), TransportError::TimedOut), "{error}");
        assert_eq!(workload.done.iter().filter(|done| done.result.is_ok()).count(), 127);
        peer.join().unwrap();
    }
}

#[test]
fn a_limit_shorter_than_that_of_all_is_kept() {
    for engine in engines() {
        let (queue, peer) = by_hand(1);
        let workload = Ask::new(|_, _, _: &[common::Done]| {
            Next::Io(Request::flush(1).with_limit(Duration::from_millis(200)))
        });
        let start = Instant::now();
        let error = run(vec![queue], workload, &options(engine, 1)).unwrap_err();
        assert!(matches!(transport(&error, 1), TransportError::TimedOut), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        drop(peer);
    }
}

#[test]
fn a_peer_that_takes_nothing_does_not_hold_the_run() {
    for engine in engines() {
        let (queue, peer) = by_hand(1);
        // In-capsule writes until the sockets are full: nobody reads.
        let mut workload = Ask::new(|_, _, _: &[common::Done]| {
            Next::Io(Request::new(at(nvm::WRITE, 0), Buffer::Write(vec![1; 8192].into())))
        });
        let mut options = options(engine, 127);
        options.timeout = Duration::from_millis(300);
        let start = Instant::now();
        let error = run(vec![queue], &mut workload, &options).unwrap_err();
        assert!(matches!(transport(&error, 1), TransportError::TimedOut), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(workload.done.len(), 127);
        drop(peer);
    }
}

#[test]
fn data_that_came_damaged_is_told_from_a_status() {
    for engine in engines() {
        for length in [4096, 65536] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
            let proxied = proxy.local_addr().unwrap();
            let controller = thread::spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let config = ControllerConfig::default();
                let transport =
                    nvmf::transport::tcp::ControllerTcp::accept(stream, &config, soon()).unwrap();
                let accept = controller::AcceptOptions::default();
                let pending = controller::accept(Box::new(transport), &accept, soon()).unwrap();
                serve_ram(pending.accept(7, soon()).unwrap());
            });
            thread::spawn(move || {
                let (mut host, _) = proxy.accept().unwrap();
                let mut target = TcpStream::connect(address).unwrap();
                let (mut back, mut to) = (target.try_clone().unwrap(), host.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut host, &mut target);
                    let _ = target.shutdown(std::net::Shutdown::Both);
                });
                // ICResp and the answer to Connect, then a header, and then data.
                let mut passed = 0;
                let mut bytes = [0; 1 << 16];
                while let Ok(n @ 1..) = back.read(&mut bytes) {
                    let victim = 128 + 24 + 24 + 1000;
                    if (passed..passed + n).contains(&victim) {
                        bytes[victim - passed] ^= 4;
                    }
                    passed += n;
                    to.write_all(&bytes[..n]).unwrap();
                }
            });
            let config = HostConfig { data_digest: true, ..HostConfig::default() };
            let queue = connect(proxied, &config, 1);
            let mut asked = 0;
            let mut workload = Ask::new(|_, _, _: &[common::Done]| {
                asked += 1;
                if asked > 2 {
                    return Next::Done;
                }
                Next::Io(Request::new(at(nvm::READ, 0), room(length)))
            });
            run(vec![queue], &mut workload, &options(engine, 1)).unwrap();
            let results: Vec<_> = workload.done.iter().map(|done| done.result).collect();
            assert!(matches!(results[0], Err(CommandError::Damaged(_))), "{results:?}");
            results[1].unwrap();
            controller.join().unwrap();
        }
    }
}
