//! The commands that an operation on a namespace is made of.

use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use nvmf::spec::dataset_management::DatasetRange;
use nvmf::spec::{Sqe, opcode};
use zerocopy::IntoBytes;

use super::error::{Asked, IoError, Verb};
use super::gate::Pass;
use super::geometry::{Extent, Geometry, MOST_DATA};
use super::operation::{Operation, Pending};
use super::{Inner, IoOptions};
use crate::multipath::command::{Command, CommandData};
use crate::multipath::timers::until;

/// FUA in dword 12.
const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// DEAC in dword 12 of Write Zeroes.
const DEALLOCATE: u32 = 1 << 25;

/// An operation as it was asked for, and when its time is over.
#[derive(Clone, Copy, Debug)]
struct Task {
    asked: Asked,
    deadline: Option<Instant>,
    /// FUA, for those that write.
    how: u32,
}

impl Inner {
    pub(super) async fn read(
        &self,
        offset: u64,
        length: usize,
        options: IoOptions,
    ) -> Result<BytesMut, IoError> {
        let task = self.task(Verb::Read, offset, bytes(length), options);
        let geometry = self.geometry();
        let (start, whole) = around(&geometry, task.asked)?;
        let mut blocks = self.read_blocks(&geometry, task, start, whole).await?;
        let skip = usize::try_from(offset - start).unwrap_or(usize::MAX).min(blocks.len());
        let mut data = blocks.split_off(skip);
        data.truncate(length);
        Ok(data)
    }

    /// Reads whole blocks, for whatever task.
    async fn read_blocks(
        &self,
        geometry: &Geometry,
        task: Task,
        offset: u64,
        length: u64,
    ) -> Result<BytesMut, IoError> {
        let (slba, blocks) = geometry.place(Asked { offset, length, ..task.asked })?;
        // One room for all, which the parts are cut from and which they make up again.
        let mut room = BytesMut::zeroed(usize::try_from(length).unwrap_or(0));
        let commands = geometry.split_data(slba, blocks).map(|extent| {
            let length = bytes_of(geometry, extent).min(room.len());
            let sqe = transfer(opcode::nvm::READ, self.head.nsid, extent, 0);
            (sqe, CommandData::Read { length, room: Some(room.split_to(length)) })
        });
        self.submit(task, commands.collect(), None).await
    }

    pub(super) async fn write(
        &self,
        data: Bytes,
        offset: u64,
        options: IoOptions,
    ) -> Result<(), IoError> {
        let task = self.task(Verb::Write, offset, bytes(data.len()), options);
        self.write_anywhere(task, data, offset).await
    }

    /// Writes any bytes: what is not whole blocks is read before.
    async fn write_anywhere(&self, task: Task, data: Bytes, offset: u64) -> Result<(), IoError> {
        let geometry = self.geometry();
        let length = bytes(data.len());
        writable(&geometry, task.asked)?;
        let (start, whole) = around(&geometry, Asked { offset, length, ..task.asked })?;
        if data.is_empty() {
            return Ok(());
        }
        let exclusive = !geometry.is_aligned(offset, length);
        let pass = self.enter(&geometry, task, start, whole, exclusive).await?;
        let data = if exclusive {
            self.completed(&geometry, task, data, offset, start, whole).await?
        } else {
            data
        };
        self.send(&geometry, task, opcode::nvm::WRITE, data, start, Some(pass)).await
    }

    /// What is to be written, with what there is before and behind it in its blocks.
    async fn completed(
        &self,
        geometry: &Geometry,
        task: Task,
        data: Bytes,
        offset: u64,
        start: u64,
        whole: u64,
    ) -> Result<Bytes, IoError> {
        let mut all = BytesMut::zeroed(usize::try_from(whole).unwrap_or(0));
        let block = u64::from(geometry.block_size);
        let (end, stop) = (offset + bytes(data.len()), start + whole);
        if offset != start {
            let first = self.read_blocks(geometry, task, start, block).await?;
            all[..first.len()].copy_from_slice(&first);
        }
        if end != stop && (whole > block || offset == start) {
            let last = self.read_blocks(geometry, task, stop - block, block).await?;
            let at = all.len().saturating_sub(last.len());
            all[at..].copy_from_slice(&last);
        }
        let at = usize::try_from(offset - start).unwrap_or(0);
        all[at..at + data.len()].copy_from_slice(&data);
        Ok(all.freeze())
    }

