//! Memory that is lent by reference while others write to it.
//!
//! A lease is counted where its chunk is found: one word in a table of 16 bytes per chunk, which
//! stays in the processor's cache where the chunks do not. Who lends takes no lock and touches no
//! other memory of the chunk.
//!
//! | | |
//! |---|---|
//! | `word` | generation, a bit for the writer, the number of leases |
//! | `at` | where the bytes are; null: there are none |
//! | `owner` | the memory itself; its lock makes writers take turns |
//!
//! A lease is taken by counting it in a word without the writer's bit, and given back by counting
//! it off while the word still has the lease's generation. A writer sets its bit, so that no lease
//! is added, and looks: without leases it writes in place, else it gives the chunk new memory and
//! the next generation. The old memory is lost to the chunk then; it is kept with the number of its
//! leases until the last of them comes back.
#![allow(unsafe_code, reason = "what is lent is an address, and counted by hand")]

use std::cell::Cell;
use std::collections::{HashMap, TryReserveError};
use std::fmt;
use std::ops::{Deref, Range};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::Lent;
use sums::Sums;

pub use sums::Summand;

/// Chunks of memory, all of one length, that are lent while others write to them: what was lent
/// never changes.
///
/// A chunk that was never written, or was taken away, has no memory. More chunks can be
/// [added](Chunks::grow) while those that are there are in use.
///
/// ```
/// use nvmf_engine::Chunks;
/// # fn main() -> Result<(), std::collections::TryReserveError> {
/// let chunks = Chunks::new(10, 4096);
/// assert!(chunks.lend(3, 0..4096).is_none());
///
/// chunks.update(3, 0..4, |bytes| bytes.copy_from_slice(b"once"))?;
/// let lent = chunks.lend(3, 0..8).unwrap_or_default();
/// chunks.update(3, 0..4, |bytes| bytes.copy_from_slice(b"then"))?;
/// assert_eq!(*lent, *b"once\0\0\0\0");
/// assert_eq!(*chunks.lend(3, 0..4).unwrap_or_default(), *b"then");
/// # Ok(())
/// # }
/// ```
pub struct Chunks {
    /// A thread's leases keep one of them, so that threads do not meet where that is counted.
    homes: Box<[Arc<Home>]>,
}

/// What keeps the chunks, alone in its cache lines.
#[repr(align(128))]
struct Home(Arc<Inner>);

impl Deref for Home {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

const HOMES: usize = 16;

struct Inner {
    /// Bytes of a chunk.
    length: usize,
    /// It only grows.
    count: AtomicUsize,
    /// Three levels, so that many chunks without memory cost little, and that more of them are
    /// added without moving any that are there.
    shelves: [OnceLock<Shelf>; SHELVES],
    lost: Mutex<HashMap<Lost, (u64, BytesMut)>>,
}

type Shelf = Box<[OnceLock<Table>; SHELF]>;

/// Memory that a chunk no longer has, by the chunk's index and the generation.
type Lost = (usize, u64);

struct Table {
    leases: Box<[Leases; TABLE]>,
    owners: Box<[Owner; TABLE]>,
    sums: Sums,
}

/// Chunks in a table.
const TABLE: usize = 1024;
/// Tables on a shelf.
const SHELF: usize = 512;
const SHELVES: usize = Chunks::MAX / SHELF / TABLE;

/// What is to know of a chunk for lending it.
#[derive(Default)]
#[repr(align(16))]
struct Leases {
    word: AtomicU64,
    at: AtomicPtr<u8>,
}

type Owner = Mutex<Option<BytesMut>>;

/// In a word: a writer is at work, or about to be.
const WRITER: u64 = 1 << 23;
/// In a word: the number of leases. What exceeds it is copied.
const COUNT: u64 = WRITER - 1;
/// In a word: one generation. 2^40 of them are not seen again while a lease lasts.
const GENERATION: u64 = 1 << 24;

fn generation(word: u64) -> u64 {
    word / GENERATION
}

/// What became of a chunk's old memory.
#[derive(Debug)]
pub struct Replaced {
    /// Whether there was any.
    pub existed: bool,
    /// The memory, if it is not lent.
    pub old: Option<BytesMut>,
}

impl Chunks {
    /// Bytes of the blocks whose [sums](Lent::summands) are kept.
    pub const BLOCK: usize = 4096;

