//! What hosts can do with a target, over both transports.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use common::*;
use nvme_spec::feature::{Select, fid};
use nvme_spec::identify::controller_type;
use nvme_spec::log::{ErrorLogEntry, GetLogPage, SmartLog, lid, subtype};
use nvme_spec::{Nqn, Sqe, Status, opcode};
use nvmf::{Data, Transfer};
use zerocopy::FromBytes;

#[test]
fn blocks_that_are_written_are_read_by_another_host_on_another_queue() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:8M,bs=512", "mem:8M"]));
        let mut one = target.associate(over, 1);
        let mut two = target.associate(over, 2);
        assert_ne!(one.cntlid(), two.cntlid());
        assert_eq!(two.active_namespaces().unwrap(), [1, 2]);
        let mut writers = one.connect_io_queues(2, None).unwrap();
        let mut readers = two.connect_io_queues(2, None).unwrap();
        // In the capsule, by R2T, and as much as one command can carry.
        for (i, length) in [4096, 64 << 10, 1 << 20].into_iter().enumerate() {
            let data = pattern(i as u64, length);
            write(&mut writers[0], 1, 3, 512, &data).unwrap();
            write(&mut writers[1], 2, 3, 4096, &data).unwrap();
            assert_eq!(read(&mut readers[0], 1, 3, 512, length).unwrap(), data, "{over:?}");
            assert_eq!(read(&mut readers[1], 2, 3, 4096, length).unwrap(), data, "{over:?}");
        }
        one.shutdown(writers).unwrap();
        two.shutdown(readers).unwrap();
        target.stop().unwrap();
    }
}

#[test]
fn many_commands_are_outstanding_on_one_queue() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:8M"]));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let blocks: Vec<Vec<u8>> = (0..100).map(|i| pattern(i, 4096)).collect();
        let written: Vec<_> = (0u64..)
            .zip(&blocks)
            .map(|(slba, block)| {
                let sqe = command(opcode::nvm::WRITE, 1, slba, 1);
                queue.submit(sqe, Data::write(block.clone())).unwrap()
            })
            .collect();
        for id in written {
            assert!(queue.wait(id, soon()).unwrap().status().is_success());
        }
        let reads: Vec<_> = (0..100)
            .map(|slba| {
                let sqe = command(opcode::nvm::READ, 1, slba, 1);
                queue.submit(sqe, Data::read(4096)).unwrap()
            })
            .collect();
        for (id, block) in reads.into_iter().zip(&blocks) {
            let completion = queue.wait(id, soon()).unwrap();
            assert!(completion.status().is_success());
            assert_eq!(completion.data.into_bytes(), block);
        }
    }
}

#[test]
fn hosts_work_at_the_same_time() {
    let target = Running::start(subsystem(&["mem:64M"]));
    std::thread::scope(|scope| {
        for n in 1..=6u8 {
            let target = &target;
            scope.spawn(move || {
                let mut host = target.associate(BOTH[usize::from(n) % 2], n);
                let mut queues = host.connect_io_queues(2, None).unwrap();
                for round in 0..20u64 {
                    let slba = u64::from(n) * 1024 + round * 16;
                    let data = pattern(slba, 16 * 4096);
                    let queue = &mut queues[usize::from(round % 2 == 1)];
                    write(queue, 1, slba, 4096, &data).unwrap();
                    assert_eq!(read(queue, 1, slba, 4096, data.len()).unwrap(), data);
                }
                host.shutdown(queues).unwrap();
            });
        }
    });
    target.wait_for_connections(0);
    target.stop().unwrap();
}

#[test]
fn digests_are_used_where_the_host_asks() {
    let target = Running::start(subsystem(&["mem:8M"]));
    for (header_digest, data_digest) in [(true, false), (false, true), (true, true)] {
        let mut options = options(1);
        options.header_digest = header_digest;
        options.data_digest = data_digest;
        let mut host = target.associate_to(Over::Tcp, &nqn(), options).unwrap();
        let mut queues = host.connect_io_queues(1, None).unwrap();
        let data = pattern(7, 256 << 10);
        write(&mut queues[0], 1, 0, 4096, &data).unwrap();
        assert_eq!(read(&mut queues[0], 1, 0, 4096, data.len()).unwrap(), data);
        host.shutdown(queues).unwrap();
    }
}

#[test]
fn flow_control_works_where_the_host_keeps_it() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:8M"]));
        let mut options = options(1);
        options.disable_flow_control = false;
        let mut host = target.associate_to(over, &nqn(), options).unwrap();
        let size = nvmf_proto::queue::QueueSize::new(4);
        let mut queue = host.connect_io_queues(1, size).unwrap().remove(0);
        assert!(queue.flow_control());
        for i in 0..10 {
            let data = pattern(i, 4096);
            write(&mut queue, 1, i, 4096, &data).unwrap();
            assert_eq!(read(&mut queue, 1, i, 4096, 4096).unwrap(), data);
        }
    }
}

