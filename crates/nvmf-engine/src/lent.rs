//! Bytes that somebody else has.

use std::ops::{Deref, Range};
use std::{fmt, mem};

use bytes::Bytes;

use crate::chunks::{Lease, Summand};

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

    /// Gives what a sum of a range is computed of, in order. Whole blocks of a chunk come as their
    /// own `sum`, which is kept with the chunk until the block is written to: who asks next reads
    /// none of it. `sum` has to be the same function always.
    ///
    /// ```
    /// use nvmf_engine::{Chunks, Summand};
    /// # fn main() -> Result<(), std::collections::TryReserveError> {
    /// let chunks = Chunks::new(1, 2 * Chunks::BLOCK);
    /// chunks.update(0, 4000..4100, |bytes| bytes.fill(1))?;
    /// let lent = chunks.lend(0, 4000..8192).unwrap_or_default();
    /// let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum();
    /// let mut total = 0;
    /// lent.summands(0..lent.len(), sum, |summand| {
    ///     total += match summand {
    ///         Summand::Bytes(bytes) => sum(bytes),
    ///         Summand::Block(sum) => sum,
    ///     }
    /// });
    /// assert_eq!(total, 100);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If it has no such range.
    pub fn summands(
        &self,
        range: Range<usize>,
        sum: impl Fn(&[u8]) -> u32,
        mut each: impl FnMut(Summand<'_>),
    ) {
        match &self.0 {
            Kind::Chunk(lease) => lease.summands(range, sum, each),
            Kind::Shared(bytes) => each(Summand::Bytes(&bytes[range])),
        }
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
