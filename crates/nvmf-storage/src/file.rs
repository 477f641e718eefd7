//! Blocks in a regular file or on a block device.

mod direct;
mod open;
mod resize;
mod transfer;

use crate::buffer::{ZERO_BYTES, ZEROES};
use crate::growing::Growing;
use crate::{Access, Backend, BlockSize, Durability, Error, FileAccess, Geometry};
use crate::{OpenError, ResizeError, Zero};
use crate::{copy, vectored};
use direct::Direct;
use open::Opened;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks in a regular file or on a block device, through the page cache or, opened with
/// [`File::open_direct`], past it.
///
/// Whoever opens it for writing holds an exclusive advisory lock (`flock`) on it until dropped, so
/// two servers cannot write one file; a block device must not be mounted either. Opening for
/// reading takes no lock, and sees what a writer elsewhere does.
///
/// Flush is `fdatasync`. A write with [`Durability::ForceUnitAccess`] is `pwritev2` with `RWF_DSYNC`
/// where the system has it, else a write and an `fdatasync`. Zeroing and deallocating punch holes
/// where the file system can, and write zeroes from one small buffer where it cannot.
///
/// It is [`Access::File`]: what is in the page cache is read without waiting (`preadv2` with
/// `RWF_NOWAIT`), and an io_uring may use the descriptor. Past the page cache every read and every
/// write waits for the device.
///
/// ```
/// use nvmf_storage::{Backend, BlockSize, File};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let image = tempfile::NamedTempFile::new()?;
/// image.as_file().set_len(1 << 30)?; // takes no space: a hole of 1 GiB
/// let disk = File::open(image.path(), BlockSize::B4096, false)?;
/// assert_eq!(disk.geometry().blocks(), 262_144);
/// assert!(File::open(image.path(), BlockSize::B4096, false).is_err(), "locked");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct File {
    file: fs::File,
    geometry: Growing,
    /// Canonical.
    path: PathBuf,
    /// A flush failed. The kernel has marked the pages clean that it could not write, so the next
    /// `fdatasync` would succeed without them.
    writes_lost: AtomicBool,
    can: Abilities,
    /// What transfers have to be like, if they go past the page cache.
    direct: Option<Direct>,
}

/// What the system can do with this file, as far as is known: true until it refused once.
#[derive(Debug)]
struct Abilities {
    punch_hole: AtomicBool,
    zero_range: AtomicBool,
    write_dsync: AtomicBool,
    read_nowait: AtomicBool,
    write_nowait: AtomicBool,
    copy_range: AtomicBool,
}

impl File {
    /// Opens an existing file or block device as blocks of `block_size`.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: there is nothing, it may not be opened, it is no file or block device, it is
    /// empty, its size is not whole blocks, the device's own blocks are larger, or, for writing,
    /// another program uses it.
    pub fn open(
        path: impl AsRef<Path>,
        block_size: BlockSize,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        Ok(Self::new(open::open(path.as_ref(), block_size, read_only, false)?))
    }

    /// Opens an existing file or block device past the page cache (`O_DIRECT`), for data that some
    /// other cache keeps, or that is too much for any.
    ///
    /// A transfer whose slices are not as the device wants them goes through a buffer of at most
    /// 1 MiB; [`FileAccess::alignment`] and [`aligned_buffer`](crate::aligned_buffer) avoid that.
    /// Only a flush makes writes durable here too: the device has a cache of its own.
    ///
    /// # Errors
    ///
    /// As [`File::open`], and [`OpenError::NoDirect`] where the file system, or a system other than
    /// Linux, has no direct I/O, and [`OpenError::DirectBlockSize`] if it is done in larger units
    /// than `block_size`.
    pub fn open_direct(
        path: impl AsRef<Path>,
        block_size: BlockSize,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        Ok(Self::new(open::open(path.as_ref(), block_size, read_only, true)?))
    }

    fn new(opened: Opened) -> Self {
        let can = Abilities {
            punch_hole: AtomicBool::new(true),
            zero_range: AtomicBool::new(true),
            write_dsync: AtomicBool::new(true),
            read_nowait: AtomicBool::new(true),
            write_nowait: AtomicBool::new(true),
            copy_range: AtomicBool::new(true),
        };
        Self {
            file: opened.file,
            geometry: Growing::new(opened.geometry),
            path: opened.path,
            writes_lost: AtomicBool::new(false),
            can,
            direct: opened.direct,
        }
    }

