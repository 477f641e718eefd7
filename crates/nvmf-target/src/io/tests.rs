use std::io;
use std::sync::Arc;

use nvme_spec::fabrics::{Connect, PropertyGet};
use nvmf_storage::{Failure, Fault, Faulty, Memory, Operation as Stored};

use nvmf_storage::Backend;

use super::*;

mod copies;
mod fields;
mod marks;
mod pairs;
mod reserved;

use crate::limits::MaxTransfer;
use crate::statistics::Counters;
use crate::subsystem::Subsystem;
use crate::testing::{NQN, association, nqn, subsystem};

/// An I/O command on namespace `nsid` for `blocks` blocks from `slba` on.
fn command(opcode: u8, nsid: u32, slba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(nsid);
    sqe.set_slba(slba);
    sqe.set_cdw(12, blocks - 1);
    sqe
}

fn read(slba: u64, blocks: u32) -> Sqe {
    command(opcode::nvm::READ, 1, slba, blocks)
}

fn write(slba: u64, blocks: u32) -> Sqe {
    command(opcode::nvm::WRITE, 1, slba, blocks)
}

/// Plans and executes, with as much data as the command says.
fn run(association: &Association, sqe: &Sqe, data: &mut [u8]) -> Result<(), Status> {
    attempt(association, sqe, data).map_err(|failed| failed.status)
}

/// The same, with dword 0 of a failure.
fn attempt(association: &Association, sqe: &Sqe, data: &mut [u8]) -> Result<(), Failed> {
    let length = u32::try_from(data.len()).unwrap();
    match plan(association, &association.view(), sqe, length)? {
        Plan::Execute(operation) => {
            operation.execute(data, &By { association, counters: &Counters::default() })
        }
        Plan::FlushAll(namespaces) => Ok(flush_all(&namespaces)?),
        Plan::Disconnect => panic!("not a Disconnect"),
    }
}

#[track_caller]
fn refused(association: &Association, sqe: &Sqe, data_len: u32, status: Status) {
    let view = association.view();
    let refusal = plan(association, &view, sqe, data_len).unwrap_err();
    assert_eq!(refusal, status.with_dnr(true));
}

/// A subsystem whose namespace 1 of 8 blocks of 512 bytes fails on demand.
fn faulty() -> (Arc<Faulty<Memory>>, Arc<Association>) {
    let geometry = nvmf_storage::Geometry::new(nvmf_storage::BlockSize::B512, 8).unwrap();
    let backend = Arc::new(Faulty::new(Memory::new(geometry).unwrap()));
    let subsystem = Subsystem::builder(nqn(NQN)).namespace(1, backend.clone()).build().unwrap();
    (backend, association(&subsystem))
}

#[test]
fn half_of_a_fused_operation_is_not_executed_as_a_whole_command() {
    let a = association(&subsystem());
    for fuse in 1..=2 {
        let mut sqe = write(0, 1);
        sqe.flags |= fuse;
        refused(&a, &sqe, 512, Status::INVALID_FIELD);
    }
}

#[test]
fn what_is_written_is_read() {
    let a = association(&subsystem());
    let mut data = vec![0xa5; 1024];
    run(&a, &write(3, 2), &mut data).unwrap();
    let mut back = vec![0; 2048];
    run(&a, &read(2, 4), &mut back).unwrap();
    assert_eq!(back[..512], [0; 512]);
    assert_eq!(back[512..1536], data);
    assert_eq!(back[1536..], [0; 512]);
}

#[test]
fn a_range_past_the_end_is_refused_before_data_moves() {
    let a = association(&subsystem());
    // 1 MiB is 2048 blocks.
    assert!(plan(&a, &a.view(), &read(2047, 1), 512).is_ok());
    for (slba, blocks) in [(2047, 2), (2048, 1), (u64::MAX, 1), (u64::MAX, 2)] {
        refused(&a, &read(slba, blocks), blocks * 512, Status::LBA_OUT_OF_RANGE);
        refused(&a, &write(slba, blocks), blocks * 512, Status::LBA_OUT_OF_RANGE);
        let zeroes = command(opcode::nvm::WRITE_ZEROES, 1, slba, blocks);
        refused(&a, &zeroes, 0, Status::LBA_OUT_OF_RANGE);
    }
}

