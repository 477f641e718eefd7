//! Transfers past the page cache, which are particular about where the bytes are.

use super::transfer;
use crate::buffer::aligned_buffer;
use crate::vectored::{self, Gather, Scatter};
use crate::{BlockSize, OpenError};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::path::Path;

/// What a transfer has to be like. Offsets are those of whole blocks and fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Direct {
    /// What the address of every slice must be a multiple of, in bytes.
    memory: usize,
    /// What the length of every slice must be a multiple of, in bytes: a divisor of the block size.
    length: usize,
}

/// The most bytes that are copied at once because the caller's slices do not fit: a multiple of
/// every block size.
const BOUNCE: usize = 1 << 20;

impl Direct {
    /// Finds out what a file that was opened for direct I/O asks for, and whether blocks of this
    /// size can give it.
    pub(super) fn of(
        file: &fs::File,
        path: &Path,
        device: bool,
        block_size: BlockSize,
    ) -> Result<Self, OpenError> {
        let asked = asked(file).unwrap_or_else(|| guess(file, device, block_size));
        let direct = Self::new(asked, path, block_size)?;
        let block_size = block_size.bytes();

        // What was guessed may be wrong. Any other error than this is for those who read it.
        let mut block = aligned_buffer(block_size as usize, direct.alignment());
        match transfer::read(file, &mut [IoSliceMut::new(&mut block)], 0) {
            Err(rustix::io::Errno::INVAL) => {
                Err(OpenError::DirectBlockSize { path: path.into(), block_size, needed: None })
            }
            _ => Ok(direct),
        }
    }

    /// Made of what [`asked`] found.
    fn new(
        (memory, length): (u32, u32),
        path: &Path,
        block_size: BlockSize,
    ) -> Result<Self, OpenError> {
        if memory == 0 || length == 0 {
            return Err(OpenError::NoDirect { path: path.into() });
        }
        let block_size = block_size.bytes();
        if !block_size.is_multiple_of(length) {
            let (path, needed) = (path.into(), Some(length));
            return Err(OpenError::DirectBlockSize { path, block_size, needed });
        }
        Ok(Self { memory: memory as usize, length: length as usize })
    }

    /// What suits both addresses and lengths, in bytes.
    pub(super) fn alignment(&self) -> usize {
        self.memory.max(self.length)
    }

    fn fits(&self, slice: &[u8]) -> bool {
        slice.as_ptr().addr().is_multiple_of(self.memory) && slice.len().is_multiple_of(self.length)
    }