    /// Writes `from` and returns when it is on the device.
    fn write_durably(&self, offset: u64, from: &[IoSlice<'_>]) -> Result<(), Error> {
        self.refuse_if_lost()?;
        if self.can.write_dsync.load(Ordering::Relaxed) {
            match self.write_all(offset, from, transfer::write_dsync) {
                Err(error) if refused(&error) => {
                    self.can.write_dsync.store(false, Ordering::Relaxed);
                }
                Err(error) => return self.write_durably_failed(offset, from, error),
                Ok(()) => return Ok(()),
            }
        }
        self.write_cached(offset, from)?;
        self.sync()
    }

    /// Finds out what an error of a durable write was about: the write, which is then simply not
    /// done, or the sync in it, which loses acknowledged data. It is the first kind if the mere
    /// write fails in the same way (no space, not permitted). In doubt it is the second, and so is
    /// every `EIO`, which both may say.
    fn write_durably_failed(
        &self,
        offset: u64,
        from: &[IoSlice<'_>],
        error: io::Error,
    ) -> Result<(), Error> {
        let broken = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        let again = self.write_all(offset, from, transfer::write);
        let same = again.is_err_and(|again| again.raw_os_error() == error.raw_os_error());
        if broken || !same {
            self.writes_lost.store(true, Ordering::Release);
        }
        Err(error.into())
    }

    fn write_cached(&self, offset: u64, from: &[IoSlice<'_>]) -> Result<(), Error> {
        Ok(self.write_all(offset, from, transfer::write)?)
    }

    /// Writes all of `from` by calling `write`, in slices that suit the file.
    fn write_all(&self, offset: u64, from: &[IoSlice<'_>], write: WriteCall) -> io::Result<()> {
        let write = |from: &[IoSlice<'_>], at| write(&self.file, from, at);
        match &self.direct {
            Some(direct) => direct.write_all(from, offset, write),
            None => transfer::write_all(from, offset, write),
        }
    }

    fn sync(&self) -> Result<(), Error> {
        self.refuse_if_lost()?;
        self.remember(self.file.sync_data())
    }

    /// Zeroes a checked range in the first way of `ways` the system has; by writing, if it has none.
    fn zero(&self, offset: u64, length: u64, ways: &[Hole]) -> Result<(), Error> {
        if length == 0 {
            return Ok(());
        }
        for &way in ways {
            let can = match way {
                Hole::Punch => &self.can.punch_hole,
                Hole::ZeroRange => &self.can.zero_range,
            };
            if !can.load(Ordering::Relaxed) {
                continue;
            }
            match transfer::make_hole(&self.file, offset, length, way) {
                Err(error) if refused(&error) => can.store(false, Ordering::Relaxed),
                result => return Ok(result?),
            }
        }
        self.write_zeroes_slowly(offset, length)
    }

    /// Writes zeroes from one small buffer, however long the range is.
    fn write_zeroes_slowly(&self, offset: u64, length: u64) -> Result<(), Error> {
        let slices = [IoSlice::new(ZEROES); 16];
        let whole = ZERO_BYTES as u64 * slices.len() as u64;

        let mut done = 0;
        while length - done >= whole {
            self.write_cached(offset + done, &slices)?;
            done += whole;
        }
        while done < length {
            let part = usize::try_from(length - done).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
            self.write_cached(offset + done, &[IoSlice::new(&ZEROES[..part])])?;
            done += part as u64;
        }
        Ok(())
    }

    /// Copies what of a checked range the system copies by itself; returns how much that is.
    fn copy_range(&self, from: u64, to: u64, length: u64) -> Result<u64, Error> {
        let mut done = 0;
        while done < length && self.can.copy_range.load(Ordering::Relaxed) {
            match transfer::copy_range(&self.file, from + done, to + done, length - done) {
                // The end of the file, or no progress: a read will tell.
                Ok(0) => break,
                Ok(count) => done += count.min(length - done),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Said of what is no regular file, and by some file systems for lengths they lack.
                Err(error) if refused(&error) || error.kind() == io::ErrorKind::InvalidInput => {
                    self.can.copy_range.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn refuse_if_lost(&self) -> Result<(), Error> {
        match self.writes_lost.load(Ordering::Acquire) {
            true => Err(Error::WritesLost),
            false => Ok(()),
        }
    }

    /// Keeps in mind that making data durable failed.
    fn remember(&self, result: io::Result<()>) -> Result<(), Error> {
        if result.is_err() {
            self.writes_lost.store(true, Ordering::Release);
        }
        Ok(result?)
    }
}

/// A system call that writes slices to a file at an offset, and says how many bytes it wrote.
type WriteCall = fn(&fs::File, &[IoSlice<'_>], u64) -> rustix::io::Result<usize>;

/// Ways to zero a range without writing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole {
    /// Gives the space back.
    Punch,
    /// Keeps the space allocated.
    ZeroRange,
}

/// Whether the system says that it does not have this call, or not for this file.
fn refused(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let known = [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS];
    known.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Backend for File {
    fn geometry(&self) -> Geometry {
        self.geometry.get()
    }

    fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
        self.geometry().check_range(offset, vectored::length_mut(into))?;
        let read = |into: &mut [IoSliceMut<'_>], at| transfer::read(&self.file, into, at);
        let result = match &self.direct {
            Some(direct) => direct.read_all(into, offset, read),
            None => transfer::read_all(into, offset, read),
        };
        Ok(result?)
    }

    fn write(
        &self,
        offset: u64,
        from: &[IoSlice<'_>],
        durability: Durability,
    ) -> Result<(), Error> {
        self.geometry().check_write(offset, vectored::length(from))?;
        match durability {
            Durability::Cached => self.write_cached(offset, from),
            Durability::ForceUnitAccess => self.write_durably(offset, from),
        }
    }

    fn flush(&self) -> Result<(), Error> {
        if self.geometry().read_only() {
            return Ok(());
        }
        self.sync()
    }

    fn write_zeroes(&self, offset: u64, length: u64, how: Zero) -> Result<(), Error> {
        self.geometry().check_write(offset, length)?;
        match how.deallocate {
            true => self.zero(offset, length, &[Hole::Punch, Hole::ZeroRange])?,
            false => self.zero(offset, length, &[Hole::ZeroRange])?,
        }
        match how.durability {
            Durability::Cached => Ok(()),
            Durability::ForceUnitAccess => self.sync(),
        }
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.geometry().check_write(offset, length)?;
        self.zero(offset, length, &[Hole::Punch, Hole::ZeroRange])
    }

    /// A regular file is made longer, and that is durable when it returns; its new part is a hole.
    /// If it is longer already, because others made it so, nothing of that is cut off.
    ///
    /// A block device cannot be made larger from here ([`ResizeError::Device`]), but `None` takes
    /// what it has become.
    fn resize(&self, bytes: Option<u64>) -> Result<Geometry, ResizeError> {
        self.geometry.resize(|now| self.prepare(now, bytes))
    }

    /// By `copy_file_range` where the system has it for this file, so that the data does not come
    /// through this process, and is shared by the file system if it can. Past the page cache, and
    /// where the two overlap, through a buffer.
    fn copy_within(
        &self,
        from: u64,
        to: u64,
        length: u64,
        durability: Durability,
    ) -> Result<(), Error> {
        let geometry = self.geometry();
        geometry.check_range(from, length)?;
        geometry.check_write(to, length)?;
        let apart = from.abs_diff(to) >= length;
        let done =
            if apart && self.direct.is_none() { self.copy_range(from, to, length)? } else { 0 };
        copy::through_a_buffer(self, from + done, to + done, length - done, durability)
    }

    /// True if it can be written: the page cache, or past it the device's own.
    fn volatile_write_cache(&self) -> bool {
        !self.geometry().read_only()
    }

    /// `file:` and the canonical path; bytes that are not UTF-8 are escaped as `\xNN`.
    fn location(&self) -> String {
        match self.path.to_str() {
            Some(path) => format!("file:{path}"),
            None => format!("file:{}", self.path.as_os_str().as_bytes().escape_ascii()),
        }
    }

    fn access(&self) -> Access<'_> {
        Access::File(self)
    }
}

impl FileAccess for File {
    fn try_read(&self, offset: u64, into: &mut [u8]) -> Option<Result<(), Error>> {
        if let Err(error) = self.geometry().check_range(offset, into.len() as u64) {
            return Some(Err(error));
        }
        // Past the page cache everything waits for the device, whatever the flag says.
        if self.direct.is_some() {
            return None;
        }
        let into = &mut [IoSliceMut::new(into)];
        tried(&self.can.read_nowait, || {
            transfer::read_all(into, offset, |into, at| transfer::read_nowait(&self.file, into, at))
        })
    }

    fn try_write(&self, offset: u64, from: &[u8]) -> Option<Result<(), Error>> {
        if let Err(error) = self.geometry().check_write(offset, from.len() as u64) {
            return Some(Err(error));
        }
        if self.direct.is_some() {
            return None;
        }
        tried(&self.can.write_nowait, || {
            transfer::write_all(&[IoSlice::new(from)], offset, |from, at| {
                transfer::write_nowait(&self.file, from, at)
            })
        })
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn error_of(&self, error: io::Error, writing: bool) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof if !writing => Error::Io(transfer::shorter()),
            _ => error.into(),
        }
    }

    fn alignment(&self) -> usize {
        self.direct.as_ref().map_or(1, Direct::alignment)
    }
}

/// Makes calls that do not wait, unless the system refused them before. `None` for every answer
/// that the same calls may not give when they may wait.
fn tried(can: &AtomicBool, calls: impl FnOnce() -> io::Result<()>) -> Option<Result<(), Error>> {
    if !can.load(Ordering::Relaxed) {
        return None;
    }
    match calls() {
        Err(error) if refused(&error) => {
            can.store(false, Ordering::Relaxed);
            None
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        result => Some(result.map_err(Error::from)),
    }
}

#[cfg(test)]
mod tests;
