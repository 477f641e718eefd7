//! What tests of the protocol share.

use std::io;

use bytes::Bytes;

use crate::device::{BlockSizes, Device, Zero};

/// A device that is there for what it says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blank {
    pub(crate) size: u64,
    pub(crate) sizes: BlockSizes,
    pub(crate) read_only: bool,
    pub(crate) consistent: bool,
    pub(crate) trim: bool,
    pub(crate) fast_zeroes: bool,
}

impl Default for Blank {
    fn default() -> Self {
        let sizes = BlockSizes::default();
        Self {
            size: 1 << 30,
            sizes,
            read_only: false,
            consistent: true,
            trim: true,
            fast_zeroes: false,
        }
    }
}

impl Device for Blank {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn block_sizes(&self) -> BlockSizes {
        self.sizes
    }

    fn is_consistent_between_connections(&self) -> bool {
        self.consistent
    }

    fn has_trim(&self) -> bool {
        self.trim
    }

    fn has_fast_zeroes(&self) -> bool {
        self.fast_zeroes
    }

    fn read(&self, _: u64, _: usize) -> io::Result<Bytes> {
        unreachable!()
    }

    fn write(&self, _: u64, _: Bytes, _: bool) -> io::Result<()> {
        unreachable!()
    }

    fn flush(&self) -> io::Result<()> {
        unreachable!()
    }

    fn trim(&self, _: u64, _: u64) -> io::Result<()> {
        unreachable!()
    }

    fn write_zeroes(&self, _: u64, _: u64, _: Zero) -> io::Result<()> {
        unreachable!()
    }
}

/// The bytes of a request.
pub(crate) fn request(kind: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> [u8; 28] {
    let mut bytes = Vec::new();
    bytes.extend(0x2560_9513u32.to_be_bytes());
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.try_into().unwrap()
}