#[test]
fn failed_commands_have_their_status_and_leave_the_queue_usable() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:4M", "null:1G"]));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let q = &mut queue;
        assert_status(write(q, 1, 1024, 4096, &[0; 4096]), Status::LBA_OUT_OF_RANGE);
        assert_status(write(q, 1, u64::MAX, 4096, &[0; 65536]), Status::LBA_OUT_OF_RANGE);
        assert_status(read(q, 1, 1023, 4096, 8192), Status::LBA_OUT_OF_RANGE);
        assert_status(read(q, 2, 0, 4096, (1 << 20) + 4096), Status::INVALID_FIELD);
        assert_status(write(q, 2, 0, 4096, &vec![0; (1 << 20) + 4096]), Status::INVALID_FIELD);
        assert_status(read(q, 9, 0, 4096, 4096), Status::INVALID_FIELD);
        assert_status(read(q, 9999, 0, 4096, 4096), Status::INVALID_NAMESPACE);
        assert_status(read(q, 1, 0, 8192, 8192), Status::DATA_SGL_LENGTH_INVALID);
        assert_status(q.execute(Sqe::new(0x7e), Transfer::None, soon()), Status::INVALID_OPCODE);
        write(q, 1, 0, 4096, &[7; 4096]).unwrap();
        assert_eq!(read(q, 1, 0, 4096, 4096).unwrap(), [7; 4096]);
        // The error log has all of them, the newest first.
        let request = GetLogPage { lid: lid::ERROR, ..Default::default() };
        let page = host.log_page(request, 4096).unwrap();
        let entries = <[ErrorLogEntry]>::ref_from_bytes(&page).unwrap();
        assert_eq!((entries[0].error_count.get(), entries[9].error_count.get()), (9, 0));
        assert_eq!(entries[0].opcode, 0x7e);
        assert_eq!(entries[0].sqid, 1);
    }
}

#[test]
fn the_smart_log_counts_what_hosts_did() {
    let target = Running::start(subsystem(&["mem:4M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    for _ in 0..3 {
        write(&mut queue, 1, 0, 4096, &[1; 4096]).unwrap();
    }
    read(&mut queue, 1, 0, 4096, 4096).unwrap();
    let request = GetLogPage { lid: lid::SMART, nsid: u32::MAX, ..Default::default() };
    let page = host.log_page(request, 512).unwrap();
    let smart = SmartLog::ref_from_bytes(&page).unwrap();
    assert_eq!((smart.host_write_commands.get(), smart.host_read_commands.get()), (3, 1));
    assert_eq!(smart.data_units_written, 1);
}

#[test]
fn a_file_keeps_its_data_and_its_identity_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    std::fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
    let spec = format!("file:{}", path.display());
    let data = pattern(3, 128 << 10);

    let target = Running::start(subsystem(&["mem:1M", &spec]));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queues = host.connect_io_queues(1, None).unwrap();
    write(&mut queues[0], 2, 8, 4096, &data).unwrap();
    let before = host.namespace_ids(2).unwrap();
    let serial = host.controller().sn;
    drop((host, queues));
    target.stop().unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[8 * 4096..][..data.len()], data);

    let target = Running::start(subsystem(&["mem:1M", &spec]));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queues = host.connect_io_queues(1, None).unwrap();
    assert_eq!(read(&mut queues[0], 2, 8, 4096, data.len()).unwrap(), data);
    assert_eq!(host.namespace_ids(2).unwrap(), before);
    assert!(before.uuid.is_some() && before.nguid.is_some());
    assert_eq!(host.controller().sn, serial);
}

#[test]
fn features_and_the_grant_of_queues() {
    let subsystem = nvmf_target::Subsystem::builder(nqn())
        .open(&"mem:1M".parse().unwrap())
        .unwrap()
        .max_io_queues(3)
        .build()
        .unwrap();
    let target = Running::start(subsystem);
    let mut host = target.associate(Over::Tcp, 1);
    let queues = host.connect_io_queues(8, None).unwrap();
    assert_eq!(queues.len(), 3);
    assert_status(host.request_io_queues(1), Status::COMMAND_SEQUENCE_ERROR);
    let kato = host.get_feature(fid::KEEP_ALIVE_TIMER, Select::Current, 0, &mut []).unwrap();
    assert_eq!(kato, 30_000);
    let mut id = [0; 16];
    let mut get = Sqe::new(opcode::admin::GET_FEATURES);
    get.set_cdw(10, fid::HOST_IDENTIFIER.into());
    get.set_cdw(11, 1);
    let room = &mut [std::io::IoSliceMut::new(&mut id)];
    host.admin().execute(get, Transfer::Read(room), soon()).unwrap();
    assert_eq!(id, [1; 16]);
}

#[test]
fn the_discovery_log_lists_every_listener() {
    for over in BOTH {
        let other: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let builder =
            nvmf_target::Target::builder().subsystem(subsystem(&["mem:1M"])).listen(other);
        let target = Running::start_with(builder);
        let mut host = target.associate_to(over, &Nqn::DISCOVERY, options(1)).unwrap();
        assert_eq!(host.controller().cntrltype, controller_type::DISCOVERY);
        let log = host.discovery_log().unwrap();
        assert_ne!(log.generation, 0);
        let of = |kind| log.entries.iter().filter(move |entry| entry.subtype == kind);
        assert_eq!((of(subtype::NVM).count(), of(subtype::CURRENT).count()), (2, 2));
        for entry in of(subtype::NVM) {
            assert_eq!(entry.subsystem_nqn().unwrap(), nqn());
            assert_eq!(entry.address().as_str(), Some("127.0.0.1"));
        }
        // What it says leads to the subsystem.
        let port = of(subtype::NVM).next().unwrap().port().unwrap();
        let address = format!("127.0.0.1:{port}");
        let found = nvmf::host::Association::connect_tcp(address, &nqn(), options(1)).unwrap();
        assert_eq!(found.controller().cntrltype, controller_type::IO);
        assert!(host.connect_io_queue(None).is_err());
    }
}
