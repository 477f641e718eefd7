use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::*;

const LENGTH: usize = 512;
const WHOLE: Range<usize> = 0..LENGTH;

fn write(chunks: &Chunks, index: usize, value: u8) -> bool {
    chunks.update(index, WHOLE, |bytes| bytes.fill(value)).unwrap()
}

fn memory(value: u8) -> BytesMut {
    BytesMut::from(&[value; LENGTH][..])
}

fn lost(chunks: &Chunks) -> usize {
    lock(&chunks.home().lost).len()
}

#[test]
fn what_was_lent_stays_whatever_becomes_of_the_chunk() {
    let chunks = Chunks::new(2000, LENGTH);
    assert!(chunks.lend(1999, WHOLE).is_none() && !chunks.exists(1999));
    assert!(write(&chunks, 1999, 1));
    let first = [chunks.lend(1999, WHOLE).unwrap(), chunks.lend(1999, 5..9).unwrap()];
    assert!(!write(&chunks, 1999, 2));
    let second = chunks.lend(1999, WHOLE).unwrap();
    let replaced = chunks.replace(1999, Some(memory(3))).unwrap();
    assert!(replaced.existed && replaced.old.is_none());
    let third = chunks.lend(1999, WHOLE).unwrap();
    assert!(chunks.exists(1999) && !chunks.exists(1998));
    assert!(chunks.replace(1999, None).unwrap().existed);
    assert!(chunks.lend(1999, WHOLE).is_none() && !chunks.exists(1999));
    assert_eq!(lost(&chunks), 3);
    drop(chunks);
    assert!(first[0][..] == [1; LENGTH] && first[1][..] == [1; 4]);
    assert!(second[..] == [2; LENGTH] && third[..] == [3; LENGTH]);
}

#[test]
fn memory_that_is_not_lent_is_written_in_place_and_given_back() {
    let chunks = Chunks::new(1, LENGTH);
    let mine = memory(7);
    let address = mine.as_ptr();
    assert!(!chunks.replace(0, Some(mine)).unwrap().existed);
    let at = |chunks: &Chunks| chunks.lend(0, WHOLE).unwrap().as_ptr();
    assert_eq!(at(&chunks), address);
    write(&chunks, 0, 8);
    assert_eq!(at(&chunks), address, "its lease was back");
    let lent = chunks.lend(0, 1..2).unwrap();
    chunks.update(0, 3..4, |bytes| bytes.fill(9)).unwrap();
    assert_ne!(at(&chunks), address);
    assert_eq!(chunks.lend(0, 2..5).unwrap()[..], [8, 9, 8]);
    assert_eq!((&lent[..], lost(&chunks)), (&[8][..], 1));
    drop(lent);
    assert_eq!(lost(&chunks), 0, "freed with its last lease");
    let old = chunks.replace(0, None).unwrap().old.unwrap();
    assert_eq!(old[2..5], [8, 9, 8]);
}

#[test]
fn what_exceeds_the_count_is_copied() {
    let chunks = Chunks::new(2, LENGTH);
    write(&chunks, 1, 4);
    let address = chunks.lend(1, WHOLE).unwrap().as_ptr();
    let word = &chunks.home().find(0).unwrap().leases[1].word;
    word.fetch_add(COUNT, Ordering::Relaxed);
    let copied = chunks.lend(1, WHOLE).unwrap();
    assert_ne!(copied.as_ptr(), address);
    assert_eq!(copied[..], [4; LENGTH]);
    word.fetch_sub(COUNT, Ordering::Relaxed);
    assert_eq!(chunks.lend(1, WHOLE).unwrap().as_ptr(), address);
}

#[test]
#[should_panic(expected = "chunk 3 of 3")]
fn there_is_no_chunk_behind_the_last() {
    drop(Chunks::new(3, LENGTH).lend(3, 0..1));
}

