//! What can be done to a namespace by one path that nothing happens to.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nvmf_host::{IoError, IoOptions, Namespace, Verb};
use nvmf_storage::{BlockSize, Fault, Faulty, Geometry, Memory, Operation};

use crate::target::{NSID, Running, by, nqn, pattern};

fn disk(spec: &str) -> (Running, Namespace) {
    let target = Running::start(spec, 1);
    let disk = target.namespace();
    (target, disk)
}

/// A namespace whose reads take this long.
fn slow(delay: Duration) -> (Running, Namespace) {
    let geometry = Geometry::new(BlockSize::new(4096).unwrap(), 256).unwrap();
    let disk = Faulty::new(Memory::new(geometry).unwrap());
    disk.inject(Fault::on(Operation::Read).delayed(delay));
    let target = Running::start_with(1, |subsystem| subsystem.namespace(NSID, Arc::new(disk)));
    let disk = target.namespace();
    (target, disk)
}

#[test]
fn what_is_written_is_read_wherever_it_begins_and_ends() {
    for spec in ["mem:8M", "mem:8M,bs=512"] {
        let (_target, disk) = disk(spec);
        let mut expected = vec![0; 8 << 20];
        let block = disk.block_size() as usize;
        let places = [
            (0, 1),
            (1, block),
            (block - 1, 2),
            (block, 3 * block),
            (5, 5 << 20),
            (100 * block + 7, 1),
            ((8 << 20) - 3, 3),
            (77, 0),
        ];
        for (seed, (offset, length)) in places.into_iter().enumerate() {
            let data = pattern(seed as u64, length);
            disk.write_at(&data, offset as u64).unwrap();
            expected[offset..offset + length].copy_from_slice(&data);
        }
        assert!(disk.read_bytes_at(0, expected.len()).unwrap() == expected, "{spec}");
        for (offset, length) in places {
            let mut data = vec![0; length];
            disk.read_at(&mut data, offset as u64).unwrap();
            assert!(data == expected[offset..offset + length], "{spec}: {length} at {offset}");
        }
        disk.flush().unwrap();
        disk.close();
    }
}

#[test]
fn pieces_are_read_and_written_one_after_the_other() {
    let (_target, disk) = disk("mem:1M");
    let data = pattern(1, 10_000);
    let (a, b) = data.split_at(4097);
    disk.write_vectored_at(&[IoSlice::new(a), IoSlice::new(&[]), IoSlice::new(b)], 100).unwrap();
    let (mut c, mut d) = (vec![0; 1], vec![0; 9_999]);
    disk.read_vectored_at(&mut [IoSliceMut::new(&mut c), IoSliceMut::new(&mut d)], 100).unwrap();
    assert!([c, d].concat() == data);
}

#[test]
fn zeroes_and_discards_keep_what_is_beside_them() {
    let (_target, disk) = disk("mem:4M");
    let mut expected = pattern(3, 4 << 20);
    disk.write_at(&expected, 0).unwrap();
    for (offset, length, may_deallocate) in
        [(10, 20, false), (4000, 10_000, true), (1 << 20, 2 << 20, true), (4095, 1, false)]
    {
        disk.write_zeroes(offset as u64, length as u64, may_deallocate).unwrap();
        expected[offset..offset + length].fill(0);
    }
    assert!(disk.read_bytes_at(0, 4 << 20).unwrap() == expected);
    // The blocks in the range only in part stay; this target gives zeroes for the others.
    disk.discard(5, 3 * 4096).unwrap();
    expected[4096..3 * 4096].fill(0);
    assert!(disk.read_bytes_at(0, 4 << 20).unwrap() == expected);
    disk.discard(1, 4000).unwrap();
    assert!(disk.read_bytes_at(0, 4 << 20).unwrap() == expected);
}

#[test]
fn comparing_says_whether_it_is_the_same() {
    let (_target, disk) = disk("mem:4M");
    let data = pattern(4, 2 << 20);
    disk.write_at(&data, 4096).unwrap();
    disk.compare(&data, 4096).unwrap();
    let mut other = data.clone();
    other[(2 << 20) - 1] ^= 1;
    let error = disk.compare(&other, 4096).unwrap_err();
    assert!(matches!(error, IoError::Mismatch { .. }), "{error}");
    let error = disk.compare(&data[..100], 4096).unwrap_err();
    assert!(matches!(error, IoError::Unaligned { block_size: 4096, .. }), "{error}");
}

