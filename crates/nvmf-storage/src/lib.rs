//! Where the blocks of an NVMe namespace live.
//!
//! A target that answers Read, Write, Flush, Write Zeroes and Dataset Management needs something
//! behind it that keeps bytes. That something is a [`Backend`]: a number of equal blocks, which may
//! grow, addressed by byte offset, used by many threads at once. This crate defines the trait, has the
//! three backends most people want, and turns a line such as `file:/srv/disk.img,bs=512` into one:
//!
//! | Backend    | Spec                             | The blocks are                                    |
//! |------------|----------------------------------|---------------------------------------------------|
//! | [`Memory`] | `mem:SIZE[,bs=N]`                | in this process, allocated when first written     |
//! | [`File`]   | `file:PATH[,bs=N][,ro][,direct]` | in a regular file or on a block device            |
//! | [`Null`]   | `null:SIZE[,bs=N]`               | nowhere: reads are zeroes, writes are forgotten   |
//!
//! [`Faulty`] wraps any of them and makes chosen operations fail or wait, for tests of what stands
//! above. [`Uncorrectable`] is what Write Uncorrectable marks.
//!
//! ```
//! use nvmf_storage::{Backend, Durability, NamespaceSpec, Zero};
//! use std::io::{IoSlice, IoSliceMut};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec: NamespaceSpec = "mem:64M,bs=512".parse()?;
//! let disk = spec.open()?;
//! assert_eq!(disk.geometry().blocks(), 131_072);
//!
//! // Two blocks at LBA 8, gathered from two buffers of any lengths.
//! let (head, tail) = (vec![0xA5; 100], vec![0x5A; 924]);
//! disk.write(8 * 512, &[IoSlice::new(&head), IoSlice::new(&tail)], Durability::Cached)?;
//! disk.flush()?;
//!
//! let mut block = [0; 512];
//! disk.read(9 * 512, &mut [IoSliceMut::new(&mut block)])?;
//! assert_eq!(block, [0x5A; 512]);
//!
//! disk.write_zeroes(8 * 512, 1024, Zero { deallocate: true, durability: Durability::Cached })?;
//! disk.read(9 * 512, &mut [IoSliceMut::new(&mut block)])?;
//! assert_eq!(block, [0; 512]);
//!
//! // Half a block, and a block past the end, are refused before anything happens.
//! assert!(disk.read(0, &mut [IoSliceMut::new(&mut [0; 256])]).is_err());
//! assert!(disk.read(64 << 20, &mut [IoSliceMut::new(&mut block)]).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # What a backend promises
//!
//! * **After a flush, it is there.** What was written before [`Backend::flush`] was called, or by a
//!   write with [`Durability::ForceUnitAccess`] that returned, survives a kill of the process and,
//!   as far as the device below keeps its own word, a loss of power. When the operating system
//!   reports that writing back failed, every later flush fails too ([`Error::WritesLost`]): a second
//!   `fdatasync` would succeed without the lost data.
//! * **Ranges are checked.** A range that is not whole blocks or reaches past the end is an error,
//!   and nothing was read or written.
//! * **Zeroed and deallocated blocks read as zeroes.** Always, whatever the file system below can do.
//! * **It grows while it is in use.** [`Backend::resize`] adds blocks at the end; what runs meanwhile
//!   sees the old size or the new one.
//!
//! # What it does not do
//!
//! * No io_uring, no threads: the calls of a [`File`] block. [`Backend::access`] gives an event loop
//!   what it needs to do without them: memory is lent and taken over without copies, a file is read
//!   without waiting where the page cache has it, and its descriptor is there for a ring.
//! * No atomic writes beyond one block in memory, and in [`File`] none beyond what the file system
//!   gives: a read that races a write of the same block may see part of each.
//! * No shrinking, and no growing by itself: a file or a device that others made larger is looked at
//!   again when [`Backend::resize`] is called, and not before.
//! * No metadata or protection information, no thin-provisioning thresholds, no encryption.
//! * Block sizes are 512 and 4096 bytes, the two every host understands.
//! * No Windows. On Unix systems other than Linux holes are not punched but written as zeroes.

