//! What is done to a namespace, as futures: the blocking methods wait for the same ones.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use nvmf::spec::dataset_management::DatasetRange;
use nvmf::spec::{Sqe, opcode};
use zerocopy::IntoBytes;

use super::error::{Asked, IoError, Verb};
use super::geometry::{Extent, Geometry, MOST_DATA};
use super::operation::{Operation, Pending};
use super::{Inner, IoOptions, Namespace};
use crate::multipath::command::{Command, CommandData};

/// FUA in dword 12.
const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// DEAC in dword 12 of Write Zeroes.
const DEALLOCATE: u32 = 1 << 25;

/// A [`Namespace`] for `async` programs, on whatever runtime.
///
/// An operation whose future is dropped is given up: its commands are aborted, and a write may have
/// been done in part. The deadline is looked at when the future is polled; a runtime's own timer
/// (`tokio::time::timeout`) is more exact.
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

    /// The `length` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`Namespace::read_at`].
    pub async fn read_bytes_at(&self, offset: u64, length: usize) -> Result<BytesMut, IoError> {
        let inner = &self.0.0;
        inner.read(offset, length, inner.deadline(IoOptions::new())).await
    }

    /// Writes `data` from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`Namespace::write_at`].
    pub async fn write_at(&self, data: &[u8], offset: u64) -> Result<(), IoError> {
        let data = Bytes::copy_from_slice(data);
        self.write_bytes_with(data, offset, IoOptions::new()).await
    }

    /// Writes without a copy, as `options` say.
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
        let inner = &self.0.0;
        inner.write(data, offset, options.force_unit_access, inner.deadline(options)).await
    }

    /// Makes everything durable whose write has returned.
    ///
    /// # Errors
    ///
    /// As [`Namespace::flush`].
    pub async fn flush(&self) -> Result<(), IoError> {
        let inner = &self.0.0;
        inner.flush(inner.deadline(IoOptions::new())).await
    }

    /// Says that nobody needs these bytes.
    ///
    /// # Errors
    ///
    /// As [`Namespace::discard`].
    pub async fn discard(&self, offset: u64, length: u64) -> Result<(), IoError> {
        let inner = &self.0.0;
        inner.discard(offset, length, inner.deadline(IoOptions::new())).await
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
        let inner = &self.0.0;
        let deadline = inner.deadline(IoOptions::new());
        inner.write_zeroes(offset, length, may_deallocate, false, deadline).await
    }

    /// Compares whole blocks with what is there, at the controller.
    ///
    /// # Errors
    ///
    /// As [`Namespace::compare`].
    pub async fn compare(&self, data: Bytes, offset: u64) -> Result<(), IoError> {
        let inner = &self.0.0;
        inner.compare(data, offset, inner.deadline(IoOptions::new())).await
    }
}

impl Inner {
    pub(super) async fn read(
        &self,
        offset: u64,
        length: usize,
        deadline: Option<Instant>,
    ) -> Result<BytesMut, IoError> {
        let asked = ask(Verb::Read, offset, length);
        let geometry = self.geometry();
        let (start, whole) = around(&geometry, asked)?;
        let mut blocks = self.read_blocks(&geometry, asked, start, whole, deadline).await?;
        let skip = usize::try_from(offset - start).unwrap_or(usize::MAX).min(blocks.len());
        let mut data = blocks.split_off(skip);
        data.truncate(length);
        Ok(data)
    }

    /// Reads whole blocks; `asked` is what they are read for.
    async fn read_blocks(
        &self,
        geometry: &Geometry,
        asked: Asked,
        offset: u64,
        length: u64,
        deadline: Option<Instant>,
    ) -> Result<BytesMut, IoError> {
        let (slba, blocks) = geometry.place(Asked { offset, length, ..asked })?;
        // One room for all, which the parts are cut from and which they make up again.
        let mut room = BytesMut::zeroed(usize::try_from(length).unwrap_or(0));
        let commands = geometry.split_data(slba, blocks).map(|extent| {
            let length = bytes_of(geometry, extent).min(room.len());
            let sqe = transfer(opcode::nvm::READ, self.head.nsid, extent, 0);
            (sqe, CommandData::Read { length, room: Some(room.split_to(length)) })
        });
        self.submit(asked, commands.collect(), deadline).await
    }

