//! Using a backend from a thread that must not wait.

use crate::Error;
use bytes::BytesMut;
use nvmf_engine::Lent;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

/// How an event loop, which must not wait, may use a [`Backend`](crate::Backend).
///
/// ```
/// use nvmf_storage::{Access, Backend, Memory, NamespaceSpec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let disk = "mem:1M".parse::<NamespaceSpec>()?.open()?;
/// let Access::Resident(resident) = disk.access() else { unreachable!() };
/// resident.adopt(Memory::CHUNK, bytes::BytesMut::from(&[7; 65_536][..]))?;
///
/// // Two blocks before that chunk and two in it, for one gathered send.
/// let mut pieces = Vec::new();
/// resident.lend(Memory::CHUNK - 8192, 16_384, &mut |piece| pieces.push(piece))?;
/// assert_eq!(*pieces[0], [0; 8192]);
/// assert_eq!(*pieces[1], [7; 8192]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub enum Access<'a> {
    /// Any call may wait: it belongs on a thread of its own.
    Blocking,
    /// No call ever waits longer than copying takes, those of the backend included; reads can be
    /// lent.
    Resident(&'a dyn Resident),
    /// Reads and writes may be tried without waiting, or done by others on its descriptor. The
    /// backend's own calls may wait.
    File(&'a dyn FileAccess),
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "Blocking",
            Self::Resident(_) => "Resident",
            Self::File(_) => "File",
        })
    }
}

/// Blocks in the memory of this process, which change hands without being copied.
pub trait Resident: Send + Sync {
    /// Lends `length` bytes from byte `offset` on, in order, as pieces that never change: a write
    /// that comes later leaves them alone. No block is cut by the end of a piece.
    ///
    /// A piece keeps the memory around it ([`Resident::adoptable`] bytes) until it is dropped, and
    /// a write to what is lent has to copy as much.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`], [`Error::OutOfRange`]; then nothing was lent.
    fn lend(&self, offset: u64, length: u64, each: &mut dyn FnMut(Lent)) -> Result<(), Error>;

    /// The length in bytes of a buffer that [`Resident::adopt`] can take without copying, and what
    /// its byte offset has to be a multiple of.
    fn adoptable(&self) -> u64;

    /// Writes all of `from`, whole blocks, from byte `offset` on.
    ///
    /// If `from` is [`Resident::adoptable`] bytes long, goes to a multiple of that, and is not part
    /// of a larger allocation, it becomes the blocks itself; otherwise it is copied.
    ///
    /// Gives back a buffer of the same length if one is at hand: the one whose place `from` took, or
    /// `from`. Its contents are those of some blocks, to be overwritten before anyone sees them.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::NoSpace`].
    fn adopt(&self, offset: u64, from: BytesMut) -> Result<Option<BytesMut>, Error>;
}

/// Blocks behind a descriptor.
///
/// There is no way here to make writes durable: flushes, and writes with
/// [`Durability::ForceUnitAccess`](crate::Durability::ForceUnitAccess), are the backend's own
/// blocking calls, which keep in mind when one has failed.
pub trait FileAccess: Send + Sync {
    /// Fills `into` with the bytes from byte `offset` on if that needs no waiting, because they are
    /// in the page cache.
    ///
    /// `None`: it would wait, or the system cannot tell. The contents of `into` are then
    /// unspecified.
    ///
    /// # Errors
    ///
    /// As [`Backend::read`](crate::Backend::read).
    fn try_read(&self, offset: u64, into: &mut [u8]) -> Option<Result<(), Error>>;

    /// Writes `from` from byte `offset` on, into the page cache, if that needs no waiting. It is
    /// durable with the next flush.
    ///
    /// `None`: it would wait, or the system cannot tell. A part may be written already; write all of
    /// it in another way.
    ///
    /// # Errors
    ///
    /// As [`Backend::write`](crate::Backend::write).
    fn try_write(&self, offset: u64, from: &[u8]) -> Option<Result<(), Error>>;

    /// The descriptor, for reads and writes by an io_uring or the like, at the backend's own byte
    /// offsets.
    ///
    /// Nothing is checked there: a range must have passed
    /// [`Geometry::check_range`](crate::Geometry::check_range) or
    /// [`Geometry::check_write`](crate::Geometry::check_write), or the file may grow.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// What an error of such a read, or of such a write if `writing`, means: what the backend's own
    /// calls would have answered.
    ///
    /// A transfer that ends early is to be continued. One of no bytes at all is an error that the
    /// system does not give a number: for a read `ErrorKind::UnexpectedEof` (the file has become
    /// shorter), for a write `ErrorKind::WriteZero`.
    fn error_of(&self, error: io::Error, writing: bool) -> Error;

    /// What the address of a buffer for the descriptor must be a multiple of, in bytes, and so must
    /// the length of each of several buffers of one transfer; 1 where any will do, because it goes
    /// through the page cache. Offsets and lengths of whole blocks are always fine.
    fn alignment(&self) -> usize;
}
