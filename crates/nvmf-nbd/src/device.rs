//! What is served.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

/// Blocks to be served, used by many threads at once.
///
/// Offsets and lengths are bytes; ranges are within [`size`](Self::size) as it was when a client
/// connected, not empty, and multiples of [`BlockSizes::minimum`]. Errors reach the client as the NBD
/// error that comes nearest to their kind ([`Failure`](crate::Failure)), and with their text.
pub trait Device: Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Whether nothing can be written. The server refuses what would write, then.
    fn is_read_only(&self) -> bool {
        false
    }

    /// How requests have to be, and had better be, aligned.
    fn block_sizes(&self) -> BlockSizes {
        BlockSizes::default()
    }

    /// Whether a flush on one connection covers what others wrote, and what one writes the others
    /// read at once: clients may use several connections then.
    fn is_consistent_between_connections(&self) -> bool {
        true
    }

    /// Whether [`trim`](Self::trim) does anything at all.
    fn has_trim(&self) -> bool {
        true
    }

    /// Whether writing zeroes takes less time than sending and writing as much data does.
    fn has_fast_zeroes(&self) -> bool {
        false
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    ///
    /// Nothing of the range is given to the client.
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes>;

    /// Writes all of the data; if `fua`, it is on stable storage when this returns.
    ///
    /// # Errors
    ///
    /// What of the range was written is anything.
    fn write(&self, offset: u64, data: Bytes, fua: bool) -> io::Result<()>;

    /// Returns when everything that was written before is on stable storage.
    ///
    /// # Errors
    ///
    /// What was written may be lost.
    fn flush(&self) -> io::Result<()>;

    /// Is told that nobody needs what is there any more; it may do nothing.
    ///
    /// # Errors
    ///
    /// The range holds what it held, or anything.
    fn trim(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Has the range read as zeroes.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    fn write_zeroes(&self, offset: u64, length: u64, zero: Zero) -> io::Result<()>;
}

/// How zeroes are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Zero {
    /// The space may be given back. If not, later writes there must not run out of space.
    pub may_deallocate: bool,
    /// On stable storage when it returns.
    pub fua: bool,
}

impl Zero {
    pub(crate) fn new(may_deallocate: bool, fua: bool) -> Self {
        Self { may_deallocate, fua }
    }
}

/// How requests are aligned, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockSizes {
    minimum: u32,
    preferred: u32,
}

impl BlockSizes {
    /// The largest minimum that the protocol has.
    const MOST: u32 = 1 << 16;
    /// The least preferred size that the protocol has.
    const SECTOR: u32 = 512;

    /// Offsets and lengths have to be multiples of `minimum`, and are fast if they are multiples of
    /// `preferred`. `None` unless both are powers of two, `minimum` is 65536 at most, and `preferred`
    /// no less than that and than 512.
    pub fn new(minimum: u32, preferred: u32) -> Option<Self> {
        let right = minimum.is_power_of_two()
            && preferred.is_power_of_two()
            && minimum <= Self::MOST
            && preferred >= minimum.max(Self::SECTOR);
        right.then_some(Self { minimum, preferred })
    }

    /// What offsets and lengths have to be multiples of.
    pub fn minimum(self) -> u32 {
        self.minimum
    }

    /// What they had better be multiples of.
    pub fn preferred(self) -> u32 {
        self.preferred
    }

    /// Whether a range begins and ends where it has to.
    pub(crate) fn fit(self, offset: u64, length: u32) -> bool {
        let minimum = u64::from(self.minimum);
        offset.is_multiple_of(minimum) && u64::from(length).is_multiple_of(minimum)
    }
}

impl Default for BlockSizes {
    /// Any range will do; 4096 is good: what clients assume where they are not told.
    fn default() -> Self {
        Self { minimum: 1, preferred: 4096 }
    }
}

impl<D: Device + ?Sized> Device for Arc<D> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn is_read_only(&self) -> bool {
        (**self).is_read_only()
    }

    fn block_sizes(&self) -> BlockSizes {
        (**self).block_sizes()
    }

    fn is_consistent_between_connections(&self) -> bool {
        (**self).is_consistent_between_connections()
    }

    fn has_trim(&self) -> bool {
        (**self).has_trim()
    }

    fn has_fast_zeroes(&self) -> bool {
        (**self).has_fast_zeroes()
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        (**self).read(offset, length)
    }

    fn write(&self, offset: u64, data: Bytes, fua: bool) -> io::Result<()> {
        (**self).write(offset, data, fua)
    }

    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }

    fn trim(&self, offset: u64, length: u64) -> io::Result<()> {
        (**self).trim(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64, zero: Zero) -> io::Result<()> {
        (**self).write_zeroes(offset, length, zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_are_what_the_protocol_has() {
        for (minimum, preferred) in [(1, 512), (512, 4096), (4096, 4096), (65536, 1 << 20)] {
            assert!(BlockSizes::new(minimum, preferred).is_some(), "{minimum} {preferred}");
        }
        for (minimum, preferred) in
            [(0, 512), (1, 256), (3, 512), (512, 768), (4096, 512), (1 << 17, 1 << 17), (1, 0)]
        {
            assert!(BlockSizes::new(minimum, preferred).is_none(), "{minimum} {preferred}");
        }
        let default = BlockSizes::default();
        assert_eq!(BlockSizes::new(default.minimum(), default.preferred()), Some(default));
        let sizes = BlockSizes::new(512, 512).unwrap();
        assert!(sizes.fit(1024, 0) && sizes.fit(u64::MAX - 511, 512));
        assert!(!sizes.fit(1, 512) && !sizes.fit(512, 513));
    }
}
