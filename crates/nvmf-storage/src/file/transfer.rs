//! System calls that may do less than asked, and loops that do all of it.

use super::Hole;
use crate::vectored;
use rustix::io::Errno;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};

/// The most slices one call takes (`IOV_MAX`; POSIX promises only 16, all systems of today have
/// 1024).
const MAX_SLICES: usize = 1024;

/// Fills all of `into` by calling `read` with what is left to fill, and the offset of that.
///
/// # Errors
///
/// Any of `read` but an interruption, and `UnexpectedEof` if it finds nothing: the file has become
/// shorter since it was opened.
pub(super) fn read_all(
    into: &mut [IoSliceMut<'_>],
    offset: u64,
    mut read: impl FnMut(&mut [IoSliceMut<'_>], u64) -> rustix::io::Result<usize>,
) -> io::Result<()> {
    let length = vectored::length_mut(into);
    let mut done = 0;
    while done < length {
        let count = if done == 0 && into.len() <= MAX_SLICES {
            read(into, offset)
        } else {
            // Rare, so it may allocate; the caller's own slices stay as they are.
            let mut rest = rest_mut(into, done);
            let most = rest.len().min(MAX_SLICES);
            read(&mut rest[..most], offset + done)
        };
        match count {
            Ok(0) => return Err(shorter()),
            Ok(count) => done += count as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// What a read past the end of the file means, whose end was looked at when it was opened.
pub(super) fn shorter() -> io::Error {
    let why = "the file has become shorter since it was opened";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

/// Writes all of `from` by calling `write` with what is left to write, and the offset of that.
///
/// # Errors
///
/// Any of `write` but an interruption, and `WriteZero` if it writes nothing.
pub(super) fn write_all(
    from: &[IoSlice<'_>],
    offset: u64,
    mut write: impl FnMut(&[IoSlice<'_>], u64) -> rustix::io::Result<usize>,
) -> io::Result<()> {
    let length = vectored::length(from);
    let mut done = 0;
    while done < length {
        let count = if done == 0 && from.len() <= MAX_SLICES {
            write(from, offset)
        } else {
            let rest = rest(from, done);
            write(&rest[..rest.len().min(MAX_SLICES)], offset + done)
        };
        match count {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The slices without their first `skip` bytes, and without empty ones.
fn rest<'a>(slices: &'a [IoSlice<'_>], mut skip: u64) -> Vec<IoSlice<'a>> {
    let rests = slices.iter().map(|slice| {
        let (cut, left) = cut(slice.len(), skip);
        skip = left;
        IoSlice::new(&slice[cut..])
    });
    rests.filter(|slice| !slice.is_empty()).collect()
}

/// [`rest`] of slices to read into.
fn rest_mut<'a>(slices: &'a mut [IoSliceMut<'_>], mut skip: u64) -> Vec<IoSliceMut<'a>> {
    let rests = slices.iter_mut().map(|slice| {
        let (cut, left) = cut(slice.len(), skip);
        skip = left;
        IoSliceMut::new(&mut slice[cut..])
    });
    rests.filter(|slice| !slice.is_empty()).collect()
}

/// How much of `skip` falls on a slice of `length`, and how much is left.
fn cut(length: usize, skip: u64) -> (usize, u64) {
    let cut = usize::try_from(skip).unwrap_or(usize::MAX).min(length);
    (cut, skip - cut as u64)
}

pub(super) fn read(
    file: &fs::File,
    into: &mut [IoSliceMut<'_>],
    offset: u64,
) -> rustix::io::Result<usize> {
    rustix::io::preadv(file, into, offset)
}

pub(super) fn write(
    file: &fs::File,
    from: &[IoSlice<'_>],
    offset: u64,
) -> rustix::io::Result<usize> {
    rustix::io::pwritev(file, from, offset)
}

/// A write that returns when its data is on the device.
#[cfg(target_os = "linux")]
pub(super) fn write_dsync(
    file: &fs::File,
    from: &[IoSlice<'_>],
    offset: u64,
) -> rustix::io::Result<usize> {
    rustix::io::pwritev2(file, from, offset, rustix::io::ReadWriteFlags::DSYNC)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn write_dsync(_: &fs::File, _: &[IoSlice<'_>], _: u64) -> rustix::io::Result<usize> {
    Err(Errno::OPNOTSUPP)
}

/// A read of what is in the page cache. `EAGAIN` if not all of it is, or if it cannot be known
/// without waiting.
#[cfg(target_os = "linux")]
pub(super) fn read_nowait(
    file: &fs::File,
    into: &mut [IoSliceMut<'_>],
    offset: u64,
) -> rustix::io::Result<usize> {
    rustix::io::preadv2(file, into, offset, rustix::io::ReadWriteFlags::NOWAIT)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_nowait(
    _: &fs::File,
    _: &mut [IoSliceMut<'_>],
    _: u64,
) -> rustix::io::Result<usize> {
    Err(Errno::OPNOTSUPP)
}

/// A write into the page cache. `EAGAIN` if that has to wait: for a lock, for space, or because too
/// much is unwritten.
#[cfg(target_os = "linux")]
pub(super) fn write_nowait(
    file: &fs::File,
    from: &[IoSlice<'_>],
    offset: u64,
) -> rustix::io::Result<usize> {
    rustix::io::pwritev2(file, from, offset, rustix::io::ReadWriteFlags::NOWAIT)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn write_nowait(_: &fs::File, _: &[IoSlice<'_>], _: u64) -> rustix::io::Result<usize> {
    Err(Errno::OPNOTSUPP)
}

/// Copies from one place of a file to another; says how many bytes it copied. `EINVAL` for what is no
/// regular file.
#[cfg(target_os = "linux")]
pub(super) fn copy_range(file: &fs::File, from: u64, to: u64, length: u64) -> io::Result<u64> {
    let most = usize::try_from(length).unwrap_or(usize::MAX).min(COPY);
    let (mut from, mut to) = (from, to);
    let copied = rustix::fs::copy_file_range(file, Some(&mut from), file, Some(&mut to), most)?;
    Ok(copied as u64)
}

/// The most that one call copies, so that it can be interrupted.
#[cfg(target_os = "linux")]
const COPY: usize = 16 << 20;

#[cfg(not(target_os = "linux"))]
pub(super) fn copy_range(_: &fs::File, _: u64, _: u64, _: u64) -> io::Result<u64> {
    Err(Errno::OPNOTSUPP.into())
}

/// Zeroes a range without writing it; the size of the file stays. `EOPNOTSUPP` where the file
/// system does not have that.
#[cfg(target_os = "linux")]
pub(super) fn make_hole(file: &fs::File, offset: u64, length: u64, way: Hole) -> io::Result<()> {
    use rustix::fs::FallocateFlags as Flags;
    let flags = match way {
        Hole::Punch => Flags::PUNCH_HOLE | Flags::KEEP_SIZE,
        Hole::ZeroRange => Flags::ZERO_RANGE | Flags::KEEP_SIZE,
    };
    loop {
        match rustix::fs::fallocate(file, flags, offset, length) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn make_hole(_: &fs::File, _: u64, _: u64, _: Hole) -> io::Result<()> {
    Err(Errno::OPNOTSUPP.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of a system call: how many bytes it does at most, or why it fails.
    fn script(answers: &[rustix::io::Result<usize>]) -> impl FnMut() -> rustix::io::Result<usize> {
        let mut answers = answers.iter().copied();
        move || answers.next().expect("one call more than expected")
    }

    #[test]
    fn short_and_interrupted_writes_are_continued_where_they_stopped() {
        let from = [&b"abc"[..], b"", b"defg", b"hi"].map(IoSlice::new);
        let mut disk = [b'-'; 11];
        let mut next = script(&[Err(Errno::INTR), Ok(2), Ok(1), Err(Errno::INTR), Ok(5), Ok(9)]);
        write_all(&from, 1, |from, at| {
            let most = next()?;
            let bytes: Vec<u8> = from.iter().flat_map(|slice| slice.to_vec()).take(most).collect();
            let at = usize::try_from(at).unwrap();
            disk[at..at + bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        })
        .unwrap();
        assert_eq!(&disk, b"-abcdefghi-");
    }

    #[test]
    fn short_and_interrupted_reads_are_continued_where_they_stopped() {
        let disk = b"-abcdefghi-";
        let (mut a, mut b, mut c) = ([0; 3], [0; 4], [0; 2]);
        let mut into = [&mut a[..], &mut [], &mut b, &mut c].map(IoSliceMut::new);
        let mut next = script(&[Ok(1), Err(Errno::INTR), Ok(3), Ok(4), Ok(1)]);
        read_all(&mut into, 1, |into, at| {
            let most = next()?;
            let mut at = usize::try_from(at).unwrap();
            let room = into.iter_mut().flat_map(|slice| slice.iter_mut()).take(most);
            Ok(room.map(|byte| (*byte = disk[at], at += 1)).count())
        })
        .unwrap();
        assert_eq!((&a, &b, &c), (b"abc", b"defg", b"hi"));
    }

    #[test]
    fn a_call_that_does_nothing_is_an_error_and_not_a_loop() {
        let error = write_all(&[IoSlice::new(b"a")], 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        let error = read_all(&mut [IoSliceMut::new(&mut [0])], 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_error_halfway_is_reported() {
        let mut next = script(&[Ok(1), Err(Errno::IO)]);
        let error = write_all(&[IoSlice::new(b"ab")], 0, |_, _| next()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    }

    #[test]
    fn no_call_gets_more_slices_than_the_system_takes() {
        let from = vec![IoSlice::new(b"x"); 2500];
        let mut calls = Vec::new();
        write_all(&from, 0, |from, at| {
            calls.push((at, from.len()));
            Ok(from.len())
        })
        .unwrap();
        assert_eq!(calls, [(0, 1024), (1024, 1024), (2048, 452)]);
    }

    #[test]
    fn more_empty_slices_than_the_limit_do_not_look_like_the_end() {
        let mut slices = vec![IoSlice::new(b""); 2000];
        slices.push(IoSlice::new(b"x"));
        let mut written = 0;
        write_all(&slices, 0, |from, _| {
            let count = from.iter().map(|slice| slice.len()).sum();
            written += count;
            Ok(count)
        })
        .unwrap();
        assert_eq!(written, 1);
    }
}
