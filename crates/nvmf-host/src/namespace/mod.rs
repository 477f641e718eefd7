//! A remote namespace as an object: bytes at offsets, whatever happens to the paths to it.

#[cfg(feature = "tokio")]
mod async_cursor;
mod asynchronous;
mod blocking;
mod builder;
mod commands;
mod cursor;
mod drive;
pub(crate) mod error;
pub(crate) mod gate;
pub(crate) mod geometry;
pub(crate) mod operation;
pub(crate) mod options;

use std::io::{IoSlice, IoSliceMut};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nvmf::host::NamespaceIds;

#[cfg(feature = "tokio")]
pub use async_cursor::AsyncCursor;
pub use asynchronous::AsyncNamespace;
pub use builder::{ConnectError, NamespaceBuilder};
pub use cursor::Cursor;
pub use error::{Asked, IoError, Verb};
pub use geometry::{Abilities, Geometry};

use crate::multipath::{Event, Head, PathStatus};
use blocking::block_on;
use commands::{gathered, lengths, scatter};
use gate::Gate;

/// A namespace that is read and written by any number of threads and tasks at once.
///
/// Every operation takes any number of bytes at any offset and is cut into commands as the
/// controller wants them, which are all under way together. It ends with success, or with an error
/// that says what was asked for; before that it is tried again wherever that is safe, on whatever
/// path there is, until its deadline. A write that returned is done, and durable after
/// [`flush`](Self::flush).
///
/// What is not a number of whole blocks is read before it is written. That is atomic among all
/// who use clones of this object, and not among several hosts. Writes of the same blocks that are
/// under way at once are done in any order.
///
/// A command whose path was lost is done by another path at once, which Linux does, too. The
/// controller that was lost may still have the first try: one that executes it only when the same
/// blocks have been written again undoes that. Nothing that this host has not sent by then arrives.
///
/// Clones are the same namespace. When the last one is dropped the paths are closed.
///
/// ```no_run
/// use nvmf::host::HostOptions;
/// use nvmf::spec::Nqn;
/// use nvmf_host::Namespace;
///
/// let subsystem = Nqn::parse_strict("nqn.2026-01.com.example:disk")?;
/// let disk = Namespace::builder(subsystem, 1, HostOptions::from_system()?)
///     .path("192.0.2.7:4420")
///     .path("198.51.100.7:4420")
///     .connect()?;
/// disk.write_at(b"hello", 4096)?;
/// disk.flush()?;
/// let mut five = [0; 5];
/// disk.read_at(&mut five, 4096)?;
/// assert_eq!(&five, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    head: Arc<Head>,
    gate: Arc<Gate>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How an operation is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct IoOptions {
    /// It is given up after this long; the namespace's own deadline where there is none.
    pub deadline: Option<Duration>,
    /// A write is durable when it returns.
    pub force_unit_access: bool,
}

impl IoOptions {
    /// As the namespace's options say, and not durable before a flush.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, given up after this long.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The same, and a write is durable when it returns.
    #[must_use]
    pub fn force_unit_access(self) -> Self {
        Self { force_unit_access: true, ..self }
    }
}

impl Namespace {
    /// What the namespace is like now. Sizes may change while it is used.
    pub fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.geometry().bytes()
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> u32 {
        self.geometry().block_size
    }

    /// Whether writes are refused.
    pub fn is_read_only(&self) -> bool {
        self.geometry().read_only
    }

    /// The identifiers that it keeps for life.
    pub fn ids(&self) -> NamespaceIds {
        self.0.head.ids().unwrap_or_default()
    }

    /// Its paths and how they are.
    pub fn paths(&self) -> Vec<PathStatus> {
        self.0.head.statuses()
    }

    /// What happens to the paths and the namespace from now on. Whoever does not take the events
    /// misses those after the first 1024.
    pub fn events(&self) -> Receiver<Event> {
        self.0.head.subscribe()
    }

    /// The same namespace for `async` programs, of which any number of tasks may have a clone.
    pub fn asynchronous(&self) -> AsyncNamespace {
        AsyncNamespace::new(self.clone())
    }

