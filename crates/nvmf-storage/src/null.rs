//! Blocks that are nowhere.

use crate::vectored;
use crate::{Backend, Durability, Error, Geometry, Zero};
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
    geometry: Geometry,
    number: u32,
}

impl Null {
    /// A null device of this size; its location is `null:1`.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            number: 1,
        }
    }

    /// The same with the location `null:number`.
    #[must_use]
    pub fn with_number(self, number: u32) -> Self {
        Self { number, ..self }
    }
}

impl Backend for Null {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
        self.geometry
            .check_range(offset, vectored::length_mut(into))?;
        into.iter_mut().for_each(|slice| slice.fill(0));
        Ok(())
    }

    fn write(&self, offset: u64, from: &[IoSlice<'_>], _: Durability) -> Result<(), Error> {
        self.geometry.check_write(offset, vectored::length(from))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, _: Zero) -> Result<(), Error> {
        self.geometry.check_write(offset, length)
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.geometry.check_write(offset, length)
    }

    /// False: there is nothing to lose.
    fn volatile_write_cache(&self) -> bool {
        false
    }

    fn location(&self) -> String {
        format!("null:{}", self.number)
    }
}
