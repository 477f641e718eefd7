//! Blocks in the memory of this process.

use crate::buffer::{ZERO_BYTES, ZEROES};
use crate::growing::{self, Growing};
use crate::vectored::{self, Gather, Scatter};
use crate::{Access, Backend, Durability, Error, Geometry};
use crate::{OpenError, Resident, ResizeError, Zero};
use bytes::{Bytes, BytesMut};
use nvmf_engine::{Chunks, Lent, Replaced};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks in the memory of this process, gone when it ends.
///
/// Memory is taken in chunks of 64 KiB when they are first written and given back when a whole
/// chunk is zeroed or deallocated, so a large namespace costs what is in it. Every chunk has its own
/// lock, for writing: threads meet only where they touch the same 64 KiB, and what a command does to
/// one block is seen whole or not at all. Reading takes no lock unless somebody writes there
/// ([`Chunks`]).
///
/// No call waits, so it is [`Access::Resident`]: reads are lent from the chunks themselves, and a
/// buffer of [`Memory::CHUNK`] bytes that is written to a whole chunk becomes that chunk. A write to
/// a chunk that is lent makes a new one and leaves the old to those who hold it.
///
/// When the allocator has no more, a write answers [`Error::NoSpace`]. Most Linux systems promise
/// more memory than they have and end a process instead; choose the size accordingly.
///
/// Random reads are up to a quarter faster with a global allocator that lays the chunks side by side
/// and asks for huge pages, such as jemalloc with `thp:always`.
///
/// ```
/// use nvmf_storage::{Backend, BlockSize, Geometry, Memory};
/// let disk = Memory::new(Geometry::from_bytes(BlockSize::B4096, 256 << 20)?)?;
/// assert_eq!(disk.allocated(), 0);
/// # Ok::<(), nvmf_storage::OpenError>(())
/// ```
pub struct Memory {
    geometry: Growing,
    number: u32,
    /// One that has no memory is all zeroes; the last may be longer than what there is of it.
    chunks: Chunks,
    /// Bytes in chunks that have memory.
    allocated: AtomicU64,
}

const CHUNK: u64 = Memory::CHUNK;
const CHUNK_BYTES: usize = ZERO_BYTES;

impl Memory {
    /// The most bytes one can have: 16 TiB.
    pub const MAX_BYTES: u64 = 16 << 40;

    /// The bytes that are allocated, lent and adopted together: 64 KiB. A multiple of every block
    /// size, so no block crosses the border of a chunk.
    pub const CHUNK: u64 = ZERO_BYTES as u64;

    /// Zeroed blocks; the location is `mem:1`.
    ///
    /// # Errors
    ///
    /// [`OpenError::TooLargeForMemory`].
    pub fn new(geometry: Geometry) -> Result<Self, OpenError> {
        let bytes = geometry.bytes();
        if bytes > Self::MAX_BYTES {
            return Err(OpenError::TooLargeForMemory { bytes, limit: Self::MAX_BYTES });
        }
        Ok(Self {
            geometry: Growing::new(geometry),
            number: 1,
            chunks: Chunks::new(chunks_of(geometry), CHUNK_BYTES),
            allocated: AtomicU64::new(0),
        })
    }

    /// The same with the location `mem:number`.
    #[must_use]
    pub fn with_number(self, number: u32) -> Self {
        Self { number, ..self }
    }

