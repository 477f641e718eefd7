//! What a target tells of itself.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use common::*;

#[test]
fn connections_controllers_and_queues_are_those_there_are() {
    let before = SystemTime::now();
    let target = Running::start(subsystem(&["mem:1M", "null:64M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let queues = host.connect_io_queues(2, None).unwrap();
    let _other = target.associate(Over::InProcess, 2);
    let report = target.handle.report();
    assert!((before..=SystemTime::now()).contains(&report.started));
    assert_eq!((report.connections, report.accepted), (4, 4));
    let [disks] = &report.subsystems[..] else { panic!("one subsystem") };
    assert_eq!((disks.nqn.as_str(), disks.controllers, disks.io_queues), (NQN, 2, 2));
    let sizes: Vec<_> = disks.namespaces.iter().map(|ns| (ns.nsid, ns.bytes)).collect();
    assert_eq!(sizes, [(1, 1 << 20), (2, 64 << 20)]);
    host.shutdown(queues).unwrap();
    target.wait_for_connections(1);
    let report = target.handle.report();
    assert_eq!((report.connections, report.accepted), (1, 4));
    assert_eq!(report.subsystems[0].io_queues, 0);
}

#[test]
fn a_host_that_comes_again_reconnects() {
    let target = Running::start(subsystem(&["mem:1M"]));
    for over in BOTH {
        target.associate(over, 1).shutdown(vec![]).unwrap();
    }
    target.associate(Over::Tcp, 2).shutdown(vec![]).unwrap();
    let hosts = &target.handle.report().subsystems[0].hosts;
    let counts: Vec<_> = hosts
        .iter()
        .map(|host| (host.host.as_ref().unwrap().as_str(), host.connects, host.reconnects))
        .collect();
    assert_eq!(
        counts,
        [("nqn.2026-01.org.example:host1", 2, 1), ("nqn.2026-01.org.example:host2", 1, 0)]
    );
}

#[test]
fn peers_that_break_the_protocol_are_counted() {
    let target = Running::start(subsystem(&["mem:1M"]));
    for expected in 1..=2 {
        let mut peer = TcpStream::connect(target.address).unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // What it is told, if anything, and then the end.
        let _ = peer.read_to_end(&mut Vec::new());
        assert_eq!(target.handle.report().violations, expected);
    }
    assert_eq!(target.handle.report().digest_errors, 0);
}

#[test]
fn hosts_that_fell_silent_are_counted() {
    let target = Running::start(subsystem(&["mem:1M"]));
    for over in BOTH {
        let mut silent = options(1);
        silent.keep_alive = Duration::from_secs(1);
        let silent = target.associate_to(over, &nqn(), silent).unwrap();
        target.wait_for_connections(0);
        drop(silent);
    }
    assert_eq!(target.handle.report().subsystems[0].keep_alive_expirations, 2);
}