#[test]
fn more_than_mdts_is_an_invalid_field() {
    let a = association(&subsystem());
    assert!(plan(&a, &a.view(), &read(0, 2048), 1 << 20).is_ok());
    let large = |opcode, blocks| command(opcode, 3, 0, blocks);
    assert!(plan(&a, &a.view(), &large(opcode::nvm::WRITE, 256), 1 << 20).is_ok());
    for opcode in [opcode::nvm::READ, opcode::nvm::WRITE, opcode::nvm::COMPARE] {
        refused(&a, &large(opcode, 257), 257 << 12, Status::INVALID_FIELD);
    }
    refused(&a, &large(opcode::nvm::VERIFY, 257), 0, Status::INVALID_FIELD);
}

#[test]
fn what_a_subsystem_has_at_most_is_an_invalid_field_from_one_block_on() {
    let spec: nvmf_storage::NamespaceSpec = "mem:1M,bs=512".parse().unwrap();
    let disk = Arc::from(spec.open().unwrap());
    let builder = Subsystem::builder(nqn(NQN)).namespace(1, disk);
    let a = association(&builder.max_transfer(MaxTransfer::MIN).build().unwrap());
    for opcode in [opcode::nvm::READ, opcode::nvm::WRITE, opcode::nvm::COMPARE] {
        assert!(plan(&a, &a.view(), &command(opcode, 1, 0, 16), 8192).is_ok());
        refused(&a, &command(opcode, 1, 0, 17), 17 * 512, Status::INVALID_FIELD);
    }
    assert!(plan(&a, &a.view(), &command(opcode::nvm::VERIFY, 1, 0, 16), 0).is_ok());
    refused(&a, &command(opcode::nvm::VERIFY, 1, 0, 17), 0, Status::INVALID_FIELD);
    assert!(plan(&a, &a.view(), &command(opcode::nvm::WRITE_ZEROES, 1, 0, 2048), 0).is_ok());
    // In dwords, 0's based; the extended data structure.
    let report = |bytes: u32| {
        let mut sqe = Sqe::new(opcode::nvm::RESERVATION_REPORT);
        sqe.nsid.set(1);
        sqe.set_cdw(10, bytes / 4 - 1);
        sqe.set_cdw(11, 1);
        sqe
    };
    assert!(plan(&a, &a.view(), &report(8192), 8192).is_ok());
    refused(&a, &report(8196), 8196, Status::INVALID_FIELD);
}

#[test]
fn the_sgl_must_be_as_long_as_the_blocks() {
    let a = association(&subsystem());
    for length in [0, 511, 513, 1024, u32::MAX] {
        refused(&a, &read(0, 1), length, Status::DATA_SGL_LENGTH_INVALID);
        refused(&a, &write(0, 1), length, Status::DATA_SGL_LENGTH_INVALID);
    }
    let flush = command(opcode::nvm::FLUSH, 1, 0, 1);
    refused(&a, &flush, 1, Status::DATA_SGL_LENGTH_INVALID);
}

#[test]
fn namespaces_that_are_not_are_told_apart() {
    let a = association(&subsystem());
    for opcode in [
        opcode::nvm::READ,
        opcode::nvm::WRITE,
        opcode::nvm::COMPARE,
        opcode::nvm::VERIFY,
        opcode::nvm::WRITE_ZEROES,
        opcode::nvm::DATASET_MANAGEMENT,
        opcode::nvm::FLUSH,
    ] {
        refused(&a, &command(opcode, 2, 0, 1), 512, Status::INVALID_FIELD);
        for nsid in [0, 1025, NSID_ALL - 1] {
            refused(&a, &command(opcode, nsid, 0, 1), 512, Status::INVALID_NAMESPACE);
        }
        if opcode != opcode::nvm::FLUSH {
            refused(&a, &command(opcode, NSID_ALL, 0, 1), 512, Status::INVALID_NAMESPACE);
        }
    }
}

#[test]
fn unknown_opcodes_are_invalid() {
    let a = association(&subsystem());
    let known = [
        0x00,
        0x01,
        0x02,
        0x04,
        0x05,
        0x08,
        0x09,
        0x0c,
        0x0d,
        0x0e,
        0x11,
        0x15,
        0x19,
        opcode::FABRICS,
    ];
    for opcode in (0..=0xff).filter(|opcode| !known.contains(opcode)) {
        refused(&a, &command(opcode, 1, 0, 1), 0, Status::INVALID_OPCODE);
    }
}