    pub(super) async fn compare(
        &self,
        data: Bytes,
        offset: u64,
        options: IoOptions,
    ) -> Result<(), IoError> {
        let task = self.task(Verb::Compare, offset, bytes(data.len()), options);
        let geometry = self.geometry();
        if !geometry.abilities.compare {
            return Err(IoError::Unsupported { asked: task.asked });
        }
        let task = Task { how: 0, ..task };
        self.send(&geometry, task, opcode::nvm::COMPARE, data, offset, None).await
    }

    /// Sends whole blocks with a command that takes them.
    async fn send(
        &self,
        geometry: &Geometry,
        task: Task,
        opcode: u8,
        mut data: Bytes,
        offset: u64,
        pass: Option<Pass>,
    ) -> Result<(), IoError> {
        let length = bytes(data.len());
        let (slba, blocks) = geometry.place(Asked { offset, length, ..task.asked })?;
        let split = geometry.split_data(slba, blocks);
        let commands = split.map(|extent| {
            let part = data.split_to(bytes_of(geometry, extent).min(data.len()));
            (transfer(opcode, self.head.nsid, extent, task.how), CommandData::Write(part))
        });
        self.submit(task, commands.collect(), pass).await.map(|_| ())
    }

    pub(super) async fn flush(&self, options: IoOptions) -> Result<(), IoError> {
        let mut sqe = Sqe::new(opcode::nvm::FLUSH);
        sqe.nsid.set(self.head.nsid);
        let task = self.task(Verb::Flush, 0, 0, options);
        self.submit(task, vec![(sqe, CommandData::None)], None).await.map(|_| ())
    }

    pub(super) async fn discard(
        &self,
        offset: u64,
        length: u64,
        options: IoOptions,
    ) -> Result<(), IoError> {
        let task = self.task(Verb::Discard, offset, length, options);
        let geometry = self.geometry();
        writable(&geometry, task.asked)?;
        if !geometry.abilities.discard {
            return Err(IoError::Unsupported { asked: task.asked });
        }
        let Some((start, whole)) = within(&geometry, task.asked)? else { return Ok(()) };
        // Ranges of a size that every controller takes, one for each command: a limit of ranges or
        // of their sum (DMRL, DMSL) has not to be known then.
        self.send_each(&geometry, task, start, whole, |extent| {
            let range = DatasetRange::new(extent.slba, extent.blocks);
            let data = Bytes::copy_from_slice(range.as_bytes());
            (DatasetRange::deallocate(self.head.nsid, 1), CommandData::Write(data))
        })
        .await
    }

