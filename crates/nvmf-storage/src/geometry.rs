//! Size and shape of a backend, and the range checks that follow from it.

use crate::Error;

/// The size of one logical block: 512 or 4096 bytes.
///
/// ```
/// use nvmf_storage::BlockSize;
/// assert_eq!(BlockSize::new(512)?, BlockSize::B512);
/// assert_eq!(BlockSize::B4096.shift(), 12);
/// assert!(BlockSize::new(520).is_err());
/// # Ok::<(), nvmf_storage::GeometryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockSize {
    shift: u8,
}

impl BlockSize {
    /// 512 bytes.
    pub const B512: Self = Self { shift: 9 };
    /// 4096 bytes.
    pub const B4096: Self = Self { shift: 12 };

    /// The block size of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`GeometryError::BlockSize`] for anything but 512 and 4096.
    pub const fn new(bytes: u32) -> Result<Self, GeometryError> {
        match bytes {
            512 => Ok(Self::B512),
            4096 => Ok(Self::B4096),
            _ => Err(GeometryError::BlockSize { bytes }),
        }
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        1 << self.shift
    }

    /// The binary logarithm of the size in bytes: LBADS of an LBA Format.
    #[must_use]
    pub const fn shift(self) -> u8 {
        self.shift
    }
}

impl Default for BlockSize {
    /// 4096 bytes, the block of most devices and file systems.
    fn default() -> Self {
        Self::B4096
    }
}

/// How many blocks of which size, and whether they can be written.
///
/// At least one block, at most `i64::MAX` bytes (the largest file offset), so that no sum of an
/// offset and a length inside it can overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    block_size: BlockSize,
    blocks: u64,
    read_only: bool,
}

impl Geometry {
    /// The most bytes a backend can have: `i64::MAX`, the largest file offset.
    pub const MAX_BYTES: u64 = i64::MAX.unsigned_abs();

    /// `blocks` blocks of `block_size`, writable.
    ///
    /// # Errors
    ///
    /// [`GeometryError::Empty`] for no blocks, [`GeometryError::TooLarge`] for more than
    /// [`Geometry::MAX_BYTES`] bytes.
    pub const fn new(block_size: BlockSize, blocks: u64) -> Result<Self, GeometryError> {
        if blocks == 0 {
            return Err(GeometryError::Empty);
        }
        if blocks > Self::MAX_BYTES >> block_size.shift {
            return Err(GeometryError::TooLarge);
        }
        Ok(Self { block_size, blocks, read_only: false })
    }

    /// As many blocks of `block_size` as make `bytes` bytes, writable.
    ///
    /// # Errors
    ///
    /// As [`Geometry::new`], and [`GeometryError::Ragged`] if `bytes` is not whole blocks.
    pub const fn from_bytes(block_size: BlockSize, bytes: u64) -> Result<Self, GeometryError> {
        if !bytes.is_multiple_of(block_size.bytes() as u64) {
            return Err(GeometryError::Ragged { bytes, block_size: block_size.bytes() });
        }
        Self::new(block_size, bytes >> block_size.shift)
    }

    /// The same with `blocks` blocks, which must be a number that [`Geometry::new`] takes.
    pub(crate) const fn with_blocks(self, blocks: u64) -> Self {
        Self { blocks, ..self }
    }

    /// The same blocks, read-only or not.
    #[must_use]
    pub const fn with_read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// The size of one block in bytes: 512 or 4096.
    #[must_use]
    pub const fn block_size(&self) -> u32 {
        self.block_size.bytes()
    }

    /// The binary logarithm of [`Geometry::block_size`]: 9 or 12.
    #[must_use]
    pub const fn block_shift(&self) -> u8 {
        self.block_size.shift()
    }

