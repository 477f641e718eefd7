use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::Lent;

const BLOCK: usize = Chunks::BLOCK;

/// Depends on every byte, and on where it is.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}

/// What the whole of it sums up to, block by block; and how many bytes were read for it.
fn ask(lent: &Lent, range: Range<usize>) -> (Vec<u32>, usize) {
    let read = Cell::new(0);
    let mut sums = Vec::new();
    let counted = |bytes: &[u8]| {
        read.set(read.get() + bytes.len());
        sum(bytes)
    };
    lent.summands(range, counted, |summand| {
        sums.push(match summand {
            Summand::Bytes(bytes) => counted(bytes),
            Summand::Block(sum) => sum,
        });
    });
    (sums, read.get())
}

/// As if nothing were kept.
fn plain(bytes: &[u8], to_border: usize) -> Vec<u32> {
    let (head, rest) = bytes.split_at(to_border);
    let head = Some(head).filter(|head| !head.is_empty());
    head.into_iter().chain(rest.chunks(BLOCK)).map(sum).collect()
}

fn filled(length: usize, seed: u8) -> BytesMut {
    (0..length).map(|i| seed.wrapping_add(u8::try_from(i % 253).unwrap_or(0))).collect()
}

#[test]
fn whole_blocks_are_read_once() {
    let chunks = Chunks::new(3, 4 * BLOCK);
    chunks.replace(1, Some(filled(4 * BLOCK, 3))).unwrap();
    let lent = chunks.lend(1, 0..4 * BLOCK).unwrap();
    let expected = plain(&lent, 0);
    assert_eq!(ask(&lent, BLOCK..2 * BLOCK), (expected[1..2].to_vec(), BLOCK));
    assert_eq!(ask(&lent, 0..4 * BLOCK), (expected.clone(), 3 * BLOCK));
    assert_eq!(ask(&lent, 0..4 * BLOCK), (expected.clone(), 0));
    let other = chunks.lend(1, BLOCK..3 * BLOCK).unwrap();
    assert_eq!(ask(&other, 0..2 * BLOCK), (expected[1..3].to_vec(), 0));
    assert_eq!(ask(&other, 0..0), (vec![sum(&[])], 0));
}

#[test]
fn parts_of_blocks_are_read_every_time() {
    let chunks = Chunks::new(1, 3 * BLOCK);
    chunks.replace(0, Some(filled(3 * BLOCK, 9))).unwrap();
    for _ in 0..2 {
        let lent = chunks.lend(0, 100..3 * BLOCK - 1).unwrap();
        ask(&lent, 0..lent.len());
        let read = BLOCK - 100 + BLOCK - 1;
        assert_eq!(ask(&lent, 0..lent.len()), (plain(&lent, BLOCK - 100), read));
        let short = &lent[10..20];
        assert_eq!(ask(&lent, 10..20), (vec![sum(short)], 10));
        let across = BLOCK - 200..BLOCK;
        assert_eq!(ask(&lent, across.clone()), (vec![sum(&lent[across])], 200));
    }
}

#[test]
fn who_writes_makes_it_read_again() {
    let chunks = Chunks::new(2, 4 * BLOCK);
    chunks.replace(0, Some(filled(4 * BLOCK, 1))).unwrap();
    let everything = || {
        let lent = chunks.lend(0, 0..4 * BLOCK).unwrap();
        let (sums, read) = ask(&lent, 0..4 * BLOCK);
        assert_eq!(sums, plain(&lent, 0));
        read
    };
    assert_eq!(everything(), 4 * BLOCK);
    // In place: what is written to, and nothing else.
    chunks.update(0, BLOCK + 1..BLOCK + 2, |bytes| bytes.fill(0)).unwrap();
    assert_eq!(everything(), BLOCK);
    chunks.update(0, BLOCK - 1..2 * BLOCK + 1, |bytes| bytes.fill(5)).unwrap();
    assert_eq!(everything(), 3 * BLOCK);
    chunks.update(0, 4 * BLOCK - 1..4 * BLOCK, |bytes| bytes.fill(6)).unwrap();
    assert_eq!(everything(), BLOCK);
    chunks.update(0, 5..5, |_| ()).unwrap();
    // Elsewhere.
    let kept = chunks.lend(0, 0..4 * BLOCK).unwrap();
    chunks.update(0, 0..1, |bytes| bytes.fill(7)).unwrap();
    assert_eq!(everything(), 4 * BLOCK);
    assert_eq!(ask(&kept, 0..4 * BLOCK), (plain(&kept, 0), 4 * BLOCK));
    assert_eq!(everything(), 4 * BLOCK, "not what was noted of the old memory");
    chunks.replace(0, Some(filled(4 * BLOCK, 8))).unwrap();
    assert_eq!(everything(), 4 * BLOCK);
}