#[test]
fn fabrics_commands_on_an_io_queue_have_their_answers() {
    let a = association(&subsystem());
    let mut disconnect = Disconnect::new();
    assert!(matches!(plan(&a, &a.view(), &disconnect.to_sqe(), 0), Ok(Plan::Disconnect)));
    disconnect.recfmt.set(1);
    refused(&a, &disconnect.to_sqe(), 0, Status::CONNECT_INCOMPATIBLE_FORMAT);
    let connect = Connect::new(1, 31, 0, 0).to_sqe();
    refused(&a, &connect, 1024, Status::COMMAND_SEQUENCE_ERROR);
    refused(&a, &PropertyGet::new(0, true).to_sqe(), 0, Status::INVALID_QUEUE_TYPE);
    refused(&a, &Sqe::fabrics(0x05), 0, Status::INVALID_OPCODE);
}

#[test]
fn a_read_only_namespace_is_write_protected() {
    let spec: nvmf_storage::NamespaceSpec = {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let (_, path) = file.keep().unwrap();
        format!("file:{},ro", path.display()).parse().unwrap()
    };
    let backend: Arc<dyn Backend> = Arc::from(spec.open().unwrap());
    let nvmf_storage::Source::File { path, .. } = &spec.source else { panic!() };
    std::fs::remove_file(path).unwrap();
    let subsystem = Subsystem::builder(nqn(NQN)).namespace(1, backend).build().unwrap();
    let a = association(&subsystem);
    assert!(plan(&a, &a.view(), &read(0, 1), 4096).is_ok());
    refused(&a, &write(0, 1), 4096, Status::NAMESPACE_WRITE_PROTECTED);
    let zeroes = command(opcode::nvm::WRITE_ZEROES, 1, 0, 1);
    refused(&a, &zeroes, 0, Status::NAMESPACE_WRITE_PROTECTED);
    let mut trim = command(opcode::nvm::DATASET_MANAGEMENT, 1, 0, 1);
    trim.set_cdw(11, AD);
    refused(&a, &trim, 16, Status::NAMESPACE_WRITE_PROTECTED);
}

#[test]
fn force_unit_access_and_a_cache_switched_off_make_writes_durable() {
    let (backend, a) = faulty();
    let durable = |sqe: &Sqe| match plan(&a, &a.view(), sqe, 512).unwrap() {
        Plan::Execute(Operation { kind: Kind::Write { durability, .. }, .. }) => {
            durability == Durability::ForceUnitAccess
        }
        other => panic!("{other:?}"),
    };
    assert!(!durable(&write(0, 1)));
    let mut fua = write(0, 1);
    fua.set_cdw(12, FUA);
    assert!(durable(&fua));
    a.set_write_cache(false);
    assert!(durable(&write(0, 1)));
    drop(backend);
}

#[test]
fn flush_reaches_one_namespace_or_all() {
    let (backend, a) = faulty();
    run(&a, &command(opcode::nvm::FLUSH, 1, 0, 1), &mut []).unwrap();
    assert_eq!(backend.count(Stored::Flush), 1);
    run(&a, &command(opcode::nvm::FLUSH, NSID_ALL, 0, 1), &mut []).unwrap();
    assert_eq!(backend.count(Stored::Flush), 2);
}

#[test]
fn write_zeroes_zeroes_and_takes_more_than_mdts() {
    let a = association(&subsystem());
    run(&a, &write(0, 2), &mut [0xa5; 1024]).unwrap();
    run(&a, &command(opcode::nvm::WRITE_ZEROES, 1, 1, 1), &mut []).unwrap();
    let mut back = [1; 1024];
    run(&a, &read(0, 2), &mut back).unwrap();
    assert_eq!((back[0], back[511], back[512], back[1023]), (0xa5, 0xa5, 0, 0));
    run(&a, &command(opcode::nvm::WRITE_ZEROES, 3, 0, 16384), &mut []).unwrap();
}