    /// [`transfer::read_all`], by way of a buffer that fits if the slices do not.
    pub(super) fn read_all(
        &self,
        into: &mut [IoSliceMut<'_>],
        offset: u64,
        mut read: impl FnMut(&mut [IoSliceMut<'_>], u64) -> rustix::io::Result<usize>,
    ) -> io::Result<()> {
        if into.iter().all(|slice| self.fits(slice)) {
            return transfer::read_all(into, offset, read);
        }
        let length = vectored::length_mut(into);
        let mut scatter = Scatter::new(into);
        self.bounce(offset, length, |part, at| {
            transfer::read_all(&mut [IoSliceMut::new(part)], at, &mut read)?;
            scatter.put(part);
            Ok(())
        })
    }

    /// [`transfer::write_all`], by way of a buffer that fits if the slices do not.
    pub(super) fn write_all(
        &self,
        from: &[IoSlice<'_>],
        offset: u64,
        mut write: impl FnMut(&[IoSlice<'_>], u64) -> rustix::io::Result<usize>,
    ) -> io::Result<()> {
        if from.iter().all(|slice| self.fits(slice)) {
            return transfer::write_all(from, offset, write);
        }
        let mut gather = Gather::new(from);
        self.bounce(offset, vectored::length(from), |part, at| {
            gather.fill(part);
            transfer::write_all(&[IoSlice::new(part)], at, &mut write)
        })
    }

    /// Calls `act` with a buffer and an offset for every part of a range.
    fn bounce(
        &self,
        offset: u64,
        length: u64,
        mut act: impl FnMut(&mut [u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let part = |left: u64| usize::try_from(left).unwrap_or(BOUNCE).min(BOUNCE);
        let mut buffer = aligned_buffer(part(length), self.memory);
        let mut done = 0;
        while done < length {
            let part = part(length - done);
            act(&mut buffer[..part], offset + done)?;
            done += part as u64;
        }
        Ok(())
    }
}

/// What the system says that memory addresses, and offsets and lengths, must be multiples of, in
/// bytes. Zero: this file has no direct I/O, and would go through the page cache after all. `None`:
/// it does not say (Linux before 6.1, and file systems that do not take part).
#[cfg(target_os = "linux")]
fn asked(file: &fs::File) -> Option<(u32, u32)> {
    use rustix::fs::{AtFlags, StatxFlags};
    let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let told = found.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    told.then_some((found.stx_dio_mem_align, found.stx_dio_offset_align))
}

#[cfg(not(target_os = "linux"))]
fn asked(_: &fs::File) -> Option<(u32, u32)> {
    None
}

/// As [`asked`]: a device's own blocks, else those that were asked for.
fn guess(file: &fs::File, device: bool, block_size: BlockSize) -> (u32, u32) {
    #[cfg(target_os = "linux")]
    if device && let Ok(own) = rustix::fs::ioctl_blksszget(file) {
        return (own.max(1), own.max(1));
    }
    let _ = (file, device);
    (block_size.bytes(), block_size.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    const PARTICULAR: Direct = Direct { memory: 4096, length: 512 };

    /// Slices of these lengths, each as many bytes past a multiple of 4096 as said.
    fn buffers(shape: &[(usize, usize)]) -> Vec<BytesMut> {
        let buffer =
            |(past, length): &(usize, usize)| aligned_buffer(past + length, 4096).split_off(*past);
        shape.iter().map(buffer).collect()
    }

    #[test]
    fn what_the_system_asks_for_is_given_or_refused_with_a_way_out() {
        let of = |asked, size| Direct::new(asked, Path::new("d"), size);
        assert_eq!(of((4, 512), BlockSize::B512).unwrap(), Direct { memory: 4, length: 512 });
        assert_eq!(of((4, 512), BlockSize::B4096).unwrap().alignment(), 512);
        assert_eq!(of((4096, 512), BlockSize::B512).unwrap().alignment(), 4096);
        assert!(matches!(of((0, 0), BlockSize::B4096), Err(OpenError::NoDirect { .. })));
        let says = |asked, size| of(asked, size).unwrap_err().to_string();
        assert!(says((4, 4096), BlockSize::B512).ends_with("4096 bytes at a time; try bs=4096"));
        assert!(says((4, 65_536), BlockSize::B4096).ends_with("; leave out `,direct`"));
    }

    #[test]
    fn slices_that_fit_are_used_as_they_are() {
        let slices = buffers(&[(0, 4096), (0, 512)]);
        let mut calls = Vec::new();
        let from: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let write = |from: &[IoSlice<'_>], at| {
            calls.push((from[0].as_ptr(), from.len(), at));
            Ok(4608)
        };
        PARTICULAR.write_all(&from, 512, write).unwrap();
        assert_eq!(calls, [(slices[0].as_ptr(), 2, 512)]);
    }

    #[test]
    fn others_go_through_a_buffer_that_fits() {
        for shape in [
            &[(1, 4096)][..],
            &[(512, 512)],
            &[(0, 100), (0, 412)],
            &[(0, 512), (1, 0), (0, 512)],
            &[(8, (2 << 20) + 4096), (0, 4096)],
        ] {
            let mut slices = buffers(shape);
            let mut next = 0_u8;
            for byte in slices.iter_mut().flat_map(|slice| slice.iter_mut()) {
                (*byte, next) = (next, next.wrapping_mul(5).wrapping_add(1));
            }
            let bytes = slices.concat();

            // Every call does at most 1 MiB less one block, so that some are continued.
            let mut disk = vec![0; 512 + bytes.len()];
            let from: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
            let write = |from: &[IoSlice<'_>], at: u64| {
                assert!(from.len() == 1 && from[0].len().is_multiple_of(512), "{shape:?}");
                let (count, at) = (from[0].len().min(BOUNCE - 512), usize::try_from(at).unwrap());
                disk[at..at + count].copy_from_slice(&from[0][..count]);
                Ok(count)
            };
            PARTICULAR.write_all(&from, 512, write).unwrap();
            assert!(disk[512..] == bytes && disk[..512] == [0; 512], "{shape:?}");

            slices.iter_mut().for_each(|slice| slice.fill(0xEE));
            let mut into: Vec<IoSliceMut<'_>> =
                slices.iter_mut().map(|slice| IoSliceMut::new(slice)).collect();
            let read = |into: &mut [IoSliceMut<'_>], at: u64| {
                let (count, at) = (into[0].len().min(BOUNCE - 512), usize::try_from(at).unwrap());
                into[0][..count].copy_from_slice(&disk[at..at + count]);
                Ok(count)
            };
            PARTICULAR.read_all(&mut into, 512, read).unwrap();
            assert!(slices.concat() == bytes, "{shape:?}");
        }
    }
}
