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