    /// The number of blocks, at least 1 (NSZE).
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.blocks << self.block_size.shift
    }

    /// Whether every write is refused.
    #[must_use]
    pub const fn read_only(&self) -> bool {
        self.read_only
    }

    /// The byte offset and byte length of `count` blocks from block `first` on.
    ///
    /// Takes numbers straight from a command: whatever they are, the result is inside the backend.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if the last block is past the end.
    pub const fn byte_range(&self, first: u64, count: u64) -> Result<(u64, u64), Error> {
        let fits = match first.checked_add(count) {
            Some(end) => end <= self.blocks,
            None => false,
        };
        if !fits {
            let size = self.block_size.bytes() as u64;
            return Err(Error::OutOfRange {
                offset: first.saturating_mul(size),
                length: count.saturating_mul(size),
                capacity: self.bytes(),
            });
        }
        Ok((first << self.block_size.shift, count << self.block_size.shift))
    }

    /// Checks that `length` bytes from byte `offset` on are whole blocks of this backend.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`], [`Error::OutOfRange`].
    pub const fn check_range(&self, offset: u64, length: u64) -> Result<(), Error> {
        let size = self.block_size.bytes();
        if !offset.is_multiple_of(size as u64) || !length.is_multiple_of(size as u64) {
            return Err(Error::Unaligned { offset, length, block_size: size });
        }
        match offset.checked_add(length) {
            Some(end) if end <= self.bytes() => Ok(()),
            _ => Err(Error::OutOfRange { offset, length, capacity: self.bytes() }),
        }
    }

    /// [`Geometry::check_range`] for an operation that changes the blocks.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::Unaligned`], [`Error::OutOfRange`].
    pub const fn check_write(&self, offset: u64, length: u64) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.check_range(offset, length)
    }
}

/// Why a size and a block size do not make a [`Geometry`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// Neither 512 nor 4096.
    #[error("a block of {bytes} bytes is not supported; use 512 or 4096")]
    BlockSize {
        /// The size asked for.
        bytes: u32,
    },
    /// No blocks at all.
    #[error("a size of zero; a namespace has at least one block")]
    Empty,
    /// More than [`Geometry::MAX_BYTES`].
    #[error("more than {} bytes", Geometry::MAX_BYTES)]
    TooLarge,
    /// The size is not whole blocks.
    #[error("{bytes} bytes are not a multiple of the block size {block_size}")]
    Ragged {
        /// The size asked for, in bytes.
        bytes: u64,
        /// The block size, in bytes.
        block_size: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eight() -> Geometry {
        Geometry::new(BlockSize::B512, 8).unwrap()
    }

    #[test]
    fn only_512_and_4096_are_block_sizes() {
        for bytes in (0..=65_536).chain([1 << 31, u32::MAX]) {
            let ok = BlockSize::new(bytes).is_ok_and(|size| size.bytes() == bytes);
            assert_eq!(ok, bytes == 512 || bytes == 4096, "{bytes}");
        }
    }

    #[test]
    fn a_geometry_has_at_least_one_block_and_at_most_the_largest_offset() {
        assert_eq!(Geometry::new(BlockSize::B512, 0), Err(GeometryError::Empty));
        let most = Geometry::MAX_BYTES >> 9;
        assert_eq!(Geometry::new(BlockSize::B512, most).unwrap().bytes(), most << 9);
        assert_eq!(Geometry::new(BlockSize::B512, most + 1), Err(GeometryError::TooLarge));
        assert_eq!(Geometry::new(BlockSize::B4096, u64::MAX), Err(GeometryError::TooLarge));
        assert_eq!(
            Geometry::from_bytes(BlockSize::B4096, 4608),
            Err(GeometryError::Ragged { bytes: 4608, block_size: 4096 })
        );
    }

    #[test]
    fn ranges_end_at_the_last_block() {
        let g = eight();
        assert!(g.check_range(0, 4096).is_ok());
        assert!(g.check_range(3584, 512).is_ok());
        assert!(g.check_range(4096, 0).is_ok(), "an empty range at the end");
        for (offset, length) in [(0, 4608), (3584, 1024), (4096, 512), (4608, 0)] {
            assert!(
                matches!(g.check_range(offset, length), Err(Error::OutOfRange { .. })),
                "{offset}+{length}"
            );
        }
        let top = u64::MAX - 511;
        assert!(matches!(g.check_range(top, 512), Err(Error::OutOfRange { .. })));
        assert!(matches!(g.check_range(512, top), Err(Error::OutOfRange { .. })));
    }

    #[test]
    fn parts_of_blocks_are_unaligned() {
        for (offset, length) in [(1, 512), (0, 511), (256, 256), (u64::MAX, u64::MAX)] {
            assert!(
                matches!(eight().check_range(offset, length), Err(Error::Unaligned { .. })),
                "{offset}+{length}"
            );
        }
    }

    #[test]
    fn block_numbers_of_any_size_stay_inside() {
        let g = eight();
        assert_eq!(g.byte_range(6, 2).unwrap(), (3072, 1024));
        assert_eq!(g.byte_range(8, 0).unwrap(), (4096, 0));
        for (first, count) in [(7, 2), (8, 1), (u64::MAX, 1), (1, u64::MAX), (1 << 63, 1 << 63)] {
            assert!(
                matches!(g.byte_range(first, count), Err(Error::OutOfRange { .. })),
                "{first}+{count}"
            );
        }
    }
}
