//! What memory costs, and many threads in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::{Bytes, BytesMut};
use nvmf_storage::{
    Backend, BlockSize, Durability, Error, Geometry, Memory, OpenError, Resident, ResizeError, Zero,
};
use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const CHUNK: u64 = Memory::CHUNK;
const CHUNK_BYTES: usize = 64 << 10;

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
fn it_grows_to_the_most_and_not_beyond() {
    let disk = memory(4096);
    write(&disk, 0, &[1; 4096]);
    let error = disk.resize(Some(Memory::MAX_BYTES + 4096)).unwrap_err();
    assert!(matches!(error, ResizeError::TooLargeForMemory { .. }), "{error}");
    assert_eq!(disk.resize(None).unwrap().blocks(), 1);
    disk.resize(Some(Memory::MAX_BYTES)).unwrap();
    write(&disk, Memory::MAX_BYTES - 4096, &[2; 4096]);
    assert_eq!(disk.allocated(), 2 * CHUNK);
    assert_eq!(lend(&disk, 0, CHUNK)[0][..], [vec![1; 4096], vec![0; 15 * 4096]].concat());
}

/// The last chunk is given back when what there is of it is deallocated; not if a block is added and
/// written just then.
#[test]
fn what_is_written_behind_the_old_end_is_not_deallocated_with_it() {
    for round in 0..3000 {
        let disk = memory(4096);
        write(&disk, 0, &[1; 4096]);
        let begin = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                begin.wait();
                disk.deallocate(0, 4096).unwrap();
            });
            begin.wait();
            disk.resize(Some(8192)).unwrap();
            write(&disk, 4096, &[2; 4096]);
        });
        assert_eq!(lend(&disk, 0, 8192).concat(), [[0; 4096], [2; 4096]].concat(), "{round}");
    }
}

/// Each block that was added is there at once, for every thread that hears of it.
#[test]
fn it_grows_while_others_use_it() {
    const BLOCKS: u64 = 1000;
    let disk = memory(4096);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let bytes = disk.geometry().bytes();
                    write(&disk, bytes - 4096, &[3; 4096]);
                    assert_eq!(lend(&disk, bytes - 4096, 4096)[0][..], [3; 4096]);
                    let zeroes_or_written = lend(&disk, 0, bytes).concat();
                    assert_eq!(zeroes_or_written.len() as u64, bytes);
                    if bytes == BLOCKS * 4096 {
                        break;
                    }
                }
            });
        }
        for blocks in 2..=BLOCKS {
            disk.resize(Some(blocks * 4096)).unwrap();
        }
    });
}

fn lend(disk: &Memory, offset: u64, length: u64) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    disk.lend(offset, length, &mut |piece| pieces.push(piece.into_bytes())).unwrap();
    pieces
}

fn chunk_of(byte: u8) -> BytesMut {
    BytesMut::from(&[byte; CHUNK_BYTES][..])
}

#[test]
fn a_lend_copies_nothing_and_ends_only_where_chunks_do() {
    let disk = memory(4 * CHUNK);
    write(&disk, CHUNK, &vec![1; 2 * 65_536]);
    let pieces = lend(&disk, 4096, 3 * CHUNK);
    let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [61_440, 65_536, 65_536, 4096]);
    assert_eq!(pieces[1].as_ptr(), lend(&disk, CHUNK, 512 << 3)[0].as_ptr(), "the same memory");
    assert!(lend(&disk, 4 * CHUNK, 0).is_empty());
    assert_eq!(disk.allocated(), 2 * CHUNK, "zeroes were lent from elsewhere");
}

#[test]
fn whoever_is_lent_a_piece_may_use_the_memory_meanwhile() {
    let disk = memory(2 * CHUNK);
    write(&disk, 0, &vec![1; 2 * 65_536]);
    let mut seen = Vec::new();
    disk.lend(0, 2 * CHUNK, &mut |piece| {
        disk.write_zeroes(0, 2 * CHUNK, Zero::default()).unwrap();
        seen.push(piece);
    })
    .unwrap();
    assert_eq!((seen[0][0], seen[1][0]), (1, 0));
}

#[test]
fn a_write_is_in_place_unless_the_chunk_is_lent() {
    let disk = memory(CHUNK);
    write(&disk, 0, &[1; 4096]);
    let place = lend(&disk, 0, 4096)[0].as_ptr();
    write(&disk, 0, &[2; 4096]);
    let held = lend(&disk, 0, 8192);
    assert_eq!(held[0].as_ptr(), place, "nobody held it");

    // Written and zeroed behind the back of the one who holds it.
    for (byte, act) in [
        (3, &(|disk: &Memory| write(disk, 0, &[3; 4096])) as &dyn Fn(&Memory)),
        (0, &|disk: &Memory| disk.write_zeroes(0, 4096, Zero::default()).unwrap()),
        (0, &|disk: &Memory| disk.deallocate(0, CHUNK).unwrap()),
    ] {
        let again = lend(&disk, 0, 4096);
        act(&disk);
        assert_eq!(held[0], [[2; 4096], [0; 4096]].concat(), "what was lent stays");
        assert_eq!(lend(&disk, 0, 4096)[0], vec![byte; 4096]);
        drop(again);
    }
    assert_eq!(disk.allocated(), 0, "though somebody still holds what it was");
}

