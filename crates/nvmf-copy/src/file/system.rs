//! System calls that not every system has, or not for every file.

use std::fs;
use std::io;
use std::ops::Range;

use rustix::io::Errno;

/// A way to make zeroes without writing them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Gives the space back.
    Punch,
    /// Keeps the space.
    ZeroRange,
}

impl Way {
    /// The better one first.
    pub(super) const ALL: [Self; 2] = [Self::Punch, Self::ZeroRange];
}

/// Zeroes a range without writing it; the size of the file stays.
#[cfg(target_os = "linux")]
pub(super) fn make_zero(file: &fs::File, offset: u64, length: u64, way: Way) -> io::Result<()> {
    use rustix::fs::FallocateFlags as Flags;
    let flags = match way {
        Way::Punch => Flags::PUNCH_HOLE,
        Way::ZeroRange => Flags::ZERO_RANGE,
    };
    loop {
        match rustix::fs::fallocate(file, flags | Flags::KEEP_SIZE, offset, length) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn make_zero(_: &fs::File, _: u64, _: u64, _: Way) -> io::Result<()> {
    Err(Errno::OPNOTSUPP.into())
}

/// Whether the system says that it does not have this call, or not for this file.
pub(super) fn refused(error: &io::Error) -> bool {
    let known = [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS];
    known.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The data at `offset` or behind it, up to the next hole; all of the file where the file system does
/// not tell.
#[cfg(any(target_os = "linux", target_os = "freebsd", target_os = "macos"))]
pub(super) fn next_data(file: &fs::File, offset: u64) -> io::Result<Option<Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    // The file's position is nobody's: all reads and writes say where.
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..u64::MAX)),
        Err(error) => return Err(error.into()),
    };
    match seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Ok(Some(start..end)),
        // It became shorter in between; a read will tell.
        Err(Errno::NXIO) => Ok(Some(start..u64::MAX)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_os = "macos")))]
pub(super) fn next_data(_: &fs::File, offset: u64) -> io::Result<Option<Range<u64>>> {
    Ok(Some(offset..u64::MAX))
}

/// Has what is cached and clean read from the device the next time.
#[cfg(target_os = "linux")]
pub(super) fn drop_cache(file: &fs::File, range: Range<u64>) {
    use rustix::fs::{Advice, fadvise};
    let length = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
    if length.is_some() {
        // It is advice: where it is not taken, the cache is what is read.
        let _ = fadvise(file, range.start, length, Advice::DontNeed);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn drop_cache(_: &fs::File, _: Range<u64>) {}
