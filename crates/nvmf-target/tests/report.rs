//! What a target tells of itself.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::*;
use nvme_spec::{Sqe, Status, opcode};
use nvmf::host::QueuePair;
use nvmf::{Data, Transfer};
use nvmf_storage::{BlockSize, Fault, Faulty, Geometry, Memory, Operation as Stored};
use nvmf_target::Subsystem;
use nvmf_target::statistics::{HostReport, NSID_OTHER, Operation};

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

/// A command without data.
fn plain(queue: &mut QueuePair, sqe: Sqe) -> Result<(), nvmf::Error> {
    queue.execute(sqe, Transfer::None, soon()).map(drop)
}

/// Commands and bytes of an operation.
fn sum(host: &HostReport, nsid: u32, operation: Operation) -> (u64, u64) {
    let sum = host.operations.get(&(nsid, operation)).copied().unwrap_or_default();
    (sum.latency.count(), sum.bytes)
}

#[test]
fn commands_are_counted_for_their_host_namespace_and_operation() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:8M,bs=512", "mem:8M"]));
        let mut host = target.associate(over, 1);
        let mut queues = host.connect_io_queues(2, None).unwrap();
        // In the capsule and not, on either queue.
        for (queue, length) in [(0, 512), (1, 64 << 10), (0, 1 << 20)] {
            write(&mut queues[queue], 1, 0, 512, &pattern(1, length)).unwrap();
            read(&mut queues[queue], 1, 0, 512, length).unwrap();
        }
        read(&mut queues[0], 2, 0, 4096, 8192).unwrap();
        plain(&mut queues[1], command(opcode::nvm::FLUSH, u32::MAX, 0, 1)).unwrap();
        plain(&mut queues[1], command(opcode::nvm::WRITE_ZEROES, 2, 0, 4)).unwrap();
        plain(&mut queues[1], command(opcode::nvm::VERIFY, 2, 0, 4)).unwrap();
        let beyond = read(&mut queues[0], 2, 1 << 40, 4096, 4096);
        assert_status(beyond, Status::LBA_OUT_OF_RANGE);
        let nowhere = read(&mut queues[0], 77, 0, 4096, 4096);
        assert_status(nowhere, Status::INVALID_FIELD);

        let check = || {
            let report = target.handle.report().subsystems.remove(0);
            assert_eq!(report.under_way, 0, "{over:?}");
            let [host] = &report.hosts[..] else { panic!("one host") };
            let moved = 512 + (64 << 10) + (1 << 20);
            assert_eq!(sum(host, 1, Operation::Write), (3, moved), "{over:?}");
            assert_eq!(sum(host, 1, Operation::Read), (3, moved));
            assert_eq!(sum(host, 2, Operation::Read), (1, 8192));
            assert_eq!(sum(host, u32::MAX, Operation::Flush), (1, 0));
            assert_eq!(sum(host, 2, Operation::WriteZeroes), (1, 16384));
            assert_eq!(sum(host, 2, Operation::Verify), (1, 16384));
            let took = host.operations[&(1, Operation::Write)].latency.seconds();
            assert!(took > 0.0 && took < 20.0, "{took} s");
            let failures: Vec<_> = host
                .failures
                .iter()
                .map(|(how, times)| (how.nsid, how.operation, how.status().unwrap(), *times))
                .collect();
            let beyond = (2, Operation::Read, Status::LBA_OUT_OF_RANGE, 1);
            let nowhere = (NSID_OTHER, Operation::Read, Status::INVALID_FIELD, 1);
            assert_eq!(failures, [nowhere, beyond], "{over:?}");
        };
        check();
        // What queues counted stays when they end.
        host.shutdown(queues).unwrap();
        target.wait_for_connections(0);
        let report = target.handle.report().subsystems.remove(0);
        assert_eq!(report.io_queues, 0);
        assert_eq!(sum(&report.hosts[0], 1, Operation::Write).0, 3);
        target.stop().unwrap();
    }
}

#[test]
fn commands_that_wait_for_the_storage_are_under_way() {
    let geometry = Geometry::from_bytes(BlockSize::B4096, 1 << 20).unwrap();
    let backend = Arc::new(Faulty::new(Memory::new(geometry).unwrap()));
    let disks = Subsystem::builder(nqn()).namespace(1, backend.clone()).build().unwrap();
    let target = Running::start(disks);
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    backend.inject(Fault::on(Stored::Read).delayed(Duration::from_millis(300)));
    let id = queue.submit(command(opcode::nvm::READ, 1, 0, 1), Data::read(4096)).unwrap();
    let under_way = || target.handle.report().subsystems[0].under_way;
    queue.flush(soon()).unwrap();
    wait_until("the command to come", || under_way() == 1);
    assert!(queue.wait(id, soon()).unwrap().status().is_success());
    assert_eq!(under_way(), 0);
    let report = target.handle.report().subsystems.remove(0);
    let latency = report.hosts[0].operations[&(1, Operation::Read)].latency;
    assert!((0.3..20.0).contains(&latency.seconds()), "{} s", latency.seconds());
}

#[cfg(feature = "metrics")]
#[test]
fn a_scrape_tells_what_a_host_just_did() {
    use nvmf_target::metrics::{Exposition, MetricsServer};

    let target = Running::start(subsystem(&["mem:1M"]));
    let handle = target.handle.clone();
    let exposition = Exposition::new(move || handle.report());
    let source = Arc::new(move || exposition.render());
    let server = MetricsServer::start("127.0.0.1:0".parse().unwrap(), source).unwrap();
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    for bytes in [4096u64, 8192] {
        write(&mut queue, 1, 0, 4096, &pattern(1, 4096)).unwrap();
        let mut scraper = TcpStream::connect(server.local_addr()).unwrap();
        scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut page = String::new();
        scraper.read_to_string(&mut page).unwrap();
        let line = format!(
            "nvmf_bytes_total{{subsystem=\"{NQN}\",namespace=\"1\",host=\"nqn.2026-01.org.example:host1\",operation=\"write\"}} {bytes}\n"
        );
        assert!(page.contains(&line), "{page}");
    }
}