mod access;
mod buffer;
mod copy;
mod error;
mod fault;
mod file;
mod geometry;
mod growing;
mod kind;
mod memory;
mod null;
mod replace;
mod size;
mod spec;
mod uncorrectable;
mod vectored;

pub use access::{Access, FileAccess, Resident};
pub use buffer::aligned_buffer;
pub use error::{Error, OpenError, ResizeError};
pub use fault::{Failure, Fault, Faulty, Operation};
pub use file::File;
pub use geometry::{BlockSize, Geometry, GeometryError};
pub use kind::FileKind;
pub use memory::Memory;
pub use null::Null;
pub use replace::{replace_file, sync_folder};
pub use size::{SizeError, display_size, parse_size};
pub use spec::{NamespaceSpec, Source, SpecError};
pub use uncorrectable::{TooManyRanges, Uncorrectable};

use std::fmt::Debug;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

/// Equal blocks that can be read and written by many threads at once.
///
/// Offsets and lengths are in bytes and must be whole blocks of [`Backend::geometry`]; the
/// implementation checks them ([`Geometry::check_range`] does it in one call) and answers
/// [`Error::Unaligned`] or [`Error::OutOfRange`] before it touches anything. A length of zero is
/// fine and does nothing, as long as the offset is a block boundary no further than the end.
///
/// After any other error, the blocks of the range hold the old bytes, the new ones, or a mixture;
/// blocks outside the range are untouched.
///
/// Calls block until they are done; [`Backend::access`] says which backends never have to wait, and
/// offers ways round waiting. Two calls that overlap and run at the same time may be seen in
/// either order, block by block.
pub trait Backend: Send + Sync + Debug {
    /// The size and shape.
    ///
    /// Of these only [`Geometry::blocks`] ever changes, and it only grows ([`Backend::resize`]). So a
    /// range that was inside once stays inside, and a caller may keep what it was told for as long as
    /// it takes to do one command.
    fn geometry(&self) -> Geometry;

    /// Fills `into`, one slice after the other, with the bytes from byte `offset` on.
    ///
    /// The slices may have any lengths; only their sum has to be whole blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::Io`]. The contents of `into` are then
    /// unspecified.
    fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error>;

    /// Writes the bytes of `from`, one slice after the other, from byte `offset` on.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::NoSpace`],
    /// [`Error::WritesLost`], [`Error::Io`].
    fn write(&self, offset: u64, from: &[IoSlice<'_>], durability: Durability)
    -> Result<(), Error>;

    /// Makes durable every write, zeroing and deallocation that returned before this call.
    ///
    /// On a read-only backend there is nothing to do and it succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`], and from the first failure on [`Error::WritesLost`].
    fn flush(&self) -> Result<(), Error>;

    /// Makes `length` bytes from byte `offset` on read as zeroes (the Write Zeroes command).
    ///
    /// # Errors
    ///
    /// As [`Backend::write`].
    fn write_zeroes(&self, offset: u64, length: u64, how: Zero) -> Result<(), Error>;

    /// Gives back the space of `length` bytes from byte `offset` on (Dataset Management, attribute
    /// Deallocate). They read as zeroes afterwards.
    ///
    /// # Errors
    ///
    /// As [`Backend::write`].
    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error>;

    /// Makes it larger, while others use it; returns the geometry from now on.
    ///
    /// `Some(bytes)` is the new size, in whole blocks. The size that it has is fine and changes
    /// nothing. `None` means to look again how large what is behind it has become: a file that was
    /// made longer, a device that was extended. Where nothing is behind it, that changes nothing.
    ///
    /// Added blocks read as zeroes, unless they are of a file or device that others made larger:
    /// then they are what those put there. An operation that runs meanwhile sees the old size or the
    /// new one, never some of each.
    ///
    /// It may wait, even where [`Backend::access`] is [`Access::Resident`].
    ///
    /// # Errors
    ///
    /// [`ResizeError`]; the geometry is as it was then. It is [`ResizeError::Unsupported`] unless a
    /// backend does better.
    fn resize(&self, bytes: Option<u64>) -> Result<Geometry, ResizeError> {
        let _ = bytes;
        Err(ResizeError::Unsupported { location: self.location() })
    }

    /// Copies `length` bytes from byte `from` on to byte `to` on (one source range of the Copy
    /// command).
    ///
    /// Where the two overlap, the result is a copy of what was there before, if nobody writes there
    /// meanwhile. This is one call's promise, not one to hosts: for the Copy command the data is
    /// undefined where source and destination overlap.
    ///
    /// Unless a backend does better, it reads and writes through a buffer of at most 256 KiB, and
    /// with [`Durability::ForceUnitAccess`] flushes at the end.
    ///
    /// # Errors
    ///
    /// As [`Backend::read`] and [`Backend::write`]. Ranges are checked before anything is copied.
    fn copy_within(
        &self,
        from: u64,
        to: u64,
        length: u64,
        durability: Durability,
    ) -> Result<(), Error> {
        copy::through_a_buffer(self, from, to, length, durability)
    }

    /// Whether a write that returned can still be lost before a flush (Identify Controller, VWC).
    fn volatile_write_cache(&self) -> bool;

    /// Where the blocks are, in words that stay the same over restarts of the program.
    ///
    /// It seeds the namespace's UUID and NGUID when none was configured: hosts drop a disk whose
    /// identifiers changed. `file:/canonical/path` is the place itself; memory and null have none,
    /// and are told apart by the number given when they were made: `mem:1`, `null:2`.
    fn location(&self) -> String;

    /// How an event loop, which must not wait, may use it. The same variant as long as the backend
    /// lives.
    fn access(&self) -> Access<'_> {
        Access::Blocking
    }
}

/// When a write has to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// With the next flush.
    #[default]
    Cached,
    /// Before the call returns (the FUA bit of Write and Write Zeroes).
    ForceUnitAccess,
}

