//! What memory costs, and many threads in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nvmf_storage::{Backend, BlockSize, Durability, Error, Geometry, Memory, OpenError, Zero};
use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const CHUNK: u64 = 64 << 10;

fn memory(bytes: u64) -> Memory {
    Memory::new(Geometry::from_bytes(BlockSize::B4096, bytes).unwrap()).unwrap()
}

fn write(disk: &Memory, offset: u64, bytes: &[u8]) {
    disk.write(offset, &[IoSlice::new(bytes)], Durability::Cached).unwrap();
}

#[test]
fn what_was_never_written_costs_nothing_and_reads_as_zeroes() {
    let disk = memory(Memory::MAX_BYTES);
    let mut bytes = vec![0xEE; 256 << 10];
    disk.read(Memory::MAX_BYTES - (256 << 10), &mut [IoSliceMut::new(&mut bytes)]).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    disk.write_zeroes(0, 1 << 40, Zero::default()).unwrap();
    assert_eq!(disk.allocated(), 0);
    write(&disk, Memory::MAX_BYTES - 4096, &[1; 4096]);
    assert_eq!(disk.allocated(), CHUNK);
}

#[test]
fn whole_chunks_that_are_zeroed_are_given_back() {
    let disk = memory(4 * CHUNK);
    write(&disk, 0, &vec![1; 4 * 65_536]);
    assert_eq!(disk.allocated(), 4 * CHUNK);
    disk.deallocate(4096, CHUNK).unwrap();
    assert_eq!(disk.allocated(), 4 * CHUNK, "no whole chunk in the range");
    disk.deallocate(CHUNK / 2, 2 * CHUNK).unwrap();
    assert_eq!(disk.allocated(), 3 * CHUNK, "one of them whole");
    disk.write_zeroes(2 * CHUNK, 2 * CHUNK, Zero::default()).unwrap();
    assert_eq!(disk.allocated(), CHUNK);
}

#[test]
fn a_short_last_chunk_is_given_back_too() {
    let disk = memory(CHUNK + 4096);
    write(&disk, CHUNK, &[1; 4096]);
    assert_eq!(disk.allocated(), CHUNK);
    disk.deallocate(CHUNK, 4096).unwrap();
    assert_eq!(disk.allocated(), 0);
}

#[test]
fn more_than_the_most_is_refused() {
    let geometry = Geometry::from_bytes(BlockSize::B4096, Memory::MAX_BYTES + 4096).unwrap();
    assert!(matches!(Memory::new(geometry), Err(OpenError::TooLargeForMemory { .. })));
}

#[test]
fn a_read_only_memory_refuses_every_change() {
    let geometry = Geometry::new(BlockSize::B512, 8).unwrap().with_read_only(true);
    let disk = Memory::new(geometry).unwrap();
    let write = disk.write(0, &[IoSlice::new(&[1; 512])], Durability::Cached);
    assert!(matches!(write, Err(Error::ReadOnly)));
    assert!(matches!(disk.write_zeroes(0, 512, Zero::default()), Err(Error::ReadOnly)));
    assert!(matches!(disk.deallocate(0, 512), Err(Error::ReadOnly)));
    disk.flush().unwrap();
    disk.read(0, &mut [IoSliceMut::new(&mut [0; 512])]).unwrap();
}

#[test]
fn a_block_is_never_seen_half_written() {
    // Writers fill the same blocks with one byte each, cut into slices that end inside blocks, and
    // sometimes free them; whoever reads a block must find one byte all over it.
    let disk = memory(2 * CHUNK);
    let (offset, length) = (CHUNK - 8192, 16_384);
    let done = AtomicBool::new(false);
    let (disk, done) = (&disk, &done);
    thread::scope(|scope| {
        let writers: Vec<_> = (1..=3_u8)
            .map(|byte| {
                scope.spawn(move || {
                    let bytes = vec![byte; length];
                    for round in 0..3000 {
                        let (a, rest) = bytes.split_at(1000);
                        let (b, c) = rest.split_at(5000);
                        let from = [a, b, c].map(IoSlice::new);
                        disk.write(offset, &from, Durability::Cached).unwrap();
                        if round % 8 == 0 {
                            disk.deallocate(0, 2 * CHUNK).unwrap();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(move || {
                let mut bytes = vec![0xEE; length];
                while !done.load(Ordering::Relaxed) {
                    let (a, b) = bytes.split_at_mut(3000);
                    disk.read(offset, &mut [a, b].map(IoSliceMut::new)).unwrap();
                    for block in bytes.chunks(4096) {
                        assert!(block.iter().all(|byte| *byte == block[0]), "a torn block");
                    }
                }
            });
        }
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
}

#[test]
fn threads_in_different_places_do_not_disturb_each_other() {
    let disk = memory(64 << 20);
    thread::scope(|scope| {
        for thread in 0..8_u8 {
            let disk = &disk;
            scope.spawn(move || {
                // Every eighth block is this thread's.
                for round in 0..400_u64 {
                    let offset = (round * 41 % 2048 * 8 + u64::from(thread)) * 4096;
                    write(disk, offset, &[thread + 1; 4096]);
                    let mut block = [0; 4096];
                    disk.read(offset, &mut [IoSliceMut::new(&mut block)]).unwrap();
                    assert_eq!(block, [thread + 1; 4096]);
                }
            });
        }
    });
}