    /// A reader and writer with a position.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone())
    }

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// Any [`IoError`] that reading can end with.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> Result<(), IoError> {
        self.read_vectored_at(&mut [IoSliceMut::new(into)], offset)
    }

    /// Fills several pieces, one after the other.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn read_vectored_at(
        &self,
        into: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> Result<(), IoError> {
        scatter(&self.read_bytes_at(offset, lengths(into))?, into);
        Ok(())
    }

    /// The `length` bytes from `offset` on, without a copy of what was received.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn read_bytes_at(&self, offset: u64, length: usize) -> Result<BytesMut, IoError> {
        self.read_bytes_with(offset, length, IoOptions::new())
    }

    /// The same, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn read_bytes_with(
        &self,
        offset: u64,
        length: usize,
        options: IoOptions,
    ) -> Result<BytesMut, IoError> {
        block_on(self.0.read(offset, length, options))
    }

    /// Writes `data` from `offset` on.
    ///
    /// # Errors
    ///
    /// Any [`IoError`] that writing can end with. What is there after one that failed is old or
    /// new, in each block.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<(), IoError> {
        self.write_bytes_at(Bytes::copy_from_slice(data), offset)
    }

    /// Writes several pieces, one after the other.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn write_vectored_at(&self, data: &[IoSlice<'_>], offset: u64) -> Result<(), IoError> {
        self.write_bytes_at(gathered(data), offset)
    }

    /// Writes without a copy.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn write_bytes_at(&self, data: Bytes, offset: u64) -> Result<(), IoError> {
        self.write_bytes_with(data, offset, IoOptions::new())
    }

    /// The same, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn write_bytes_with(
        &self,
        data: Bytes,
        offset: u64,
        options: IoOptions,
    ) -> Result<(), IoError> {
        block_on(self.0.write(data, offset, options))
    }

    /// Makes everything durable whose write has returned.
    ///
    /// # Errors
    ///
    /// Any [`IoError`] that a flush can end with.
    pub fn flush(&self) -> Result<(), IoError> {
        block_on(self.0.flush(IoOptions::new()))
    }

    /// Says that nobody needs these bytes. What is read there afterwards is old, zero or anything.
    /// Blocks that are in the range only in part stay as they are.
    ///
    /// # Errors
    ///
    /// [`IoError::Unsupported`] where the controller has no Dataset Management, and what else it
    /// can end with.
    pub fn discard(&self, offset: u64, length: u64) -> Result<(), IoError> {
        block_on(self.0.discard(offset, length, IoOptions::new()))
    }

    /// Has `length` bytes read as zeroes; with `may_deallocate` the controller may give their
    /// blocks back. Where it has no Write Zeroes, zeroes are sent.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        may_deallocate: bool,
    ) -> Result<(), IoError> {
        self.write_zeroes_with(offset, length, may_deallocate, IoOptions::new())
    }

    /// The same, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn write_zeroes_with(
        &self,
        offset: u64,
        length: u64,
        may_deallocate: bool,
        options: IoOptions,
    ) -> Result<(), IoError> {
        block_on(self.0.write_zeroes(offset, length, may_deallocate, options))
    }

    /// Compares whole blocks with what is there, at the controller.
    ///
    /// # Errors
    ///
    /// [`IoError::Mismatch`] if something else is there, [`IoError::Unsupported`] where the
    /// controller has no Compare, and what else reading can end with.
    pub fn compare(&self, data: &[u8], offset: u64) -> Result<(), IoError> {
        block_on(self.0.compare(Bytes::copy_from_slice(data), offset, IoOptions::new()))
    }

    /// Ends what is under way, tells the controllers, and closes the paths. For all clones: their
    /// operations fail from now on.
    pub fn close(self) {
        self.0.head.close();
        let threads = {
            let mut threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        for thread in threads {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn geometry(&self) -> Geometry {
        const NOTHING: Geometry = Geometry {
            blocks: 0,
            block_size: 512,
            read_only: true,
            max_transfer: 512,
            boundary: 0,
            abilities: Abilities {
                compare: false,
                write_zeroes: false,
                discard: false,
                write_cache: false,
            },
        };
        // There is none before the first path was there, and nobody has the object before that.
        self.head.geometry().unwrap_or(NOTHING)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The threads end by themselves.
        self.head.close();
    }
}
