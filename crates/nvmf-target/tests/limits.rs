//! What hosts may ask of a namespace in a second.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use nvme_spec::opcode;
use nvmf::Data;
use nvmf::host::{CommandId, QueuePair};
use nvmf_target::{Limits, Namespace, NamespaceChange, Subsystem};

fn target(limits: Limits) -> Running {
    let ns = |nsid| Namespace::open(nsid, &"mem:4M,bs=512".parse().unwrap()).unwrap();
    let limited = ns(1).limits(limits);
    let subsystem = Subsystem::builder(nqn()).with(limited).with(ns(2).uuid([2; 16])).build();
    Running::start(subsystem.unwrap())
}

fn writes(a_second: u64) -> Limits {
    Limits { write_iops: NonZeroU64::new(a_second), ..Limits::default() }
}

fn submit_write(queue: &mut QueuePair, nsid: u32, slba: u64, data: &[u8]) -> CommandId {
    let blocks = u32::try_from(data.len() / 512).unwrap();
    let sqe = command(opcode::nvm::WRITE, nsid, slba, blocks);
    queue.submit(sqe, Data::Write(vec![Bytes::copy_from_slice(data)])).unwrap()
}

#[test]
fn commands_over_the_limit_wait_and_are_done() {
    for over in BOTH {
        let target = target(writes(100));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let begun = Instant::now();
        for n in 0..40 {
            write(&mut queue, 1, n, 512, &[1; 512]).unwrap();
        }
        // At most 10 at once, and 100 a second.
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(250), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn what_is_not_limited_passes_what_waits_on_the_same_queue() {
    for length in [512, 64 << 10] {
        let target = target(writes(1));
        let mut host = target.associate(Over::Tcp, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let waiting: Vec<CommandId> =
            (0..20).map(|_| submit_write(&mut queue, 1, 0, &vec![7; length])).collect();
        let begun = Instant::now();
        for n in 0..50 {
            write(&mut queue, 2, n, 512, &[1; 512]).unwrap();
            read(&mut queue, 1, n, 512, 512).unwrap();
        }
        let large = pattern(1, 1 << 20);
        write(&mut queue, 2, 0, 512, &large).unwrap();
        assert_eq!(read(&mut queue, 2, 0, 512, 1 << 20).unwrap(), large);
        assert!(begun.elapsed() < Duration::from_secs(8));
        assert!(queue.outstanding() > 10);

        // Without the limit all are done at once, and in their order.
        let change = NamespaceChange::Limits(Limits::default());
        target.handle.change_namespace(&nqn(), 1, change).unwrap();
        let begun = Instant::now();
        for id in waiting {
            assert!(queue.wait(id, soon()).unwrap().status().is_success());
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(read(&mut queue, 1, 0, 512, length).unwrap(), vec![7; length]);
    }
}

#[test]
fn a_changed_limit_holds_at_once() {
    for over in BOTH {
        let target = target(writes(1));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let waiting: Vec<CommandId> =
            (0..30).map(|n| submit_write(&mut queue, 1, n, &[1; 512])).collect();
        queue.flush(soon()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let change = NamespaceChange::Limits(writes(100_000));
        target.handle.change_namespace(&nqn(), 1, change).unwrap();
        assert_eq!(target.handle.subsystems()[0].namespace(1).unwrap().limits(), writes(100_000));
        let begun = Instant::now();
        for id in waiting {
            assert!(queue.wait(id, soon()).unwrap().status().is_success());
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn bytes_are_limited_too_those_of_a_copy_among_them() {
    use nvme_spec::copy::CopyRequest;
    use nvmf::Transfer;
    for over in BOTH {
        let limits = Limits { bandwidth: NonZeroU64::new(1 << 20), ..Limits::default() };
        let target = target(limits);
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let begun = Instant::now();
        write(&mut queue, 1, 0, 512, &[1; 256 << 10]).unwrap();
        read(&mut queue, 1, 0, 512, 256 << 10).unwrap();
        let mut sqe = CopyRequest { sdlba: 4096, ..CopyRequest::default() }.to_sqe();
        sqe.nsid.set(1);
        let mut range = [0; 32];
        range[17] = 1;
        for _ in 0..2 {
            let pieces = [std::io::IoSlice::new(&range)];
            queue.execute(sqe, Transfer::Write(&pieces), soon()).unwrap();
        }
        // 256 KiB and 256 KiB and 128 KiB before the last, of which 100 ms are given.
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(400), "{took:?}");
    }
}

#[test]
fn a_target_stops_though_commands_wait_for_limits() {
    for over in BOTH {
        let target = target(writes(1));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        for n in 0..60 {
            submit_write(&mut queue, 1, n, &[1; 512]);
        }
        queue.flush(soon()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let begun = Instant::now();
        target.stop().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{over:?}");
    }
}

#[test]
fn the_namespace_of_commands_that_wait_can_be_removed() {
    let target = target(writes(1));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    let waiting: Vec<CommandId> =
        (0..30).map(|n| submit_write(&mut queue, 1, n, &[1; 512])).collect();
    queue.flush(soon()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    target.handle.remove_namespace(&nqn(), 1).unwrap();
    let failed = waiting
        .into_iter()
        .filter(|id| !queue.wait(*id, soon()).unwrap().status().is_success())
        .count();
    assert!(failed >= 15, "{failed}");
}
