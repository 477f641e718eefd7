//! A namespace of an NVMe target as a device.

use std::io;

use bytes::Bytes;
use nvmf_host::{IoOptions, Namespace};

use crate::device::{BlockSizes, Device, Zero};

/// Any range will do: what is no number of whole blocks is read before it is written, by the one
/// object that all connections share.
impl Device for Namespace {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn is_read_only(&self) -> bool {
        Self::is_read_only(self)
    }

    fn block_sizes(&self) -> BlockSizes {
        let preferred = self.block_size().max(BlockSizes::default().preferred());
        BlockSizes::new(1, preferred).unwrap_or_default()
    }

    fn has_trim(&self) -> bool {
        self.geometry().abilities.discard
    }

    fn has_fast_zeroes(&self) -> bool {
        self.geometry().abilities.write_zeroes
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        Ok(self.read_bytes_at(offset, length)?.freeze())
    }

    fn write(&self, offset: u64, data: Bytes, fua: bool) -> io::Result<()> {
        Ok(self.write_bytes_with(data, offset, durable(fua))?)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(Self::flush(self)?)
    }

    fn trim(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(self.discard(offset, length)?)
    }

    fn write_zeroes(&self, offset: u64, length: u64, zero: Zero) -> io::Result<()> {
        Ok(self.write_zeroes_with(offset, length, zero.may_deallocate, durable(zero.fua))?)
    }
}

fn durable(fua: bool) -> IoOptions {
    if fua { IoOptions::new().force_unit_access() } else { IoOptions::new() }
}