    pub(super) async fn write(
        &self,
        data: Bytes,
        offset: u64,
        durable: bool,
        deadline: Option<Instant>,
    ) -> Result<(), IoError> {
        let asked = ask(Verb::Write, offset, data.len());
        let geometry = self.geometry();
        writable(&geometry, asked)?;
        if geometry.is_aligned(offset, asked.length) {
            let _pass = self.gate.shared().await;
            return self.write_blocks(&geometry, asked, data, offset, durable, deadline).await;
        }
        let (start, whole) = around(&geometry, asked)?;
        if data.is_empty() {
            return Ok(());
        }
        let _pass = self.gate.exclusive().await;
        let mut all = BytesMut::zeroed(usize::try_from(whole).unwrap_or(0));
        let block = u64::from(geometry.block_size);
        let (end, stop) = (offset + asked.length, start + whole);
        if offset != start {
            let first = self.read_blocks(&geometry, asked, start, block, deadline).await?;
            all[..first.len()].copy_from_slice(&first);
        }
        if end != stop && (whole > block || offset == start) {
            let last = self.read_blocks(&geometry, asked, stop - block, block, deadline).await?;
            let at = all.len().saturating_sub(last.len());
            all[at..].copy_from_slice(&last);
        }
        let at = usize::try_from(offset - start).unwrap_or(0);
        all[at..at + data.len()].copy_from_slice(&data);
        self.write_blocks(&geometry, asked, all.freeze(), start, durable, deadline).await
    }

    /// Writes whole blocks; `asked` is what they are written for.
    async fn write_blocks(
        &self,
        geometry: &Geometry,
        asked: Asked,
        data: Bytes,
        offset: u64,
        durable: bool,
        deadline: Option<Instant>,
    ) -> Result<(), IoError> {
        let how = if durable { FORCE_UNIT_ACCESS } else { 0 };
        self.send(geometry, asked, opcode::nvm::WRITE, how, data, offset, deadline).await
    }

    pub(super) async fn compare(
        &self,
        data: Bytes,
        offset: u64,
        deadline: Option<Instant>,
    ) -> Result<(), IoError> {
        let asked = ask(Verb::Compare, offset, data.len());
        let geometry = self.geometry();
        if !geometry.abilities.compare {
            return Err(IoError::Unsupported { asked });
        }
        self.send(&geometry, asked, opcode::nvm::COMPARE, 0, data, offset, deadline).await
    }

    /// Sends whole blocks with a command that takes them.
    #[allow(clippy::too_many_arguments, reason = "all of it is what one command says")]
    async fn send(
        &self,
        geometry: &Geometry,
        asked: Asked,
        opcode: u8,
        how: u32,
        mut data: Bytes,
        offset: u64,
        deadline: Option<Instant>,
    ) -> Result<(), IoError> {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let (slba, blocks) = geometry.place(Asked { offset, length, ..asked })?;
        let split = geometry.split_data(slba, blocks);
        let commands = split.map(|extent| {
            let part = data.split_to(bytes_of(geometry, extent).min(data.len()));
            (transfer(opcode, self.head.nsid, extent, how), CommandData::Write(part))
        });
        self.submit(asked, commands.collect(), deadline).await.map(|_| ())
    }

    pub(super) async fn flush(&self, deadline: Option<Instant>) -> Result<(), IoError> {
        let mut sqe = Sqe::new(opcode::nvm::FLUSH);
        sqe.nsid.set(self.head.nsid);
        let commands = vec![(sqe, CommandData::None)];
        self.submit(ask(Verb::Flush, 0, 0), commands, deadline).await.map(|_| ())
    }

    pub(super) async fn discard(
        &self,
        offset: u64,
        length: u64,
        deadline: Option<Instant>,
    ) -> Result<(), IoError> {
        let asked = Asked { verb: Verb::Discard, offset, length };
        let geometry = self.geometry();
        writable(&geometry, asked)?;
        if !geometry.abilities.discard {
            return Err(IoError::Unsupported { asked });
        }
        let Some((start, whole)) = within(&geometry, asked)? else { return Ok(()) };
        let (slba, blocks) = geometry.place(Asked { offset: start, length: whole, ..asked })?;
        // Ranges of a size that every controller takes, one for each command: a limit of ranges or
        // of their sum (DMRL, DMSL) has not to be known then.
        let commands = geometry.split(slba, blocks).map(|extent| {
            let range = DatasetRange::new(extent.slba, extent.blocks);
            let data = Bytes::copy_from_slice(range.as_bytes());
            (DatasetRange::deallocate(self.head.nsid, 1), CommandData::Write(data))
        });
        let _pass = self.gate.shared().await;
        self.submit(asked, commands.collect(), deadline).await.map(|_| ())
    }