#[test]
fn a_generation_whose_number_comes_again_is_another() {
    let chunks = Chunks::new(1, BLOCK);
    chunks.replace(0, Some(filled(BLOCK, 1))).unwrap();
    ask(&chunks.lend(0, 0..BLOCK).unwrap(), 0..BLOCK);
    let word = &chunks.home().find(0).unwrap().leases[0].word;
    word.fetch_add(((1 << 32) - 1) * super::super::GENERATION, Ordering::Relaxed);
    chunks.replace(0, Some(filled(BLOCK, 2))).unwrap();
    let lent = chunks.lend(0, 0..BLOCK).unwrap();
    assert_eq!(ask(&lent, 0..BLOCK), (plain(&lent, 0), BLOCK));
}

#[test]
fn what_is_not_of_a_chunk_or_has_no_whole_block_is_bytes() {
    let lent = Lent::from(Bytes::from(vec![1; BLOCK]));
    assert_eq!(ask(&lent, 0..BLOCK), (vec![sum(&lent)], BLOCK));
    let chunks = Chunks::new(1, BLOCK - 1);
    chunks.replace(0, Some(filled(BLOCK - 1, 2))).unwrap();
    let lent = chunks.lend(0, 0..BLOCK - 1).unwrap();
    assert_eq!(ask(&lent, 0..BLOCK - 1), (vec![sum(&lent)], BLOCK - 1));
}

/// Readers compare what they are told with what is there, while writers write in place, copy and
/// replace.
#[test]
fn no_thread_is_told_a_sum_of_other_bytes() {
    const CHUNKS: usize = 2;
    let chunks = Chunks::new(CHUNKS, 2 * BLOCK);
    // The sum of the whole is that of its blocks' sums, since a writer's chunk comes in one piece.
    let total = |bytes: &[u8]| {
        bytes.iter().fold(0, |sum: u32, byte| sum.wrapping_add((u32::from(*byte) + 1).pow(3)))
    };
    let (stop, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for seed in 0..2usize {
            let (chunks, stop) = (&chunks, &stop);
            scope.spawn(move || {
                let mut n = seed;
                while !stop.load(Ordering::Relaxed) {
                    n = n
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let value = u8::try_from(n >> 40 & 255).unwrap();
                    let (index, from) = ((n >> 33) % CHUNKS, (n >> 48) % (2 * BLOCK));
                    match (n >> 36) % 8 {
                        0 => drop(chunks.replace(index, Some(filled(2 * BLOCK, value))).unwrap()),
                        1 => std::thread::sleep(Duration::from_micros(200)),
                        _ => {
                            let range = from..(from + 9).min(2 * BLOCK);
                            chunks.update(index, range, |bytes| bytes.fill(value)).unwrap();
                        }
                    }
                }
            });
        }
        for n in 0..3usize {
            let (chunks, stop, seen) = (&chunks, &stop, &seen);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(lent) = chunks.lend(n % CHUNKS, 0..2 * BLOCK) else { continue };
                    let (mut told, mut known) = (0u32, false);
                    lent.summands(0..2 * BLOCK, total, |summand| {
                        told = told.wrapping_add(match summand {
                            Summand::Bytes(bytes) => total(bytes),
                            Summand::Block(sum) => sum,
                        });
                        known |= matches!(summand, Summand::Block(_));
                    });
                    assert_eq!(told, total(&lent));
                    seen.fetch_add(usize::from(known), Ordering::Relaxed);
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(seen.into_inner() > 100, "few came by their blocks");
}