#[test]
fn what_cannot_be_is_refused_and_says_what_was_asked_for() {
    let (_target, disk) = disk("mem:1M");
    let error = disk.read_bytes_at(1 << 20, 1).unwrap_err();
    assert_eq!(error.to_string(), "read of 1 bytes at 1048576: the namespace ends at 1048576");
    for offset in [(1 << 20) - 1, u64::MAX] {
        let error = disk.write_at(&[0; 2], offset).unwrap_err();
        assert!(matches!(error, IoError::OutOfRange { size: 0x10_0000, .. }), "{error}");
    }
    assert!(matches!(disk.discard(0, u64::MAX), Err(IoError::OutOfRange { .. })));
    assert!(matches!(disk.write_zeroes(9, u64::MAX, true), Err(IoError::OutOfRange { .. })));
    let error = disk.read_bytes_at(0, (1 << 30) + 1).unwrap_err();
    assert!(matches!(error, IoError::OutOfRange { .. }), "{error}");
}

#[test]
fn a_write_protected_namespace_is_not_written() {
    let target = Running::start("mem:1M", 1);
    let change = nvmf_target::NamespaceChange::WriteProtected(true);
    target.handle.change_namespace(&nqn(), NSID, change).unwrap();
    let disk = target.namespace();
    assert!(disk.is_read_only());
    for result in [disk.write_at(&[1], 0), disk.discard(0, 4096), disk.write_zeroes(0, 1, false)] {
        assert!(matches!(result, Err(IoError::ReadOnly { .. })), "{result:?}");
    }
    disk.read_bytes_at(0, 1).unwrap();
}

#[test]
fn many_threads_share_one_namespace() {
    let (_target, disk) = disk("mem:16M,bs=512");
    let threads: Vec<_> = (0..8)
        .map(|number: u64| {
            let disk = disk.clone();
            thread::spawn(move || {
                // Neighbours share blocks: each has an odd place of its own in every one.
                for round in 0..50 {
                    let offset = round * 8 * 1024 + number * 1000;
                    let data = pattern(number << 32 | round, 1000);
                    disk.write_at(&data, offset).unwrap();
                    assert!(disk.read_bytes_at(offset, 1000).unwrap() == data);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    for (number, round) in (0..8).flat_map(|n: u64| (0..50).map(move |r: u64| (n, r))) {
        let offset = round * 8 * 1024 + number * 1000;
        let data = pattern(number << 32 | round, 1000);
        assert!(disk.read_bytes_at(offset, 1000).unwrap() == data, "thread {number}, {round}");
    }
}

#[test]
fn after_closing_nothing_is_done_and_the_controller_is_gone() {
    let (target, disk) = disk("mem:1M");
    let clone = disk.clone();
    assert_eq!(target.handle.controllers().len(), 1);
    disk.close();
    let error = clone.read_bytes_at(0, 1).unwrap_err();
    assert_eq!(error.asked().verb, Verb::Read);
    assert!(matches!(error, IoError::Closed { .. }), "{error}");
    crate::target::wait_until("the controller to go", || target.handle.controllers().is_empty());
}

#[test]
fn the_last_clone_that_is_dropped_closes_the_paths() {
    let (target, disk) = disk("mem:1M");
    let clone = disk.clone();
    drop(disk);
    clone.read_bytes_at(0, 1).unwrap();
    drop(clone);
    crate::target::wait_until("the controller to go", || target.handle.controllers().is_empty());
}

#[test]
fn an_operation_that_is_late_is_aborted_and_says_so() {
    let (_target, disk) = slow(Duration::from_secs(3));
    let start = Instant::now();
    let options = IoOptions::new().deadline(Duration::from_millis(200));
    let error = disk.read_bytes_with(0, 4096, options).unwrap_err();
    assert!(matches!(error, IoError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
    // The path goes on.
    disk.write_at(&[1], 0).unwrap();
    assert_eq!(disk.paths().len(), 1);
}

#[test]
fn a_target_without_the_namespace_says_so_at_once() {
    let target = Running::start("mem:1M", 1);
    let builder = |nsid| {
        let host = nvmf::host::HostOptions::new(nqn(), nvmf::spec::HostId([1; 16]));
        Namespace::builder(nqn(), nsid, host).path(target.addresses[0].to_string())
    };
    let error = builder(NSID + 1).connect().unwrap_err().to_string();
    assert!(error.contains("no namespace 2"), "{error}");
    let error = by(&[]).connect().unwrap_err().to_string();
    assert_eq!(error, "no path was named");
}
