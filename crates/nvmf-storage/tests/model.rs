//! Every backend that keeps blocks against a plain vector of bytes, over random operations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::{Bytes, BytesMut};
use nvmf_storage::{
    Access, Backend, BlockSize, Durability, Error, File, Geometry, GeometryError, Memory, Null,
    ResizeError, Zero,
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::{IoSlice, IoSliceMut};
use tempfile::NamedTempFile;

/// Four chunks of memory and a bit, so that operations cross chunks and reach a short last one.
const BYTES: u64 = 4 * 65_536 + 3 * 4096;

#[derive(Debug, Clone)]
enum Op {
    Read {
        at: Range,
        cuts: Vec<usize>,
    },
    Write {
        at: Range,
        cuts: Vec<usize>,
        seed: u8,
        durability: Durability,
    },
    Zero {
        at: Range,
        how: Zero,
    },
    Deallocate {
        at: Range,
    },
    /// To be held until the end.
    Lend {
        at: Range,
    },
    Adopt {
        at: Range,
        seed: u8,
    },
    Copy {
        at: Range,
        /// May overlap.
        to: u64,
        durability: Durability,
    },
    /// In bytes; may be no size, or a smaller one.
    Resize {
        bytes: Option<u64>,
    },
    Flush,
}

/// In bytes; may be unaligned or out of range.
#[derive(Debug, Clone, Copy)]
struct Range {
    offset: u64,
    length: u64,
}

fn range(block: u64) -> impl Strategy<Value = Range> {
    let blocks = BYTES / block;
    let aligned = move |offset: std::ops::Range<u64>, length: std::ops::Range<u64>| {
        (offset, length).prop_map(move |(o, l)| Range { offset: o * block, length: l * block })
    };
    let inside = (0..=blocks)
        .prop_flat_map(move |first| (Just(first), 0..=blocks - first))
        .prop_map(move |(o, l)| Range { offset: o * block, length: l * block });
    prop_oneof![
        8 => aligned(0..blocks, 0..9),
        4 => inside,
        // Whole chunks, which memory frees.
        2 => (0_u64..5, 1_u64..3).prop_map(|(o, l)| Range { offset: o << 16, length: l << 16 }),
        1 => aligned(blocks..blocks + 2, 0..3),
        1 => (0..BYTES + 2 * block, 0..3 * block)
            .prop_map(|(offset, length)| Range { offset, length }),
        1 => (any::<u64>(), 0..3 * block).prop_map(|(offset, length)| Range { offset, length }),
    ]
}

fn op(block: u64) -> impl Strategy<Value = Op> {
    let cuts = || prop::collection::vec(0_usize..10_000, 0..6);
    let durability =
        || prop_oneof![9 => Just(Durability::Cached), 1 => Just(Durability::ForceUnitAccess)];
    let how = (any::<bool>(), durability())
        .prop_map(|(deallocate, durability)| Zero { deallocate, durability });
    prop_oneof![
        4 => (range(block), cuts()).prop_map(|(at, cuts)| Op::Read { at, cuts }),
        6 => (range(block), cuts(), any::<u8>(), durability())
            .prop_map(|(at, cuts, seed, durability)| Op::Write { at, cuts, seed, durability }),
        2 => (range(block), how).prop_map(|(at, how)| Op::Zero { at, how }),
        2 => range(block).prop_map(|at| Op::Deallocate { at }),
        3 => range(block).prop_map(|at| Op::Lend { at }),
        2 => (range(block), any::<u8>()).prop_map(|(at, seed)| Op::Adopt { at, seed }),
        // Whole chunks, which memory takes over.
        2 => (0_u64..5, any::<u8>()).prop_map(|(chunk, seed)| {
            Op::Adopt { at: Range { offset: chunk * Memory::CHUNK, length: Memory::CHUNK }, seed }
        }),
        3 => (range(block), range(block), durability())
            .prop_map(|(at, to, durability)| Op::Copy { at, to: to.offset, durability }),
        1 => prop_oneof![
            8 => (BYTES / block..(BYTES + 3 * Memory::CHUNK) / block).prop_map(move |n| n * block),
            1 => 0..2 * BYTES,
        ]
        .prop_map(|bytes| Op::Resize { bytes: Some(bytes) }),
        1 => Just(Op::Resize { bytes: None }),
        1 => Just(Op::Flush),
    ]
}

/// What the documentation promises of a range.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Unaligned,
    OutOfRange,
}