    pub(super) async fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        may_deallocate: bool,
        durable: bool,
        deadline: Option<Instant>,
    ) -> Result<(), IoError> {
        let asked = Asked { verb: Verb::WriteZeroes, offset, length };
        let geometry = self.geometry();
        writable(&geometry, asked)?;
        around(&geometry, asked)?;
        if !geometry.abilities.write_zeroes {
            return self.send_zeroes(offset, length, durable, deadline).await;
        }
        let Some((start, whole)) = within(&geometry, asked)? else {
            return self.send_zeroes(offset, length, durable, deadline).await;
        };
        // What is over at both ends is part of a block.
        self.send_zeroes(offset, start - offset, durable, deadline).await?;
        let (slba, blocks) = geometry.place(Asked { offset: start, length: whole, ..asked })?;
        let how = if durable { FORCE_UNIT_ACCESS } else { 0 }
            | if may_deallocate { DEALLOCATE } else { 0 };
        let commands = geometry.split(slba, blocks).map(|extent| {
            let sqe = transfer(opcode::nvm::WRITE_ZEROES, self.head.nsid, extent, how);
            (sqe, CommandData::None)
        });
        {
            let _pass = self.gate.shared().await;
            self.submit(asked, commands.collect(), deadline).await?;
        }
        let done = start + whole;
        self.send_zeroes(done, offset + length - done, durable, deadline).await
    }

    /// Writes zeroes as data.
    async fn send_zeroes(
        &self,
        offset: u64,
        length: u64,
        durable: bool,
        deadline: Option<Instant>,
    ) -> Result<(), IoError> {
        const AT_ONCE: u64 = 1 << 20;
        let zeroes = Bytes::from(vec![0; usize::try_from(length.min(AT_ONCE)).unwrap_or(0)]);
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let now = (end - at).min(AT_ONCE);
            let part = zeroes.slice(..usize::try_from(now).unwrap_or(0).min(zeroes.len()));
            self.write(part, at, durable, deadline).await?;
            at += now;
        }
        Ok(())
    }

    /// Sends the commands of an operation, and waits for all of them.
    async fn submit(
        &self,
        asked: Asked,
        commands: Vec<(Sqe, CommandData)>,
        deadline: Option<Instant>,
    ) -> Result<BytesMut, IoError> {
        if commands.is_empty() {
            return Ok(BytesMut::new());
        }
        let operation = Operation::new(asked, commands.len());
        // Made before the commands are sent: from then on it has them aborted when it is dropped.
        let pending = Pending::new(operation.clone(), self.head.clone(), deadline);
        let commands = commands.into_iter().enumerate();
        self.head.submit(
            commands.map(|(part, (sqe, data))| Command::new(operation.clone(), part, sqe, data)),
        );
        pending.await
    }
}

fn ask(verb: Verb, offset: u64, length: usize) -> Asked {
    Asked { verb, offset, length: u64::try_from(length).unwrap_or(u64::MAX) }
}

/// The first byte and the length of the whole blocks that a range touches.
fn around(geometry: &Geometry, asked: Asked) -> Result<(u64, u64), IoError> {
    let Asked { verb, offset, length } = asked;
    let (block, size) = (u64::from(geometry.block_size), geometry.bytes());
    let end = offset.checked_add(length).filter(|end| *end <= size);
    let Some(end) = end else { return Err(IoError::OutOfRange { asked, size }) };
    if length > MOST_DATA && matches!(verb, Verb::Read | Verb::Write | Verb::Compare) {
        return Err(IoError::TooLong { asked, most: MOST_DATA });
    }
    if length == 0 {
        return Ok((offset - offset % block, 0));
    }
    let start = offset - offset % block;
    // The size is a number of whole blocks, so this is not past it.
    Ok((start, end.next_multiple_of(block) - start))
}

/// The first byte and the length of the whole blocks inside a range, if there is one.
fn within(geometry: &Geometry, asked: Asked) -> Result<Option<(u64, u64)>, IoError> {
    let Asked { offset, length, .. } = asked;
    around(geometry, asked)?;
    let block = u64::from(geometry.block_size);
    let (start, end) = (offset.next_multiple_of(block), offset + length);
    let end = end - end % block;
    Ok((start < end).then(|| (start, end - start)))
}

fn writable(geometry: &Geometry, asked: Asked) -> Result<(), IoError> {
    if geometry.read_only { Err(IoError::ReadOnly { asked }) } else { Ok(()) }
}

fn bytes_of(geometry: &Geometry, extent: Extent) -> usize {
    let bytes = u64::from(extent.blocks) * u64::from(geometry.block_size);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn transfer(opcode: u8, nsid: u32, extent: Extent, how: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode);
    sqe.nsid.set(nsid);
    sqe.set_slba(extent.slba);
    sqe.set_cdw(12, (extent.blocks.saturating_sub(1) & 0xffff) | how);
    sqe
}
