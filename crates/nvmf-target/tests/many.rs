//! A thousand hosts at one subsystem, and what is left of them when they are gone.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::*;
use nvme_spec::feature::fid;
use nvme_spec::{HostId, Nqn};
use nvmf::host::{Association, HostOptions, QueuePair};
use nvmf_proto::queue::QueueSize;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const HOSTS: u64 = 1000;
/// Two connections of each host, with one descriptor at its end and two at the target's, and what
/// the process has besides.
const DESCRIPTORS: u64 = HOSTS * 2 * 3 + 200;

struct Host {
    association: Association,
    queue: QueuePair,
}

impl Host {
    fn connect(target: &Running, n: u64) -> Self {
        let name = Nqn::parse_strict(&format!("nqn.2026-01.org.example:host{n}")).unwrap();
        let mut options = HostOptions::new(name, HostId(u128::from(n).to_be_bytes()));
        options.timeout = Duration::from_secs(20);
        options.keep_alive = Duration::from_secs(120);
        let mut association = Association::connect_tcp(target.address, &nqn(), options).unwrap();
        let queue = association.connect_io_queues(1, QueueSize::new(16)).unwrap().remove(0);
        Self { association, queue }
    }
}

/// Two at a time.
fn connect_all(target: &Running) -> Vec<Host> {
    let half = |from: u64| {
        let numbers = from..from + HOSTS / 2;
        move || numbers.map(|n| Host::connect(target, n)).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(half(1));
        let second = half(HOSTS / 2 + 1)();
        first.join().unwrap().into_iter().chain(second).collect()
    })
}

fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|most| most >= DESCRIPTORS);
    assert!(enough, "{DESCRIPTORS} open files are needed: raise the hard limit, `ulimit -Hn`");
    if limit.current.is_some_and(|now| now < DESCRIPTORS) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), ..limit }).unwrap();
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory of the process in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_thousand_hosts_come_work_vanish_or_fall_silent_and_leave_nothing() {
    raise_descriptors();
    let target = Running::start(subsystem(&["mem:64M"]));
    target.associate(Over::Tcp, 1).shutdown(vec![]).unwrap();
    target.wait_for_connections(0);
    let (open, resident) = (descriptors(), memory());
    let begun = Instant::now();
    let report = |what: &str| {
        println!(
            "{what}: {:?}, {} descriptors and {} KiB more",
            begun.elapsed(),
            descriptors().saturating_sub(open),
            memory().saturating_sub(resident)
        );
    };

    let mut hosts = connect_all(&target);
    report("connected");
    let peak = memory();
    assert_eq!(target.handle.connections(), 2000);
    let controllers = target.handle.controllers();
    let ids: BTreeSet<u16> = controllers.iter().map(|controller| controller.cntlid).collect();
    assert_eq!((controllers.len(), ids.len()), (1000, 1000));
    assert!(controllers.iter().all(|controller| controller.io_queues == [1]));
    assert!(hosts.iter().all(|host| ids.contains(&host.association.cntlid())));
    let last = hosts.last_mut().unwrap();
    assert_eq!(last.association.identify_namespace(1).unwrap().nsze.get(), (64 << 20) / 4096);
    for (slba, host) in (0..).zip(&mut hosts).step_by(37) {
        let data = pattern(slba, 4096);
        write(&mut host.queue, 1, slba, 4096, &data).unwrap();
        assert_eq!(read(&mut host.queue, 1, slba, 4096, 4096).unwrap(), data);
    }

    // Half of them close their sockets and say nothing.
    let mut silent = hosts.split_off(hosts.len() / 2);
    let mut rest: BTreeSet<u16> = silent.iter().map(|host| host.association.cntlid()).collect();
    drop(hosts);
    wait_until("the vanished to be given up", || target.handle.controllers().len() == 500);
    target.wait_for_connections(1000);
    report("half vanished");
    rest.retain(|id| target.handle.controllers().iter().any(|left| left.cntlid == *id));
    assert_eq!(rest.len(), 500, "the others are still there");
    read(&mut silent[0].queue, 1, 0, 4096, 4096).unwrap();

    // The others keep theirs and say no more.
    for host in &mut silent {
        host.association.set_feature(fid::KEEP_ALIVE_TIMER, 0, 1000, &[]).unwrap();
    }
    wait_until("the silent to be given up", || target.handle.controllers().is_empty());
    target.wait_for_connections(0);
    report("half fell silent");
    let subsystem = &target.handle.report().subsystems[0];
    assert_eq!((subsystem.controllers, subsystem.io_queues), (0, 0));
    assert_eq!(subsystem.keep_alive_expirations, 500);
    assert!(read(&mut silent[0].queue, 1, 0, 4096, 4096).is_err());
    drop(silent);
    wait_until("the descriptors to be closed", || descriptors() <= open);
    report("all gone");
    // The allocator keeps what it got, and clears it for the first of those who come again; from
    // then on nothing is added.
    let mut after = Vec::new();
    for _ in 0..5 {
        let others: Vec<Host> = (1..=HOSTS / 4).map(|n| Host::connect(&target, n)).collect();
        drop(others);
        target.wait_for_connections(0);
        report("others came and went");
        after.push(memory());
    }
    let (grown, each) = (after[4].saturating_sub(after[1]), (peak - resident) / HOSTS);
    assert!(grown < each * HOSTS / 4 / 2, "{grown} KiB more, where a host took {each} KiB");
    target.stop().unwrap();
}
