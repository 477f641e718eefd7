//! A namespace as a stream with a position.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::Namespace;

/// Reads, writes and seeks in a namespace as in a file of its size.
///
/// Writes go to the controller at once, in as many bytes as they are given: wrap it in a
/// [`BufWriter`](io::BufWriter) for many small ones. [`flush`](Write::flush) makes them durable.
#[derive(Clone, Debug)]
pub struct Cursor {
    namespace: Namespace,
    position: u64,
}

/// As much is moved by one call.
const MOST_AT_ONCE: usize = 4 << 20;

impl Cursor {
    pub(super) fn new(namespace: Namespace) -> Self {
        Self { namespace, position: 0 }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// How many of `wanted` bytes there are from the position on, up to what one call moves.
    fn room(&self, wanted: usize) -> usize {
        room(self.namespace.size(), self.position, wanted)
    }
}

pub(super) fn room(size: u64, position: u64, wanted: usize) -> usize {
    let left = size.saturating_sub(position);
    usize::try_from(left).unwrap_or(usize::MAX).min(wanted).min(MOST_AT_ONCE)
}

/// Where a seek leads to: anywhere from the beginning on, past the end too, as in a file.
pub(super) fn seek(size: u64, position: u64, to: SeekFrom) -> io::Result<u64> {
    let (base, offset) = match to {
        SeekFrom::Start(offset) => return Ok(offset),
        SeekFrom::End(offset) => (size, offset),
        SeekFrom::Current(offset) => (position, offset),
    };
    base.checked_add_signed(offset).ok_or_else(|| {
        let what = format!("a seek to {offset} from {base} leads before the beginning");
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })
}

impl Read for Cursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.room(into.len());
        self.namespace.read_at(&mut into[..n], self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl Write for Cursor {
    /// Nothing at the end of the namespace, which `write_all` makes an error of.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.room(data.len());
        self.namespace.write_at(&data[..n], self.position)?;
        self.position += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.namespace.flush()?)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = seek(self.namespace.size(), self.position, to)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seek_may_lead_past_the_end_and_not_before_the_beginning() {
        assert_eq!(seek(100, 7, SeekFrom::Current(-7)).unwrap(), 0);
        assert_eq!(seek(100, 7, SeekFrom::End(5)).unwrap(), 105);
        assert_eq!(seek(100, 7, SeekFrom::Start(u64::MAX)).unwrap(), u64::MAX);
        for to in [SeekFrom::Current(-8), SeekFrom::End(-101), SeekFrom::End(i64::MIN)] {
            assert_eq!(seek(100, 7, to).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn what_is_moved_ends_with_the_namespace() {
        assert_eq!((room(100, 90, 20), room(100, 100, 20), room(100, 200, 20)), (10, 0, 0));
        assert_eq!(room(u64::MAX, 0, usize::MAX), MOST_AT_ONCE);
    }
}
