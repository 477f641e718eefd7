//! What can be copied from and to.

use std::io;
use std::ops::Range;

/// Bytes that are read at any offset, by many threads at once.
///
/// Errors are those of the system, or whatever [`io::Error`] an implementation makes: the copy says
/// which side it was, and where.
pub trait Source: Send + Sync {
    /// What people call it: a path, a URL. For messages.
    fn name(&self) -> &str;

    /// What it is, and of which version.
    ///
    /// # Errors
    ///
    /// It cannot be told.
    fn identity(&self) -> io::Result<Identity>;

    /// Fills `into` with the bytes from byte `offset` on.
    ///
    /// # Errors
    ///
    /// Not all could be read; [`io::ErrorKind::UnexpectedEof`] if it ends before.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Whether [`Source::next_data`] knows anything. Where not, zeroes are looked for in the data.
    fn has_map(&self) -> bool {
        false
    }

    /// The first bytes at `offset` or behind it that may be something else than zeroes, up to where
    /// zeroes are known to begin again. `None`: there are only zeroes up to the end.
    ///
    /// # Errors
    ///
    /// It cannot be told.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        Ok(Some(offset..u64::MAX))
    }

    /// Forgets what is cached of a range, as far as that is possible, so that it is read from where
    /// it is kept. For [`Copier::verify`](crate::Copier::verify).
    fn drop_cache(&self, range: Range<u64>) {
        let _ = range;
    }
}

/// A [`Source`] that can be written at any offset, by many threads at once.
///
/// The copy writes no byte twice in one run, and no two threads write to the same block of
/// [`Destination::block_size`].
pub trait Destination: Source {
    /// Writes of whole blocks of so many bytes leave their neighbours alone: 1 if all do.
    fn block_size(&self) -> u32 {
        1
    }

    /// Whether all writes would be refused.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Whether it can be given a size; one that cannot must be large enough.
    fn grows(&self) -> bool {
        false
    }

    /// How often what was written and not flushed may have been lost without an error: when a
    /// connection was, and with it perhaps the power at its other end. What was written since the
    /// last flush before that is written again.
    fn losses(&self) -> u64 {
        0
    }

    /// Makes ready for bytes up to `end`, before the first is written. With [`Rest::Goes`] whatever
    /// it holds is of no use any more.
    ///
    /// # Errors
    ///
    /// It cannot be made that large.
    fn prepare(&self, end: u64, rest: Rest) -> io::Result<()> {
        let _ = (end, rest);
        Ok(())
    }

    /// Writes `from`, from byte `offset` on.
    ///
    /// # Errors
    ///
    /// Not all could be written; what of it was is not known.
    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()>;

    /// Makes `length` bytes from byte `offset` on read as zeroes, and gives their space back where
    /// that is possible.
    ///
    /// # Errors
    ///
    /// As [`Destination::write_at`].
    fn zero(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes durable whatever returned before: bytes, zeroes, size and, if it was made, that it is
    /// there at all.
    ///
    /// # Errors
    ///
    /// Something may be lost; the copy ends then.
    fn flush(&self) -> io::Result<()>;
}

/// What becomes of bytes of a [`Destination`] that are not copied to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// They stay.
    Stays,
    /// They go: a file becomes exactly what is copied. What has a size of its own keeps it, and them.
    Goes,
}

/// What an endpoint is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The same for all endpoints that reach the same bytes, however they are named: a device and
    /// an inode, a namespace's UUID. It may be another one after a restart of the machine.
    pub place: String,
    /// What is the same after a restart, and is not likely to be that of anything else.
    pub lasting: String,
    /// Bytes.
    pub size: u64,
    /// What is another one when the bytes were changed, if there is such a thing: when a file was
    /// written last.
    pub version: Option<String>,
}
