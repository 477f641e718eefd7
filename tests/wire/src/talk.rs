//! What the hosts of these conversations say.

use std::io::{IoSlice, IoSliceMut};

use nvme_spec::feature::{Select, fid};
use nvme_spec::identify::cns;
use nvme_spec::log::{GetLogPage, lid};
use nvme_spec::opcode::{admin, nvm};
use nvme_spec::property::offset;
use nvme_spec::{HostId, Nqn, Sqe, Status};
use nvmf::host::{Association, HostOptions, QueuePair, TcpDialer};
use nvmf::{Data, Error, Transfer};
use nvmf_proto::tcp::ControllerConfig;

use crate::recording::{Recorder, Recording};
use crate::target::{BLOCK, BLOCKS, SUBSYSTEM, Target, soon};

/// Records what `talk` says to a target.
pub fn record(config: ControllerConfig, talk: impl FnOnce(TcpDialer)) -> Recording {
    let target = Target::start(config);
    let recorder = Recorder::start(target.address());
    talk(TcpDialer::new(recorder.address()));
    let recording = recorder.finish();
    target.finish();
    recording
}

/// A host.
pub fn options() -> HostOptions {
    let host = Nqn::lenient("nqn.2026-01.org.example:host").unwrap();
    HostOptions::new(host, HostId([9; 16]))
}

/// All there is: the discovery controller's log, then an I/O controller with one I/O queue.
pub fn everything(dialer: TcpDialer, options: &HostOptions) {
    let mut discovery =
        Association::connect(dialer.clone(), &Nqn::DISCOVERY, options.clone()).unwrap();
    assert!(!discovery.discovery_log().unwrap().entries.is_empty());
    discovery.shutdown(Vec::new()).unwrap();

    let subsystem = Nqn::lenient(SUBSYSTEM).unwrap();
    let mut association = Association::connect(dialer, &subsystem, options.clone()).unwrap();
    properties(&mut association);
    identify(&mut association);
    log_pages(&mut association);
    features(&mut association);
    other_admin_commands(&mut association);
    let mut queues = association.connect_io_queues(1, None).unwrap();
    reads_and_writes(&mut queues[0]);
    other_io_commands(&mut queues[0]);
    association.shutdown(queues).unwrap();
}

fn refused<T>(result: Result<T, Error>, status: Status) {
    let error = result.map(|_| ()).unwrap_err();
    assert!(error.has_status(status), "{error}, not {status}");
}

fn properties(association: &mut Association) {
    for offset in [offset::CAP, offset::VS, offset::CC, offset::CSTS] {
        association.property_get(offset).unwrap();
    }
    association.property_set(offset::CAP, 1).unwrap_err();
    association.property_get(0xffc).unwrap_err();
}

fn identify(association: &mut Association) {
    let known = [
        (cns::CONTROLLER, 0),
        (cns::NAMESPACE, 1),
        (cns::ACTIVE_NAMESPACES, 0),
        (cns::NAMESPACE_DESCRIPTORS, 1),
        (cns::CSI_CONTROLLER, 0),
        (cns::CSI_NAMESPACE, 1),
        (cns::CSI_ACTIVE_NAMESPACES, 0),
        (cns::INDEPENDENT_NAMESPACE, 1),
        (cns::NAMESPACE_CONTROLLERS, 1),
        (cns::CONTROLLERS, 0),
    ];
    for (cns, nsid) in known {
        association.identify(cns, nsid, 0).unwrap();
    }
    refused(association.identify(cns::NAMESPACE, 9999, 0), Status::INVALID_NAMESPACE);
}

fn log_pages(association: &mut Association) {
    let page = |lid| GetLogPage { lid, ..GetLogPage::default() };
    let known = [
        (lid::ERROR, 64),
        (lid::ERROR, 256),
        (lid::SMART, 512),
        (lid::FIRMWARE_SLOT, 512),
        (lid::CHANGED_NAMESPACES, 4096),
        (lid::COMMAND_EFFECTS, 4096),
        (lid::ANA, 1024),
        (lid::SUPPORTED, 1024),
        (lid::FEATURE_EFFECTS, 1024),
        (lid::RESERVATION_NOTIFICATION, 64),
    ];
    for (lid, length) in known {
        association.log_page(page(lid), length).unwrap();
    }
    for lid in [lid::DISCOVERY, 0xee] {
        refused(association.log_page(page(lid), 1024), Status::INVALID_LOG_PAGE);
    }
}