#[test]
fn a_whole_chunk_is_taken_over_and_the_old_one_given_back() {
    let disk = memory(2 * CHUNK + 4096);
    let first = chunk_of(1);
    let place = first.as_ptr();
    assert!(disk.adopt(CHUNK, first).unwrap().is_none(), "there was nothing to give back");
    assert_eq!(disk.allocated(), CHUNK);
    assert_eq!(lend(&disk, CHUNK, 4096)[0].as_ptr(), place, "no copy");

    let back = disk.adopt(CHUNK, chunk_of(2)).unwrap().unwrap();
    assert_eq!((back.as_ptr(), back.len()), (place, 65_536));
    let held = lend(&disk, CHUNK, CHUNK);
    assert!(disk.adopt(CHUNK, back).unwrap().is_none(), "the old one is lent");
    assert_eq!((held[0][0], lend(&disk, CHUNK, 4096)[0][0]), (2, 1));
    assert_eq!(disk.allocated(), CHUNK);
    write(&disk, CHUNK, &[3; 4096]);
    assert_eq!(lend(&disk, CHUNK, 4096)[0].as_ptr(), place, "it is written in place from then on");
}

#[test]
fn what_is_no_whole_chunk_is_copied_and_given_back() {
    let disk = memory(3 * CHUNK + 4096);
    let given_back = |offset: u64, from: BytesMut| {
        let (place, length) = (from.as_ptr(), from.len());
        let back = disk.adopt(offset, from).unwrap().unwrap();
        assert_eq!((back.as_ptr(), back.len()), (place, length));
        assert_eq!(lend(&disk, offset, 4096)[0][0], back[0]);
    };
    given_back(0, BytesMut::from(&[1; 4096][..]));
    given_back(4096, chunk_of(2));
    given_back(CHUNK, BytesMut::from(&[3; 2 * CHUNK_BYTES][..]));
    given_back(3 * CHUNK, BytesMut::from(&[4; 4096][..]));

    // A chunk in an allocation with a lot of room, which would be kept with it.
    let mut roomy = BytesMut::with_capacity(1 << 20);
    roomy.extend_from_slice(&chunk_of(5));
    given_back(0, roomy);
    assert_eq!(disk.allocated(), 4 * CHUNK);
}

#[test]
fn parts_of_a_larger_buffer_are_copied_so_that_none_keeps_all_of_it() {
    let disk = memory(4 * CHUNK);
    let mut large = BytesMut::zeroed(4 * CHUNK_BYTES);
    let parts: Vec<BytesMut> = (0..4).map(|_| large.split_to(CHUNK_BYTES)).collect();
    drop(large);
    // The last one is nobody else's any more, and would still keep all of it.
    for (offset, part) in (0..4).map(|chunk| chunk * CHUNK).zip(parts) {
        let place = part.as_ptr();
        let _ = disk.adopt(offset, part).unwrap();
        assert_ne!(lend(&disk, offset, 4096)[0].as_ptr(), place, "at {offset}");
    }
}

#[test]
fn adopting_checks_as_writing_does() {
    let disk = memory(CHUNK + 4096);
    let adopt = |offset, length| disk.adopt(offset, BytesMut::zeroed(length)).map(|_| ());
    assert!(matches!(adopt(CHUNK, 65_536), Err(Error::OutOfRange { .. })));
    assert!(matches!(adopt(0, 100), Err(Error::Unaligned { .. })));
    assert_eq!(disk.allocated(), 0);
}

#[test]
fn what_is_lent_stays_as_it_is_while_others_write() {
    let disk = memory(2 * CHUNK);
    let done = AtomicBool::new(false);
    let (disk, done) = (&disk, &done);
    thread::scope(|scope| {
        let writers: Vec<_> = (1..=2_u8)
            .map(|byte| {
                scope.spawn(move || {
                    let mut spare = Some(chunk_of(byte));
                    for round in 0..2000 {
                        write(disk, CHUNK - 8192, &[byte; 16_384]);
                        let mut chunk = spare.take().unwrap_or_else(|| chunk_of(byte));
                        chunk.fill(byte);
                        spare = disk.adopt(round % 2 * CHUNK, chunk).unwrap();
                        if round % 8 == 0 {
                            disk.deallocate(0, 2 * CHUNK).unwrap();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let pieces = lend(disk, CHUNK - 8192, 16_384);
                    let before = pieces.concat();
                    for block in before.chunks(4096) {
                        assert!(block.iter().all(|byte| *byte == block[0]), "a torn block");
                    }
                    thread::yield_now();
                    assert!(pieces.concat() == before, "it changed");
                }
            });
        }
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
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
    assert!(matches!(disk.adopt(0, BytesMut::zeroed(512)), Err(Error::ReadOnly)));
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