    /// The most chunks there can be: 2^28.
    pub const MAX: usize = 1 << 28;

    /// `count` chunks of `length` bytes, none of which has memory yet.
    ///
    /// # Panics
    ///
    /// If `count` is more than [`Chunks::MAX`].
    pub fn new(count: usize, length: usize) -> Self {
        let inner = Inner {
            length,
            count: AtomicUsize::new(0),
            shelves: [const { OnceLock::new() }; SHELVES],
            lost: Mutex::default(),
        };
        let inner = Arc::new(inner);
        let homes = (0..HOMES).map(|_| Arc::new(Home(Arc::clone(&inner)))).collect();
        let chunks = Self { homes };
        chunks.grow(count);
        chunks
    }

    /// Adds chunks without memory until there are `count`, while others use those that are there.
    /// With as many or more nothing happens.
    ///
    /// # Panics
    ///
    /// If `count` is more than [`Chunks::MAX`].
    pub fn grow(&self, count: usize) {
        assert!(count <= Self::MAX, "{count} chunks are too many");
        // Nothing is found by it but what has to be made first, so it orders nothing.
        self.home().count.fetch_max(count, Ordering::Relaxed);
    }

    /// Whether a chunk has memory.
    ///
    /// # Panics
    ///
    /// If there is no such chunk.
    pub fn exists(&self, index: usize) -> bool {
        let inner = self.home();
        inner.check(index, &(0..0));
        inner
            .find(index)
            .is_some_and(|table| !table.leases[index % TABLE].at.load(Ordering::Acquire).is_null())
    }

    /// Lends bytes of a chunk; `None` if it has no memory.
    ///
    /// # Panics
    ///
    /// If there is no such chunk, or no such range in it.
    pub fn lend(&self, index: usize, range: Range<usize>) -> Option<Lent> {
        let home = self.home();
        home.check(index, &range);
        let table = home.find(index)?;
        let leases = &table.leases[index % TABLE];
        loop {
            let now = leases.word.load(Ordering::Acquire);
            let at = leases.at.load(Ordering::Acquire);
            if at.is_null() {
                return None;
            }
            if now & WRITER != 0 || now & COUNT == COUNT {
                // The writer has the lock, so what is there is not half written.
                let owner = lock(&table.owners[index % TABLE]);
                let copy = |memory: &BytesMut| Bytes::copy_from_slice(&memory[range]);
                return owner.as_ref().map(copy).map(Lent::from);
            }
            // Unchanged, the word says that `at` is of its generation: a new address comes after
            // the writer's bit, which does not go without the generation.
            let counted = leases.word.compare_exchange_weak(
                now,
                now + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if counted.is_ok() {
                return Some(Lent::of_chunk(Lease {
                    home: Arc::clone(home),
                    index,
                    generation: generation(now),
                    start: range.start,
                    at: at.wrapping_add(range.start),
                    length: range.len(),
                }));
            }
        }
    }

    /// Changes bytes of a chunk: in place if nothing of it is lent, else in a copy, which is the
    /// chunk from then on. One without memory gets some, all zero but for what is changed. Returns
    /// whether it was one.
    ///
    /// # Errors
    ///
    /// There is no memory for a copy; nothing is changed then.
    ///
    /// # Panics
    ///
    /// If there is no such chunk, or no such range in it.
    pub fn update(
        &self,
        index: usize,
        range: Range<usize>,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<bool, TryReserveError> {
        let inner = self.home();
        inner.check(index, &range);
        let table = inner.table(index)?;
        let leases = &table.leases[index % TABLE];
        let mut owner = lock(&table.owners[index % TABLE]);
        let mut writing = Writing::begin(leases);
        match &mut *owner {
            Some(memory) if writing.is_alone() => {
                table.sums.forget(index % TABLE, inner.blocks(), range.clone());
                change(&mut memory[range]);
                // Those who were given the address before must not use it any more.
                leases.at.store(memory.as_mut_ptr(), Ordering::Release);
                Ok(false)
            }
            old => {
                let mut new = copy(old.as_deref(), inner.length)?;
                change(&mut new[range]);
                table.sums.forget(index % TABLE, inner.blocks(), 0..inner.length);
                Ok(!inner.exchange(index, &mut writing, &mut owner, Some(new)).existed)
            }
        }
    }

    /// Makes `new` a chunk's memory, or takes its memory away.
    ///
    /// # Errors
    ///
    /// There is no memory for a table; `new` is dropped, and nothing is changed.
    ///
    /// # Panics
    ///
    /// If there is no such chunk, or `new` does not have a chunk's length.
    pub fn replace(
        &self,
        index: usize,
        new: Option<BytesMut>,
    ) -> Result<Replaced, TryReserveError> {
        let inner = self.home();
        let length = new.as_ref().map_or(0, |new| new.len());
        inner.check(index, &(0..length));
        assert!(new.is_none() || length == inner.length, "not the length of a chunk");
        let table = inner.table(index)?;
        let mut owner = lock(&table.owners[index % TABLE]);
        let mut writing = Writing::begin(&table.leases[index % TABLE]);
        table.sums.forget(index % TABLE, inner.blocks(), 0..inner.length);
        Ok(inner.exchange(index, &mut writing, &mut owner, new))
    }

    fn home(&self) -> &Arc<Home> {
        thread_local!(static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) });
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut number = NUMBER.get();
        if number == usize::MAX {
            number = NEXT.fetch_add(1, Ordering::Relaxed) % HOMES;
            NUMBER.set(number);
        }
        &self.homes[number]
    }
}

impl Inner {
    fn check(&self, index: usize, range: &Range<usize>) {
        let count = self.count.load(Ordering::Relaxed);
        assert!(index < count, "chunk {index} of {count}");
        assert!(range.start <= range.end && range.end <= self.length, "bytes {range:?} of a chunk");
    }