#[test]
fn write_zeroes_with_deac_asks_to_give_the_space_back() {
    let a = association(&subsystem());
    let mut sqe = command(opcode::nvm::WRITE_ZEROES, 1, 0, 1);
    sqe.set_cdw(12, DEAC | FUA);
    let Plan::Execute(Operation { kind: Kind::WriteZeroes { how, .. }, .. }) =
        plan(&a, &a.view(), &sqe, 0).unwrap()
    else {
        panic!()
    };
    assert_eq!(how, Zero { deallocate: true, durability: Durability::ForceUnitAccess });
}

/// Ranges of Dataset Management: blocks and start.
fn ranges(list: &[(u32, u64)]) -> Vec<u8> {
    list.iter()
        .flat_map(|(blocks, slba)| {
            [&[0; 4][..], &blocks.to_le_bytes(), &slba.to_le_bytes()].concat()
        })
        .collect()
}

fn trim(count: usize) -> Sqe {
    let mut sqe = Sqe::new(opcode::nvm::DATASET_MANAGEMENT);
    sqe.nsid.set(1);
    sqe.set_cdw(10, u32::try_from(count - 1).unwrap());
    sqe.set_cdw(11, AD);
    sqe
}

#[test]
fn deallocated_ranges_read_as_zeroes() {
    let a = association(&subsystem());
    run(&a, &write(0, 4), &mut [0xa5; 2048]).unwrap();
    run(&a, &trim(3), &mut ranges(&[(1, 0), (0, 2048), (1, 2)])).unwrap();
    let mut back = [1; 2048];
    run(&a, &read(0, 4), &mut back).unwrap();
    let first_bytes: Vec<u8> = back.chunks(512).map(|block| block[0]).collect();
    assert_eq!(first_bytes, [0, 0xa5, 0, 0xa5]);
}

#[test]
fn one_bad_range_spares_all_blocks() {
    let a = association(&subsystem());
    run(&a, &write(0, 1), &mut [0xa5; 512]).unwrap();
    for bad in [(1, 2048), (2, 2047), (1, u64::MAX), (u32::MAX, u64::MAX)] {
        let status = run(&a, &trim(2), &mut ranges(&[(1, 0), bad])).unwrap_err();
        assert_eq!(status, Status::LBA_OUT_OF_RANGE.with_dnr(true));
    }
    let mut back = [0; 512];
    run(&a, &read(0, 1), &mut back).unwrap();
    assert_eq!(back, [0xa5; 512]);
}

#[test]
fn up_to_256_ranges_and_as_many_as_announced() {
    let a = association(&subsystem());
    run(&a, &trim(256), &mut ranges(&[(1, 0); 256])).unwrap();
    refused(&a, &trim(2), 16, Status::DATA_SGL_LENGTH_INVALID);
    refused(&a, &trim(1), 4097, Status::DATA_SGL_LENGTH_INVALID);
}

#[test]
fn ranges_behind_those_announced_are_left_alone() {
    let a = association(&subsystem());
    run(&a, &write(0, 2), &mut [0xa5; 1024]).unwrap();
    run(&a, &trim(1), &mut ranges(&[(1, 0); 256])).unwrap();
    let mut list = ranges(&[(1, 1); 256]);
    list[..16].copy_from_slice(&ranges(&[(0, 0)]));
    run(&a, &trim(1), &mut list).unwrap();
    let mut back = [1; 1024];
    run(&a, &read(0, 2), &mut back).unwrap();
    assert_eq!((back[0], back[512]), (0, 0xa5));
}

#[test]
fn a_hint_changes_nothing() {
    let a = association(&subsystem());
    run(&a, &write(0, 1), &mut [0xa5; 512]).unwrap();
    let mut hint = trim(1);
    hint.set_cdw(11, 1);
    run(&a, &hint, &mut ranges(&[(1, 0)])).unwrap();
    let mut back = [0; 512];
    run(&a, &read(0, 1), &mut back).unwrap();
    assert_eq!(back, [0xa5; 512]);
}

