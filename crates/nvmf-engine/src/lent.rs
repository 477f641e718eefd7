//! Bytes that somebody else has.

use std::ops::{Deref, Range};
use std::{fmt, mem};

use bytes::Bytes;

use crate::chunks::Lease;

/// Bytes by reference that do not change: of [`Chunks`](crate::Chunks), or [`Bytes`] of any kind.
///
/// What a chunk lends is counted where the chunk is, so neither lending nor giving back allocates.
///
/// ```
/// use bytes::Bytes;
/// use nvmf_engine::{Chunks, Lent};
/// # fn main() -> Result<(), std::collections::TryReserveError> {
/// let chunks = Chunks::new(1, 4096);
/// chunks.update(0, 0..5, |bytes| bytes.copy_from_slice(b"block"))?;
/// let mut lent = chunks.lend(0, 0..5).unwrap_or_default();
/// assert_eq!(lent.slice(1..4), b"loc"[..]);
/// assert_eq!(*lent, *Lent::from(Bytes::from_static(b"block")));
/// # Ok(())
/// # }
/// ```
pub struct Lent(Kind);

enum Kind {
    Chunk(Lease),
    Shared(Bytes),
}

impl Lent {
    pub(crate) fn of_chunk(lease: Lease) -> Self {
        Self(Kind::Chunk(lease))
    }

    /// A part of it. What a chunk lends becomes [`Bytes`] for that, once.
    ///
    /// # Panics
    ///
    /// If it has no such range.
    pub fn slice(&mut self, range: Range<usize>) -> Bytes {
        let bytes = mem::take(self).into_bytes();
        let part = bytes.slice(range);
        self.0 = Kind::Shared(bytes);
        part
    }

    /// The same as [`Bytes`].
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Kind::Chunk(lease) => Bytes::from_owner(lease),
            Kind::Shared(bytes) => bytes,
        }
    }

    /// The [`Bytes`] it is made of, if it is.
    pub(crate) fn into_shared(self) -> Option<Bytes> {
        match self.0 {
            Kind::Chunk(_) => None,
            Kind::Shared(bytes) => Some(bytes),
        }
    }
}

impl Default for Lent {
    /// No bytes.
    fn default() -> Self {
        Self(Kind::Shared(Bytes::new()))
    }
}

impl From<Bytes> for Lent {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Shared(bytes))
    }
}

impl Deref for Lent {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Chunk(lease) => lease.as_ref(),
            Kind::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Chunk(_) => "Chunk",
            Kind::Shared(_) => "Shared",
        };
        f.debug_struct("Lent").field("of", &kind).field("length", &self.len()).finish()
    }
}