    /// The memory in use for blocks, in bytes: a multiple of [`Memory::CHUNK`]. What was replaced or
    /// freed while it was lent no longer counts, though it lives until the last holder drops it.
    pub fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Writes the next bytes of `from` to a checked range.
    fn put_all(&self, offset: u64, length: u64, mut from: Gather<'_>) -> Result<(), Error> {
        for piece in pieces(offset, length) {
            let put = self.chunks.update(piece.chunk, piece.range, |bytes| from.fill(bytes));
            if put.map_err(|_| Error::NoSpace)? {
                self.allocated.fetch_add(CHUNK, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Makes `new` the chunk at a checked offset and gives back the old one, unless it is lent.
    fn put_chunk(&self, offset: u64, new: BytesMut) -> Result<Option<BytesMut>, Error> {
        let piece = Piece::new(offset, offset + CHUNK);
        let replaced = self.chunks.replace(piece.chunk, Some(new));
        let Replaced { existed, old } = replaced.map_err(|_| Error::NoSpace)?;
        if !existed {
            self.allocated.fetch_add(CHUNK, Ordering::Relaxed);
        }
        Ok(old)
    }

    /// Makes a checked range zero, and frees the chunks that lie in it wholly.
    fn clear(&self, offset: u64, length: u64) -> Result<(), Error> {
        for piece in pieces(offset, length) {
            if !self.chunks.exists(piece.chunk) {
                continue;
            }
            let freed = match piece.range {
                Range { start: 0, end: CHUNK_BYTES } => self.free(piece.chunk).map(|()| true),
                // If it grew now, there could be blocks behind the piece.
                Range { start: 0, .. } => self.geometry.held(|geometry| {
                    let to_the_end = piece.end_offset == geometry.bytes();
                    if to_the_end { self.free(piece.chunk).map(|()| true) } else { Ok(false) }
                }),
                _ => Ok(false),
            };
            if !freed? {
                let cleared = self.chunks.update(piece.chunk, piece.range, |bytes| bytes.fill(0));
                if cleared.map_err(|_| Error::NoSpace)? {
                    self.allocated.fetch_add(CHUNK, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Gives a chunk's memory back.
    fn free(&self, chunk: usize) -> Result<(), Error> {
        let replaced = self.chunks.replace(chunk, None);
        if replaced.map_err(|_| Error::NoSpace)?.existed {
            self.allocated.fetch_sub(CHUNK, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How many chunks it takes, at most [`Chunks::MAX`].
fn chunks_of(geometry: Geometry) -> usize {
    const _: () = assert!(Memory::MAX_BYTES / CHUNK == Chunks::MAX as u64);
    usize::try_from(geometry.bytes().div_ceil(CHUNK)).map_or(Chunks::MAX, |n| n.min(Chunks::MAX))
}

impl Backend for Memory {
    fn geometry(&self) -> Geometry {
        self.geometry.get()
    }

    fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
        let length = vectored::length_mut(into);
        self.geometry().check_range(offset, length)?;
        let mut scatter = Scatter::new(into);
        for piece in pieces(offset, length) {
            let length = piece.range.len();
            match self.chunks.lend(piece.chunk, piece.range) {
                Some(bytes) => scatter.put(&bytes),
                None => scatter.put_zeroes(length),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[IoSlice<'_>], _: Durability) -> Result<(), Error> {
        let length = vectored::length(from);
        self.geometry().check_write(offset, length)?;
        self.put_all(offset, length, Gather::new(from))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, _: Zero) -> Result<(), Error> {
        self.geometry().check_write(offset, length)?;
        self.clear(offset, length)
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.geometry().check_write(offset, length)?;
        self.clear(offset, length)
    }

    /// Takes no memory: added blocks are like those that were never written.
    fn resize(&self, bytes: Option<u64>) -> Result<Geometry, ResizeError> {
        let Some(bytes) = bytes else { return Ok(self.geometry()) };
        self.geometry.resize(|now| {
            let new = growing::grown(now, bytes)?;
            if bytes > Self::MAX_BYTES {
                return Err(ResizeError::TooLargeForMemory { bytes, limit: Self::MAX_BYTES });
            }
            // What the last chunk has behind the old end was never written: it is zero.
            self.chunks.grow(chunks_of(new));
            Ok(new)
        })
    }

    /// False: a flush would change nothing.
    fn volatile_write_cache(&self) -> bool {
        false
    }

    fn location(&self) -> String {
        format!("mem:{}", self.number)
    }

    fn access(&self) -> Access<'_> {
        Access::Resident(self)
    }
}

impl Resident for Memory {
    fn lend(&self, offset: u64, length: u64, each: &mut dyn FnMut(Lent)) -> Result<(), Error> {
        self.geometry().check_range(offset, length)?;
        for piece in pieces(offset, length) {
            let lent = self.chunks.lend(piece.chunk, piece.range.clone());
            each(lent.unwrap_or_else(|| Bytes::from_static(&ZEROES[piece.range]).into()));
        }
        Ok(())
    }

    fn adoptable(&self) -> u64 {
        CHUNK
    }

    fn adopt(&self, offset: u64, mut from: BytesMut) -> Result<Option<BytesMut>, Error> {
        let length = from.len() as u64;
        self.geometry().check_write(offset, length)?;
        let whole = length == CHUNK && offset.is_multiple_of(CHUNK);
        // A part of a large allocation would keep all of it, and `allocated` would not say so.
        if !whole || from.try_reclaim(CHUNK_BYTES / 2) {
            self.put_all(offset, length, Gather::new(&[IoSlice::new(&from)]))?;
            return Ok(Some(from));
        }
        let from = from.freeze();
        if !from.is_unique() {
            self.put_all(offset, length, Gather::new(&[IoSlice::new(&from)]))?;
            return Ok(None);
        }
        // Nobody else's, so nothing is copied.
        self.put_chunk(offset, from.into())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("geometry", &self.geometry())
            .field("number", &self.number)
            .field("allocated", &self.allocated())
            .finish_non_exhaustive()
    }
}

/// The part of a range that lies in one chunk.
struct Piece {
    /// Index of the chunk.
    chunk: usize,
    /// The bytes of the chunk.
    range: Range<usize>,
    /// The offset in the backend where the piece ends.
    end_offset: u64,
}

impl Piece {
    /// From byte `start` to before byte `end`, which are in one chunk.
    fn new(start: u64, end: u64) -> Self {
        Self {
            // Below 2^28, because of MAX_BYTES.
            chunk: (start / CHUNK) as usize,
            range: (start % CHUNK) as usize..((end - 1) % CHUNK) as usize + 1,
            end_offset: end,
        }
    }
}

/// Cuts a checked range at the borders of chunks.
fn pieces(offset: u64, length: u64) -> impl Iterator<Item = Piece> {
    let end = offset + length;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let start = at;
        at = end.min((start / CHUNK + 1) * CHUNK);
        Some(Piece::new(start, at))
    })
}