#[test]
fn compare_tells_same_from_different_in_every_chunk() {
    let a = association(&subsystem());
    let blocks = 512;
    let mut data: Vec<u8> = (0..blocks * 512u32).map(|i| i.to_le_bytes()[1]).collect();
    run(&a, &write(8, blocks), &mut data).unwrap();
    let compare = command(opcode::nvm::COMPARE, 1, 8, blocks);
    run(&a, &compare, &mut data).unwrap();
    let chunk = 64 << 10;
    for at in [0, chunk - 1, chunk, data.len() - 1] {
        let mut other = data.clone();
        other[at] ^= 1;
        let status = run(&a, &compare, &mut other).unwrap_err();
        assert!(status.same_code(Status::COMPARE_FAILURE), "byte {at}");
    }
}

#[test]
fn verify_reads_every_block() {
    let (backend, a) = faulty();
    let verify = command(opcode::nvm::VERIFY, 1, 0, 8);
    run(&a, &verify, &mut []).unwrap();
    backend.inject(Fault::on(Stored::Read).within(4095..4096).failing(Failure::Io));
    let status = run(&a, &verify, &mut []).unwrap_err();
    assert!(status.same_code(Status::UNRECOVERED_READ_ERROR));
}

#[test]
fn errors_of_the_storage_have_their_statuses() {
    let (backend, a) = faulty();
    let mut block = [0; 512];
    backend.inject(Fault::on(Stored::Read).times(1).failing(Failure::Io));
    assert_eq!(run(&a, &read(0, 1), &mut block), Err(Status::UNRECOVERED_READ_ERROR));
    backend.inject(Fault::on(Stored::Write).times(1).failing(Failure::Io));
    assert_eq!(run(&a, &write(0, 1), &mut block), Err(Status::WRITE_FAULT));
    backend.inject(Fault::on(Stored::Write).times(1).failing(Failure::NoSpace));
    let full = Status::CAPACITY_EXCEEDED.with_dnr(true);
    assert_eq!(run(&a, &write(0, 1), &mut block), Err(full));
    run(&a, &write(0, 1), &mut block).unwrap();

    use nvmf_storage::Error;
    let unaligned = Error::Unaligned { offset: 0, length: 1, block_size: 512 };
    assert_eq!(storage_status(&unaligned, false), Status::INTERNAL_ERROR);
    assert_eq!(storage_status(&Error::WritesLost, true), Status::WRITE_FAULT.with_dnr(true));
    let io = Error::Io(io::Error::other("x"));
    assert_eq!(storage_status(&io, false), Status::UNRECOVERED_READ_ERROR);
}

#[test]
fn failures_of_the_storage_are_counted_as_media_errors() {
    let (backend, a) = faulty();
    let counters = a.subsystem().books().open(a.host());
    let run = |sqe: &Sqe| {
        let view = a.view();
        let Plan::Execute(operation) = plan(&a, &view, sqe, 1024).unwrap() else { panic!() };
        operation.execute(&mut [0; 1024], &By { association: &a, counters: &counters })
    };
    run(&write(0, 2)).unwrap();
    backend.inject(Fault::on(Stored::Read).times(1).failing(Failure::Io));
    run(&read(0, 2)).unwrap_err();
    assert_eq!(a.subsystem().statistics().media_errors, 1);
}

#[test]
fn what_cannot_be_reached_now_is_to_be_tried_again() {
    use crate::port::Port;
    use nvme_spec::log::AnaState;
    let port = Arc::new(Port::none());
    let subsystem = subsystem();
    let a = subsystem.connect_admin(&crate::testing::request(1), &port).unwrap();
    for (state, status) in [
        (AnaState::Inaccessible, Status::ANA_INACCESSIBLE),
        (AnaState::PersistentLoss, Status::ANA_PERSISTENT_LOSS),
        (AnaState::Change, Status::ANA_TRANSITION),
    ] {
        port.set_ana(1, state);
        subsystem.refresh();
        let refusal = plan(&a, &a.view(), &read(0, 1), 512).unwrap_err();
        assert_eq!(refusal, status, "without DNR");
        let all = command(opcode::nvm::FLUSH, NSID_ALL, 0, 1);
        let view = a.view();
        let reached = plan(&a, &view, &all, 0).unwrap();
        assert!(matches!(reached, Plan::FlushAll(namespaces) if namespaces.is_empty()));
    }
    port.set_ana(1, AnaState::NonOptimized);
    subsystem.refresh();
    assert!(plan(&a, &a.view(), &read(0, 1), 512).is_ok());
}
