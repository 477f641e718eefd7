//! Compare and Write as one operation, as cluster file systems lock with it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use bytes::Bytes;
use common::*;
use nvme_spec::identify::IdentifyController;
use nvme_spec::{Sqe, Status, opcode};
use nvmf::Data;
use nvmf::host::{CommandId, QueuePair};

const FIRST: u8 = 1;
const SECOND: u8 = 2;

fn half(opcode: u8, fuse: u8, slba: u64, blocks: u32) -> Sqe {
    let mut sqe = command(opcode, 1, slba, blocks);
    sqe.flags |= fuse;
    sqe
}

fn submit(queue: &mut QueuePair, sqe: Sqe, data: &[u8]) -> CommandId {
    let data =
        if data.is_empty() { Data::None } else { Data::Write(vec![Bytes::copy_from_slice(data)]) };
    queue.submit(sqe, data).unwrap()
}

fn status(queue: &mut QueuePair, id: CommandId) -> Status {
    queue.wait(id, soon()).unwrap().status()
}

fn pair(queue: &mut QueuePair, slba: u64, expected: &[u8], new: &[u8]) -> [Status; 2] {
    let blocks = u32::try_from(new.len() / 512).unwrap();
    let first = submit(queue, half(opcode::nvm::COMPARE, FIRST, slba, blocks), expected);
    let second = submit(queue, half(opcode::nvm::WRITE, SECOND, slba, blocks), new);
    [status(queue, first), status(queue, second)]
}

#[track_caller]
fn same(found: [Status; 2], expected: [Status; 2]) {
    let same = found.iter().zip(expected).all(|(found, status)| found.same_code(status));
    assert!(same, "{found:?} instead of {expected:?}");
}

const MISS: [Status; 2] = [Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED];
const DONE: [Status; 2] = [Status::SUCCESS; 2];

#[test]
fn the_blocks_are_written_if_they_are_as_expected_and_else_not() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let file = format!("file:{},bs=512", image.path().display());
    for spec in ["mem:1M,bs=512", &file] {
        for over in BOTH {
            let target = Running::start(subsystem(&[spec]));
            let mut host = target.associate(over, 1);
            let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
            // In the capsule, and behind R2Ts.
            for length in [512, 4096, 16 << 10, 32 << 10, 128 << 10] {
                let (zeroes, new) = (vec![0; length], pattern(7, length));
                write(&mut queue, 1, 8, 512, &zeroes).unwrap();
                same(pair(&mut queue, 8, &zeroes, &new), DONE);
                same(pair(&mut queue, 8, &zeroes, &zeroes), MISS);
                assert_eq!(read(&mut queue, 1, 8, 512, length).unwrap(), new);
            }
            let most = vec![0; (128 << 10) + 512];
            same(pair(&mut queue, 0, &most, &most), [Status::ATOMIC_WRITE_UNIT_EXCEEDED; 2]);
            target.stop().unwrap();
        }
    }
}

