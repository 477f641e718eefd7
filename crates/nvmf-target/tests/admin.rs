//! Admin commands over the wire: data from the host, and commands that abort others.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use nvme_spec::feature::{Timestamp, fid};
use nvme_spec::property::{Cc, offset};
use nvme_spec::{Sqe, Status, opcode};
use nvmf::host::{ConnectOptions, QueuePair};
use nvmf::transport::tcp::HostTcp;
use nvmf::{Data, Error, Transfer};
use nvmf_proto::connect::{ConnectError, ControllerChoice};
use nvmf_proto::tcp::HostConfig;
use nvmf_storage::{BlockSize, Fault, Faulty, Geometry, Memory, Operation};
use nvmf_target::Subsystem;
use zerocopy::IntoBytes;

/// 12 MiB that do what they are told.
fn faulty() -> (Arc<Faulty<Memory>>, Running) {
    let geometry = Geometry::from_bytes(BlockSize::B4096, 12 << 20).unwrap();
    let backend = Arc::new(Faulty::new(Memory::new(geometry).unwrap()));
    let subsystem = Subsystem::builder(nqn()).namespace(1, backend.clone()).build().unwrap();
    (backend, Running::start(subsystem))
}

fn feature(opcode: u8, fid: u8, value: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.set_cdw(10, fid.into());
    sqe.set_cdw(11, value);
    sqe
}

/// Sets the time, and reads it back.
fn set_time(admin: &mut QueuePair) -> Result<Timestamp, Error> {
    let time = Timestamp::new(1_900_000_000_000);
    let set = feature(opcode::admin::SET_FEATURES, fid::TIMESTAMP, 0);
    admin.execute(set, Transfer::Write(&[IoSlice::new(time.as_bytes())]), soon())?;
    let mut read = Timestamp::default();
    let get = feature(opcode::admin::GET_FEATURES, fid::TIMESTAMP, 0);
    let room = &mut [std::io::IoSliceMut::new(read.as_mut_bytes())];
    admin.execute(get, Transfer::Read(room), soon())?;
    Ok(read)
}

#[track_caller]
fn assert_time(result: Result<Timestamp, Error>) {
    let time = result.unwrap();
    assert!(time.set_by_host());
    assert!((1_900_000_000_000..1_900_000_060_000).contains(&time.milliseconds()));
}

#[test]
fn data_comes_in_the_capsule() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let mut host = target.associate(over, 1);
        assert_time(set_time(host.admin()));
    }
}

#[test]
fn data_that_is_not_in_the_capsule_is_asked_for() {
    let target = Running::start(subsystem(&["mem:1M"]));
    for data_digest in [false, true] {
        let config = HostConfig { in_capsule: 0, data_digest, ..Default::default() };
        let transport = HostTcp::connect(target.address, &config, soon()).unwrap();
        let options = options(1);
        let options = ConnectOptions::new(options.host, options.host_id, nqn());
        let mut admin = QueuePair::connect(Box::new(transport), &options, soon()).unwrap();
        let enable =
            nvme_spec::fabrics::PropertySet::new(offset::CC, Cc::ENABLE.0.into(), false).to_sqe();
        admin.execute(enable, Transfer::None, soon()).unwrap();
        assert_time(set_time(&mut admin));
        // Its length is wrong: it is not asked for, and the queue goes on.
        let set = feature(opcode::admin::SET_FEATURES, fid::TIMESTAMP, 0);
        let long = vec![0; 100_000];
        let result = admin.execute(set, Transfer::Write(&[IoSlice::new(&long)]), soon());
        assert_status(result, Status::DATA_SGL_LENGTH_INVALID);
        assert_time(set_time(&mut admin));
    }
}

#[test]
fn a_write_cache_that_is_switched_off_is_written_first() {
    for over in BOTH {
        let geometry = Geometry::from_bytes(BlockSize::B4096, 1 << 20).unwrap();
        let backend = Arc::new(Faulty::new(Memory::new(geometry).unwrap()));
        let subsystem = Subsystem::builder(nqn()).namespace(1, backend.clone()).build().unwrap();
        let target = Running::start(subsystem);
        let mut host = target.associate(over, 1);
        let off = feature(opcode::admin::SET_FEATURES, fid::VOLATILE_WRITE_CACHE, 0);
        host.admin().execute(off, Transfer::None, soon()).unwrap();
        assert_eq!(backend.count(Operation::Flush), 1);
        backend.inject(Fault::on(Operation::Flush).failing(nvmf_storage::Failure::Io).times(1));
        let failed = host.admin().execute(off, Transfer::None, soon());
        assert_status(failed, Status::WRITE_FAULT);
        assert_eq!(host.active_namespaces().unwrap(), [1], "it goes on");
    }
}

#[test]
fn a_namespace_that_a_host_protects_takes_no_writes() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    let mut protect = feature(opcode::admin::SET_FEATURES, fid::WRITE_PROTECTION, 1);
    protect.nsid.set(1);
    host.admin().execute(protect, Transfer::None, soon()).unwrap();
    let result = write(&mut queue, 1, 0, 4096, &[1; 4096]);
    assert_status(result, Status::NAMESPACE_WRITE_PROTECTED);
    protect.set_cdw(11, 0);
    host.admin().execute(protect, Transfer::None, soon()).unwrap();
    write(&mut queue, 1, 0, 4096, &[1; 4096]).unwrap();
}

