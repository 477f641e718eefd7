//! Blocks in the memory of this process.

use crate::buffer::{ZERO_BYTES, ZEROES};
use crate::vectored::{self, Gather, Scatter};
use crate::{Access, Backend, Durability, Error, Geometry, OpenError, Resident, Zero};
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockWriteGuard};

/// Blocks in the memory of this process, gone when it ends.
///
/// Memory is taken in chunks of 64 KiB when they are first written and given back when a whole
/// chunk is zeroed or deallocated, so a large namespace costs what is in it. Every chunk has its own
/// lock: threads meet only where they touch the same 64 KiB, and what a command does to one block
/// is seen whole or not at all.
///
/// No call waits, so it is [`Access::Resident`]: reads are lent from the chunks themselves, and a
/// buffer of [`Memory::CHUNK`] bytes that is written to a whole chunk becomes that chunk. A write to
/// a chunk that is lent makes a new one and leaves the old to those who hold it.
///
/// When the allocator has no more, a write answers [`Error::NoSpace`]. Most Linux systems promise
/// more memory than they have and end a process instead; choose the size accordingly.
///
/// ```
/// use nvmf_storage::{Backend, BlockSize, Geometry, Memory};
/// let disk = Memory::new(Geometry::from_bytes(BlockSize::B4096, 256 << 20)?)?;
/// assert_eq!(disk.allocated(), 0);
/// # Ok::<(), nvmf_storage::OpenError>(())
/// ```
pub struct Memory {
    geometry: Geometry,
    number: u32,
    /// Two levels, so that a namespace of terabytes has a small table until it is written.
    tables: Box<[OnceLock<Box<[Chunk]>>]>,
    /// Bytes in chunks that exist.
    allocated: AtomicU64,
}

/// No bytes means all zeroes; otherwise it is `CHUNK_BYTES` long, even if the backend ends in it.
type Chunk = RwLock<Option<Bytes>>;

const CHUNK: u64 = Memory::CHUNK;
const CHUNK_BYTES: usize = ZERO_BYTES;
/// Chunks in one table: 64 MiB of blocks.
const TABLE: usize = 1024;

impl Memory {
    /// The most bytes one can have: 16 TiB. (The first level of the table is allocated at once and
    /// then takes about 6 MiB.)
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
            geometry,
            number: 1,
            tables: (0..bytes.div_ceil(CHUNK * TABLE as u64)).map(|_| OnceLock::new()).collect(),
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

    /// The chunk of a piece, if its table exists; without one, all of it is zero.
    fn chunk(&self, piece: &Piece) -> Option<&Chunk> {
        self.tables.get(piece.table)?.get()?.get(piece.chunk)
    }

    /// The chunk of a piece that is to be written.
    fn chunk_or_new(&self, piece: &Piece) -> Result<&Chunk, Error> {
        if self.chunk(piece).is_none()
            && let Some(table) = self.tables.get(piece.table)
        {
            let mut chunks: Vec<Chunk> = Vec::new();
            chunks.try_reserve_exact(TABLE).map_err(|_| Error::NoSpace)?;
            chunks.resize_with(TABLE, Chunk::default);
            // If another thread was faster, its table is as good.
            let _ = table.set(chunks.into_boxed_slice());
        }
        self.chunk(piece).ok_or(Error::NoSpace)
    }