    /// Whole blocks of a chunk.
    fn blocks(&self) -> usize {
        self.length / Chunks::BLOCK
    }

    /// The table of a chunk, if it was ever needed.
    fn find(&self, index: usize) -> Option<&Table> {
        self.shelves[index / TABLE / SHELF].get()?[index / TABLE % SHELF].get()
    }

    /// The table of a chunk, new if it has to be.
    fn table(&self, index: usize) -> Result<&Table, TryReserveError> {
        if let Some(table) = self.find(index) {
            return Ok(table);
        }
        let (shelf, leases, owners) = (array()?, array()?, array()?);
        // If another thread was faster, its shelf and its table are as good.
        let shelf = self.shelves[index / TABLE / SHELF].get_or_init(|| shelf);
        let new = Table { leases, owners, sums: Sums::default() };
        Ok(shelf[index / TABLE % SHELF].get_or_init(|| new))
    }

    /// Gives a chunk other memory and the next generation.
    fn exchange(
        &self,
        index: usize,
        writing: &mut Writing<'_>,
        owner: &mut Option<BytesMut>,
        new: Option<BytesMut>,
    ) -> Replaced {
        // Held until what is lent is noted: leases of the old generation ask here.
        let mut lost = lock(&self.lost);
        let old = std::mem::replace(owner, new);
        let at = owner.as_mut().map_or(ptr::null_mut(), |memory| memory.as_mut_ptr());
        let word = writing.end_generation(at);
        let existed = old.is_some();
        let lent = word & COUNT;
        match old {
            Some(old) if lent > 0 => {
                lost.insert((index, generation(word)), (lent, old));
                Replaced { existed, old: None }
            }
            old => Replaced { existed, old },
        }
    }

