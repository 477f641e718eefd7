//! Blocks that are nowhere.

use crate::buffer::{ZERO_BYTES, ZEROES};
use crate::growing::{self, Growing};
use crate::vectored;
use crate::{Access, Backend, Durability, Error, Geometry, Resident, ResizeError, Zero};
use bytes::{Bytes, BytesMut};
use nvmf_engine::Lent;
use std::io::{IoSlice, IoSliceMut};

/// Reads zeroes and forgets what is written: for measuring everything but the storage.
///
/// Ranges are checked as everywhere.
///
/// ```
/// use nvmf_storage::{Backend, BlockSize, Geometry, Null};
/// let disk = Null::new(Geometry::new(BlockSize::B4096, 1 << 28)?);
/// assert_eq!(disk.geometry().bytes(), 1 << 40);
/// # Ok::<(), nvmf_storage::GeometryError>(())
/// ```
#[derive(Debug)]
pub struct Null {
    geometry: Growing,
    number: u32,
}

impl Null {
    /// A null device of this size; its location is `null:1`.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry: Growing::new(geometry), number: 1 }
    }

    /// The same with the location `null:number`.
    #[must_use]
    pub fn with_number(self, number: u32) -> Self {
        Self { number, ..self }
    }
}

impl Backend for Null {
    fn geometry(&self) -> Geometry {
        self.geometry.get()
    }

    fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
        self.geometry().check_range(offset, vectored::length_mut(into))?;
        into.iter_mut().for_each(|slice| slice.fill(0));
        Ok(())
    }

    fn write(&self, offset: u64, from: &[IoSlice<'_>], _: Durability) -> Result<(), Error> {
        self.geometry().check_write(offset, vectored::length(from))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, _: Zero) -> Result<(), Error> {
        self.geometry().check_write(offset, length)
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.geometry().check_write(offset, length)
    }

    fn resize(&self, bytes: Option<u64>) -> Result<Geometry, ResizeError> {
        self.geometry.resize(|now| bytes.map_or(Ok(now), |bytes| growing::grown(now, bytes)))
    }

    /// False: there is nothing to lose.
    fn volatile_write_cache(&self) -> bool {
        false
    }

    fn location(&self) -> String {
        format!("null:{}", self.number)
    }

    fn access(&self) -> Access<'_> {
        Access::Resident(self)
    }
}

impl Resident for Null {
    fn lend(&self, offset: u64, length: u64, each: &mut dyn FnMut(Lent)) -> Result<(), Error> {
        self.geometry().check_range(offset, length)?;
        let mut left = length;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
            each(Bytes::from_static(&ZEROES[..part]).into());
            left -= part as u64;
        }
        Ok(())
    }

    fn adoptable(&self) -> u64 {
        ZERO_BYTES as u64
    }

    fn adopt(&self, offset: u64, from: BytesMut) -> Result<Option<BytesMut>, Error> {
        self.geometry().check_write(offset, from.len() as u64)?;
        Ok(Some(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockSize;

    #[test]
    fn a_read_only_null_refuses_every_change() {
        let null = Null::new(Geometry::new(BlockSize::B512, 8).unwrap().with_read_only(true));
        let write = null.write(0, &[IoSlice::new(&[1; 512])], Durability::Cached);
        assert!(matches!(write, Err(Error::ReadOnly)));
        assert!(matches!(null.write_zeroes(0, 512, Zero::default()), Err(Error::ReadOnly)));
        assert!(matches!(null.deallocate(0, 512), Err(Error::ReadOnly)));
        assert!(matches!(null.adopt(0, BytesMut::zeroed(512)), Err(Error::ReadOnly)));
        null.flush().unwrap();
    }

    #[test]
    fn any_length_of_zeroes_is_lent_and_any_buffer_given_back() {
        let null = Null::new(Geometry::new(BlockSize::B4096, 1 << 20).unwrap());
        let mut lengths = Vec::new();
        null.lend(4096, 200 << 10, &mut |piece| lengths.push(piece.len())).unwrap();
        assert_eq!(lengths, [65_536, 65_536, 65_536, 8192]);
        let buffer = BytesMut::zeroed(65_536);
        let place = buffer.as_ptr();
        assert_eq!(null.adopt(0, buffer).unwrap().unwrap().as_ptr(), place);
    }

    #[test]
    fn several_nulls_are_told_apart_by_their_numbers() {
        let null = || Null::new(Geometry::new(BlockSize::B512, 8).unwrap());
        assert_eq!(null().location(), "null:1");
        assert_eq!(null().with_number(2).location(), "null:2");
    }
}