#[test]
fn a_half_without_the_other_is_aborted() {
    for over in BOTH {
        let target = Running::start(subsystem(&["mem:1M,bs=512"]));
        let mut host = target.associate(over, 1);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        let block = [0; 512];
        let alone = submit(&mut queue, half(opcode::nvm::WRITE, SECOND, 0, 1), &[1; 512]);
        assert!(status(&mut queue, alone).same_code(Status::ABORTED_MISSING_FUSED));
        for length in [512, 64 << 10] {
            // Another command comes between.
            let blocks = u32::try_from(length / 512).unwrap();
            let data = vec![0; length];
            let first = submit(&mut queue, half(opcode::nvm::COMPARE, FIRST, 0, blocks), &data);
            let other = submit(&mut queue, command(opcode::nvm::FLUSH, 1, 0, 1), &[]);
            let second = submit(&mut queue, half(opcode::nvm::WRITE, SECOND, 0, blocks), &data);
            assert!(status(&mut queue, first).same_code(Status::ABORTED_MISSING_FUSED));
            assert!(status(&mut queue, other).is_success());
            assert!(status(&mut queue, second).same_code(Status::ABORTED_MISSING_FUSED));
        }
        // Two firsts: the later has the second.
        let lost = submit(&mut queue, half(opcode::nvm::COMPARE, FIRST, 0, 1), &block);
        same(pair(&mut queue, 0, &block, &[1; 512]), DONE);
        assert!(status(&mut queue, lost).same_code(Status::ABORTED_MISSING_FUSED));
        // Not of the same blocks.
        let first = submit(&mut queue, half(opcode::nvm::COMPARE, FIRST, 0, 1), &block);
        let second = submit(&mut queue, half(opcode::nvm::WRITE, SECOND, 1, 1), &block);
        let both = [status(&mut queue, first), status(&mut queue, second)];
        same(both, [Status::INVALID_FIELD; 2]);
        assert_eq!(read(&mut queue, 1, 0, 512, 512).unwrap(), [1; 512]);
    }
}

#[test]
fn a_target_stops_though_a_half_waits_for_the_other() {
    let target = Running::start(subsystem(&["mem:1M,bs=512"]));
    let mut host = target.associate(Over::Tcp, 1);
    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
    submit(&mut queue, half(opcode::nvm::COMPARE, FIRST, 0, 1), &[0; 512]);
    queue.flush(soon()).unwrap();
    read(&mut queue, 1, 0, 512, 512).unwrap_or_default();
    submit(&mut queue, half(opcode::nvm::COMPARE, FIRST, 0, 1), &[0; 512]);
    queue.flush(soon()).unwrap();
    let begun = std::time::Instant::now();
    target.stop().unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn hosts_that_count_together_lose_no_increment() {
    const EACH: u64 = 60;
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let file = format!("file:{},bs=512", image.path().display());
    for spec in ["mem:1M,bs=512", &file] {
        let target = Running::start(subsystem(&[spec]));
        let block = |n: u64| n.to_le_bytes().repeat(64);
        std::thread::scope(|scope| {
            for (n, over) in [(1, Over::Tcp), (2, Over::Tcp), (3, Over::InProcess)] {
                let target = &target;
                scope.spawn(move || {
                    let mut host = target.associate(over, n);
                    let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
                    let (mut seen, mut done) = (0, 0);
                    while done < EACH {
                        // Others write meanwhile, at places of their own.
                        write(&mut queue, 1, 64 * u64::from(n), 512, &[n; 4096]).unwrap();
                        let [first, second] = pair(&mut queue, 0, &block(seen), &block(seen + 1));
                        if first.is_success() {
                            assert!(second.is_success(), "{second}");
                            (seen, done) = (seen + 1, done + 1);
                        } else {
                            same([first, second], MISS);
                            let found = read(&mut queue, 1, 0, 512, 512).unwrap();
                            seen = u64::from_le_bytes(found[..8].try_into().unwrap());
                        }
                    }
                });
            }
        });
        let mut host = target.associate(Over::Tcp, 4);
        let mut queue = host.connect_io_queues(1, None).unwrap().remove(0);
        assert_eq!(read(&mut queue, 1, 0, 512, 512).unwrap(), block(3 * EACH));
        target.stop().unwrap();
    }
}

#[test]
fn identify_says_so() {
    let target = Running::start(subsystem(&["mem:1M,bs=512", "mem:1M"]));
    let mut host = target.associate(Over::Tcp, 1);
    let id = *host.controller();
    assert_eq!(id.fuses.get(), IdentifyController::FUSES_COMPARE_AND_WRITE);
    assert_eq!(id.acwu.get(), 31);
    assert_eq!(host.identify_namespace(1).unwrap().nacwu.get(), 255);
    assert_eq!(host.identify_namespace(2).unwrap().nacwu.get(), 31);
}
