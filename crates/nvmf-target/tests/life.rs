//! How associations, queues and the target end, and who may not come in.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use nvme_spec::feature::fid;
use nvme_spec::property::{Cc, Csts, offset};
use nvme_spec::{HostId, Nqn, Sqe, Status, opcode};
use nvmf::host::{ConnectOptions, QueuePair};
use nvmf::transport::tcp::HostTcp;
use nvmf::{Data, Error, Transfer};
use nvmf_proto::connect::{ConnectError, ControllerChoice};
use nvmf_proto::queue::QueueSize;
use nvmf_storage::{BlockSize, Fault, Faulty, Geometry, Memory, Operation};
use nvmf_target::{Hosts, Subsystem, Target, TargetError};

/// A bare connection's Connect.
fn connect(target: &Running, options: &ConnectOptions) -> Result<QueuePair, Error> {
    let transport =
        HostTcp::connect(target.address, &nvmf_proto::tcp::HostConfig::default(), soon()).unwrap();
    QueuePair::connect(Box::new(transport), options, soon())
}

/// The Connect of host 1's I/O queue.
fn io_queue(qid: u16, cntlid: u16) -> ConnectOptions {
    let options = options(1);
    ConnectOptions::new(options.host, options.host_id, nqn()).io_queue(
        qid,
        QueueSize::new(16).unwrap(),
        cntlid,
    )
}

#[track_caller]
fn assert_invalid(result: Result<QueuePair, Error>, in_data: bool, offset: u16) {
    match result {
        Err(Error::Connect(ConnectError::Invalid(parameter))) => {
            assert_eq!((parameter.in_data, parameter.offset), (in_data, offset));
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_refused(result: Result<QueuePair, Error>, expected: Status) {
    match result {
        Err(Error::Connect(ConnectError::Status(status))) => {
            assert!(status.same_code(expected), "{status} instead of {expected}");
        }
        other => panic!("{other:?}"),
    }
}

/// A target whose namespace 1 does what it is told.
fn faulty() -> (Arc<Faulty<Memory>>, Running) {
    let geometry = Geometry::from_bytes(BlockSize::B4096, 1 << 20).unwrap();
    let backend = Arc::new(Faulty::new(Memory::new(geometry).unwrap()));
    let subsystem = Subsystem::builder(nqn()).namespace(1, backend.clone()).build().unwrap();
    (backend, Running::start(subsystem))
}

#[test]
fn an_unknown_subsystem_is_refused_by_its_name() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let other = Nqn::parse_strict("nqn.2026-01.org.example:other").unwrap();
        match target.associate_to(over, &other, options(1)) {
            Err(Error::Connect(ConnectError::Invalid(parameter))) => {
                assert_eq!((parameter.in_data, parameter.offset), (true, 256));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn io_queues_that_do_not_match_their_association_are_refused() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let host = target.associate(Over::Tcp, 1);
    let cntlid = host.cntlid();
    let good = io_queue(1, cntlid);

    assert_invalid(connect(&target, &io_queue(1, cntlid + 1)), true, 16);
    let other_id = ConnectOptions { host_id: HostId([9; 16]), ..good.clone() };
    assert_invalid(connect(&target, &other_id), true, 0);
    // The same first 16 bytes, which is where some stop comparing.
    let other_name = Nqn::parse_strict("nqn.2026-01.org.example:host2").unwrap();
    let other_name = ConnectOptions { host: other_name, ..good.clone() };
    assert_invalid(connect(&target, &other_name), true, 512);
    let dynamic = ConnectOptions { controller: ControllerChoice::Dynamic, ..good.clone() };
    assert_invalid(connect(&target, &dynamic), true, 16);
    assert_invalid(connect(&target, &io_queue(129, cntlid)), false, 42);
    let large = ConnectOptions { size: QueueSize::new(1025).unwrap(), ..good.clone() };
    assert_invalid(connect(&target, &large), false, 44);
    let of_discovery = ConnectOptions { subsystem: Nqn::DISCOVERY, ..good.clone() };
    assert_invalid(connect(&target, &of_discovery), false, 42);

    let _queue = connect(&target, &good).unwrap();
    assert_refused(connect(&target, &good), Status::COMMAND_SEQUENCE_ERROR);
    let _second = connect(&target, &io_queue(2, cntlid)).unwrap();
}

#[test]
fn io_queues_come_after_the_controller_is_enabled() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let options = options(1);
    let admin = ConnectOptions::new(options.host, options.host_id, nqn());
    let admin = connect(&target, &admin).unwrap();
    let early = connect(&target, &io_queue(1, admin.cntlid()));
    assert_refused(early, Status::COMMAND_SEQUENCE_ERROR);
}

#[test]
fn a_host_that_is_denied_after_its_admin_queue_connects_no_io_queue() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    host.request_io_queues(2).unwrap();
    let cntlid = host.cntlid();
    let _queue = connect(&target, &io_queue(1, cntlid)).unwrap();
    target.handle.set_hosts(&nqn(), Hosts::Only([options(2).host].into())).unwrap();
    assert_refused(connect(&target, &io_queue(2, cntlid)), Status::CONNECT_INVALID_HOST);
    // Its controller does not wait for it to be let in again.
    target.wait_for_connections(0);
    target.handle.set_hosts(&nqn(), Hosts::Any).unwrap();
    assert_invalid(connect(&target, &io_queue(2, cntlid)), true, 16);
}

#[test]
fn a_host_does_not_reach_the_controller_of_another() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut hosts = [target.associate(Over::Tcp, 1), target.associate(Over::Tcp, 2)];
    hosts.iter_mut().for_each(|host| assert_eq!(host.request_io_queues(1).unwrap(), (1, 1)));
    assert_invalid(connect(&target, &io_queue(1, hosts[1].cntlid())), true, 0);
    let _own = connect(&target, &io_queue(1, hosts[0].cntlid())).unwrap();
    // Nor does what it tried take the other's place.
    let _queues = hosts[1].connect_io_queue(None).unwrap();
}

#[test]
fn a_property_is_found_at_its_own_offset_only() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    for at in [offset::CAP + 4, offset::VS + 1, offset::CC + 2, offset::CSTS - 4, 0x24, 0xffc] {
        assert_status(host.property_get(at), Status::INVALID_FIELD);
        assert_status(host.property_set(at, 0), Status::INVALID_FIELD);
    }
    assert_eq!(host.active_namespaces().unwrap(), [1], "nothing was reset");
}