fn abort(admin: &mut QueuePair, qid: u16, cid: u16) -> bool {
    let mut sqe = Sqe::new(opcode::admin::ABORT);
    sqe.set_cdw(10, u32::from(qid) | u32::from(cid) << 16);
    admin.execute(sqe, Transfer::None, soon()).unwrap().dw0 == 0
}

#[test]
fn a_command_that_waits_for_others_is_aborted_and_one_that_is_executed_is_not() {
    let (backend, target) = faulty();
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    backend.inject(Fault::on(Operation::Read).delayed(Duration::from_secs(2)).times(2));
    // Two take all memory that a queue has.
    let ids: Vec<_> = (0..3)
        .map(|n| {
            let read = command(opcode::nvm::READ, 1, n * 256, 256);
            queue.submit(read, Data::read(1 << 20)).unwrap()
        })
        .collect();
    queue.flush(soon()).unwrap();
    wait_until("the reads to begin", || backend.count(Operation::Read) == 2);
    wait_until("the last to be aborted", || abort(host.admin(), 1, ids[2].cid()));
    assert!(!abort(host.admin(), 1, ids[2].cid()), "only once");
    assert!(!abort(host.admin(), 1, ids[0].cid()), "it is executed");
    assert!(!abort(host.admin(), 2, ids[0].cid()), "there is no such queue");
    let statuses = ids.into_iter().map(|id| queue.wait(id, soon()).unwrap().status());
    let same = |(status, expected): (Status, Status)| status.same_code(expected);
    let expected = [Status::SUCCESS, Status::SUCCESS, Status::ABORT_REQUESTED];
    assert!(statuses.zip(expected).all(same));
    for _ in 0..20 {
        read(&mut queue, 1, 0, 4096, 4096).unwrap();
    }
    assert_eq!(backend.count(Operation::Read), 22, "it never began");
}

#[test]
fn a_write_whose_data_is_still_to_come_is_aborted() {
    let target = Running::start(subsystem(&["mem:4M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    for _ in 0..3 {
        let sqe = command(opcode::nvm::WRITE, 1, 0, 256);
        let id = queue.submit(sqe, Data::write(vec![7; 1 << 20])).unwrap();
        // The data is not sent before this end looks what it was asked for.
        queue.flush(soon()).unwrap();
        wait_until("it to be aborted", || abort(host.admin(), 1, id.cid()));
        let status = queue.wait(id, soon()).unwrap().status();
        assert!(status.same_code(Status::ABORT_REQUESTED), "{status}");
    }
    assert_eq!(read(&mut queue, 1, 0, 4096, 4096).unwrap(), [0; 4096], "nothing was written");
    write(&mut queue, 1, 0, 4096, &[8; 1 << 20]).unwrap();
    assert_eq!(read(&mut queue, 1, 0, 4096, 4096).unwrap(), [8; 4096]);
}

#[test]
fn a_queue_that_executes_one_command_after_the_other_aborts_none() {
    let target = Running::start(subsystem(&["mem:1M"]));
    let mut host = target.associate(Over::InProcess, 1);
    let _queues = host.connect_io_queues(1, None).unwrap();
    assert!(!abort(host.admin(), 1, 0) && !abort(host.admin(), 2, 0));
}

#[test]
fn commands_after_a_shutdown_are_refused_on_every_queue() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M"]));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        host.property_set(offset::CC, Cc::ENABLE.with_shn(1).0.into()).unwrap();
        wait_until("the shutdown", || host.property_get(offset::CSTS).unwrap() & 0xc == 0x8);
        let result = read(&mut queue, 1, 0, 4096, 4096);
        assert_status(result, Status::COMMAND_SEQUENCE_ERROR);
        let keep_alive = Sqe::new(opcode::admin::KEEP_ALIVE);
        let result = host.admin().execute(keep_alive, Transfer::None, soon());
        assert_status(result, Status::COMMAND_SEQUENCE_ERROR);
    }
}

#[test]
fn controllers_that_are_always_there_are_asked_for_by_identifier_or_as_any() {
    let fixed = Subsystem::builder(nqn()).controller_ids(9, 100).static_controllers(2);
    let target = Running::start(fixed.build().unwrap());
    let connect = |n, controller| {
        let config = HostConfig::default();
        let transport = HostTcp::connect(target.address, &config, soon()).unwrap();
        let options = options(n);
        let options = ConnectOptions::new(options.host, options.host_id, nqn());
        let options = ConnectOptions { controller, ..options };
        QueuePair::connect(Box::new(transport), &options, soon())
    };
    let one = connect(1, ControllerChoice::StaticAny).unwrap();
    let two = connect(2, ControllerChoice::Id(10)).unwrap();
    assert_eq!((one.cntlid(), two.cntlid()), (9, 10));
    match connect(3, ControllerChoice::StaticAny) {
        Err(Error::Connect(ConnectError::Status(status))) => {
            assert!(status.same_code(Status::CONNECT_CONTROLLER_BUSY), "{status}");
        }
        other => panic!("{other:?}"),
    }
    match connect(3, ControllerChoice::Dynamic) {
        Err(Error::Connect(ConnectError::Invalid(parameter))) => {
            assert_eq!((parameter.in_data, parameter.offset), (true, 16));
        }
        other => panic!("{other:?}"),
    }
}