    /// Writes the next bytes of `from` to a piece.
    fn put(&self, piece: &Piece, from: &mut Gather<'_>) -> Result<(), Error> {
        let mut chunk = lock(self.chunk_or_new(piece)?);
        let new = chunk.is_none();
        overwrite(&mut chunk, piece.range.clone(), from)?;
        if new {
            self.allocated.fetch_add(CHUNK, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes the next bytes of `from` to a checked range.
    fn put_all(&self, offset: u64, length: u64, mut from: Gather<'_>) -> Result<(), Error> {
        pieces(offset, length).try_for_each(|piece| self.put(&piece, &mut from))
    }

    /// Makes `new` the chunk at a checked offset and gives back the old one, unless it is lent.
    fn put_chunk(&self, offset: u64, new: Bytes) -> Result<Option<BytesMut>, Error> {
        let piece = Piece::new(offset, offset + CHUNK);
        let mut chunk = lock(self.chunk_or_new(&piece)?);
        let Some(old) = chunk.replace(new) else {
            self.allocated.fetch_add(CHUNK, Ordering::Relaxed);
            return Ok(None);
        };
        Ok(old.try_into_mut().ok())
    }

    /// Makes a checked range zero, and frees the chunks that lie in it wholly.
    fn clear(&self, offset: u64, length: u64) -> Result<(), Error> {
        for piece in pieces(offset, length) {
            let Some(mut chunk) = self.chunk(&piece).map(lock) else {
                continue;
            };
            if chunk.is_none() {
                continue;
            }
            let to_the_end = piece.end_offset == self.geometry.bytes();
            if piece.range.start == 0 && (piece.range.end == CHUNK_BYTES || to_the_end) {
                *chunk = None;
                self.allocated.fetch_sub(CHUNK, Ordering::Relaxed);
            } else {
                let zeroes = [IoSlice::new(&ZEROES[piece.range.clone()])];
                overwrite(&mut chunk, piece.range, &mut Gather::new(&zeroes))?;
            }
        }
        Ok(())
    }
}

fn lock(chunk: &Chunk) -> RwLockWriteGuard<'_, Option<Bytes>> {
    chunk.write().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the next bytes of `from` to a range of a chunk: in place if nobody else holds the chunk,
/// else to a copy, because what was lent must not change.
fn overwrite(
    chunk: &mut Option<Bytes>,
    range: Range<usize>,
    from: &mut Gather<'_>,
) -> Result<(), Error> {
    // Lending needs the lock that the caller holds, so what is unique stays so.
    if let Some(own) = chunk.take_if(|bytes| bytes.is_unique()) {
        let mut own = BytesMut::from(own);
        from.fill(&mut own[range]);
        *chunk = Some(own.freeze());
        return Ok(());
    }
    let old: &[u8] = chunk.as_deref().unwrap_or(ZEROES);
    let mut new = Vec::new();
    new.try_reserve_exact(CHUNK_BYTES).map_err(|_| Error::NoSpace)?;
    new.extend_from_slice(&old[..range.start]);
    from.append(&mut new, range.len());
    new.extend_from_slice(&old[range.end..]);
    *chunk = Some(new.into());
    Ok(())
}

impl Backend for Memory {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, offset: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Error> {
        let length = vectored::length_mut(into);
        self.geometry.check_range(offset, length)?;
        let mut scatter = Scatter::new(into);
        for piece in pieces(offset, length) {
            let chunk = self
                .chunk(&piece)
                .map(|chunk| chunk.read().unwrap_or_else(PoisonError::into_inner));
            match chunk.as_ref().and_then(|chunk| chunk.as_deref()) {
                Some(bytes) => scatter.put(&bytes[piece.range]),
                None => scatter.put_zeroes(piece.range.len()),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[IoSlice<'_>], _: Durability) -> Result<(), Error> {
        let length = vectored::length(from);
        self.geometry.check_write(offset, length)?;
        self.put_all(offset, length, Gather::new(from))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, _: Zero) -> Result<(), Error> {
        self.geometry.check_write(offset, length)?;
        self.clear(offset, length)
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.geometry.check_write(offset, length)?;
        self.clear(offset, length)
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
    fn lend(&self, offset: u64, length: u64, each: &mut dyn FnMut(Bytes)) -> Result<(), Error> {
        self.geometry.check_range(offset, length)?;
        for piece in pieces(offset, length) {
            let lent = self.chunk(&piece).and_then(|chunk| {
                let chunk = chunk.read().unwrap_or_else(PoisonError::into_inner);
                chunk.as_ref().map(|bytes| bytes.slice(piece.range.clone()))
            });
            // Without the lock, so that `each` may use the backend.
            each(lent.unwrap_or_else(|| Bytes::from_static(&ZEROES[piece.range])));
        }
        Ok(())
    }

    fn adoptable(&self) -> u64 {
        CHUNK
    }

    fn adopt(&self, offset: u64, mut from: BytesMut) -> Result<Option<BytesMut>, Error> {
        let length = from.len() as u64;
        self.geometry.check_write(offset, length)?;
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
        self.put_chunk(offset, from)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("geometry", &self.geometry)
            .field("number", &self.number)
            .field("allocated", &self.allocated())
            .finish_non_exhaustive()
    }
}

/// The part of a range that lies in one chunk.
struct Piece {
    /// Index of the table, and of the chunk in it.
    table: usize,
    chunk: usize,
    /// The bytes of the chunk.
    range: Range<usize>,
    /// The offset in the backend where the piece ends.
    end_offset: u64,
}

impl Piece {
    /// From byte `start` to before byte `end`, which are in one chunk.
    fn new(start: u64, end: u64) -> Self {
        let index = start / CHUNK;
        // MAX_BYTES keeps the table's index far below 2^32, the others are below their divisor.
        Self {
            table: usize::try_from(index / TABLE as u64).unwrap_or(usize::MAX),
            chunk: (index % TABLE as u64) as usize,
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