#[test]
fn a_queue_that_disconnects_frees_its_identifier() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let mut host = target.associate(over, 1);
        let queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let cntlid = host.cntlid();
        queue.disconnect(soon()).unwrap();
        target.wait_for_connections(1);
        if over == Over::Tcp {
            connect(&target, &io_queue(1, cntlid)).unwrap();
        }
        let disconnect = nvme_spec::fabrics::Disconnect::new().to_sqe();
        let result = host.admin().execute(disconnect, Transfer::None, soon());
        assert_status(result, Status::INVALID_QUEUE_TYPE);
    }
}

#[test]
fn the_end_of_the_admin_queue_ends_the_io_queues() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let mut host = target.associate(over, 1);
        let mut queues = host.connect_io_queues(3, None).unwrap();
        assert_eq!(target.handle.connections(), 4);
        drop(host);
        target.wait_for_connections(0);
        assert!(read(&mut queues[0], 1, 0, 4096, 4096).is_err());
        let late = connect(&target, &io_queue(1, 1));
        assert_invalid(late, true, 16);
    }
}

#[test]
fn a_reset_drops_the_io_queues_and_keeps_the_admin_queue() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let mut host = target.associate(over, 1);
        let mut queues = host.connect_io_queues(2, None).unwrap();
        let event_request = Sqe::new(opcode::admin::ASYNC_EVENT_REQUEST);
        let event = host.admin().submit(event_request, Data::None).unwrap();
        host.property_set(offset::CC, 0x46_0000).unwrap();
        assert_eq!(Csts(u32::try_from(host.property_get(offset::CSTS).unwrap()).unwrap()).rdy(), 0);
        target.wait_for_connections(1);
        let aborted = host.admin().wait(event, soon()).unwrap();
        assert!(aborted.status().same_code(Status::ABORT_REQUESTED));
        assert!(read(&mut queues[0], 1, 0, 4096, 4096).is_err());
        host.property_set(offset::CC, Cc::ENABLE.0.into()).unwrap();
        assert_eq!(host.active_namespaces().unwrap(), [1]);
    }
}