fn expected(geometry: Geometry, at: Range) -> Verdict {
    let block = u128::from(geometry.block_size());
    let (offset, length) = (u128::from(at.offset), u128::from(at.length));
    if offset % block != 0 || length % block != 0 {
        Verdict::Unaligned
    } else if offset + length > u128::from(geometry.bytes()) {
        Verdict::OutOfRange
    } else {
        Verdict::Fine
    }
}

fn verdict(result: &Result<(), Error>) -> Verdict {
    match result {
        Ok(()) => Verdict::Fine,
        Err(Error::Unaligned { .. }) => Verdict::Unaligned,
        Err(Error::OutOfRange { .. }) => Verdict::OutOfRange,
        Err(other) => panic!("{other:?}"),
    }
}

/// Makes the size another one, if it is one, and larger; returns what it should be then.
fn resize(disk: &dyn Backend, bytes: Option<u64>) -> Geometry {
    let before = disk.geometry();
    let result = disk.resize(bytes);
    let after = match (bytes, &result) {
        (None, Ok(_)) => before,
        (Some(bytes), Err(ResizeError::Smaller { .. })) if bytes < before.bytes() => before,
        (Some(bytes), result) if !bytes.is_multiple_of(u64::from(before.block_size())) => {
            let error = result.as_ref().unwrap_err();
            assert!(matches!(error, ResizeError::Geometry(GeometryError::Ragged { .. })));
            before
        }
        (Some(bytes), Ok(_)) if bytes >= before.bytes() => {
            let size = BlockSize::new(before.block_size()).unwrap();
            Geometry::from_bytes(size, bytes).unwrap()
        }
        (bytes, result) => panic!("{before:?} to {bytes:?}: {result:?}"),
    };
    assert!(result.is_err() || result.unwrap() == after);
    assert_eq!(disk.geometry(), after);
    after
}

/// Lengths of the slices that `cuts` makes of `length` bytes, empty ones among them.
fn split(length: usize, cuts: &[usize]) -> Vec<usize> {
    let mut rest = length;
    let mut parts: Vec<usize> = cuts
        .iter()
        .map(|cut| {
            let part = rest.min(*cut);
            rest -= part;
            part
        })
        .collect();
    parts.push(rest);
    parts
}

fn slices<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<IoSlice<'a>> {
    split(bytes.len(), cuts)
        .into_iter()
        .map(|part| {
            let (now, later) = bytes.split_at(part);
            bytes = later;
            IoSlice::new(now)
        })
        .collect()
}

fn slices_mut<'a>(mut bytes: &'a mut [u8], cuts: &[usize]) -> Vec<IoSliceMut<'a>> {
    split(bytes.len(), cuts)
        .into_iter()
        .map(|part| {
            let (now, later) = std::mem::take(&mut bytes).split_at_mut(part);
            bytes = later;
            IoSliceMut::new(now)
        })
        .collect()
}

/// Bytes that tell where they are and which write they are of.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    let step = |at: usize| u8::try_from(at % 251).unwrap().wrapping_mul(3).wrapping_add(seed);
    (0..length).map(step).collect()
}

/// What `disk` lends of a range, each piece a `Bytes`; what it would read if it lends nothing.
fn lend(disk: &dyn Backend, at: Range) -> Result<Vec<Bytes>, Error> {
    let mut pieces = Vec::new();
    match disk.access() {
        Access::Resident(resident) => {
            resident.lend(at.offset, at.length, &mut |piece| pieces.push(piece.into_bytes()))?;
        }
        _ => {
            let mut bytes = vec![0xEE; usize::try_from(at.length).unwrap()];
            disk.read(at.offset, &mut [IoSliceMut::new(&mut bytes)])?;
            pieces.push(bytes.into());
        }
    }
    Ok(pieces)
}

/// Writes an owned buffer, by way of `adopt` if `disk` has it.
fn adopt(disk: &dyn Backend, at: Range, bytes: &[u8]) -> Result<(), Error> {
    match disk.access() {
        Access::Resident(resident) => {
            let back = resident.adopt(at.offset, BytesMut::from(bytes))?;
            assert!(back.is_none_or(|back| back.len() == bytes.len()), "a buffer to use again");
            Ok(())
        }
        _ => disk.write(at.offset, &[IoSlice::new(bytes)], Durability::Cached),
    }
}