/// How [`Backend::write_zeroes`] is to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Zero {
    /// The host asks to give the space back (the DEAC bit). When false, a file keeps the range
    /// allocated, so that a later write to it does not run out of space.
    pub deallocate: bool,
    /// When the zeroes have to be durable.
    pub durability: Durability,
}

/// A shared or boxed backend is a backend.
macro_rules! forward_backend {
    ($($pointer:ident),*) => {$(
        impl<B: Backend + ?Sized> Backend for $pointer<B> {
            fn geometry(&self) -> Geometry {
                (**self).geometry()
            }

            fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
                (**self).read(offset, into)
            }

            fn write(
                &self,
                offset: u64,
                from: &[IoSlice<'_>],
                durability: Durability,
            ) -> Result<(), Error> {
                (**self).write(offset, from, durability)
            }

            fn flush(&self) -> Result<(), Error> {
                (**self).flush()
            }

            fn write_zeroes(&self, offset: u64, length: u64, how: Zero) -> Result<(), Error> {
                (**self).write_zeroes(offset, length, how)
            }

            fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
                (**self).deallocate(offset, length)
            }

            fn resize(&self, bytes: Option<u64>) -> Result<Geometry, ResizeError> {
                (**self).resize(bytes)
            }

            fn copy_within(
                &self,
                from: u64,
                to: u64,
                length: u64,
                durability: Durability,
            ) -> Result<(), Error> {
                (**self).copy_within(from, to, length, durability)
            }

            fn volatile_write_cache(&self) -> bool {
                (**self).volatile_write_cache()
            }

            fn location(&self) -> String {
                (**self).location()
            }

            fn access(&self) -> Access<'_> {
                (**self).access()
            }
        }
    )*};
}

forward_backend!(Box, Arc);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxed_and_shared_backends_are_accessed_as_what_they_are() {
        let null = || Null::new(Geometry::new(BlockSize::B512, 8).unwrap());
        let boxed: Box<dyn Backend> = Box::new(null());
        assert!(matches!(boxed.access(), Access::Resident(_)));
        let shared: Arc<Box<dyn Backend>> = Arc::new(boxed);
        assert!(matches!(shared.access(), Access::Resident(_)));
        assert!(matches!(Box::new(Arc::new(null())).access(), Access::Resident(_)));
        let faulty: Arc<dyn Backend> = Arc::new(Faulty::new(null()));
        assert!(matches!(faulty.access(), Access::Blocking));
    }
}
