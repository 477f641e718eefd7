//! How large commands, queues and capsules are, where a target or a subsystem says so.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use common::*;
use nvme_spec::Status;
use nvme_spec::fabrics::{Connect, InvalidParameter};
use nvmf::Error;
use nvmf::host::{Association, ConnectOptions, QueuePair};
use nvmf::transport::tcp::HostTcp;
use nvmf::transport::{HostTransport, in_process};
use nvmf_proto::connect::{ConnectError, ControllerChoice};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::HostConfig;
use nvmf_target::limits::{InCapsule, MaxTransfer};
use nvmf_target::{Subsystem, SubsystemBuilder, Target};

fn disks() -> SubsystemBuilder {
    Subsystem::builder(nqn()).open(&"mem:4M,bs=512".parse().unwrap()).unwrap()
}

fn entries(n: u32) -> QueueSize {
    QueueSize::new(n).unwrap()
}

/// Connects I/O queue 1 of a host as it was told not to.
fn connect_queue(
    target: &Running,
    over: Over,
    host: &Association,
    size: u32,
    in_capsule: u32,
) -> Result<QueuePair, Error> {
    let transport: Box<dyn HostTransport> = match over {
        Over::Tcp => {
            let config = HostConfig { in_capsule, ..HostConfig::default() };
            Box::new(HostTcp::connect(target.address, &config, soon()).unwrap())
        }
        Over::InProcess => {
            let (near, far) = in_process::pair();
            target.handle.serve(Box::new(far)).unwrap();
            Box::new(near)
        }
    };
    let options = options(1);
    let options = ConnectOptions {
        qid: 1,
        size: entries(size),
        controller: ControllerChoice::Id(host.cntlid()),
        ..ConnectOptions::new(options.host, options.host_id, nqn())
    };
    QueuePair::connect(transport, &options, soon())
}

#[test]
fn a_transfer_of_the_most_there_is_works_and_one_block_more_does_not() {
    let most = MaxTransfer::new(64 << 10).unwrap();
    for over in BOTH {
        let target = Running::start(disks().max_transfer(most).build().unwrap());
        let mut host = target.associate(over, 1);
        assert_eq!(host.max_transfer(), 64 << 10);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let data = pattern(1, 64 << 10);
        write(&mut queue, 1, 3, 512, &data).unwrap();
        assert_eq!(read(&mut queue, 1, 3, 512, data.len()).unwrap(), data);
        let larger = vec![9; data.len() + 512];
        assert_status(write(&mut queue, 1, 3, 512, &larger), Status::INVALID_FIELD);
        assert_status(read(&mut queue, 1, 3, 512, larger.len()), Status::INVALID_FIELD);
        assert_eq!(read(&mut queue, 1, 3, 512, data.len()).unwrap(), data, "nothing was written");
    }
}

#[test]
fn a_queue_that_is_larger_than_the_subsystem_has_is_refused_at_its_size() {
    for over in BOTH {
        let target = Running::start(disks().max_queue_entries(entries(64)).build().unwrap());
        let mut host = target.associate(over, 1);
        assert_eq!(host.capabilities().mqes(), 63);
        assert_eq!(host.controller().maxcmd.get(), 64);
        for size in [65, 1024, 1025] {
            let offset = Connect::OFFSET_SQSIZE;
            match connect_queue(&target, over, &host, size, 8192) {
                Err(Error::Connect(ConnectError::Invalid(parameter))) => {
                    assert_eq!(parameter, InvalidParameter { in_data: false, offset }, "{size}");
                }
                other => panic!("{size}: {other:?}"),
            }
        }
        let mut queue = connect_queue(&target, over, &host, 64, 8192).unwrap();
        write(&mut queue, 1, 0, 512, &[1; 512]).unwrap();
        drop(queue);
        // Who looks at what it is told gets no more, whatever it asks for.
        wait_until("a queue", || host.connect_io_queue(Some(entries(1024))).is_ok());
    }
}

#[test]
fn data_is_written_and_read_back_whatever_a_capsule_may_bring() {
    for bytes in [0, 16, 4096, 16 << 10] {
        for over in BOTH {
            let builder = Target::builder().subsystem(disks().build().unwrap());
            let target = Running::start_with(builder.in_capsule(InCapsule::new(bytes).unwrap()));
            let mut host = target.associate(over, 1);
            assert_eq!(host.controller().in_capsule_data(), u64::from(bytes));
            let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
            for (seed, length) in (1..).zip([512, 4096, 4608, 16 << 10, 128 << 10]) {
                let data = pattern(seed, length);
                write(&mut queue, 1, seed, 512, &data).unwrap();
                assert_eq!(read(&mut queue, 1, seed, 512, length).unwrap(), data);
            }
        }
    }
}

#[test]
fn more_in_a_capsule_than_was_told_ends_the_connection_and_no_other() {
    let builder = Target::builder().subsystem(disks().build().unwrap());
    let target = Running::start_with(builder.in_capsule(InCapsule::new(4096).unwrap()));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = connect_queue(&target, Over::Tcp, &host, 32, 8192).unwrap();
    write(&mut queue, 1, 0, 512, &[1; 4096]).unwrap();
    let result = write(&mut queue, 1, 0, 512, &[2; 4608]);
    assert!(matches!(result, Err(Error::Transport(_))), "{result:?}");
    drop(queue);
    assert_eq!(host.active_namespaces().unwrap(), [1]);
    let mut queue = host.connect_io_queue(None);
    wait_until("its place to be free", || {
        if queue.is_err() {
            queue = host.connect_io_queue(None);
        }
        queue.is_ok()
    });
    assert_eq!(read(&mut queue.unwrap(), 1, 0, 512, 4096).unwrap(), [1; 4096]);
}
