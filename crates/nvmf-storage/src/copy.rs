//! Copying blocks within one backend.

use crate::{Backend, Durability, Error, aligned_buffer};
use std::io::{IoSlice, IoSliceMut};

/// The most that is read before it is written, in bytes.
const BUFFER: u64 = 256 << 10;

/// Copies by reading and writing, in the order that leaves no byte overwritten before it was read.
pub(crate) fn through_a_buffer<B: Backend + ?Sized>(
    backend: &B,
    from: u64,
    to: u64,
    length: u64,
    durability: Durability,
) -> Result<(), Error> {
    let geometry = backend.geometry();
    geometry.check_range(from, length)?;
    geometry.check_write(to, length)?;
    let most = length.min(BUFFER);
    let mut buffer = aligned_buffer(usize::try_from(most).unwrap_or(0), 4096);
    let backwards = from < to && to < from + length;
    let mut done = 0;
    while done < length {
        let part = most.min(length - done);
        let at = if backwards { length - done - part } else { done };
        let bytes = &mut buffer[..usize::try_from(part).unwrap_or(0)];
        backend.read(from + at, &mut [IoSliceMut::new(bytes)])?;
        backend.write(to + at, &[IoSlice::new(bytes)], Durability::Cached)?;
        done += part;
    }
    match durability {
        Durability::Cached => Ok(()),
        Durability::ForceUnitAccess => backend.flush(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockSize, Failure, Fault, Faulty, Geometry, Memory, Operation};

    const BLOCK: u64 = 4096;
    /// Twice the buffer, and a bit.
    const BLOCKS: u64 = 2 * BUFFER / BLOCK + 3;

    fn disk() -> Faulty<Memory> {
        let geometry = Geometry::new(BlockSize::B4096, 4 * BLOCKS).unwrap();
        let disk = Faulty::new(Memory::new(geometry).unwrap());
        for block in 0..4 * BLOCKS {
            let bytes = block.to_le_bytes().repeat(512);
            disk.write(block * BLOCK, &[IoSlice::new(&bytes)], Durability::Cached).unwrap();
        }
        disk
    }

    fn numbers(disk: &Faulty<Memory>, first: u64, count: u64) -> Vec<u64> {
        let number = |block| {
            let mut bytes = [0; 4096];
            disk.read(block * BLOCK, &mut [IoSliceMut::new(&mut bytes)]).unwrap();
            u64::from_le_bytes(bytes[4088..].try_into().unwrap())
        };
        (first..first + count).map(number).collect()
    }

    #[test]
    fn what_overlaps_becomes_what_was_there_before() {
        for (from, to) in [(5, 6), (6, 5), (0, BLOCKS - 1), (BLOCKS, 1), (7, 7), (0, 2 * BLOCKS)] {
            let disk = disk();
            let (at, length) = (from * BLOCK, BLOCKS * BLOCK);
            disk.copy_within(at, to * BLOCK, length, Durability::Cached).unwrap();
            let expected: Vec<u64> = (from..from + BLOCKS).collect();
            assert_eq!(numbers(&disk, to, BLOCKS), expected, "{from} to {to}");
            assert_eq!(numbers(&disk, to + BLOCKS, 1), [to + BLOCKS]);
        }
    }

    #[test]
    fn faults_of_reads_and_writes_are_faults_of_a_copy() {
        let disk = disk();
        let copy = |durability| disk.copy_within(0, 2 * BLOCKS * BLOCK, BLOCKS * BLOCK, durability);
        for operation in [Operation::Read, Operation::Write] {
            disk.inject(Fault::on(operation).after(1).failing(Failure::Io));
            assert!(matches!(copy(Durability::Cached), Err(Error::Io(_))));
            disk.heal();
        }
        disk.inject(Fault::on(Operation::Flush).failing(Failure::WritesLost));
        copy(Durability::Cached).unwrap();
        assert!(matches!(copy(Durability::ForceUnitAccess), Err(Error::WritesLost)));
    }
}