/// The chunks that memory keeps, by their numbers.
#[derive(Default)]
struct Chunks(BTreeSet<u64>);

impl Chunks {
    fn write(&mut self, at: Range) {
        let end = at.offset + at.length;
        if at.length > 0 {
            self.0.extend(at.offset / Memory::CHUNK..end.div_ceil(Memory::CHUNK));
        }
    }

    /// Forgets those that lie wholly in the range.
    fn clear(&mut self, at: Range, bytes: u64) {
        let end = at.offset + at.length;
        self.0.retain(|chunk| {
            let (start, stop) = (chunk * Memory::CHUNK, ((chunk + 1) * Memory::CHUNK).min(bytes));
            start < at.offset || stop > end
        });
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64 * Memory::CHUNK
    }
}

/// Does what `ops` say to `disk` and to a vector; `allocated` is shown the chunks that are in use
/// after each.
fn follows_the_model(disk: &dyn Backend, ops: &[Op], allocated: impl Fn(&Chunks)) {
    let mut geometry = disk.geometry();
    let mut model = vec![0; usize::try_from(geometry.bytes()).unwrap()];
    let (mut leases, mut chunks) = (Vec::new(), Chunks::default());
    for op in ops {
        let (at, result) = match op {
            Op::Flush => {
                disk.flush().unwrap();
                continue;
            }
            Op::Resize { bytes } => {
                geometry = resize(disk, *bytes);
                model.resize(usize::try_from(geometry.bytes()).unwrap(), 0);
                continue;
            }
            Op::Copy { at, to, durability } => {
                let to = Range { offset: *to, length: at.length };
                let result = disk.copy_within(at.offset, to.offset, at.length, *durability);
                if result.is_ok() {
                    let bytes = part(&mut model, *at).to_vec();
                    part(&mut model, to).copy_from_slice(&bytes);
                    chunks.write(to);
                }
                let second = expected(geometry, *at) == Verdict::Fine;
                (&if second { to } else { *at }, result)
            }
            Op::Read { at, cuts } => {
                let mut bytes = vec![0xEE; usize::try_from(at.length).unwrap()];
                let result = disk.read(at.offset, &mut slices_mut(&mut bytes, cuts));
                if result.is_ok() {
                    assert!(bytes == part(&mut model, *at), "{op:?} read other bytes");
                }
                (at, result)
            }
            Op::Lend { at } => match lend(disk, *at) {
                Ok(pieces) => {
                    let then = part(&mut model, *at).to_vec();
                    assert!(pieces.concat() == then, "{op:?} lent other bytes");
                    leases.push((pieces, then));
                    (at, Ok(()))
                }
                Err(error) => (at, Err(error)),
            },
            Op::Write { at, cuts, seed, durability } => {
                let bytes = pattern(usize::try_from(at.length).unwrap(), *seed);
                let result = disk.write(at.offset, &slices(&bytes, cuts), *durability);
                if result.is_ok() {
                    part(&mut model, *at).copy_from_slice(&bytes);
                    chunks.write(*at);
                }
                (at, result)
            }
            Op::Adopt { at, seed } => {
                let bytes = pattern(usize::try_from(at.length).unwrap(), *seed);
                let result = adopt(disk, *at, &bytes);
                if result.is_ok() {
                    part(&mut model, *at).copy_from_slice(&bytes);
                    chunks.write(*at);
                }
                (at, result)
            }
            Op::Zero { at, .. } | Op::Deallocate { at } => {
                let result = match op {
                    Op::Zero { how, .. } => disk.write_zeroes(at.offset, at.length, *how),
                    _ => disk.deallocate(at.offset, at.length),
                };
                if result.is_ok() {
                    part(&mut model, *at).fill(0);
                    chunks.clear(*at, geometry.bytes());
                }
                (at, result)
            }
        };
        assert_eq!(verdict(&result), expected(geometry, *at), "{op:?}");
        allocated(&chunks);
    }
    let mut all = vec![0xEE; model.len()];
    disk.read(0, &mut [IoSliceMut::new(&mut all)]).unwrap();
    assert!(all == model, "the blocks differ after {ops:?}");
    for (pieces, then) in leases {
        assert!(pieces.concat() == then, "what was lent changed, after {ops:?}");
    }
}