    pub(super) async fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        may_deallocate: bool,
        options: IoOptions,
    ) -> Result<(), IoError> {
        let task = self.task(Verb::WriteZeroes, offset, length, options);
        let geometry = self.geometry();
        writable(&geometry, task.asked)?;
        let inner = within(&geometry, task.asked)?.filter(|_| geometry.abilities.write_zeroes);
        let Some((start, whole)) = inner else {
            return self.send_zeroes(task, offset, length).await;
        };
        // What is over at both ends is part of a block.
        self.send_zeroes(task, offset, start - offset).await?;
        let how = task.how | if may_deallocate { DEALLOCATE } else { 0 };
        self.send_each(&geometry, task, start, whole, |extent| {
            let sqe = transfer(opcode::nvm::WRITE_ZEROES, self.head.nsid, extent, how);
            (sqe, CommandData::None)
        })
        .await?;
        let done = start + whole;
        self.send_zeroes(task, done, offset + length - done).await
    }

    /// Writes zeroes as data.
    async fn send_zeroes(&self, task: Task, offset: u64, length: u64) -> Result<(), IoError> {
        const AT_ONCE: u64 = 1 << 20;
        let zeroes = Bytes::from(vec![0; usize::try_from(length.min(AT_ONCE)).unwrap_or(0)]);
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let now = (end - at).min(AT_ONCE);
            let part = zeroes.slice(..usize::try_from(now).unwrap_or(0).min(zeroes.len()));
            self.write_anywhere(task, part, at).await?;
            at += now;
        }
        Ok(())
    }

    /// Sends commands for whole blocks that move no blocks: so many at once, for a namespace is as
    /// large as its controller says.
    async fn send_each(
        &self,
        geometry: &Geometry,
        task: Task,
        offset: u64,
        length: u64,
        command: impl Fn(Extent) -> (Sqe, CommandData),
    ) -> Result<(), IoError> {
        const AT_ONCE: usize = 256;
        let (slba, blocks) = geometry.place(Asked { offset, length, ..task.asked })?;
        let mut extents = geometry.split(slba, blocks).peekable();
        while let Some(first) = extents.peek() {
            let from = first.slba;
            let some: Vec<_> = extents.by_ref().take(AT_ONCE).collect();
            let blocks: u64 = some.iter().map(|extent| u64::from(extent.blocks)).sum();
            let pass = self.enter_blocks(task, from..from + blocks, false).await?;
            let commands = some.into_iter().map(&command).collect();
            self.submit(task, commands, Some(pass)).await?;
        }
        Ok(())
    }

    /// Waits for the right to write whole blocks.
    async fn enter(
        &self,
        geometry: &Geometry,
        task: Task,
        start: u64,
        whole: u64,
        exclusive: bool,
    ) -> Result<Pass, IoError> {
        let block = u64::from(geometry.block_size);
        self.enter_blocks(task, start / block..(start + whole) / block, exclusive).await
    }

    async fn enter_blocks(
        &self,
        task: Task,
        blocks: Range<u64>,
        exclusive: bool,
    ) -> Result<Pass, IoError> {
        let pass = until(&self.head, task.deadline, self.gate.enter(blocks, exclusive)).await;
        pass.ok_or(IoError::TimedOut { asked: task.asked, cause: None })
    }

    /// Sends the commands of an operation, and waits for all of them.
    async fn submit(
        &self,
        task: Task,
        commands: Vec<(Sqe, CommandData)>,
        pass: Option<Pass>,
    ) -> Result<BytesMut, IoError> {
        if commands.is_empty() {
            return Ok(BytesMut::new());
        }
        let operation = Operation::new(task.asked, commands.len(), pass);
        // Made before the commands are sent: from then on it has them aborted when it is dropped.
        let pending = Pending::new(operation.clone(), self.head.clone(), task.deadline);
        let commands = commands.into_iter().enumerate();
        self.head.submit(
            commands.map(|(part, (sqe, data))| Command::new(operation.clone(), part, sqe, data)),
        );
        pending.await
    }

    fn task(&self, verb: Verb, offset: u64, length: u64, options: IoOptions) -> Task {
        let limit = options.deadline.or(self.head.settings.deadline);
        Task {
            asked: Asked { verb, offset, length },
            deadline: limit.and_then(|limit| Instant::now().checked_add(limit)),
            how: if options.force_unit_access { FORCE_UNIT_ACCESS } else { 0 },
        }
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
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

/// All pieces in one.
pub(super) fn gathered(pieces: &[IoSlice<'_>]) -> Bytes {
    let mut all = BytesMut::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        all.extend_from_slice(piece);
    }
    all.freeze()
}

/// How many bytes there is room for.
pub(super) fn lengths(pieces: &[IoSliceMut<'_>]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// Fills pieces, one after the other.
pub(super) fn scatter(mut data: &[u8], pieces: &mut [IoSliceMut<'_>]) {
    for piece in pieces {
        let (now, later) = data.split_at(piece.len().min(data.len()));
        piece[..now.len()].copy_from_slice(now);
        data = later;
    }
}