    /// A lease of memory that its chunk no longer has comes back.
    fn found(&self, key: Lost) {
        let mut lost = lock(&self.lost);
        let Some((lent, _)) = lost.get_mut(&key) else { return };
        *lent -= 1;
        if *lent == 0 {
            let memory = lost.remove(&key);
            drop(lost);
            drop(memory);
        }
    }
}

/// As many new ones.
fn filled<T: Default>(count: usize) -> Result<Box<[T]>, TryReserveError> {
    let mut new = Vec::new();
    new.try_reserve_exact(count)?;
    new.resize_with(count, T::default);
    Ok(new.into())
}

/// The same at a length that is known, so that it is not looked up.
fn array<T: Default, const N: usize>() -> Result<Box<[T; N]>, TryReserveError> {
    let new = filled(N)?;
    // It has the length, so nothing is made here.
    Ok(new.try_into().unwrap_or_else(|_| Box::new(std::array::from_fn(|_| T::default()))))
}

/// A copy of a chunk, or zeroes.
fn copy(old: Option<&[u8]>, length: usize) -> Result<BytesMut, TryReserveError> {
    let mut new = Vec::new();
    new.try_reserve_exact(length)?;
    match old {
        Some(old) => new.extend_from_slice(old),
        None => new.resize(length, 0),
    }
    // Of an allocation with nobody else, so nothing is copied.
    Ok(BytesMut::from(Bytes::from(new)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A writer's bit, set by who has the lock of the chunk's owner.
struct Writing<'a> {
    leases: &'a Leases,
    lent: u64,
}

impl<'a> Writing<'a> {
    fn begin(leases: &'a Leases) -> Self {
        // Acquire: what leases that came back have read was read before what is written now.
        let before = leases.word.fetch_or(WRITER, Ordering::Acquire);
        Self { leases, lent: before & COUNT }
    }

    /// Whether nothing is lent, and, since there is a writer, will be.
    fn is_alone(&self) -> bool {
        self.lent == 0
    }

    /// Begins the next generation at a new address; returns the last word of the old one.
    fn end_generation(&mut self, at: *mut u8) -> u64 {
        let Leases { word, at: place } = self.leases;
        place.store(at, Ordering::Release);
        let mut now = word.load(Ordering::Relaxed);
        loop {
            let next = generation(now).wrapping_add(1).wrapping_mul(GENERATION) | WRITER;
            match word.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(last) => return last,
                Err(other) => now = other,
            }
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Release: what was written is seen by who lends it.
        self.leases.word.fetch_and(!WRITER, Ordering::Release);
    }
}

/// Bytes of a chunk that do not change while it is there.
pub(crate) struct Lease {
    home: Arc<Home>,
    index: usize,
    generation: u64,
    /// Where it begins in the chunk.
    start: usize,
    at: *const u8,
    length: usize,
}

impl Lease {
    /// The parts of a range of it: see [`Lent::summands`].
    pub(crate) fn summands(
        &self,
        range: Range<usize>,
        sum: impl Fn(&[u8]) -> u32,
        each: impl FnMut(Summand<'_>),
    ) {
        let Some(table) = self.home.find(self.index) else { return };
        let chunk = (self.index % TABLE, self.home.blocks(), self.generation);
        table.sums.each(chunk, (self.start + range.start, &self.as_ref()[range]), sum, each);
    }
}

// SAFETY: what it points to is only read through it, and kept and left alone until it is dropped
// (see `as_ref`), on whatever thread that is.
unsafe impl Send for Lease {}
// SAFETY: as above.
unsafe impl Sync for Lease {}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `at` and `length` were within a chunk's memory, initialised, when the lease was
        // counted in the chunk's word, in the generation of that memory. Until it is counted off,
        // by its drop, a writer that sees the count leaves the memory as it is: `update` writes in
        // place only if the count was 0 when the writer's bit was set, after which no lease is
        // counted. The memory itself is in `owner` for its generation; `exchange`, the only one to
        // take it out, puts it into `lost` with the count, where it stays until that is 0; and
        // `home` keeps both. The allocation of a `BytesMut` does not move with it.
        unsafe { std::slice::from_raw_parts(self.at, self.length) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(table) = self.home.find(self.index) else { return };
        let word = &table.leases[self.index % TABLE].word;
        let mut now = word.load(Ordering::Relaxed);
        while generation(now) == self.generation {
            // Release: what was read is not read later.
            match word.compare_exchange_weak(now, now - 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
        self.home.found((self.index, self.generation));
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.home();
        f.debug_struct("Chunks")
            .field("count", &inner.count.load(Ordering::Relaxed))
            .field("length", &inner.length)
            .finish_non_exhaustive()
    }
}

mod sums;
#[cfg(test)]
mod tests;