#[test]
fn a_reset_waits_for_a_write_that_is_under_way() {
    let (backend, target) = faulty();
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    backend.inject(Fault::on(Operation::Write).delayed(Duration::from_millis(400)).times(1));
    let sqe = command(opcode::nvm::WRITE, 1, 0, 1);
    queue.submit(sqe, Data::write(vec![5; 4096])).unwrap();
    queue.flush(soon()).unwrap();
    wait_until("the write to begin", || backend.count(Operation::Write) == 1);
    host.property_set(offset::CC, 0x46_0000).unwrap();
    // Had the reset not waited, the write would come after this one.
    host.property_set(offset::CC, Cc::ENABLE.0.into()).unwrap();
    let mut queue = connect(&target, &io_queue(1, host.cntlid())).unwrap();
    write(&mut queue, 1, 0, 4096, &[6; 4096]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(read(&mut queue, 1, 0, 4096, 4096).unwrap(), [6; 4096]);
}

#[test]
fn a_shutdown_makes_everything_durable_before_it_is_complete() {
    let (backend, target) = faulty();
    let mut host = target.associate(Over::Tcp, 1);
    let queues = host.connect_io_queues(1, None).unwrap();
    assert_eq!(backend.count(Operation::Flush), 0);
    host.shutdown(queues).unwrap();
    assert_eq!(backend.count(Operation::Flush), 1);
}

#[test]
fn a_shutdown_whose_flush_fails_is_not_complete() {
    let (backend, target) = faulty();
    let mut host = target.associate(Over::Tcp, 1);
    backend.inject(Fault::on(Operation::Flush).failing(nvmf_storage::Failure::Io));
    host.property_set(offset::CC, Cc::ENABLE.with_shn(1).0.into()).unwrap();
    let csts = Csts(u32::try_from(host.property_get(offset::CSTS).unwrap()).unwrap());
    assert_eq!((csts.shst(), csts.cfs()), (1, 1));
}

#[test]
fn a_silent_host_is_given_up_and_an_active_one_is_not() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut silent = options(1);
    silent.keep_alive = Duration::from_secs(1);
    let mut active = options(2);
    active.keep_alive = Duration::from_secs(1);
    let mut silent = target.associate_to(Over::Tcp, &nqn(), silent).unwrap();
    let _queues = silent.connect_io_queues(1, None).unwrap();
    let mut active = target.associate_to(Over::Tcp, &nqn(), active).unwrap();
    let mut queues = active.connect_io_queues(1, None).unwrap();
    let start = Instant::now();
    // I/O alone keeps the other one alive.
    while start.elapsed() < Duration::from_secs(3) {
        read(&mut queues[0], 1, 0, 4096, 4096).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(target.handle.connections(), 2, "of the active host");
    assert!(silent.active_namespaces().is_err());
    active.shutdown(queues).unwrap();
}

#[test]
fn a_host_that_asks_to_be_given_up_sooner_is() {
    for over in BOTH {
        for kato in [0, 120] {
            let target = Running::start(subsystem(&["mem:1M"]));
            let mut options = options(1);
            options.keep_alive = Duration::from_secs(kato);
            let mut host = target.associate_to(over, &nqn(), options).unwrap();
            host.set_feature(fid::KEEP_ALIVE_TIMER, 0, 1000, &[]).unwrap();
            let begun = Instant::now();
            target.wait_for_connections(0);
            assert!(begun.elapsed() > Duration::from_millis(500), "{over:?}: before its time");
        }
    }
}

#[test]
fn asynchronous_events_are_held_and_aborted() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let admin = host.admin();
    let request = || Sqe::new(opcode::admin::ASYNC_EVENT_REQUEST);
    let held: Vec<_> = (0..4).map(|_| admin.submit(request(), Data::None).unwrap()).collect();
    let fifth = admin.submit(request(), Data::None).unwrap();
    let refused = admin.wait(fifth, soon()).unwrap();
    assert!(refused.status().same_code(Status::AER_LIMIT_EXCEEDED));
    let mut abort = Sqe::new(opcode::admin::ABORT);
    abort.set_cdw(10, u32::from(held[2].cid()) << 16);
    assert_eq!(admin.execute(abort, Transfer::None, soon()).unwrap().dw0, 0);
    let aborted = admin.wait(held[2], soon()).unwrap();
    assert!(aborted.status().same_code(Status::ABORT_REQUESTED));
    assert_eq!(admin.execute(abort, Transfer::None, soon()).unwrap().dw0, 1);
}

#[test]
fn a_stop_answers_what_is_under_way() {
    for over in BOTH {
        let (backend, target) = faulty();
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        backend.inject(Fault::on(Operation::Write).delayed(Duration::from_millis(200)).times(1));
        let ids: Vec<_> = (0..3)
            .map(|slba| {
                let sqe = command(opcode::nvm::WRITE, 1, slba, 1);
                queue.submit(sqe, Data::write(vec![5; 4096])).unwrap()
            })
            .collect();
        queue.flush(soon()).unwrap();
        wait_until("the first write to begin", || backend.count(Operation::Write) >= 1);
        let handle = target.handle.clone();
        let stopping = std::thread::spawn(move || target.stop());
        // Also those that have come but not begun.
        for id in ids {
            assert!(queue.wait(id, soon()).unwrap().status().is_success());
        }
        stopping.join().unwrap().unwrap();
        assert!(backend.count(Operation::Flush) >= 1, "made durable at the end");
        assert_eq!(handle.connections(), 0);
    }
}

#[test]
fn a_stop_is_quick_when_hosts_are_idle() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let _queues = host.connect_io_queues(2, None).unwrap();
    let _half_open = TcpStream::connect(target.address).unwrap();
    wait_until("the connection", || target.handle.connections() == 4);
    let start = Instant::now();
    let address = target.address;
    target.stop().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}