/// The bytes of a range that the backend accepted.
fn part(model: &mut [u8], at: Range) -> &mut [u8] {
    let offset = usize::try_from(at.offset).unwrap();
    &mut model[offset..offset + usize::try_from(at.length).unwrap()]
}

fn block_size() -> impl Strategy<Value = BlockSize> {
    prop_oneof![Just(BlockSize::B512), Just(BlockSize::B4096)]
}

fn sequence() -> impl Strategy<Value = (BlockSize, Vec<Op>)> {
    block_size().prop_flat_map(|size| {
        (Just(size), prop::collection::vec(op(u64::from(size.bytes())), 1..40))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn memory_is_a_vector_of_bytes((size, ops) in sequence()) {
        let disk = Memory::new(Geometry::from_bytes(size, BYTES).unwrap()).unwrap();
        follows_the_model(&disk, &ops, |chunks| assert_eq!(disk.allocated(), chunks.bytes()));
        // Emptied, it holds nothing.
        disk.deallocate(0, disk.geometry().bytes()).unwrap();
        prop_assert_eq!(disk.allocated(), 0);
    }

    #[test]
    fn a_file_is_a_vector_of_bytes((size, ops) in sequence()) {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(BYTES).unwrap();
        let disk = File::open(image.path(), size, false).unwrap();
        follows_the_model(&disk, &ops, |_| {});
        let length = image.as_file().metadata().unwrap().len();
        prop_assert_eq!(length, disk.geometry().bytes(), "it has its size");
    }

    #[test]
    fn null_checks_ranges_and_reads_zeroes((size, ops) in sequence()) {
        let disk = Null::new(Geometry::from_bytes(size, BYTES).unwrap());
        for op in &ops {
            let (at, result) = match op {
                Op::Flush => continue,
                Op::Resize { bytes } => {
                    resize(&disk, *bytes);
                    continue;
                }
                Op::Copy { at, to, durability } => {
                    let result = disk.copy_within(at.offset, *to, at.length, *durability);
                    let second = expected(disk.geometry(), *at) == Verdict::Fine;
                    let to = Range { offset: *to, length: at.length };
                    (&if second { to } else { *at }, result)
                }
                Op::Read { at, cuts } => {
                    let mut bytes = vec![0xEE; usize::try_from(at.length).unwrap()];
                    let result = disk.read(at.offset, &mut slices_mut(&mut bytes, cuts));
                    prop_assert!(result.is_err() || bytes.iter().all(|byte| *byte == 0));
                    (at, result)
                }
                Op::Lend { at } => match lend(&disk, *at) {
                    Ok(pieces) => {
                        let pieces = pieces.concat();
                        prop_assert_eq!(pieces.len() as u64, at.length);
                        prop_assert!(pieces.iter().all(|byte| *byte == 0));
                        (at, Ok(()))
                    }
                    Err(error) => (at, Err(error)),
                },
                Op::Write { at, cuts, seed, durability } => {
                    let bytes = pattern(usize::try_from(at.length).unwrap(), *seed);
                    (at, disk.write(at.offset, &slices(&bytes, cuts), *durability))
                }
                Op::Adopt { at, seed } => {
                    let bytes = pattern(usize::try_from(at.length).unwrap(), *seed);
                    (at, adopt(&disk, *at, &bytes))
                }
                Op::Zero { at, how } => (at, disk.write_zeroes(at.offset, at.length, *how)),
                Op::Deallocate { at } => (at, disk.deallocate(at.offset, at.length)),
            };
            prop_assert_eq!(verdict(&result), expected(disk.geometry(), *at), "{:?}", op);
        }
    }
}

proptest! {
    // Every operation waits for a device.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_past_the_page_cache_is_a_vector_of_bytes((size, ops) in sequence()) {
        let image = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        image.as_file().set_len(BYTES).unwrap();
        let disk = File::open_direct(image.path(), size, false).unwrap_or_else(|error| {
            panic!("{error}; set CARGO_TARGET_DIR to a directory that has direct I/O")
        });
        follows_the_model(&disk, &ops, |_| {});
        let length = image.as_file().metadata().unwrap().len();
        prop_assert_eq!(length, disk.geometry().bytes(), "it has its size");
    }
}