fn features(association: &mut Association) {
    let in_dword_0 = [
        fid::ARBITRATION,
        fid::POWER_MANAGEMENT,
        fid::TEMPERATURE_THRESHOLD,
        fid::ERROR_RECOVERY,
        fid::VOLATILE_WRITE_CACHE,
        fid::NUMBER_OF_QUEUES,
        fid::WRITE_ATOMICITY,
        fid::ASYNC_EVENT_CONFIG,
        fid::KEEP_ALIVE_TIMER,
    ];
    for fid in in_dword_0 {
        for select in [Select::Current, Select::Default, Select::Saved, Select::Supported] {
            association.get_feature(fid, select, 0, &mut []).unwrap();
        }
    }
    association.get_feature(fid::HOST_IDENTIFIER, Select::Current, 0, &mut [0; 16]).unwrap();
    association.get_feature(fid::TIMESTAMP, Select::Current, 0, &mut [0; 8]).unwrap();
    for fid in [fid::LBA_RANGE_TYPE, 0xc1] {
        let unknown = association.get_feature(fid, Select::Current, 0, &mut []);
        refused(unknown, Status::INVALID_FIELD);
    }
    let settable = [
        (fid::ARBITRATION, 3),
        (fid::TEMPERATURE_THRESHOLD, 350),
        (fid::VOLATILE_WRITE_CACHE, 1),
        (fid::ASYNC_EVENT_CONFIG, 0x100),
        (fid::KEEP_ALIVE_TIMER, 30_000),
    ];
    for (fid, value) in settable {
        association.set_feature(fid, 0, value, &[]).unwrap();
    }
    refused(association.set_feature(0xc1, 0, 3, &[]), Status::INVALID_FIELD);
    // Data of Set Features goes in the capsule.
    let host = association.set_feature(fid::HOST_IDENTIFIER, 0, 1, &[9; 16]);
    refused(host, Status::COMMAND_SEQUENCE_ERROR);
}

fn other_admin_commands(association: &mut Association) {
    let admin = association.admin();
    admin.execute(Sqe::new(admin::KEEP_ALIVE), Transfer::None, soon()).unwrap();
    // The request of an event waits for one that does not come, until it is aborted.
    let event = admin.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST), Data::None).unwrap();
    let mut abort = Sqe::new(admin::ABORT);
    abort.set_cdw(10, u32::from(event.cid()) << 16);
    admin.execute(abort, Transfer::None, soon()).unwrap();
    let aborted = admin.wait(event, soon()).unwrap();
    assert!(aborted.status().same_code(Status::ABORT_REQUESTED), "{}", aborted.status());
    let unknown = admin.execute(Sqe::new(admin::DELETE_IO_SQ), Transfer::None, soon());
    refused(unknown, Status::INVALID_OPCODE);
}

/// An I/O command for `blocks` blocks from `slba` on.
pub fn io(opcode: u8, slba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(1);
    sqe.set_slba(slba);
    sqe.set_cdw(12, blocks.saturating_sub(1));
    sqe
}

/// Bytes that are not the same everywhere.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

fn reads_and_writes(queue: &mut QueuePair) {
    // In the capsule; just in the capsule; by one R2T; by more than are outstanding at once.
    for blocks in [1, 32, 33, 96] {
        let length = (blocks * BLOCK) as usize;
        let (bytes, mut back) = (pattern(length), vec![0; length]);
        for (slba, status) in [(3, Status::SUCCESS), (BLOCKS, Status::LBA_OUT_OF_RANGE)] {
            let write = Transfer::Write(&[IoSlice::new(&bytes)]);
            let written = queue.execute(io(nvm::WRITE, slba, blocks), write, soon());
            let room = &mut [IoSliceMut::new(&mut back)];
            let read = queue.execute(io(nvm::READ, slba, blocks), Transfer::Read(room), soon());
            if status.is_success() {
                written.and(read).unwrap();
            } else {
                refused(written, status);
                refused(read, status);
            }
        }
        assert!(back == bytes, "{blocks} blocks");
    }
    // Several at once.
    let bytes = pattern(20 * BLOCK as usize);
    for slba in [0, 100, 200] {
        let room = Data::read(bytes.len());
        queue.submit(io(nvm::WRITE, slba, 20), Data::write(bytes.clone())).unwrap();
        queue.submit(io(nvm::READ, slba + 50, 20), room).unwrap();
    }
    for _ in 0..6 {
        queue.wait_any(soon()).unwrap().into_result("command").unwrap();
    }
}

fn other_io_commands(queue: &mut QueuePair) {
    let (zeroes, ones) = ([0; BLOCK as usize], [1; BLOCK as usize]);
    queue.execute(io(nvm::WRITE_ZEROES, 0, 8), Transfer::None, soon()).unwrap();
    let compare = |block| (io(nvm::COMPARE, 0, 1), [IoSlice::new(block)]);
    let (same, block) = compare(&zeroes);
    queue.execute(same, Transfer::Write(&block), soon()).unwrap();
    let (other, block) = compare(&ones);
    refused(queue.execute(other, Transfer::Write(&block), soon()), Status::COMPARE_FAILURE);
    let mut trim = io(nvm::DATASET_MANAGEMENT, 0, 0);
    trim.set_cdw(11, 1 << 2);
    queue.execute(trim, Transfer::Write(&[IoSlice::new(&[0; 16])]), soon()).unwrap();
    queue.execute(io(nvm::VERIFY, 0, 1), Transfer::None, soon()).unwrap();
    queue.execute(io(nvm::FLUSH, 0, 0), Transfer::None, soon()).unwrap();
    queue.execute(io(nvm::WRITE_UNCORRECTABLE, 0, 1), Transfer::None, soon()).unwrap();
    let marked = queue.execute(io(nvm::VERIFY, 0, 1), Transfer::None, soon());
    refused(marked, Status::UNRECOVERED_READ_ERROR);
    queue.execute(io(nvm::WRITE_ZEROES, 0, 1), Transfer::None, soon()).unwrap();
}