#[test]
fn a_flush_that_fails_at_the_end_is_told() {
    let (backend, target) = faulty();
    backend.inject(Fault::on(Operation::Flush).failing(nvmf_storage::Failure::Io));
    match target.stop() {
        Err(TargetError::Flush { status, .. }) => assert_eq!(status, Status::WRITE_FAULT),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed_in_time() {
    let builder = Target::builder()
        .subsystem(subsystem(&["mem:1M"]))
        .connect_timeout(Duration::from_millis(300));
    let target = Running::start_with(builder);
    let mut silent = TcpStream::connect(target.address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0);
    target.wait_for_connections(0);
}

#[test]
fn a_connection_after_a_long_silence_has_all_of_its_time() {
    let builder = Target::builder()
        .subsystem(subsystem(&["mem:1M"]))
        .connect_timeout(Duration::from_millis(500))
        .cores(2);
    let target = Running::start_with(builder);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        let mut host = target.associate(Over::Tcp, 1);
        host.connect_io_queues(2, None).unwrap();
    }
}

#[test]
fn connections_beyond_the_limits_are_dropped_and_others_work_on() {
    let builder = Target::builder().subsystem(subsystem(&["mem:1M"])).max_half_open(2);
    let target = Running::start_with(builder.max_connections(3));
    let mut host = target.associate(Over::Tcp, 1);
    let idle: Vec<_> = (0..2).map(|_| TcpStream::connect(target.address).unwrap()).collect();
    wait_until("the connections", || target.handle.connections() == 3);
    let mut dropped = TcpStream::connect(target.address).unwrap();
    dropped.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(dropped.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(host.active_namespaces().unwrap(), [1]);
    drop(idle);
    target.wait_for_connections(1);
    host.connect_io_queues(1, None).unwrap();
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    for seed in 1..20 {
        let mut stream = TcpStream::connect(target.address).unwrap();
        // The target may close while it is still being written to.
        let _ = stream.write_all(&pattern(seed, 4096));
    }
    target.wait_for_connections(1);
    assert_eq!(host.active_namespaces().unwrap(), [1]);
}

/// A backend that panics when it is read.
#[derive(Debug)]
struct Bomb;

impl nvmf_storage::Backend for Bomb {
    fn geometry(&self) -> Geometry {
        Geometry::new(BlockSize::B4096, 8).unwrap()
    }
    fn read(&self, _: u64, _: &mut [std::io::IoSliceMut<'_>]) -> Result<(), nvmf_storage::Error> {
        panic!("the bomb went off, as the test wants")
    }
    fn write(
        &self,
        _: u64,
        _: &[std::io::IoSlice<'_>],
        _: nvmf_storage::Durability,
    ) -> Result<(), nvmf_storage::Error> {
        Ok(())
    }
    fn flush(&self) -> Result<(), nvmf_storage::Error> {
        Ok(())
    }
    fn write_zeroes(
        &self,
        _: u64,
        _: u64,
        _: nvmf_storage::Zero,
    ) -> Result<(), nvmf_storage::Error> {
        Ok(())
    }
    fn deallocate(&self, _: u64, _: u64) -> Result<(), nvmf_storage::Error> {
        Ok(())
    }
    fn volatile_write_cache(&self) -> bool {
        false
    }
    fn location(&self) -> String {
        "bomb".into()
    }
}

#[test]
fn a_backend_that_panics_takes_down_its_own_queue_only() {
    let subsystem = Subsystem::builder(nqn())
        .namespace(1, Arc::new(Bomb))
        .namespace(2, Arc::new(Memory::new(Geometry::new(BlockSize::B4096, 8).unwrap()).unwrap()))
        .build()
        .unwrap();
    let target = Running::start(subsystem);
    let mut host = target.associate(Over::Tcp, 1);
    let mut queues = host.connect_io_queues(2, None).unwrap();
    assert!(read(&mut queues[0], 1, 0, 4096, 4096).is_err());
    read(&mut queues[1], 2, 0, 4096, 4096).unwrap();
    let mut again = connect(&target, &io_queue(1, host.cntlid())).unwrap();
    read(&mut again, 2, 0, 4096, 4096).unwrap();
    target.stop().unwrap();
}

#[test]
fn a_port_in_use_and_names_used_twice_are_refused_at_the_start() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let taken = Target::builder().listen(target.address).bind();
    let text = taken.unwrap_err().to_string();
    assert!(text.contains(&target.address.to_string()) && text.contains("choose another port"));
    let twice = Target::builder()
        .subsystem(subsystem(&["mem:1M"]))
        .subsystem(subsystem(&["null:1M"]))
        .bind();
    assert!(matches!(twice, Err(TargetError::SameName { .. })));
}
