//! Copy and Write Uncorrectable, from end to end.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use common::*;
use nvme_spec::copy::{CopyRequest, SourceRange};
use nvme_spec::{Status, opcode};
use nvmf::host::QueuePair;
use nvmf::{Error, Transfer};
use zerocopy::IntoBytes;

fn copy(queue: &mut QueuePair, to: u64, ranges: &[(u64, u32)], fua: bool) -> Result<(), Error> {
    let nr = u8::try_from(ranges.len() - 1).unwrap();
    let mut sqe = CopyRequest { sdlba: to, nr, fua, ..CopyRequest::default() }.to_sqe();
    sqe.nsid.set(1);
    let list: Vec<u8> = ranges
        .iter()
        .flat_map(|(slba, blocks)| {
            let mut range = SourceRange::default();
            range.slba.set(*slba);
            range.nlb.set(u16::try_from(blocks - 1).unwrap());
            range.as_bytes().to_vec()
        })
        .collect();
    let pieces = [std::io::IoSlice::new(&list)];
    queue.execute(sqe, Transfer::Write(&pieces), soon()).map(drop)
}

#[test]
fn ranges_are_copied_in_memory_and_in_files() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(4 << 20).unwrap();
    let file = format!("file:{},bs=512", image.path().display());
    for spec in ["mem:4M,bs=512", &file] {
        for over in BOTH {
            let target = Running::start(subsystem(&[spec]));
            let mut host = target.associate(over, 1);
            let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
            let data = pattern(5, 512 * 600);
            write(&mut queue, 1, 0, 512, &data).unwrap();
            copy(&mut queue, 4000, &[(500, 100), (3, 1), (0, 500)], true).unwrap();
            let expected =
                [&data[512 * 500..], &data[3 * 512..4 * 512], &data[..512 * 500]].concat();
            assert_eq!(read(&mut queue, 1, 4000, 512, 512 * 601).unwrap(), expected);
            // As many ranges as there may be do not fit into a capsule's few.
            let many: Vec<(u64, u32)> = (0..128).map(|n| (127 - n, 1)).collect();
            copy(&mut queue, 2000, &many, false).unwrap();
            let expected: Vec<u8> =
                data[..512 * 128].chunks(512).rev().flatten().copied().collect();
            assert_eq!(read(&mut queue, 1, 2000, 512, 512 * 128).unwrap(), expected);
            assert_status(copy(&mut queue, 8000, &[(0, 200)], false), Status::LBA_OUT_OF_RANGE);
            assert_status(
                copy(&mut queue, 0, &[(0, 32_769)], false),
                Status::COMMAND_SIZE_LIMIT_EXCEEDED,
            );
            target.stop().unwrap();
        }
    }
}

#[test]
fn marked_blocks_are_unreadable_until_they_are_written() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M,bs=512"]));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let mark = command(opcode::nvm::WRITE_UNCORRECTABLE, 1, 10, 20);
        queue.execute(mark, Transfer::None, soon()).unwrap();
        assert_status(read(&mut queue, 1, 0, 512, 11 * 512), Status::UNRECOVERED_READ_ERROR);
        assert_status(copy(&mut queue, 100, &[(0, 11)], false), Status::UNRECOVERED_READ_ERROR);
        read(&mut queue, 1, 0, 512, 10 * 512).unwrap();
        write(&mut queue, 1, 8, 512, &[1; 512 * 12]).unwrap();
        assert_eq!(read(&mut queue, 1, 8, 512, 512 * 12).unwrap(), [1; 512 * 12]);
        assert_status(read(&mut queue, 1, 20, 512, 512), Status::UNRECOVERED_READ_ERROR);
    }
}

#[test]
fn a_failed_copy_says_how_far_it_came() {
    use bytes::Bytes;
    use nvmf::Data;
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M,bs=512"]));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let mark = command(opcode::nvm::WRITE_UNCORRECTABLE, 1, 2, 1);
        queue.execute(mark, Transfer::None, soon()).unwrap();
        let mut sqe = CopyRequest { sdlba: 100, nr: 2, ..CopyRequest::default() }.to_sqe();
        sqe.nsid.set(1);
        let mut list = vec![0; 96];
        (list[40], list[72]) = (1, 2);
        let id = queue.submit(sqe, Data::Write(vec![Bytes::from(list)])).unwrap();
        let answer = queue.wait(id, soon()).unwrap();
        assert!(answer.status().same_code(Status::UNRECOVERED_READ_ERROR));
        assert_eq!(answer.cqe.dw0.get(), 2);
    }
}

#[test]
fn identify_and_the_effects_log_say_what_there_is() {
    use nvme_spec::log::GetLogPage;
    let target = Running::start(subsystem(&["mem:64M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let id = *host.controller();
    assert_eq!(
        (id.oncs.get() & 0x122, id.ocfs.get(), id.awun.get(), id.awupf.get()),
        (0x122, 1, 0, 0)
    );
    let ns = host.identify_namespace(1).unwrap();
    assert_eq!((ns.mcl.get(), ns.mssrl.get(), ns.msrc), (4096, 4096, 127));
    assert_eq!((ns.rescap, ns.nawun.get(), ns.nawupf.get()), (0xfe, 0, 0));
    let log = host
        .log_page(GetLogPage::new(nvme_spec::log::lid::COMMAND_EFFECTS, 0, 4096).unwrap(), 4096)
        .unwrap();
    for opcode in [0x04, 0x0d, 0x0e, 0x11, 0x15, 0x19] {
        assert_eq!(log[1024 + opcode * 4] & 1, 1, "{opcode:#x}");
    }
}
