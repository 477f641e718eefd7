//! Blocks in the memory of this process.

use crate::vectored::{self, Gather, Scatter};
use crate::{Backend, Durability, Error, Geometry, OpenError, Zero};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

/// Blocks in the memory of this process, gone when it ends.
///
/// Memory is taken in chunks of 64 KiB when they are first written and given back when a whole
/// chunk is zeroed or deallocated, so a large namespace costs what is in it. Every chunk has its own
/// lock: threads meet only where they touch the same 64 KiB, and what a command does to one block
/// is seen whole or not at all.
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

/// No bytes means all zeroes.
type Chunk = RwLock<Option<Box<[u8]>>>;

/// A multiple of every block size, so no block crosses it.
const CHUNK: u64 = 64 << 10;
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks in one table: 64 MiB of blocks.
const TABLE: usize = 1024;

impl Memory {
    /// The most bytes one can have: 16 TiB. (The first level of the table is allocated at once and
    /// then takes about 6 MiB.)
    pub const MAX_BYTES: u64 = 16 << 40;

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

    /// The memory in use for blocks, in bytes: a multiple of 64 KiB.
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

    /// Makes a checked range zero, and frees the chunks that lie in it wholly.
    fn clear(&self, offset: u64, length: u64) {
        for piece in pieces(offset, length) {
            let Some(chunk) = self.chunk(&piece) else {
                continue;
            };
            let mut chunk = chunk.write().unwrap_or_else(PoisonError::into_inner);
            let Some(bytes) = chunk.as_mut() else {
                continue;
            };
            let to_the_end = piece.end_offset == self.geometry.bytes();
            if piece.range.start == 0 && (piece.range.end == CHUNK_BYTES || to_the_end) {
                *chunk = None;
                self.allocated.fetch_sub(CHUNK, Ordering::Relaxed);
            } else {
                bytes[piece.range].fill(0);
            }
        }
    }
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
        let mut gather = Gather::new(from);
        for piece in pieces(offset, length) {
            let chunk = self.chunk_or_new(&piece)?;
            let mut chunk = chunk.write().unwrap_or_else(PoisonError::into_inner);
            let bytes = match &mut *chunk {
                Some(bytes) => bytes,
                none => {
                    let bytes = none.insert(zeroed_chunk()?);
                    self.allocated.fetch_add(CHUNK, Ordering::Relaxed);
                    bytes
                }
            };
            gather.fill(&mut bytes[piece.range]);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, _: Zero) -> Result<(), Error> {
        self.geometry.check_write(offset, length)?;
        self.clear(offset, length);
        Ok(())
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.geometry.check_write(offset, length)?;
        self.clear(offset, length);
        Ok(())
    }

    /// False: a flush would change nothing.
    fn volatile_write_cache(&self) -> bool {
        false
    }

    fn location(&self) -> String {
        format!("mem:{}", self.number)
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

fn zeroed_chunk() -> Result<Box<[u8]>, Error> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(CHUNK_BYTES).map_err(|_| Error::NoSpace)?;
    bytes.resize(CHUNK_BYTES, 0);
    Ok(bytes.into_boxed_slice())
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

/// Cuts a checked range at the borders of chunks.
fn pieces(offset: u64, length: u64) -> impl Iterator<Item = Piece> {
    let end = offset + length;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let index = at / CHUNK;
        let border = (index + 1) * CHUNK;
        let (start, stop) = (at, end.min(border));
        at = stop;
        // MAX_BYTES keeps the table's index far below 2^32, the others are below their divisor.
        Some(Piece {
            table: usize::try_from(index / TABLE as u64).unwrap_or(usize::MAX),
            chunk: (index % TABLE as u64) as usize,
            range: (start % CHUNK) as usize..((stop - 1) % CHUNK) as usize + 1,
            end_offset: stop,
        })
    })
}