#[test]
#[should_panic(expected = "chunks are too many")]
fn there_are_no_more_chunks_than_can_be_found() {
    drop(Chunks::new(Chunks::MAX + 1, LENGTH));
}

#[test]
fn added_chunks_leave_those_that_are_there_where_they_are() {
    let chunks = Chunks::new(1, LENGTH);
    write(&chunks, 0, 1);
    let before = chunks.lend(0, WHOLE).unwrap();
    for count in [2, TABLE, TABLE + 1, SHELF * TABLE, SHELF * TABLE + 1, Chunks::MAX] {
        chunks.grow(count);
        assert!(chunks.lend(count - 1, WHOLE).is_none() && !chunks.exists(count - 1));
        assert!(write(&chunks, count - 1, 2));
        assert_eq!(chunks.lend(count - 1, WHOLE).unwrap()[..], [2; LENGTH]);
        chunks.grow(1);
        assert!(chunks.exists(count - 1), "it does not shrink");
    }
    assert_eq!(chunks.lend(0, WHOLE).unwrap().as_ptr(), before.as_ptr());
    assert_eq!(before[..], [1; LENGTH]);
}

#[test]
fn chunks_are_added_while_others_are_lent_and_written() {
    let chunks = Chunks::new(1, LENGTH);
    let count = AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let there = count.load(Ordering::Acquire);
                    let last = there - 1;
                    let value = u8::try_from(last % 251).unwrap();
                    write(&chunks, last, value);
                    assert_eq!(chunks.lend(last, 0..1).unwrap()[..], [value]);
                    if there > 3 * TABLE {
                        break;
                    }
                }
            });
        }
        for new in 2..3 * TABLE + 2 {
            chunks.grow(new);
            count.store(new, Ordering::Release);
        }
    });
}

#[test]
#[should_panic(expected = "bytes 1..513 of a chunk")]
fn there_are_no_bytes_behind_the_end() {
    drop(Chunks::new(3, LENGTH).lend(0, 1..513));
}

/// Readers keep what they were lent for a while, and see one value in all of it, always the same;
/// writers write, replace and take away.
#[test]
fn many_threads_never_see_a_lease_change() {
    const CHUNKS: usize = 3;
    let chunks = Chunks::new(CHUNKS, LENGTH);
    let stop = AtomicBool::new(false);
    let seen: usize = std::thread::scope(|scope| {
        for seed in 0..2usize {
            let (chunks, stop) = (&chunks, &stop);
            scope.spawn(move || {
                let mut n = seed;
                while !stop.load(Ordering::Relaxed) {
                    n = n
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let index = (n >> 33) % CHUNKS;
                    // The value says which chunk it belongs to.
                    let value = u8::try_from((n >> 40) % 80 * CHUNKS + index).unwrap();
                    match (n >> 50) % 8 {
                        0 => drop(chunks.replace(index, None).unwrap()),
                        1 | 2 => drop(chunks.replace(index, Some(memory(value))).unwrap()),
                        _ => drop(write(chunks, index, value)),
                    }
                }
            });
        }
        let readers: Vec<_> = (0..3usize)
            .map(|seed| {
                let (chunks, stop) = (&chunks, &stop);
                scope.spawn(move || {
                    let mut kept: [Option<(Lent, u8)>; 16] = Default::default();
                    let mut seen = 0;
                    let mut n = seed;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        let slot = &mut kept[n % 16];
                        if let Some((bytes, value)) = slot.take() {
                            assert!(bytes.iter().all(|byte| *byte == value), "it changed");
                            seen += 1;
                        }
                        *slot = chunks.lend(n % CHUNKS, WHOLE).map(|bytes| {
                            let value = bytes[n % LENGTH];
                            assert_eq!(usize::from(value) % CHUNKS, n % CHUNKS, "another chunk's");
                            (bytes, value)
                        });
                    }
                    seen
                })
            })
            .collect();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(seen > 1000, "{seen} leases");
    assert_eq!(lost(&chunks), 0, "all came back");
}
