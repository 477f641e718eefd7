//! What is done to a namespace, as futures.

use std::io::{IoSlice, IoSliceMut};

use bytes::{Bytes, BytesMut};

use super::commands::{gathered, lengths, scatter};
use super::error::IoError;
use super::{IoOptions, Namespace};

/// A [`Namespace`] for `async` programs, on whatever runtime.
///
/// It does what the namespace does, under the same names, and any number of tasks may do so at once.
/// Nothing of a runtime is needed: the namespace's own threads do the work and keep the time, so an
/// operation's deadline holds though nobody polls its future.
///
/// An operation whose future is dropped is given up: its commands are aborted, and a write may have
/// been done in part. What is written to the same blocks next waits until that has come to its end,
/// so it is never overwritten by what was given up. Whoever holds on to a future of a write without
/// polling it, as a `select!` may, has others wait for its blocks, as with every lock.
///
/// ```no_run
/// # async fn example(disk: nvmf_host::Namespace) -> Result<(), nvmf_host::IoError> {
/// let disk = disk.asynchronous();
/// let mut five = [0; 5];
/// disk.write_at(b"hello", 4096).await?;
/// disk.read_at(&mut five, 4096).await?;
/// disk.flush().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncNamespace(Namespace);

impl AsyncNamespace {
    pub(super) fn new(namespace: Namespace) -> Self {
        Self(namespace)
    }

    /// The namespace, for everything that does not wait.
    pub fn namespace(&self) -> &Namespace {
        &self.0
    }

    /// A reader and writer with a position, for tokio.
    #[cfg(feature = "tokio")]
    pub fn cursor(&self) -> super::AsyncCursor {
        super::AsyncCursor::new(self.clone())
    }

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`Namespace::read_at`].
    pub async fn read_at(&self, into: &mut [u8], offset: u64) -> Result<(), IoError> {
        let data = self.read_bytes_at(offset, into.len()).await?;
        into.copy_from_slice(&data);
        Ok(())
    }

    /// Fills several pieces, one after the other.
    ///
    /// # Errors
    ///
    /// As [`Namespace::read_vectored_at`].
    pub async fn read_vectored_at(
        &self,
        into: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> Result<(), IoError> {
        let data = self.read_bytes_at(offset, lengths(into)).await?;
        scatter(&data, into);
        Ok(())
    }

    /// The `length` bytes from `offset` on, without a copy of what was received.
    ///
    /// # Errors
    ///
    /// As [`Namespace::read_bytes_at`].
    pub async fn read_bytes_at(&self, offset: u64, length: usize) -> Result<BytesMut, IoError> {
        self.read_bytes_with(offset, length, IoOptions::new()).await
    }

    /// The same, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`Namespace::read_at`].
    pub async fn read_bytes_with(
        &self,
        offset: u64,
        length: usize,
        options: IoOptions,
    ) -> Result<BytesMut, IoError> {
        self.0.0.read(offset, length, options).await
    }

    /// Writes `data` from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`Namespace::write_at`].
    pub async fn write_at(&self, data: &[u8], offset: u64) -> Result<(), IoError> {
        self.write_bytes_at(Bytes::copy_from_slice(data), offset).await
    }

    /// Writes several pieces, one after the other.
    ///
    /// # Errors
    ///
    /// As [`Namespace::write_vectored_at`].
    pub async fn write_vectored_at(
        &self,
        data: &[IoSlice<'_>],
        offset: u64,
    ) -> Result<(), IoError> {
        self.write_bytes_at(gathered(data), offset).await
    }

    /// Writes without a copy.
    ///
    /// # Errors
    ///
    /// As [`Namespace::write_bytes_at`].
    pub async fn write_bytes_at(&self, data: Bytes, offset: u64) -> Result<(), IoError> {
        self.write_bytes_with(data, offset, IoOptions::new()).await
    }

    /// The same, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`Namespace::write_at`].
    pub async fn write_bytes_with(
        &self,
        data: Bytes,
        offset: u64,
        options: IoOptions,
    ) -> Result<(), IoError> {
        self.0.0.write(data, offset, options).await
    }

    /// Makes everything durable whose write has returned.
    ///
    /// # Errors
    ///
    /// As [`Namespace::flush`].
    pub async fn flush(&self) -> Result<(), IoError> {
        self.0.0.flush(IoOptions::new()).await
    }

    /// Says that nobody needs these bytes.
    ///
    /// # Errors
    ///
    /// As [`Namespace::discard`].
    pub async fn discard(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.0.0.discard(offset, length, IoOptions::new()).await
    }

    /// Has bytes read as zeroes.
    ///
    /// # Errors
    ///
    /// As [`Namespace::write_zeroes`].
    pub async fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        may_deallocate: bool,
    ) -> Result<(), IoError> {
        self.write_zeroes_with(offset, length, may_deallocate, IoOptions::new()).await
    }

    /// The same, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`Namespace::write_zeroes`].
    pub async fn write_zeroes_with(
        &self,
        offset: u64,
        length: u64,
        may_deallocate: bool,
        options: IoOptions,
    ) -> Result<(), IoError> {
        self.0.0.write_zeroes(offset, length, may_deallocate, options).await
    }

    /// Compares whole blocks with what is there, at the controller.
    ///
    /// # Errors
    ///
    /// As [`Namespace::compare`].
    pub async fn compare(&self, data: Bytes, offset: u64) -> Result<(), IoError> {
        self.0.0.compare(data, offset, IoOptions::new()).await
    }
}
